"""The results of a study by setting: the cells of a group differ in learning rate and seed only."""

import dataclasses
import math

from zeroinit.runs import ending
from zeroinit.studies import selection
from zeroinit.studies.cells import TUNED_OVER, Cell, extended
from zeroinit.studies.manifest import Study

ACCURACY, LOSS = METRICS = tuple(selection.BETTER)
SHORT = {ACCURACY: 'accuracy', LOSS: 'loss'}


@dataclasses.dataclass(frozen=True)
class Group:
  """One setting, and what has come out of it so far.

  Attributes:
    cells: of this setting, in the order of the study.
    results: {identity: result.json} of those that have finished.
    choices: {metric: selection.Choice} over the finished ones; empty where there are none.
  """

  cells: tuple[Cell, ...]
  results: dict
  choices: dict

  @property
  def method(self):
    """Label of the method: the row's name, and what departs from it."""
    return self.cells[0].method

  @property
  def row(self):
    """The name under which the papers' numbers are found.

    On ImageNet the papers' own rows differ from METHODS in ghost size and dropout, so there the row's name is enough.
    """
    return self.method.partition('(')[0] if self.cells[0].dataset == 'imagenet' else self.method

  @property
  def fields(self):
    """{name: value} of what settings may differ in, besides the method."""
    first = self.cells[0]
    tuned = {name: value for name, value in first.fields.items() if name not in TUNED_OVER}
    return {'dataset': first.dataset, 'network': first.network, **tuned}

  @property
  def l2(self):
    """Whether the loss has an L2 term."""
    return self.fields['weight_decay'] != 0

  @property
  def chance(self):
    """Accuracy of guessing."""
    return 1 / self.cells[0].classes

  @property
  def complete(self):
    return len(self.results) == len(self.cells)

  @property
  def diverged(self):
    """How many runs, over all rates."""
    return self.ended('diverged')

  @property
  def at_chance(self):
    """How many runs ended without having learnt, over all rates."""
    return self.ended('at chance')

  def ended(self, status):
    """How many runs ended like that, see `ending.status`."""
    return sum(ending.status(result) == status for result in self.results.values())

  @property
  def learns(self):
    """Whether any run came to something."""
    return self.diverged + self.at_chance < len(self.results)

  @property
  def largest_stable_rate(self):
    """The highest rate at which every run learns, of those below the first at which one diverged; None without one."""
    stable = None
    for score in self.choices[ACCURACY].scores if self.choices else ():
      if score.diverged:
        break
      if not score.at_chance:
        stable = score.learning_rate
    return stable

  @property
  def top5(self):
    """Mean top-5 accuracy of the runs that were kept for their top-1 accuracy; None where it was not measured."""
    if not self.choices:
      return None
    best = self.choices[ACCURACY].best
    at_best = [self.results[cell.identity] for cell in self.cells
               if cell.identity in self.results and cell.learning_rate == best.learning_rate]
    done = [result for result in at_best if result['status'] != 'diverged' and 'test_top5_accuracy' in result]
    kept = sorted(done, key=lambda result: result[ACCURACY], reverse=True)[: best.kept]
    return math.fsum(result['test_top5_accuracy'] for result in kept) / len(kept) if kept else None


@dataclasses.dataclass(frozen=True)
class Gathered:
  """A study with its results.

  Attributes:
    groups: in the order of the study.
    results: {identity: result.json} of the cells that have finished.
    failures: {identity: message} of the cells whose last attempt ended with an error.
  """

  study: Study
  groups: tuple[Group, ...]
  results: dict
  failures: dict

  @property
  def missing(self):
    """The cells that have no result, failed ones included."""
    return [cell for cell in self.study.cells if cell.identity not in self.results]

  @property
  def over(self):
    """Whether every cell has a result or has failed."""
    return all(cell.identity in self.failures for cell in self.missing)


def gather(study):
  """Reads a study's results. Raises UserError, naming the file, where one is damaged."""
  results = study.results()
  failed, here = study.failures(), {cell.identity for cell in study.cells}
  failures = {name: message for name, message in failed.items() if name in here and name not in results}
  by_setting = {}
  for cell in study.cells:
    by_setting.setdefault((cell.dataset, cell.setting), []).append(cell)
  return Gathered(study, tuple(_group(cells, results) for cells in by_setting.values()), results, failures)


def beyond_the_edge(gathered):
  """The cells by which a study's grids must grow where an optimal rate lies at an end: the next power of two there."""
  grown = []
  for group in gathered.groups:
    rates = [cell.learning_rate for cell in group.cells]
    edges = _edges(group)
    further = ([min(rates) / 2] if 'lowest' in edges else []) + ([max(rates) * 2] if 'highest' in edges else [])
    grown += extended([cell for cell in group.cells if cell.learning_rate == rates[0]], further)
  return grown


def has_edge(gathered):
  """Whether there are such cells; their config files are not needed to tell."""
  return any(_edges(group) - {None} for group in gathered.groups)


def _edges(group):
  """The ends of the grid at which an optimal rate lies; a setting that trains at no rate has none to look for."""
  if not group.complete or not group.learns:
    return set()
  return {choice.edge for choice in group.choices.values()}


def varying(groups):
  """Names of the fields in which groups differ; the network only where neither its depth nor its width says it."""
  names = dict.fromkeys(name for group in groups for name in group.fields)
  differ = [name for name in names if len({group.fields.get(name) for group in groups}) > 1]
  sized = 'depth' in differ or 'width' in differ
  return [name for name in differ if name != 'network' or not sized]


def _group(cells, results):
  there = {cell.identity: results[cell.identity] for cell in cells if cell.identity in results}
  choices = {}
  for metric in METRICS if there else ():
    values, at_chance = {}, {}
    for cell in cells:
      if cell.identity in there:
        result = there[cell.identity]
        value = None if result['status'] == 'diverged' else result[metric]
        values.setdefault(cell.learning_rate, []).append(value)
        at_chance.setdefault(cell.learning_rate, []).append(ending.status(result) == 'at chance')
    choices[metric] = selection.choose(values, metric, chance=1 / cells[0].classes,
                                       at_chance={rate: sum(ended) for rate, ended in at_chance.items()})
  return Group(tuple(cells), there, choices)
