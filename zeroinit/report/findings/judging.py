"""Judging a claim on the results of a study, and what claims are made of: scores, and comparisons of them."""

import dataclasses
import inspect
import typing

from zeroinit.report.groups import ACCURACY
from zeroinit.report.tables import value

HOLDS, DOES_NOT_HOLD, TOO_FEW = 'holds', 'does not hold', 'too few runs'


class Setting(typing.NamedTuple):
  """What a claim tells settings apart by. l2: whether the loss has an L2 term; drop_by: of the schedule.

  epochs, width and start (how kernels and classifier start) only matter where a study has several; None otherwise.
  """

  method: str
  depth: int | None
  batch_size: int
  l2: bool
  drop_by: float = 2.0
  epochs: float | None = None
  width: int | None = None
  start: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Finding:
  claim: str
  verdict: str  # HOLDS, DOES_NOT_HOLD or TOO_FEW
  numbers: str  # or what is missing


class CannotJudge(Exception):
  """A setting that a claim needs is not there, incomplete, not the only one of its kind, or has a single run a rate."""


def complete_settings(groups, least_kept=1):
  """{Setting: {metric: Choice}}, or in the place of the choices the reason why a Setting cannot be judged.

  least_kept: runs that must be kept at the best rate; one of a paper's 15 says nothing about small differences.
  """
  settings = {}
  told_apart = {'epochs': lambda group: group.fields['epochs'], 'width': lambda group: group.fields['width'],
                'start': lambda group: (group.fields['kernel_init'], group.fields['classifier_init'])}
  for name, of in list(told_apart.items()):
    if len(set(map(of, groups))) < 2:
      told_apart[name] = lambda group: None
  for group in groups:
    setting = Setting(group.row, group.fields.get('depth'), group.fields['batch_size'], group.l2,
                      group.fields.get('drop_by', 2.0), **{name: of(group) for name, of in told_apart.items()})
    if setting in settings:
      settings[setting] = 'is in the study more than once'
    elif not group.complete:
      settings[setting] = 'is not complete'
    elif min(choice.best.kept for choice in group.choices.values()) < least_kept:
      settings[setting] = 'has a single run per rate'
    else:
      settings[setting] = group.choices
  return settings


def judge(claim, settings):
  """The Finding of a claim, which is a function as this package describes it."""
  says = ' '.join((inspect.getdoc(claim) or claim.__name__).split())
  try:
    holds, numbers = claim(settings)
  except CannotJudge as missing:
    return Finding(says, TOO_FEW, str(missing))
  return Finding(says, HOLDS if holds else DOES_NOT_HOLD, numbers)


def choice(settings, metric, method, depth=None, batch_size=None, l2=True, drop_by=2.0, epochs=None, width=None,
           start=None):
  """The Choice of the one complete setting like this; depth and batch_size of None mean whichever it has."""
  asked = Setting(method, depth, batch_size, l2, drop_by, epochs, width, start)
  found = [choices for setting, choices in settings.items()
           if all(want is None or want == has for want, has in zip(asked, setting, strict=True))]
  says = ', '.join([method] + [f'{name.replace("_", " ")} {want}' for name, want in asked._asdict().items()
                               if name in ('depth', 'batch_size', 'epochs', 'width', 'start') and want]
                   + ([] if l2 else ['no L2']) + ([] if drop_by == 2 else [f'drops by {drop_by:g}']))
  if len(found) > 1:
    raise CannotJudge(f'several settings are {says}')
  if not found:
    raise CannotJudge(f'{says} is not in the study')
  if isinstance(found[0], str):
    raise CannotJudge(f'{says} {found[0]}')
  return found[0][metric]


def best(settings, metric, method, **where):
  """The Score at the best rate, see `choice`."""
  return choice(settings, metric, method, **where).best


def points(score):
  """Accuracy in percent."""
  return 100 * score.mean


def margin(settings, methods, holds, **where):
  """Whether holds(accuracy in percent of each method), and the accuracies."""
  scores = {method: best(settings, ACCURACY, method, **where) for method in methods}
  return holds(*map(points, scores.values())), _where(where) + listed(scores, ACCURACY)


def every(judged):
  """Whether all hold, and the numbers of each."""
  judged = list(judged)
  return all(holds for holds, _ in judged), '; '.join(numbers for _, numbers in judged)


def listed(scores, metric, before=''):
  """'none 92.30 ± 0.11, zeroinit 94.50 ± 0.10' of {name: Score}."""
  return ', '.join(f'{before}{name} {value(score, metric)}' for name, score in scores.items())


def _where(where):
  return ''.join(f'{name.removesuffix("_size")} {number}: ' for name, number in where.items())
