"""A table for test accuracy and one for training loss, a row per setting: ours, the published value, the difference."""

import dataclasses
import math

from zeroinit.report import header, page
from zeroinit.report.groups import ACCURACY, LOSS, varying
from zeroinit.report.published import PUBLISHED_KEPT, published
from zeroinit.runs.ending import LEARNT
from zeroinit.studies.selection import kept

COLUMNS = {
    'published': 'ZI is the ZeroInit paper, SK its later version, arXiv:2002.10444. On CIFAR-10 they give the best 12 '
                 'of 15 runs, on ImageNet one run per rate.',
    'in standard errors': 'the difference over sqrt(s1²/k1 + s2²/k2), k being the kept runs of either side. It '
                          'describes and is no test, because the kept runs are selected.',
    'within the error bar': 'the rates whose mean lies within one standard deviation of the best.',
    'largest stable rate': 'the highest rate of the grid at which every run learns, below the first at which one '
                           'diverged.',
    'diverged': 'runs whose loss exploded, over all rates of the setting.',
    'at chance': 'runs that ended without having learnt, over all rates of the setting: their mean cross-entropy over '
                 f'the last quarter of the training is not below {LEARNT} ln(classes).',
    'cells': 'how many of the setting have finished.',
    'remark': 'where the optimum is at the lowest or highest rate of the grid, the true one may lie beyond; --extend '
              'grows the grid.',
}
NOT_IN_TERMINAL = ('kept', 'table', 'in standard errors', 'published rate', 'within the error bar',
                   'largest stable rate')


def results(gathered):
  """[page.Table of test accuracy, page.Table of training loss]"""
  says = header.departures(gathered)
  comparable = f' Not comparable with the published values as it stands: {"; ".join(says)}.' if says else ''
  fewest, most = header.runs_per_rate(gathered.groups)
  if fewest < most:
    best = f'{fewest} to {most} runs per rate, of 3 or more the best'
  else:
    best = f'best {kept(most)} of {most} runs per rate' if most > 1 else 'one run per rate'
  captions = {ACCURACY: f'Test accuracy, %, {best}.', LOSS: f'Training loss, which includes L2, {best}.'}
  return [_table(gathered, metric, caption, comparable) for metric, caption in captions.items()]


def how(gathered):
  """How the numbers were chosen, with the number of runs that this study has."""
  fewest, most = header.runs_per_rate(gathered.groups)
  if fewest < most:
    best = f'there are {fewest} to {most} runs, of which the best are kept, for each metric apart,'
  else:
    best = f'the best {kept(most)} of {most} runs are kept, for each metric apart,' if most > 1 else 'there is one run,'
  return (f'At every learning rate {best} and a diverged run counts as the worst there is: accuracy at chance, '
          'infinite loss. The best rate of a metric is the one with the best mean of the kept runs, and ± is their '
          'sample standard deviation, which a single run has not.')


def meanings(tables):
  """What those columns of the tables mean whose name does not say it, as page.Items."""
  there = {name for table in tables for name in table.columns}
  return page.Items(tuple(f'{name}: {meaning}' for name, meaning in COLUMNS.items() if name in there))


def short(table):
  """The table with the columns that a terminal has room for."""
  shown = [i for i, name in enumerate(table.columns) if name not in NOT_IN_TERMINAL]
  pick = lambda cells: tuple(cells[i] for i in shown)
  return dataclasses.replace(table, columns=pick(table.columns), rows=tuple(map(pick, table.rows)))


@dataclasses.dataclass(frozen=True)
class Difference:
  """Ours less the published value, accuracies in points; in standard errors too where both have a deviation."""

  value: float
  standard_errors: float | None


def difference(score, theirs, metric):
  """The Difference between a selection.Score and a Published; None where one of them is no finite number."""
  if theirs is None or theirs.value is None or not math.isfinite(score.mean):
    return None
  unit = units(metric)
  value = unit * score.mean - theirs.value
  if score.std is None or theirs.std is None:
    return Difference(value, None)
  error = math.sqrt((unit * score.std) ** 2 / score.kept + theirs.std**2 / PUBLISHED_KEPT)
  return Difference(value, value / error if error else None)


