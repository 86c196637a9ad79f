"""The figure of the spectra probe: histograms against the law, laws and quantiles side by side, condition numbers."""

import math

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from zeroinit.probes.figures import log_axes, power_axis, shades
from zeroinit.probes.spectra import law
from zeroinit.report.figures import BLACK, BLUE, RED, SKY, STYLE, finish

COLUMNS = 4  # histograms, at most, side by side
BINS = 36
SHOWN = 40  # of the sorted values


def draw(title, records, squares):
  """The figure.

  title: what was measured; records: as in spectra.json, see `spectra.main`; squares: {factors: float [draws, size], of
  each draw the squared singular values, ascending}.
  """
  columns = min(COLUMNS, len(records))
  rows = math.ceil(len(records) / columns)
  colours = dict(zip(sorted(squares), shades(BLUE, len(squares)), strict=True))
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(9.6, 2.3 * rows + 3.2))
    grid = figure.add_gridspec(rows + 1, 3 * columns, height_ratios=[2.0] * rows + [2.4])
    for place, (factors, values) in enumerate(squares.items()):
      row, column = divmod(place, columns)
      ax = figure.add_subplot(grid[row, 3 * column : 3 * column + 3])
      _histogram(ax, factors, values)
      if column == 0:
        ax.set_ylabel('density of the logarithm')
    tails, quantiles, conditions = (figure.add_subplot(grid[rows, columns * i : columns * (i + 1)]) for i in range(3))
    _tails(tails, colours)
    _quantiles(quantiles, squares, colours)
    _conditions(conditions, records)
    marks = [{'color': SKY, 'linewidth': 5, 'label': 'squared singular values, all draws'},
             {'color': BLACK, 'label': 'law'},
             {'color': BLUE, 'marker': 'o', 'linestyle': 'none', 'markersize': 4, 'label': 'squared, sorted'},
             {'color': RED, 'linewidth': 0.8, 'label': 'not squared, sorted'},
             {'color': SKY, 'marker': '.', 'linestyle': 'none', 'label': 'condition number of a draw'},
             {'color': BLACK, 'linestyle': '--', 'linewidth': 1.0, 'marker': '_', 'markersize': 8,
              'label': 'law, with half of 1/N below the smallest'}]
    finish(figure, title, marks, columns=3)
  return figure


def _histogram(ax, factors, values):
  """The density of the logarithm, x rho(x): on a logarithmic axis equal areas are equal shares, at both ends."""
  low, high = law.quantile(2 / values.size, factors), law.edge(factors)
  bins = low * (high / low) ** (np.arange(BINS + 3) / BINS)  # two of them beyond the end
  counts, _ = np.histogram(values, bins)
  ax.stairs(counts / (values.size * np.diff(np.log(bins))), bins, fill=True, color=SKY, alpha=0.7)
  x = np.geomspace(low, bins[-1], 2000)
  ax.plot(x, x * law.density(x, factors), color=BLACK)
  ax.set_xscale('log')
  ax.set_xlim(bins[0], bins[-1])
  _few_ticks(ax.xaxis)
  ax.set_title(f'M = {factors}')
  ax.set_xlabel('squared singular value')


def _few_ticks(axis):
  """Labels of a logarithmic axis that may span thirty powers of ten."""
  axis.set_major_locator(ticker.LogLocator(numticks=5))
  axis.set_minor_locator(ticker.NullLocator())


def _tails(ax, colours):
  """The laws at values of order 1, up to their ends."""
  last = law.edge(max(colours))
  for factors, colour in colours.items():
    x = np.geomspace(1e-3, law.edge(factors) * (1 - 1e-9), 2000)
    ax.plot(x, law.density(x, factors), color=colour, label=f'M = {factors}')
    ax.axvline(law.edge(factors), color=colour, linestyle=':', linewidth=1.0)
  ax.set_yscale('log')
  ax.set_ylim(1e-3, 10)
  ax.set_xlim(-0.02 * last, 1.04 * last)
  ax.legend(loc='upper right', bbox_to_anchor=(0.95, 1.0), frameon=True, framealpha=1.0, edgecolor='none')
  ax.set_title('laws, and where they end')
  ax.set_xlabel('squared singular value')
  ax.set_ylabel('density')


def _quantiles(ax, squares, colours):
  """Sorted values, in the geometric mean over the draws, against the law's value at (i - 1/2) / N."""
  for factors, values in squares.items():
    size = values.shape[1]
    few = np.unique(np.linspace(0, size - 1, min(size, SHOWN)).round().astype(int))
    expected = law.quantile((few + 0.5) / size, factors)
    measured = np.exp(np.log(values[:, few]).mean(0))
    ax.plot(expected, np.sqrt(measured), color=RED, linewidth=0.8)
    ax.plot(expected, measured, 'o', color=colours[factors], markersize=3)
  ax.set_xscale('log')
  ax.set_yscale('log')
  low, high = ax.get_xlim()
  ax.plot([low, high], [low, high], color=BLACK, linewidth=0.8, zorder=0)
  ax.set_xlim(low, high)
  _few_ticks(ax.xaxis)
  _few_ticks(ax.yaxis)
  ax.set_title('sorted values')
  ax.set_xlabel("the law's")
  ax.set_ylabel('measured')


def _conditions(ax, records):
  records = sorted(records, key=lambda record: record['factors'])
  factors = [record['factors'] for record in records]
  for record in records:
    ax.plot([record['factors']] * len(record['condition_numbers']), record['condition_numbers'], '.', color=SKY)
  ax.plot(factors, [record['condition_number'] for record in records], color=BLUE, marker='o')
  ax.plot(factors, [record['law_condition_number'] for record in records], '--', color=BLACK, linewidth=1.0,
          marker='_', markersize=8)
  log_axes([ax])
  power_axis(ax, factors)
  ax.set_title('condition number, and its median')
  ax.set_xlabel('factors M')
