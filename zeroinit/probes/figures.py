"""What the figures of the probes have in common, in the style of the report's."""

import math
import textwrap

import numpy as np
from matplotlib import colors, ticker
from matplotlib.lines import Line2D

from zeroinit.report.figures import DASHES, LOOKS, OTHER_COLOURS, OTHER_MARKERS


def looks(labels):
  """{label: how its line looks}: a method as in the report, whatever its state; a second line of it is dashed."""
  found, of_row, others = {}, {}, {}
  for label in labels:
    row = label.partition('(')[0].partition(' ')[0]
    place = others.setdefault(row, len(others)) if row not in LOOKS else 0
    other = OTHER_COLOURS[place % len(OTHER_COLOURS)], OTHER_MARKERS[place % len(OTHER_MARKERS)]
    colour, marker = LOOKS.get(row, other)
    of_row[row] = of_row.get(row, -1) + 1
    found[label] = {'color': colour, 'marker': marker, 'linestyle': DASHES[of_row[row] % len(DASHES)], 'label': label}
  return found


def shades(colour, count):
  """So many colours, from a light tint to the colour itself: for states along training."""
  red, green, blue = colors.to_rgb(colour)
  tint = lambda part, share: 1 - share * (1 - part)
  shares = np.linspace(0.35, 1, count) if count > 1 else [1.0]
  return [tuple(tint(part, share) for part in (red, green, blue)) for share in shares]


def numbers(values):
  """An array in which what is missing or not finite is a gap."""
  values = np.array([math.nan if value is None else value for value in values], float)
  return np.where(np.isfinite(values), values, math.nan)


def positive(values):
  """Numbers as a logarithmic axis can show them: what is not positive is a gap too."""
  values = numbers(values)
  return np.where(values > 0, values, math.nan)


def log_axes(axes, least=4.0):
  """Gives panels one logarithmic y axis, with few labels however much it spans. To be called when all is drawn.

  least: the factor that it spans at least, so that what is nearly constant looks it.
  """
  lines = [line for ax in axes for line in ax.lines if line.get_transform() == ax.transData]
  there = np.concatenate([positive(line.get_ydata()) for line in lines] + [[math.nan]])
  for ax in axes:
    ax.set_yscale('log')
    ax.yaxis.set_minor_locator(ticker.NullLocator())
    if np.isnan(there).all():
      ax.set_yticks([])
      continue
    low, high = math.log10(np.nanmin(there)), math.log10(np.nanmax(there))
    margin = max(0.06 * (high - low), 0.08, (math.log10(least) - (high - low)) / 2)
    ax.set_ylim(10 ** (low - margin), 10 ** (high + margin))
    decades = high - low + 2 * margin
    if decades > 2.5:
      ax.yaxis.set_major_locator(ticker.LogLocator(numticks=6))
    else:
      ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if decades > 1 else (1, 1.5, 2, 3, 4, 5, 7)))
      ax.yaxis.set_major_formatter('{x:g}')


def apart(place, of):
  """A factor for the horizontal position of one of several lines, so that equal values can be seen."""
  return 1.025 ** (place - (of - 1) / 2)


def depth_axis(ax, records):
  """Gives a panel a logarithmic axis of depth, with a label for every depth that is in the records."""
  power_axis(ax, sorted({record['depth'] for record in records}))
  ax.set_xlabel('depth (layers)')


def power_axis(ax, values):
  """Gives a panel a logarithmic horizontal axis on which just these values are labelled."""
  ax.set_xscale('log')
  ax.xaxis.set_minor_locator(ticker.NullLocator())
  ax.set_xticks(values, [f'{value}' for value in values])
  ax.set_xlim(values[0] / 1.3, values[-1] * 1.3)


def finish(figure, title, marks, columns):
  """A heading, and a legend below the panels. marks: dicts of what Line2D takes."""
  figure.legend(handles=[Line2D([], [], **mark) for mark in marks], loc='outside lower center', ncols=columns)
  letters = int(12 * figure.get_figwidth())  # of this size that fit on a line
  figure.suptitle(textwrap.fill(title, letters), fontsize=9, color='#404040')
