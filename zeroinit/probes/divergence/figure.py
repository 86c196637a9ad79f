"""The figure of the divergence probe: heat maps of channels along the fatal update, and the layers' mean variances."""

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from zeroinit.probes.figures import log_axes, numbers, positive
from zeroinit.report.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, STYLE, finish
from zeroinit.training.step import DIVERGED_ABOVE

COLOURS = (BLUE, ORANGE, RED, GREEN, PURPLE, SKY)
DARKEST = 2  # percent of the numbers, those nearest to zero, have one colour: a mean that passes zero is no news


def draw(title, records):
  """The figure. title: what was measured; records: as in divergence.json, see `divergence.measure`."""
  methods = list(dict.fromkeys(record['method'] for record in records))
  layers = max(sum(record['method'] == method for record in records) for method in methods)
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(2.1 * layers + 4.2, 4.4 * len(methods) + 0.9))
    axes = figure.subplots(2 * len(methods), layers + 1, squeeze=False, width_ratios=(*[1] * layers, 1.35))
    for place, method in enumerate(methods):
      here = [record for record in records if record['method'] == method]
      panels = axes[2 * place : 2 * place + 2]
      _heat_maps(figure, panels[:, : len(here)], here)
      for ax in panels[:, len(here) : layers].flat:
        ax.remove()
      _curves(*panels[:, layers], here)
    marks = [{'color': COLOURS[i % len(COLOURS)], 'label': f'layer {record["layer"]}'}
             for i, record in enumerate(record for record in records if record['method'] == methods[0])]
    finish(figure, title, [*marks, {'color': 'black', 'label': 'cross-entropy of the minibatch'}], columns=4)
  return figure


def _heat_maps(figure, panels, records):
  """Standard deviation and magnitude of the mean of every channel: a column per layer of one method."""
  moments = [[[np.sqrt(numbers(point['variances'])) for point in record['along']],
              [np.abs(numbers(point['means'])) for point in record['along']]] for record in records]
  there = np.concatenate([positive(np.ravel(values)) for of_layer in moments for values in of_layer] + [[1.0]])
  smallest = np.nanpercentile(there, DARKEST)
  norm = LogNorm(smallest, max(np.nanmax(there), 10 * smallest))
  colours = matplotlib.colormaps['viridis'].with_extremes(bad='#c0c0c0')
  for column, (record, of_layer) in enumerate(zip(records, moments, strict=True)):
    for ax, values, what in zip(panels[:, column], of_layer, ('standard deviation', 'magnitude of the mean'),
                                strict=True):
      values = np.maximum(np.transpose(values), norm.vmin)
      image = ax.imshow(values, norm=norm, cmap=colours, aspect='auto', origin='lower', interpolation='nearest',
                        extent=(0, 100, 0.5, len(values) + 0.5))
      ax.grid(False)
      ax.yaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
      ax.set_ylabel(f'{what}\nchannel' if column == 0 else '')
    panels[0, column].set_title(f'{record["method"]}, layer {record["layer"]}' if column == 0
                                else f'layer {record["layer"]}')
    panels[1, column].set_xlabel('share of the update, %')
  figure.colorbar(image, ax=list(panels[:, -1]), fraction=0.08, pad=0.03).minorticks_off()


def _curves(above, below, records):
  """Mean variance of each layer, and the cross-entropy."""
  for i, record in enumerate(records):
    shares = [100 * point['share'] for point in record['along']]
    above.plot(shares, positive([point['variance'] for point in record['along']]), color=COLOURS[i % len(COLOURS)])
  below.plot(shares, positive([point['cross_entropy'] for point in records[0]['along']]), color='black')
  below.axhline(DIVERGED_ABOVE, color='#808080', linestyle=':', linewidth=1.0, zorder=0)
  above.set_title('mean variance')
  below.set_title('cross-entropy')
  below.set_xlabel('share of the update, %')
  log_axes([above])
  log_axes([below])
