"""What the figures of the probes have in common, in the style of the report's."""

import math

import numpy as np
from matplotlib import colors, ticker
from matplotlib.figure import Figure

from zeroinit.report.figures import BLACK, look_of


def in_columns(count, most, rows, size, margins, least, **options):
  """A figure with so many columns of panels: at most `most` side by side, the next ones in another band below.

  Args:
    count, most: of columns.
    rows: {label of the vertical axis: height, relative to the others}, from top to bottom.
    size: inches of a column, (width, height); margins: in addition to all columns; least: width of the figure.
    options: of Figure.subplots.

  Returns:
    The figure, and its panels, [count, rows], of which the first column of a band has the labels.
  """
  columns = min(count, most)
  bands = math.ceil(count / columns)
  (width, height), (beside, below) = size, margins
  figure = Figure(figsize=(max(least, width * columns + beside), height * bands + below))
  axes = figure.subplots(len(rows) * bands, columns, squeeze=False, height_ratios=[*rows.values()] * bands, **options)
  panels = axes.reshape(bands, len(rows), columns).swapaxes(1, 2).reshape(-1, len(rows))
  for ax in panels[count:].flat:
    ax.remove()
  for first in panels[:count:columns]:
    for ax, label in zip(first, rows, strict=True):
      ax.set_ylabel(label)
  return figure, panels[:count]


def looks(labels):
  """{label: how its line looks}: a method as in the report, whatever its state; a second line of it is dashed."""
  found = {}
  for label in dict.fromkeys(labels):
    found[label] = look_of(label, label, list(found.values()))
  return found


def shades(colour, count):
  """So many colours, from a light tint to the colour itself: for states along training."""
  red, green, blue = colors.to_rgb(colour)
  tint = lambda part, share: 1 - share * (1 - part)
  shares = np.linspace(0.35, 1, count) if count > 1 else [1.0]
  return [tuple(tint(part, share) for part in (red, green, blue)) for share in shares]


def marks_of_updates(updates):
  """What the legend shows of the shades of states along training, if there are several. updates: of the records."""
  updates = [done for done in dict.fromkeys(updates) if done is not None]
  if len(updates) < 2:
    return []
  return [{'color': shade, 'linewidth': 4, 'label': f'{done:,} updates'}
          for shade, done in zip(shades(BLACK, len(updates)), updates, strict=True)]


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
