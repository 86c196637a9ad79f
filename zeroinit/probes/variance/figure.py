"""The figure of the variance probe: second moments, shares and channel means along depth, a column per network."""

import math

import matplotlib
import numpy as np
from matplotlib import ticker

from zeroinit.probes.figures import in_columns, log_axes, marks_of_updates, positive, shades
from zeroinit.report.figures import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, STYLE, finish

COLUMNS = 5  # at most, side by side
MARKED = 40  # blocks, up to which each has its marker
HOLLOW = 25  # markers of a norm's statistics in a deep network
ROUNDING = 1e-8  # a squared mean below this share of the second moment is zero, as after a norm, and left out
SKIP, BRANCH, SHARE, VARIANCE, MEAN = BLUE, RED, ORANGE, GREEN, PURPLE
ROWS = {'second moment': 2.0, 'share of the branch\nin the output': 1.7, 'skip path:\nvariance, squared mean': 1.7}


def draw(title, records, laws):
  """The figure. title: what was measured; records: as in variance.json; laws: {method: formula for matplotlib}."""
  names = list(dict.fromkeys(record['method'] for record in records))
  with matplotlib.rc_context(STYLE):
    figure, columns = in_columns(len(names), COLUMNS, ROWS, size=(2.35, 5.4), margins=(0.5, 1.0), least=7.2)
    for name, panels in zip(names, columns, strict=True):
      _column(panels, [record for record in records if record['method'] == name])
      panels[0].set_title(_heading(name, laws.get(name)))
    log_axes(columns[:, 1])  # shares are compared across networks
    finish(figure, title, _marks(records), columns=3 if len(names) < 4 else 4)
  return figure


def _heading(name, law):
  for end in ('_inverse_sqrt_d', '(', ' in '):  # a name that is wider than its panel
    name = name.replace(end, '\n' + end.lstrip())
  return f'{name}\nlaw: {law}' if law else name


def _column(panels, records):
  """The panels of one network, whose states along training are drawn in shades."""
  updates = list(dict.fromkeys(record['updates'] for record in records))
  for i, done in enumerate(updates):
    here = [record for record in records if record['updates'] == done]
    blocks = [record['block'] for record in here]
    marker = {'marker': '.', 'markersize': 5} if len(blocks) <= MARKED else {}

    def line(ax, field, colour, above=0.0, *, here=here, blocks=blocks, marker=marker, i=i):
      values = positive([record[field] for record in here])
      ax.plot(blocks, np.where(values > above, values, math.nan), color=shades(colour, len(updates))[i], **marker)

    moments, share, parts = panels
    line(moments, 'output_second_moment', SKIP)
    line(moments, 'branch_second_moment', BRANCH)
    line(share, 'share', SHARE)
    line(parts, 'skip_variance', VARIANCE)
    means = [ROUNDING * (record['skip_second_moment'] or 0.0) for record in here]
    line(parts, 'skip_squared_mean', MEAN, above=means)
    if 'norm_variance' in here[0]:
      few = slice(0, None, math.ceil(len(here) / HOLLOW))
      parts.plot(blocks[few], positive([record['norm_variance'] for record in here])[few], 'o',
                 color=shades(BLACK, len(updates))[i],
                 markerfacecolor='none', markersize=5, markeredgewidth=0.7, zorder=4)
    if 'law_share' in here[0]:
      dashed = {'color': BLACK, 'linestyle': (0, (3, 2)), 'linewidth': 1.0, 'zorder': 3}
      for ax, field in ((moments, 'output_second_moment'), (moments, 'branch_second_moment'), (share, 'share')):
        # Only as far as there are measurements: 2^l goes on where float32 ends.
        ax.plot(blocks, positive([record[f'law_{field}'] if record[field] is not None and np.isfinite(record[field])
                                  else None for record in here]), **dashed)
  for ax, what, field in ((panels[0], 'the branch', 'branch_second_moment'), (panels[1], 'the share', 'share')):
    if all(record[field] == 0 for record in records):
      ax.text(0.5, 0.08 if ax is panels[0] else 0.5, f'{what} is 0 in every block', ha='center',
              transform=ax.transAxes, fontsize=8, color=BRANCH)
  log_axes([moments])
  log_axes([parts])
  for ax in panels:
    ax.set_xlim(0.5 - 0.02 * len(blocks), len(blocks) + 0.5 + 0.02 * len(blocks))
    ax.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    stages = [record['stage'] for record in here]
    for first in np.flatnonzero(np.diff(stages)):
      ax.axvline(first + 1.5, color='#b0b0b0', linewidth=0.8, linestyle=':', zorder=0)
  panels[-1].set_xlabel('block')


def _marks(records):
  """The legend: lines of the panels from top to bottom, and what else is drawn."""
  marks = [{'color': SKIP, 'label': 'skip path, after the block'}, {'color': BRANCH, 'label': 'residual branch'},
           {'color': SHARE, 'label': 'share of the branch'},
           {'color': VARIANCE, 'label': 'skip path: variance of channels'},
           {'color': MEAN, 'label': 'skip path: squared mean of channels'}]
  if any('norm_variance' in record for record in records):
    marks.append({'color': BLACK, 'marker': 'o', 'markerfacecolor': 'none', 'linestyle': 'none', 'markersize': 5,
                  'label': "variance in the block's first norm"})
  if any('law_share' in record for record in records):
    marks.append({'color': BLACK, 'linestyle': (0, (3, 2)), 'linewidth': 1.0, 'label': 'law, at initialization'})
  if len({record['stage'] for record in records}) > 1:
    marks.append({'color': '#b0b0b0', 'linestyle': ':', 'label': 'a new stage'})
  return marks + marks_of_updates(record['updates'] for record in records)
