"""The results as CSV: a row per cell, and a row per setting and metric.

Accuracies are fractions. Of the losses train_loss includes L2; test_cross_entropy and train_cross_entropy do not.
"""

import csv
import io
import math

from zeroinit.report.groups import METRICS
from zeroinit.report.published import published
from zeroinit.report.tables import difference, units
from zeroinit.runs import ending

OF_A_RUN = ('test_accuracy', 'test_top5_accuracy', 'test_cross_entropy', 'train_accuracy', 'train_loss',
            'train_cross_entropy', 'train_l2', 'last_quarter_cross_entropy', 'gradient_norm', 'best_test_accuracy',
            'steps', 'seconds', 'protocol', 'data', 'device', 'threads', 'git_revision')
OF_A_SETTING = ('metric', 'mean', 'std', 'kept', 'runs', 'learning_rate', 'within', 'edge', 'largest_stable_rate',
                'diverged', 'at_chance', 'finished', 'cells', 'published', 'published_std', 'published_learning_rate',
                'published_table', 'difference', 'standard_errors')


def of_cells(gathered):
  """results.csv, as text. status: done, at chance, diverged, failed or missing; message: of a cell that failed."""
  cells = gathered.study.cells
  fields = dict.fromkeys(name for cell in cells for name in cell.fields)
  columns = ('index', 'identity', 'dataset', 'method', 'network', *fields, 'status', *OF_A_RUN, 'message')
  rows = []
  for index, cell in enumerate(cells):
    status = 'failed' if cell.identity in gathered.failures else 'missing'
    result = gathered.results.get(cell.identity, {'status': status})
    rows.append({'index': index, 'identity': cell.identity, 'dataset': cell.dataset, 'method': cell.method,
                 'network': cell.network, **cell.fields, 'status': ending.status(result),
                 **{name: result.get(name) for name in OF_A_RUN}, 'message': gathered.failures.get(cell.identity)})
  return _csv(columns, rows)


def of_settings(gathered):
  """summary.csv, as text. Of settings with a result; within: learning rates within the error bar, by spaces."""
  groups = [group for group in gathered.groups if group.choices]
  fields = dict.fromkeys(name for group in gathered.groups for name in group.fields)
  rows = [{'method': group.method, **group.fields, **_summary(gathered.study.name, group, metric)}
          for group in groups for metric in METRICS]
  return _csv(('method', *fields, *OF_A_SETTING), rows)


def _summary(study, group, metric):
  choice, theirs = group.choices[metric], published(study, group, metric)
  best, unit, against = choice.best, units(metric), difference(choice.best, theirs, metric)
  of_best = ('mean', 'std', 'kept', 'learning_rate', 'within', 'edge')
  row = {'metric': metric, 'mean': best.mean if math.isfinite(best.mean) else None, 'std': best.std,
         'kept': best.kept, 'runs': best.runs, 'learning_rate': best.learning_rate,
         'within': ' '.join(f'{rate:g}' for rate in choice.within), 'edge': choice.edge,
         'largest_stable_rate': group.largest_stable_rate, 'diverged': group.diverged, 'at_chance': group.at_chance,
         'finished': len(group.results), 'cells': len(group.cells)}
  if not group.learns:  # no rate is the best of those at which nothing does
    row |= dict.fromkeys(of_best)
  if theirs:
    scaled = lambda value: None if value is None else round(value / unit, 6)
    row |= {'published': scaled(theirs.value), 'published_std': scaled(theirs.std),
            'published_learning_rate': theirs.learning_rate, 'published_table': theirs.table}
  if against and group.learns:
    row |= {'difference': against.value / unit, 'standard_errors': against.standard_errors}
  return row


def _csv(columns, rows):
  file = io.StringIO()
  writer = csv.DictWriter(file, columns, lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  return file.getvalue()
