"""The figure of the landscape probe: bands over updates, a column per method; or one snapshot, by step size."""

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from zeroinit.probes.figures import in_columns, log_axes, looks, marks_of_updates, positive, shades
from zeroinit.report.figures import STYLE, finish, spread

COLUMNS = 5  # at most, side by side
MARKED = 40  # states, up to which each has its marker
CURVES = 5  # states whose relative loss is drawn, at most
HIGHEST = 30  # the relative loss is drawn up to here: what lies above is as bad
ROWS = {'loss along\nthe gradient': 1, 'change of\nthe gradient': 1, 'effective\nβ-smoothness': 1,
        'relative loss\nL(w - t g) / L(w)': 1.15}


def draw(title, records):
  """The figure. title: what was measured; records: as in landscape.json, see `landscape.measure`."""
  look_of = looks(record['method'] for record in records)
  with matplotlib.rc_context(STYLE):
    along = [record for record in records if record['updates'] is not None]  # a checkpoint stands at no known update
    if len({record['updates'] for record in along}) > 1:
      return _along_training(title, along, look_of)
    return _one_snapshot(title, records, look_of)


def _along_training(title, records, look_of):
  updates = sorted({record['updates'] for record in records})
  shown = spread(updates, CURVES)
  margin = 0.04 * (updates[-1] - updates[0])
  figure, columns = in_columns(len(look_of), COLUMNS, ROWS, size=(2.3, 6.6), margins=(0.6, 0.9), least=6.4)
  for (method, look), panels in zip(look_of.items(), columns, strict=True):
    _column(panels, [record for record in records if record['method'] == method], look['color'], shown)
    panels[0].set_title(method.replace('(', '\n(').replace(' in ', '\nin '))
    for ax in panels:
      ax.tick_params(labelleft=ax.get_subplotspec().is_first_col())
  for row in columns.T[:3]:
    log_axes(row)
    for ax in row:
      ax.set_xlim(updates[0] - margin, updates[-1] + margin)
  _relative_axes(columns[:, 3])
  finish(figure, title, _marks(shown), columns=4)
  return figure


def _column(panels, records, colour, shown):
  """The panels of one method. shown: the states whose relative loss is drawn."""
  updates = [record['updates'] for record in records]
  marker = {'marker': '.', 'markersize': 4} if len(updates) <= MARKED else {}
  loss, change, smoothness, relative = panels
  for ax, field in ((loss, 'loss'), (change, 'gradient_change')):
    low, high = (positive([record[f'{end}_{field}'] for record in records]) for end in ('lowest', 'highest'))
    ax.fill_between(updates, low, high, color=colour, alpha=0.25, linewidth=0)
    for edge in (low, high):
      ax.plot(updates, edge, color=colour, linewidth=0.7, **marker)
  loss.plot(updates, positive([record['loss'] for record in records]), color='black', linewidth=1.0, **marker)
  smoothness.plot(updates, positive([record['smoothness'] for record in records]), color=colour, **marker)
  smoothness.set_xlabel('updates')
  shade_of = dict(zip(shown, shades(colour, len(shown)), strict=True))
  for record in records:
    if record['updates'] in shown:
      _against_the_step(relative, record, 'relative_loss', color=shade_of[record['updates']])
  _step_axis(relative)


def _one_snapshot(title, records, look_of):
  figure = Figure(figsize=(9.6, 3.8))
  axes = figure.subplots(1, 3)
  for record in records:
    for ax, field in zip(axes, ('relative_loss', 'gradient_change', 'beta'), strict=True):
      _against_the_step(ax, record, field, **(look_of[record['method']] | {'markersize': 3}))
  for ax, what in zip(axes, ('relative loss, L(w - t g) / L(w)', 'change of the gradient, |∇L(w - t g) - g|',
                             'β = change of the gradient / distance'), strict=True):
    _step_axis(ax)
    ax.set_title(what)
  _relative_axes(axes[:1])
  log_axes(axes[1:2])
  log_axes(axes[2:])
  finish(figure, title, list(look_of.values()), columns=len(look_of) if len(look_of) < 5 else 4)
  return figure


def _against_the_step(ax, record, field, **look):
  ax.plot([point['step_size'] for point in record['along']], positive([point[field] for point in record['along']]),
          **look)


def _step_axis(ax):
  """A logarithmic axis of step sizes. To be called when they are drawn."""
  sizes = np.concatenate([line.get_xdata() for line in ax.lines])
  ax.set_xscale('log')
  ax.xaxis.set_minor_locator(ticker.NullLocator())
  if max(sizes) > 100 * min(sizes):
    ax.xaxis.set_major_locator(ticker.LogLocator(numticks=6))
  else:
    ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter('{x:g}')
  ax.set_xlabel('step size t')


def _relative_axes(axes):
  """Gives panels of the relative loss one scale that ends at HIGHEST, with a line at 1."""
  there = np.concatenate([positive(line.get_ydata()) for ax in axes for line in ax.lines] + [[1.0]])
  for ax in axes:
    ax.set_yscale('log')
    ax.set_ylim(min(np.nanmin(there), 0.7) / 1.1, 1.1 * np.clip(np.nanmax(there), 1.3, HIGHEST))
    ax.yaxis.set_minor_locator(ticker.NullLocator())
    ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter('{x:g}')
    ax.axhline(1, color='#808080', linewidth=0.8, zorder=0)


def _marks(shown):
  """The legend: the loss itself, bands, and which updates the shades of the last row are."""
  marks = [{'color': 'black', 'linewidth': 1.0, 'label': 'loss before the step'},
           {'color': '#b0b0b0', 'linewidth': 6, 'label': 'band over step sizes'}]
  return marks + marks_of_updates(shown)