def units(metric):
  """What a metric is multiplied by to be shown: accuracies are percent."""
  return 1 if metric == LOSS else 100


def rate(learning_rate):
  """'2^-3', or the number where it is no power of two."""
  mantissa, exponent = math.frexp(learning_rate)
  return f'2^{exponent - 1}' if mantissa == 0.5 else f'{learning_rate:g}'


def value(score, metric):
  """'94.38 ± 0.11' of a Score; without the deviation where it has none."""
  if score.mean == math.inf:
    return 'diverged'
  unit, decimals = units(metric), 4 if metric == LOSS else 2
  deviation = '' if score.std is None else f' ± {unit * score.std:.{decimals}f}'
  return f'{unit * score.mean:.{decimals}f}{deviation}'


def field(name, value):
  """The value of a field as text; '' where a setting has not got it."""
  return '' if value is None else f'{value:g}' if isinstance(value, float) else str(value)


def edge(choice):
  """A remark on an optimum at an end of the grid; '' where it is inside."""
  if len(choice.scores) == 1:
    return 'one rate only'
  return f'{choice.edge} rate of the grid: the optimum may lie beyond' if choice.edge else ''


def _table(gathered, metric, caption, comparable):
  names = varying(gathered.groups)
  rows = [{'method': group.method, **{name.replace('_', ' '): field(name, group.fields.get(name)) for name in names},
           **_row(group, published(gathered.study.name, group, metric), metric),
           **(_top5(group, gathered.study.name) if metric == ACCURACY else {})}
          for group in gathered.groups]
  columns = [name for name in dict.fromkeys(name for row in rows for name in row)
             if name in ('method', 'ours') or any(row.get(name) for row in rows)]
  texts = tuple(tuple(row.get(name, '') for name in columns) for row in rows)
  return page.Table(caption + (comparable if 'published' in columns else ''), tuple(columns), texts)


def _row(group, theirs, metric):
  """{column: text} of what came out, and beside it what was published."""
  row = dict.fromkeys(('ours', 'published', 'difference', 'in standard errors', 'best rate', 'published rate',
                       'within the error bar', 'largest stable rate', 'diverged', 'at chance', 'kept', 'cells', 'table',
                       'remark'), '')
  row['cells'] = f'{len(group.results)} of {len(group.cells)}'
  if theirs:
    row |= {'published': str(theirs), 'table': theirs.table}
    if theirs.learning_rate:
      lowest, highest = theirs.rates or (None, None)
      between = '' if lowest == highest else f' ({rate(lowest)} to {rate(highest)})'
      row['published rate'] = rate(theirs.learning_rate) + between
  if not group.choices:
    return row | {'ours': 'not run yet'}
  choice, unit = group.choices[metric], 'points' if metric == ACCURACY else ''
  row |= {
      'ours': value(choice.best, metric), 'kept': f'best {choice.best.kept} of {choice.best.runs}',
      'best rate': rate(choice.best.learning_rate),
      'within the error bar': ', '.join(map(rate, choice.within)),
      'largest stable rate': rate(group.largest_stable_rate) if group.largest_stable_rate else 'none',
      'diverged': f'{group.diverged} of {len(group.results)}', 'remark': edge(choice)}
  if group.at_chance:
    row['at chance'] = f'{group.at_chance} of {len(group.results)}'
  if not group.learns:
    ends = [status for status, count in (('at chance', group.at_chance), ('diverged', group.diverged)) if count]
    row |= {'ours': f'{" or ".join(ends)} at every rate', 'kept': '', 'best rate': '', 'within the error bar': '',
            'remark': ''}
    return row
  against = difference(choice.best, theirs, metric)
  if against:
    row['difference'] = f'{against.value:+.{2 if unit else 4}f} {unit}'.strip()
    row['in standard errors'] = '' if against.standard_errors is None else f'{against.standard_errors:+.1f}'
  return row


def _top5(group, study):
  theirs = published(study, group, 'test_top5_accuracy')
  return {'top-5': '' if group.top5 is None else f'{100 * group.top5:.2f}', 'published top-5': str(theirs or '')}
