"""Accuracy along training, as in Bjorck et al.'s and Santurkar et al.'s Figure 1: for studies with few enough lines."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from zeroinit.report.figures import STYLE, image_of, label, look_of, say
from zeroinit.report.groups import ACCURACY, varying
from zeroinit.runs import run_directory

LINES = 12  # at most


def draw(gathered):
  """[page.Image]: a line per setting and rate, or where they are many, per setting at its best rate; [] if too many."""
  groups = [group for group in gathered.groups if group.choices]
  shown = [(group, score.learning_rate) for group in groups for score in group.choices[ACCURACY].scores]
  if len(shown) > LINES:
    shown = [(group, group.choices[ACCURACY].best.learning_rate) for group in groups]
  if len(shown) > LINES:
    return []
  names, lines = varying(gathered.groups), {}
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(8.4, 3.9))
    panels = figure.subplots(1, 2, sharey=True)
    for group, rate in shown:
      says = f'{label(group, names, ["epochs", "plateau_epochs"])}, rate {rate:.3g}'
      look = look_of(group.method, says, [look for _, look in lines.values()]) | {'markersize': 3.5}
      curves = [_curve(gathered.study, cell) for cell in group.cells if cell.learning_rate == rate
                and group.results.get(cell.identity, {}).get('status') == 'done']
      if not any(map(len, curves)):
        continue
      lines[says] = len(lines), look
      share, *accuracies = np.mean([curve for curve in curves if len(curve)], axis=0).T
      for ax, accuracy in zip(panels, accuracies, strict=True):
        ax.plot(share, 100 * accuracy, **look)
        for x, y in zip(share, 100 * accuracy, strict=True):
          say(ax, x, y, f'{says} at {x:.0%}: {y:.2f}')
    if not lines:
      return []
    for ax, what in zip(panels, ('training', 'test'), strict=True):
      ax.set_title(f'{what} accuracy, %')
      ax.set_xlabel('share of the training that is done')
      ax.set_xlim(0, 1)
    return [image_of(gathered, figure, lines, 'report_curves.png',
                     'Training and test accuracy along training, mean over the runs that did not diverge; where all of '
                     'them did, there is no line.')]


def _curve(study, cell):
  """Of a run that is done, an array with a row per evaluation: share of the updates, training and test accuracy.

  Without a row where the run is of an earlier version, which did not write down the training accuracy.
  """
  records = run_directory.Run(study.directory(cell)).records
  if not all('train_accuracy' in record for record in records):
    return np.array([])
  return np.array([[record['step'] / records[-1]['step'], record['train_accuracy'], record['test_accuracy']]
                   for record in records])
