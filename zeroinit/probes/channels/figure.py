"""The figure of the channels probe: a/b along depth; below, for every network, a histogram and two heat maps."""

import math

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from zeroinit.probes import texts
from zeroinit.probes.figures import log_axes, looks, positive
from zeroinit.report.figures import BLACK, STYLE, finish

DEPTH_HEIGHT, ROW_HEIGHT = 2.7, 2.1  # inches
MARKED = 30  # layers, up to which each has its marker


def draw(title, records, published):
  """The figure. title: what was measured; records: as in channels.json; published: see `channels.bjorck_table1`."""
  networks = {}  # {network in a state: its records}
  for record in records:
    networks.setdefault(texts.in_state(record['method'], record['updates']), []).append(record)
  rows = _first_with_gradient(networks)
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(9.6, DEPTH_HEIGHT + ROW_HEIGHT * len(rows) + 0.6))
    grid = figure.add_gridspec(1 + len(rows), 3, height_ratios=(DEPTH_HEIGHT, *[ROW_HEIGHT] * len(rows)))
    marks = _along_depth(figure.add_subplot(grid[0, :]), networks, published)
    furthest = max(_furthest(here) for here in rows.values())
    for place, (name, here) in enumerate(rows.items(), 1):
      histogram, channels, outputs = (figure.add_subplot(grid[place, column]) for column in range(3))
      _histogram(histogram, here, furthest)
      _channels(figure, channels, here)
      _outputs(figure, outputs, here)
      histogram.set_title(name, fontweight='bold')
    finish(figure, title, marks, columns=3)
  return figure


def _first_with_gradient(networks):
  """{name: records} of each network in its first state whose histogram exists; if in none, in its last."""
  chosen = {}
  for name, here in networks.items():
    method = here[0]['method']
    if method not in chosen or not _with(chosen[method][1], 'histogram')['histogram']:
      chosen[method] = name, here
  return dict(chosen.values())


def _with(records, field):
  return next(record for record in records if field in record)


def _along_depth(ax, networks, published):
  """a/b against depth, of the networks that have a gradient; returns what the legend shall show."""
  networks = {name: here for name, here in networks.items()
              if any(positive([record['ratio'] for record in here if record['in_table']]) > 0)}
  compared, marks, circle = False, [], {'color': BLACK, 'marker': 'o', 'markerfacecolor': 'white', 'linestyle': 'none'}
  for here, look in zip(networks.values(), looks(networks).values(), strict=True):
    numbers = [record['layer'] for record in here]
    look = look | ({} if len(here) <= MARKED else {'marker': ''})
    ax.plot(numbers, positive([record['ratio'] for record in here]), **look)
    marks.append(look)
    for record in here:
      theirs = published.get((record['network'], record['method'], record['layer']))
      if theirs and record['updates'] == 0:
        ax.plot(record['layer'], theirs['ratio'], **(circle | {'color': look['color'], 'zorder': 4}))
        compared = True
  if compared:
    marks.append(circle | {'label': 'Bjorck et al.'})
  log_axes([ax])
  ax.xaxis.set_major_locator(ticker.MaxNLocator(10, integer=True))
  ax.set_xlabel('layer')
  ax.set_ylabel('a/b')
  ax.set_title('sum of the absolute terms of the gradient of a layer (a) / absolute value of their sum (b)')
  return marks


def _furthest(records):
  """How many standard deviations away the largest gradient of the histogram is."""
  histogram = _with(records, 'histogram')['histogram']
  return histogram['edges'][-1] / histogram['std'] if histogram and histogram['std'] else 4.0


def _histogram(ax, records, furthest):
  record = _with(records, 'histogram')
  histogram = record['histogram']
  if not histogram or not histogram['std']:
    _nothing(ax, record)
    return
  edges, counts = np.array(histogram['edges']) / histogram['std'], np.array(histogram['counts'])
  ax.stairs(counts, edges, fill=True, color='#9ecae1', edgecolor='#08519c', linewidth=0.6)
  below = np.array([0.5 * math.erfc((histogram['mean'] / histogram['std'] - edge) / math.sqrt(2)) for edge in edges])
  ax.plot((edges[1:] + edges[:-1]) / 2, positive(counts.sum() * np.diff(below)), '--', color=BLACK, linewidth=1.0)
  ax.set_yscale('log')
  ax.set_ylim(0.5, 4 * counts.max())
  ax.set_xlim(-1.05 * furthest, 1.05 * furthest)
  ax.set_xlabel(f'gradient of layer {record["layer"]} / its std')
  ax.set_ylabel('weights')
  ax.text(0.98, 0.96, f'std {record["std"]:.2g}\nkurtosis {record["kurtosis"]:.3g}', ha='right', va='top',
          transform=ax.transAxes, fontsize=8)


def _channels(figure, ax, records):
  record = _with(records, 'between_channels')
  ax.set_title(f'gradient of layer {record["layer"]}, by channels')
  values = np.array(record['between_channels'], float)
  if not np.isfinite(values).all() or not values.any():
    _nothing(ax, record)
    return
  image = ax.imshow(values, cmap='magma', vmin=0, aspect='auto', interpolation='nearest')
  ax.set_xlabel('output channel')
  ax.set_ylabel('input channel')
  ax.grid(False)
  bar = figure.colorbar(image, ax=ax, pad=0.02)
  bar.formatter.set_powerlimits((-2, 3))
  bar.locator = ticker.MaxNLocator(4)
  bar.update_ticks()


def _outputs(figure, ax, records):
  record = _with(records, 'of_outputs')
  ax.set_title('gradient of the outputs, by images')
  values = np.array(record['of_outputs'], float)
  image = ax.imshow(values, cmap='RdBu_r', vmin=-1, vmax=1, aspect='auto', interpolation='nearest')
  ax.set_xlabel('class')
  ax.set_ylabel('image')
  ax.grid(False)
  ax.xaxis.set_major_locator(ticker.MaxNLocator(10, integer=True))
  figure.colorbar(image, ax=ax, pad=0.02, ticks=(-1, 0, 1))


def _nothing(ax, record):
  """Says in an empty panel why it is empty."""
  ax.set_axis_off()
  ax.text(0.5, 0.5, 'the gradient is exactly 0' if record['largest'] == 0 else 'the gradient exceeds float32',
          ha='center', va='center', transform=ax.transAxes, fontsize=8)
