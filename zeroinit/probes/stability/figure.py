"""The figure of the stability probe: the largest stable learning rate against batch size, or against depth."""

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from zeroinit.probes.figures import apart, looks, numbers, power_axis
from zeroinit.report.figures import STYLE, finish


def draw(title, records):
  """The figure. title: what was measured; records: as in stability.json, see `stability.main`."""
  look_of = looks(record['method'] for record in records)
  batches = len({record['batch_size'] for record in records})
  across, panels = ('batch_size', 'depth') if batches > 1 else ('depth', 'batch_size')
  names = {'batch_size': 'batch size', 'depth': 'depth (layers)'}
  found = numbers([record['log2_largest_stable_rate'] for record in records])
  there = found[np.isfinite(found)]
  bottom = there.min() - 1.5 if there.size else -8.0  # where those stand that have none
  with matplotlib.rc_context(STYLE):
    values = sorted({record[panels] for record in records})
    figure = Figure(figsize=(max(5.0, 3.4 * len(values)), 4.0))
    axes = figure.subplots(1, len(values), sharey=True, squeeze=False)[0]
    for ax, value in zip(axes, values, strict=True):
      here = sorted((record for record in records if record[panels] == value), key=lambda record: record[across])
      for place, (method, look) in enumerate(look_of.items()):
        of_method = [record for record in here if record['method'] == method]
        x = np.array([record[across] * apart(place, len(look_of)) for record in of_method])
        rates = numbers([record['log2_largest_stable_rate'] for record in of_method])
        errors = [record.get('standard_error', {}).get('log2_largest_stable_rate', 0.0) for record in of_method]
        ax.errorbar(x, rates, numbers(errors), **look)
        none = np.isnan(rates)
        ax.plot(x[none], np.full(none.sum(), bottom), look['marker'], color=look['color'], markerfacecolor='none')
      power_axis(ax, sorted({record[across] for record in here}))
      ax.set_xlabel(names[across])
      ax.set_title(f'{names[panels].partition(" (")[0]} {value}')
      ax.yaxis.set_major_locator(ticker.MaxNLocator(8, integer=True))
      ax.yaxis.set_major_formatter(lambda rate, _: f'$2^{{{rate:g}}}$')
      ax.set_ylim(bottom - 0.8, (there.max() if there.size else bottom + 4) + 0.8)
    axes[0].set_ylabel('largest stable learning rate')
    finish(figure, title, list(look_of.values()), columns=min(3, len(look_of)))
  return figure
