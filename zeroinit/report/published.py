"""The papers' numbers, from paper_results.json, and which of our settings each belongs to."""

import dataclasses
import functools
import importlib.resources
import json

from zeroinit.studies import named, sweeps

ZI, SK, FX, BJ = 'Anonymous 2019', 'De & Smith 2020', 'Zhang', 'Bjorck'  # how the names of the papers begin in the file
SHORT = {ZI: 'ZI', SK: 'SK', FX: 'FX', BJ: 'BJ'}
PUBLISHED_KEPT = 12  # of 15 runs, behind every published mean with a standard deviation

# Published name of a method -> ours, and whether it has L2. Names that are not here are the same, with L2.
OURS = {
    'batch_norm': ('ghost_norm', True),
    'zeroinit_no_l2': ('zeroinit', False),
    'skipinit_alpha_0': ('multiplier', True),
    'skipinit_alpha_0_no_l2': ('multiplier', False),
    'regularized_skipinit': ('zeroinit', True),
    'skipinit_biases': ('zeroinit_no_dropout', True),
    'batch_norm_last_layer_only': ('batch_norm_last', True),
}
OVER_THE_WHOLE_BATCH = ('figure3', 'bjorck_figure1', 'pocket_figure1')  # where batch norm is not over ghost batches

# Study -> (paper, table, decimals of a printed accuracy), the first that has a setting counts. Figures have no numbers,
# but Table 1 stands for their runs at batch size 64.
SOURCES = {
    'table1': ((ZI, 'Table 1', 1),),
    'table2': ((ZI, 'Table 2', 1),),
    'table3': ((ZI, 'Table 3', 1),),
    'skipinit_depth': ((SK, 'CIFAR-10 depth table', 1), (SK, 'CIFAR-10 variations table', 1)),
    'figure1': ((ZI, 'Table 1', 1),),
    'figure3': ((ZI, 'Table 1', 1),),
    'bjorck_figure1': ((BJ, 'text (section 4)', 1),),
    'table4': ((ZI, 'Table 4', 2), (SK, 'ImageNet batch-size table', 1)),
    'table5': ((ZI, 'Table 5', 2),),
    'pocket_table1': ((ZI, 'Table 1', 1),),
    'pocket_figure1': ((ZI, 'Table 1', 1),),
    'pocket_depth': ((ZI, 'Table 2', 1),),
}
# The width of the paper's network, where a study has a narrower one in its place.
WIDTHS = {'pocket_table1': 4, 'pocket_figure1': 4, 'pocket_depth': 2}
PUBLISHED_SEEDS = dict.fromkeys(('table1', 'table2', 'table3', 'skipinit_depth', 'figure1', 'figure3', 'schedules'), 15)
_METRICS = {'val_top1_accuracy': 'test_accuracy', 'val_top5_accuracy': 'test_top5_accuracy'}  # those named otherwise


@dataclasses.dataclass(frozen=True)
class Published:
  """One published number.

  Attributes:
    value, std: as printed, accuracies in percent. value is None where the paper says that it does not train, std where
      none is printed.
    decimals: of the printed value.
    learning_rate: the optimal one; rates: its printed range, (lowest, highest). None where not printed.
    table: 'ZI Table 1' and the like.
  """

  value: float | None
  std: float | None
  decimals: int
  learning_rate: float | None
  rates: tuple[float, float] | None
  table: str

  def __str__(self):
    if self.value is None:
      return 'does not train'
    deviation = '' if self.std is None else f' ± {self.std:.{self.decimals}f}'
    return f'{self.value:.{self.decimals}f}{deviation}'


def published(study, group, metric):
  """The Published number for a group of a study, or None. metric: of our results, or 'test_top5_accuracy'."""
  for paper, table, decimals in SOURCES.get(study, ()):
    for record in records(paper, table):
      if _belongs(study, record, group, metric):
        rates = record['learning_rate_range']
        return Published(record['value'], record['std'], 3 if metric == 'train_loss' else decimals,
                         record['optimal_learning_rate'], tuple(rates) if rates else None,
                         f'{SHORT[paper]} {table}')
  return None


def departs(study, cell, field):
  """Whether a cell has another 'dataset' or 'network', by a flag, than its study has by itself.

  Of a study of one's own only what is one's own counts.
  """
  if study not in named.names():
    return ':' in str(cell.overrides.get(field, ''))
  return field in cell.overrides and cell.overrides[field] not in sweeps.defined_on(study).get(field, ())


def in_the_place_of(study, network):
  """The title of the paper's network for which one of a study stands: 'WRN-16-4' for 'WRN-16-1'."""
  return f'{network.rpartition("-")[0]}-{WIDTHS[study]}' if study in WIDTHS else network


def records(paper, table):
  """Everything that paper_results.json has of a table or figure of a paper, as dicts."""
  return [record for record in _records() if record['paper'].startswith(paper) and record['table'] == table]


def _belongs(study, record, group, metric):
  name = record['method']
  whole = study in OVER_THE_WHOLE_BATCH and name == 'batch_norm'
  method, l2 = (name, True) if whole else OURS.get(name, (name, True))
  fields = group.fields
  return (_METRICS.get(record['metric'], record['metric']) == metric
          and (method, l2) == (group.row, group.l2)
          and record['dataset'] == fields['dataset']
          and record['network'] == in_the_place_of(study, fields['network']).lower()
          and record['batch_size'] in (None, fields['batch_size']))


@functools.cache
def _records():
  return json.loads((importlib.resources.files(__package__) / 'paper_results.json').read_text())
