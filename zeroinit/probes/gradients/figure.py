"""The figure of the gradients probe: mean cosine, and cross-entropy against L2, over depth."""

import matplotlib
from matplotlib.figure import Figure

from zeroinit.probes.figures import apart, depth_axis, log_axes, looks, numbers, positive
from zeroinit.report.figures import STYLE, finish


def draw(title, records):
  """The figure. title: what was measured; records: as in gradients.json, see `gradients.main`."""
  look_of = looks(record['method'] for record in records)
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(9.6, 3.6))
    cosine, loss, share = figure.subplots(1, 3)
    for place, (method, look) in enumerate(look_of.items()):
      here = sorted((record for record in records if record['method'] == method), key=lambda record: record['depth'])
      depths = [record['depth'] * apart(place, len(look_of)) for record in here]
      errors = [record.get('standard_error', {}).get('mean_cosine', 0.0) for record in here]
      cosine.errorbar(depths, numbers([record['mean_cosine'] for record in here]), numbers(errors), **look)
      loss.plot(depths, positive([record['cross_entropy'] for record in here]), **(look | {'linestyle': '-'}))
      loss.plot(depths, positive([record['l2'] for record in here]), **(look | {'linestyle': '--', 'markersize': 3}))
      share.plot(depths, numbers([record['l2_share'] for record in here]), **look)
    for ax, what in ((cosine, 'mean cosine between gradients of two examples'),
                     (loss, 'cross-entropy (solid), L2 (dashed)'), (share, 'L2 as a share of the loss')):
      depth_axis(ax, records)
      ax.set_title(what)
    cosine.axhline(0, color='#808080', linewidth=0.8, zorder=0)
    share.set_ylim(-0.05, 1.05)
    log_axes([loss])
    finish(figure, title, list(look_of.values()), columns=len(look_of) if len(look_of) < 5 else 3)
  return figure
