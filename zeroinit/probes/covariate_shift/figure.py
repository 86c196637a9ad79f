"""The figure of the covariate shift probe: shift and cosine over updates, a column per layer; or against the layer."""

import matplotlib
import numpy as np
from matplotlib import ticker

from zeroinit.probes.figures import in_columns, log_axes, looks, numbers, positive
from zeroinit.report.figures import STYLE, finish

COLUMNS = 5  # at most, side by side
ROWS = {"$|G - G'|$": 1, "cosine of $G$ and $G'$": 1}
MARKED = 20  # snapshots or layers, up to which each has its marker


def draw(title, records):
  """The figure. title: what was measured; records: as in covariate_shift.json, see `covariate_shift.measure`."""
  look_of = looks(record['method'] for record in records)
  over_updates = len({record['updates'] for record in records}) > 1
  panels = sorted({record['layer'] for record in records}) if over_updates else [None]
  across, label = ('updates', 'updates') if over_updates else ('layer', 'number of the layer')
  lowest = np.nanmin([0.0, *numbers([record['cosine'] for record in records])])
  with matplotlib.rc_context(STYLE):
    figure, columns = in_columns(len(panels), COLUMNS, ROWS, size=(2.9, 4.2), margins=(0.4, 0.9), least=5.4,
                                 sharex='col')
    for layer, (shift, cosine) in zip(panels, columns, strict=True):
      of_panel = [record for record in records if layer in (None, record['layer'])]
      for method, look in look_of.items():
        _lines(shift, cosine, [record for record in of_panel if record['method'] == method], across, look)
      shift.set_title('' if layer is None else f'layer {layer}')
      cosine.set_ylim(lowest - 0.08, 1.08)
      for ax in (shift, cosine):
        ax.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
        ax.tick_params(labelleft=ax.get_subplotspec().is_first_col(), labelbottom=True)
      cosine.set_xlabel(label)
      cosine.axhline(0, color='#808080', linewidth=0.8, zorder=0)
    log_axes(columns[:, 0])
    finish(figure, title, list(look_of.values()), columns=min(4, len(look_of)))
  return figure


def _lines(shift, cosine, records, across, look):
  records = sorted(records, key=lambda record: record[across])
  look = look | {'markersize': 3, 'marker': look['marker'] if len(records) <= MARKED else None}
  places = [record[across] for record in records]
  shift.plot(places, positive([record['shift'] for record in records]), **look)
  cosine.plot(places, numbers([record['cosine'] for record in records]), **look)
