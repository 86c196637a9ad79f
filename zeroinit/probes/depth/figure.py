"""The figure of the depth test: accuracy against depth."""

import matplotlib
from matplotlib.figure import Figure

from zeroinit.probes.figures import apart, depth_axis, looks
from zeroinit.report.figures import STYLE, finish


def draw(title, records, guessing):
  """The figure. title: what was measured; records: as in depth.json; guessing: the accuracy of a guess."""
  look_of = looks(record['method'] for record in records)
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(5.6, 4.0))
    ax = figure.subplots()
    for place, (method, look) in enumerate(look_of.items()):
      here = sorted((record for record in records if record['method'] == method), key=lambda record: record['depth'])
      ax.errorbar([record['depth'] * apart(place, len(look_of)) for record in here],
                  [100 * record['test_accuracy'] for record in here],
                  [100 * record.get('standard_error', {}).get('test_accuracy', 0.0) for record in here], **look)
    ax.axhline(100 * guessing, color='#808080', linestyle=':', linewidth=1.0, zorder=0)
    ax.set_ylim(0, None)
    ax.set_ylabel('test accuracy, %')
    depth_axis(ax, records)
    finish(figure, title, list(look_of.values()), columns=3)
  return figure
