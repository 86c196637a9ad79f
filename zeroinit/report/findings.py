"""What must come out: the claims of the papers, each judged on a study's own results.

A claim is a function over {Setting: {metric: Choice}}; its docstring is the claim, with its tolerance, and it returns
whether that holds and the numbers it was judged on. Where the paper says "well above" or "slightly", the tolerance is
ours. ZI is the ZeroInit paper, SK its later version, arXiv:2002.10444.
"""

import dataclasses
import inspect
import itertools
import typing

from zeroinit.report import page
from zeroinit.report.groups import ACCURACY, LOSS
from zeroinit.report.published import SEEDS
from zeroinit.report.tables import rate, value

HOLDS, FAILS, TOO_FEW = 'holds', 'fails', 'too few runs'
DEPTHS = (16, 100, 1000)
NORMALIZED_OR_NOT = ('ghost_norm', 'none', 'zeroinit')  # the lines of Figures 1 and 2
FIGURE_1_BATCHES = tuple(2**k for k in range(6, 14))
FIGURE_3_BATCHES = tuple(2**k for k in range(11))


class Setting(typing.NamedTuple):
  """What a claim tells settings apart by. l2: whether the loss has an L2 term; drop_by: of the schedule.

  epochs only matter where a study has several lengths; None otherwise.
  """

  method: str
  depth: int | None
  batch_size: int
  l2: bool
  drop_by: float = 2.0
  epochs: float | None = None


@dataclasses.dataclass(frozen=True)
class Finding:
  claim: str
  verdict: str  # HOLDS, FAILS or TOO_FEW
  numbers: str  # or what is missing


class TooFewRuns(Exception):
  """A setting that a claim needs is not there, incomplete, not the only one of its kind, or has a single run a rate."""


def table(study, groups):
  """The claims about a study as a page.Table; None where there are none, as for a user's own study."""
  settings = complete_settings(groups, least_kept=2 if study in SEEDS else 1)
  rows = [dataclasses.astuple(judge(claim, settings)) for claim in CLAIMS.get(study, ())]
  caption = 'Each claim, judged on these runs.'
  return page.Table(caption, ('claim', 'verdict', 'numbers'), tuple(rows)) if rows else None


def short(table):
  """The claims and verdicts, for a terminal."""
  return page.Items(tuple(f'{verdict}: {claim}' for claim, verdict, _ in table.rows))


def complete_settings(groups, least_kept=1):
  """{Setting: {metric: Choice}}, or in the place of the choices the reason why a Setting cannot be judged.

  least_kept: runs that must be kept at the best rate; one of a paper's 15 says nothing about small differences.
  """
  settings, lengths = {}, {group.fields['epochs'] for group in groups}
  for group in groups:
    setting = Setting(group.row, group.fields.get('depth'), group.fields['batch_size'], group.l2,
                      group.fields.get('drop_by', 2.0), group.fields['epochs'] if len(lengths) > 1 else None)
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
  """The Finding of a claim, which is one of the functions below."""
  says = ' '.join((inspect.getdoc(claim) or claim.__name__).split())
  try:
    holds, numbers = claim(settings)
  except TooFewRuns as missing:
    return Finding(says, TOO_FEW, str(missing))
  return Finding(says, HOLDS if holds else FAILS, numbers)


# ZI, Table 1.


def multiplier_gains(settings):
  """The multiplier alone gains at least 1 point of test accuracy over none (ZI: 1.7)."""
  return _margin(settings, ('multiplier', 'none'), lambda multiplier, none: multiplier - none >= 1)


def multiplier_has_the_lowest_loss(settings):
  """The multiplier alone has the lowest training loss of all rows."""
  losses = {method: _best(settings, LOSS, method) for method in _TABLE_1}
  return min(losses, key=lambda method: losses[method].mean) == 'multiplier', _listed(losses, LOSS)


def biases_hurt_slightly(settings):
  """Biases alone lower test accuracy, by less than 1 point (ZI: 0.4)."""
  return _margin(settings, ('biases', 'none'), lambda biases, none: 0 < none - biases < 1)


def dropout_helps_and_raises_the_loss(settings):
  """Dropout alone raises test accuracy and raises training loss."""
  higher, accuracies = _margin(settings, ('dropout', 'none'), lambda dropout, none: dropout > none)
  losses = {method: _best(settings, LOSS, method) for method in ('dropout', 'none')}
  raised = losses['dropout'].mean > losses['none'].mean
  return higher and raised, f'accuracy: {accuracies}; loss: {_listed(losses, LOSS)}'


def all_three_parts_are_best(settings):
  """ZeroInit, all three parts together, has the highest test accuracy of all rows."""
  accuracies = {method: _best(settings, ACCURACY, method) for method in _TABLE_1}
  return max(accuracies, key=lambda method: accuracies[method].mean) == 'zeroinit', _listed(accuracies, ACCURACY)


# ZI, Tables 2 and 3, and SK's tables of depth.


def table_2_trains_at_depth_1000(settings):
  """Depth 1000 trains with batch norm and with ZeroInit: no more than 1 point below depth 16."""
  return _all(_trains_at_depth_1000(settings, method) for method in ('ghost_norm', 'zeroinit'))


def table_2_rates_do_not_depend_on_depth(settings):
  """The optimal rate for accuracy hardly depends on depth: of each method within a factor of 2 over 16, 100, 1000."""
  return _all(_same_rate_at_all_depths(settings, method) for method in ('ghost_norm', 'zeroinit'))


def batch_norm_is_slightly_ahead(settings):
  """Batch norm is ahead of ZeroInit at every depth, by less than 1 point (ZI: 0.2, 0.5, 0.3)."""
  return _all(_margin(settings, ('ghost_norm', 'zeroinit'), lambda norm, zeroinit: 0 < norm - zeroinit < 1, depth=depth)
              for depth in DEPTHS)


def table_3_trains_at_depth_1000(settings):
  """Depth 1000 trains with ZeroInit without L2 and with the multiplier alone: no more than 1 point below depth 16."""
  return _all([_trains_at_depth_1000(settings, 'zeroinit', l2=False), _trains_at_depth_1000(settings, 'multiplier')])


def table_3_rates_do_not_depend_on_depth(settings):
  """The optimal rate for accuracy hardly depends on depth: of each column within a factor of 2 over 16, 100, 1000."""
  return _all([_same_rate_at_all_depths(settings, 'zeroinit', l2=False),
               _same_rate_at_all_depths(settings, 'multiplier')])


def table_3_needs_l2_for_accuracy(settings):
  """ZeroInit without L2 is at least 1 point below the multiplier with L2 at every depth (ZI: 2.1, 1.9, 1.7)."""
  def at(depth):
    without = _best(settings, ACCURACY, 'zeroinit', depth=depth, l2=False)
    with_l2 = _best(settings, ACCURACY, 'multiplier', depth=depth)
    return (_points(with_l2) - _points(without) >= 1,
            f'depth {depth}: {_listed({"without": without, "with": with_l2}, ACCURACY)}')
  return _all(map(at, DEPTHS))


def small_alpha_trains_at_depth_1000(settings):
  """Depth 1000 trains with batch norm, alpha = 0 and alpha = 1/sqrt(d): no more than 1 point below depth 16."""
  return _all(_trains_at_depth_1000(settings, method)
              for method in ('ghost_norm', 'multiplier', 'skipinit_alpha_inverse_sqrt_d'))


def alpha_1_fails_with_depth(settings):
  """With alpha = 1 depth 16 trains, and depths 100 and 1000 do not: best accuracy above, and below, 50 %."""
  scores = {depth: _best(settings, ACCURACY, 'skipinit_alpha_1', depth=depth) for depth in DEPTHS}
  return (_points(scores[16]) > 50 and max(_points(scores[depth]) for depth in (100, 1000)) < 50,
          _listed(scores, ACCURACY, 'depth '))


def sqrt2_is_no_cure_for_depth(settings):
  """Dividing by sqrt(2) loses at least 2 points to alpha = 0 at depth 100 (SK: 5.3), and at 1000 stays below 50 %."""
  methods = ('multiplier', 'divide_by_sqrt2')
  ahead, numbers = _margin(settings, methods, lambda zero, sqrt2: zero - sqrt2 >= 2, depth=100)
  deep = _best(settings, ACCURACY, 'divide_by_sqrt2', depth=1000)
  return ahead and _points(deep) < 50, f'{numbers}; depth 1000: divide_by_sqrt2 {value(deep, ACCURACY)}'


def l2_is_not_what_trains_depth(settings):
  """With alpha = 0, L2 is worth at least 1 point at every depth (SK: 3.5, 2.5, 2.2); depth 1000 trains without, too."""
  def at(depth):
    scores = {says: _best(settings, ACCURACY, 'multiplier', depth=depth, l2=l2)
              for says, l2 in (('without', False), ('with', True))}
    return (_points(scores['with']) - _points(scores['without']) >= 1,
            f'depth {depth}: {_listed(scores, ACCURACY)}')
  worth, numbers = _all(map(at, DEPTHS))
  return worth and _trains_at_depth_1000(settings, 'multiplier', l2=False)[0], numbers


# ZI, Figures 1 and 2: batch size from 64 up, batch norm over ghost batches.


def batch_norm_is_well_above_none(settings):
  """Batch norm is at least 1 point above none after tuning both learning rate and batch size."""
  scores = {method: max(_curve(settings, ACCURACY, method, FIGURE_1_BATCHES).values(), key=lambda score: score.mean)
            for method in ('ghost_norm', 'none')}
  return _points(scores['ghost_norm']) - _points(scores['none']) >= 1, _listed(scores, ACCURACY)


def flat_and_then_falling(settings):
  """Accuracy is flat at small batches and then falls: 64 and 128 within 0.5 points, and 8192 at least 1 point below."""
  def of(method):
    curve = _curve(settings, ACCURACY, method, FIGURE_1_BATCHES)
    first, second, last = (_points(curve[batch]) for batch in (64, 128, 8192))
    shown = {batch: curve[batch] for batch in (64, 128, 8192)}
    return abs(first - second) <= 0.5 and first - last >= 1, f'{method}: {_listed(shown, ACCURACY, "batch ")}'
  return _all(map(of, NORMALIZED_OR_NOT))


def batch_norm_is_efficient_up_to_larger_batches(settings):
  """The largest efficient batch size, up to which accuracy stays within 0.5 points of the method's best, is at least
  8 times as large with batch norm as with ZeroInit and with none."""
  largest = {method: _largest_efficient_batch(_curve(settings, ACCURACY, method, FIGURE_1_BATCHES))
             for method in NORMALIZED_OR_NOT}
  return (largest['ghost_norm'] >= 8 * max(largest['zeroinit'], largest['none']),
          ', '.join(f'{method} {batch or "below 64"}' for method, batch in largest.items()))


def zeroinit_equals_batch_norm_at_small_batches(settings):
  """ZeroInit's accuracy is within 1 std of batch norm's, the larger of the two, at batches 64, 128 and 256."""
  return _all(_within_one_std(settings, 'zeroinit', 'ghost_norm', batch) for batch in (64, 128, 256))


def zeroinit_is_below_batch_norm_at_large_batches(settings):
  """ZeroInit's accuracy is below batch norm's at batches 2048, 4096 and 8192."""
  return _all(_margin(settings, ('zeroinit', 'ghost_norm'), lambda zeroinit, norm: zeroinit < norm, batch_size=batch)
              for batch in (2048, 4096, 8192))


def batch_norm_has_the_lowest_loss(settings):
  """Batch norm has the lowest training loss at every batch size."""
  def at(batch):
    losses = {method: _best(settings, LOSS, method, batch_size=batch) for method in NORMALIZED_OR_NOT}
    return losses['ghost_norm'].mean < min(losses['none'].mean, losses['zeroinit'].mean), \
        f'batch {batch}: {_listed(losses, LOSS)}'
  return _all(map(at, FIGURE_1_BATCHES))


def none_degrades_with_batch_size(settings):
  """Training losses of none and ZeroInit are within 20 % of each other at batch 64; at 8192 none's is at least twice
  what it was at 64."""
  none = _curve(settings, LOSS, 'none', FIGURE_1_BATCHES)
  zeroinit = _best(settings, LOSS, 'zeroinit', batch_size=64)
  similar = abs(none[64].mean - zeroinit.mean) <= 0.2 * zeroinit.mean
  return (similar and none[8192].mean >= 2 * none[64].mean,
          f'batch 64: {_listed({"none": none[64], "zeroinit": zeroinit}, LOSS)}; '
          f'batch 8192: none {value(none[8192], LOSS)}')


def rates_grow_with_the_batch(settings):
  """Optimal rates, for accuracy and for loss, grow in proportion to the batch from 64 to 256, within a factor of 2,
  with batch norm and with ZeroInit."""
  return _all(_proportional(settings, metric, method, 64, 256)
              for metric in (ACCURACY, LOSS) for method in ('ghost_norm', 'zeroinit'))


def rates_are_similar_where_they_grow(settings):
  """At batch 64 the optimal rates for accuracy of the three methods are within a factor of 4."""
  return _similar_rates(settings, ACCURACY, NORMALIZED_OR_NOT, 64, 4)


def rates_saturate(settings):
  """The largest optimal rates for accuracy over all batches are 2^-3 of none, 2^1 of ZeroInit and 2^4 of batch norm,
  each within a factor of 2."""
  largest = {method: max(score.learning_rate for score in _curve(settings, ACCURACY, method, FIGURE_1_BATCHES).values())
             for method in NORMALIZED_OR_NOT}
  published = {'none': 2**-3, 'zeroinit': 2**1, 'ghost_norm': 2**4}
  return (all(0.5 <= largest[method] / published[method] <= 2 for method in largest),
          ', '.join(f'{method} {rate(found)}' for method, found in largest.items()))


# ZI, Figures 3 and 4: batch size 1 to 1024, batch norm over the whole batch.


def zeroinit_is_flat_at_small_batches(settings):
  """ZeroInit's accuracy is flat: at batches 1 to 256 within 1 std, the larger of the two, of that at 64."""
  curve = _curve(settings, ACCURACY, 'zeroinit', FIGURE_3_BATCHES)
  batches = [batch for batch in FIGURE_3_BATCHES if batch <= 256]
  for batch in batches:
    _needs_std(curve[batch], f'zeroinit at batch {batch}')
  return (all(abs(curve[batch].mean - curve[64].mean) <= max(curve[batch].std, curve[64].std) for batch in batches),
          _listed({batch: curve[batch] for batch in batches}, ACCURACY, 'batch '))


def batch_norm_drops_at_small_batches(settings):
  """Batch norm's accuracy drops below batch 64: at 1, 2, 4 and 8 it is lower than at 64 by more than 1 std, the larger
  of the two."""
  shown = {batch: _best(settings, ACCURACY, 'batch_norm', batch_size=batch) for batch in (1, 2, 4, 8, 64)}
  for batch, score in shown.items():
    _needs_std(score, f'batch_norm at batch {batch}')
  return (all(shown[64].mean - shown[batch].mean > max(shown[64].std, shown[batch].std) for batch in (1, 2, 4, 8)),
          _listed(shown, ACCURACY, 'batch '))


def batch_norm_is_better_at_large_batches(settings):
  """Batch norm's accuracy is above ZeroInit's at batches 512 and 1024."""
  return _all(_margin(settings, ('batch_norm', 'zeroinit'), lambda norm, zeroinit: norm > zeroinit, batch_size=batch)
              for batch in (512, 1024))


def batch_norm_is_better_on_the_loss(settings):
  """Batch norm's training loss is below ZeroInit's at every batch size."""
  def at(batch):
    losses = {method: _best(settings, LOSS, method, batch_size=batch) for method in ('batch_norm', 'zeroinit')}
    return losses['batch_norm'].mean < losses['zeroinit'].mean, f'batch {batch}: {_listed(losses, LOSS)}'
  return _all(map(at, FIGURE_3_BATCHES))


def small_rates_grow_with_the_batch(settings):
  """Optimal rates, for accuracy and for loss, grow in proportion to the batch from 1 to 16, within a factor of 2, with
  all three methods."""
  return _all(_proportional(settings, metric, method, 1, 16)
              for metric in (ACCURACY, LOSS) for method in ('batch_norm', 'none', 'zeroinit'))


def small_rates_are_similar(settings):
  """At batches 1, 4 and 16 the optimal rates of the three methods are within a factor of 4, for accuracy and loss."""
  return _all(_similar_rates(settings, metric, ('batch_norm', 'none', 'zeroinit'), batch, 4)
              for metric in (ACCURACY, LOSS) for batch in (1, 4, 16))


# ZI, Tables 4 and 5: ResNet-50 on ImageNet, single runs.


def v2_zeroinit_reaches_batch_norm(settings):
  """ZeroInit is at least as accurate as batch norm at batches 256 and 1024, or less than 0.2 points below."""
  return _all(_margin(settings, ('zeroinit', 'ghost_norm'), lambda zeroinit, norm: zeroinit > norm - 0.2,
                      batch_size=batch) for batch in (256, 1024))


def v2_zeroinit_loses_at_4096(settings):
  """ZeroInit is at least 1 point below batch norm at batch 4096 (ZI: 2.2)."""
  return _margin(settings, ('zeroinit', 'ghost_norm'), lambda zeroinit, norm: norm - zeroinit >= 1, batch_size=4096)


def v2_fixup_equals_zeroinit_without_dropout(settings):
  """Fixup and ZeroInit without dropout are within 0.3 points at batches 256 and 1024."""
  return _all(_margin(settings, ('fixup', 'zeroinit_no_dropout'), lambda fixup, zeroinit: abs(fixup - zeroinit) <= 0.3,
                      batch_size=batch) for batch in (256, 1024))


def v2_fixup_with_dropout_equals_batch_norm(settings):
  """SK: Fixup with dropout is within 0.5 points of batch norm at batch 4096, and at least 1 point above ZeroInit."""
  return _margin(settings, ('fixup_dropout', 'ghost_norm', 'zeroinit'),
                 lambda fixup, norm, zeroinit: abs(fixup - norm) <= 0.5 and fixup - zeroinit >= 1, batch_size=4096)


def v1_zeroinit_loses(settings):
  """In V1, whose shortcut is not linear, ZeroInit is at least 3 points below batch norm at every batch (ZI: 5 to 7)."""
  return _all(_margin(settings, ('zeroinit', 'ghost_norm'), lambda zeroinit, norm: norm - zeroinit >= 3,
                      batch_size=batch) for batch in (256, 1024, 4096))


def v1_one_scalar_recovers(settings):
  """One scalar bias per block brings ZeroInit within 1 point of batch norm at batches 256 and 1024 (ZI: 0.3, 0.4)."""
  return _all(_margin(settings, ('zeroinit_scalar_bias', 'ghost_norm'), lambda scalar, norm: norm - scalar <= 1,
                      batch_size=batch) for batch in (256, 1024))


# The digits, at depth 100. No paper has numbers for them.


def depth_100_does_not_train_with_none(settings):
  """Without normalization or initialization depth 100 does not train: best accuracy below 50 %."""
  score = _best(settings, ACCURACY, 'none', depth=100)
  return _points(score) < 50, _listed({'none': score}, ACCURACY)


def depth_100_trains_otherwise(settings):
  """With batch_norm, fixup or zeroinit depth 100 trains: best accuracy above 90 %."""
  scores = {method: _best(settings, ACCURACY, method, depth=100) for method in ('batch_norm', 'fixup', 'zeroinit')}
  return min(map(_points, scores.values())) > 90, _listed(scores, ACCURACY)


def batch_norm_stands_the_largest_rates(settings):
  """At depth 100 the largest rate with accuracy above 50 % is with batch_norm at least that of every other method."""
  largest = {}
  for method in ('batch_norm', 'none', 'fixup', 'zeroinit'):
    scores = _choice(settings, ACCURACY, method, depth=100).scores
    largest[method] = max((score.learning_rate for score in scores if _points(score) > 50), default=0)
  return (largest['batch_norm'] == max(largest.values()) > 0,
          ', '.join(f'{method} {rate(found) if found else "at no rate"}' for method, found in largest.items()))


# ZI, section 3.


def halving_beats_three_drops(settings):
  """Halving the rate again and again from mid-run on is at least 0.1 points more accurate than three drops by 10."""
  return _all(_halving_beats_three_drops(settings, method) for method in ('ghost_norm', 'zeroinit'))


def _halving_beats_three_drops(settings, method):
  scores = {f'divided by {drop_by}': _best(settings, ACCURACY, method, drop_by=drop_by) for drop_by in (2, 10)}
  halved, dropped = scores.values()
  return _points(halved) >= _points(dropped) + 0.1, f'{method}: {_listed(scores, ACCURACY)}'


# BJ, Figure 1 and section 4.


def large_rates_generalize(settings):
  """With batch norm test accuracy falls with the rate, and at the smallest is at most 1 point above that of none."""
  of = {rate: _bjorck(settings, 'batch_norm', epochs) for rate, epochs in ((0.1, 165), (0.003, 1320), (0.0001, 2400))}
  none = _bjorck(settings, 'none', 2400)
  holds = of[0.1].mean > of[0.003].mean > of[0.0001].mean and _points(of[0.0001]) <= _points(none) + 1
  return holds, f'batch norm: {_listed(of, ACCURACY, "rate ")}; {_listed({"none at 0.0001": none}, ACCURACY)}'


def none_fails_at_large_rates(settings):
  """Without batch norm a rate of 0.1 does not train: test accuracy below 20 %."""
  scores = {'none at 0.1': _bjorck(settings, 'none', 165)}
  return _points(scores['none at 0.1']) < 20, _listed(scores, ACCURACY)


def the_last_norm_is_most_of_it(settings):
  """One batch norm after the last block has at least half of the gain of batch norm over none (BJ: two thirds)."""
  scores = {name: _bjorck(settings, name, epochs)
            for name, epochs in (('none', 2400), ('batch_norm_last', 165), ('batch_norm', 165))}
  none, last, everywhere = map(_points, scores.values())
  return last - none >= (everywhere - none) / 2 > 0, _listed(scores, ACCURACY)


def _bjorck(settings, method, epochs):
  return _best(settings, ACCURACY, method, drop_by=10.0, epochs=float(epochs))


# SA, Figures 1 and 2.


def batch_norm_stands_both_rates(settings):
  """With batch norm VGG trains at 0.1 and at 0.5; without it not at 0.5: test accuracy below 50 %."""
  at = {(method, score.learning_rate): score for method in ('biases', 'batch_norm')
        for score in _choice(settings, ACCURACY, method, l2=False).scores}
  for case in itertools.product(('biases', 'batch_norm'), (0.1, 0.5)):
    if case not in at:
      raise TooFewRuns(f'{case[0]} at {case[1]} is not in the study')
  holds = min(_points(at['batch_norm', 0.1]), _points(at['batch_norm', 0.5])) > 50 > _points(at['biases', 0.5])
  return holds, _listed({f'{method} at {rate:g}': score for (method, rate), score in at.items()}, ACCURACY)


def noise_does_not_matter(settings):
  """With noisy batch norm VGG is at most 2 points below batch norm, and above the network without."""
  scores = {method: _best(settings, ACCURACY, method, l2=False)
            for method in ('biases', 'batch_norm', 'noisy_batch_norm')}
  biases, norm, noisy = map(_points, scores.values())
  return noisy >= norm - 2 and noisy > biases, _listed(scores, ACCURACY)


CLAIMS = {
    'digits': (depth_100_does_not_train_with_none, depth_100_trains_otherwise, batch_norm_stands_the_largest_rates),
    'table1': (multiplier_gains, multiplier_has_the_lowest_loss, biases_hurt_slightly,
               dropout_helps_and_raises_the_loss, all_three_parts_are_best),
    'table2': (table_2_trains_at_depth_1000, table_2_rates_do_not_depend_on_depth, batch_norm_is_slightly_ahead),
    'table3': (table_3_trains_at_depth_1000, table_3_rates_do_not_depend_on_depth, table_3_needs_l2_for_accuracy),
    'skipinit_depth': (small_alpha_trains_at_depth_1000, alpha_1_fails_with_depth, sqrt2_is_no_cure_for_depth,
                       l2_is_not_what_trains_depth),
    'figure1': (batch_norm_is_well_above_none, flat_and_then_falling, batch_norm_is_efficient_up_to_larger_batches,
                zeroinit_equals_batch_norm_at_small_batches, zeroinit_is_below_batch_norm_at_large_batches,
                batch_norm_has_the_lowest_loss, none_degrades_with_batch_size, rates_grow_with_the_batch,
                rates_are_similar_where_they_grow, rates_saturate),
    'figure3': (zeroinit_is_flat_at_small_batches, batch_norm_drops_at_small_batches,
                batch_norm_is_better_at_large_batches, batch_norm_is_better_on_the_loss,
                small_rates_grow_with_the_batch, small_rates_are_similar),
    'schedules': (halving_beats_three_drops,),
    'bjorck_figure1': (large_rates_generalize, none_fails_at_large_rates, the_last_norm_is_most_of_it),
    'santurkar_figure1': (batch_norm_stands_both_rates,),
    'santurkar_figure2': (noise_does_not_matter,),
    'table4': (v2_zeroinit_reaches_batch_norm, v2_zeroinit_loses_at_4096, v2_fixup_equals_zeroinit_without_dropout,
               v2_fixup_with_dropout_equals_batch_norm),
    'table5': (v1_zeroinit_loses, v1_one_scalar_recovers),
}
_TABLE_1 = ('none', 'biases', 'dropout', 'multiplier', 'biases_dropout', 'zeroinit')


def _choice(settings, metric, method, depth=None, batch_size=None, l2=True, drop_by=2.0, epochs=None):
  """The Choice of the one complete setting like this; depth and batch_size of None mean whichever it has."""
  asked = Setting(method, depth, batch_size, l2, drop_by, epochs)
  found = [choices for setting, choices in settings.items()
           if all(want is None or want == has for want, has in zip(asked, setting, strict=True))]
  says = ', '.join([method] + [f'{name.replace("_", " ")} {want}' for name, want in asked._asdict().items()
                               if name in ('depth', 'batch_size', 'epochs') and want]
                   + ([] if l2 else ['no L2']) + ([] if drop_by == 2 else [f'drops by {drop_by:g}']))
  if len(found) > 1:
    raise TooFewRuns(f'several settings are {says}')
  if not found:
    raise TooFewRuns(f'{says} is not in the study')
  if isinstance(found[0], str):
    raise TooFewRuns(f'{says} {found[0]}')
  return found[0][metric]


def _best(settings, metric, method, **where):
  """The Score at the best rate, see `_choice`."""
  return _choice(settings, metric, method, **where).best


def _curve(settings, metric, method, batches):
  """{batch size: Score at its best rate}"""
  return {batch: _best(settings, metric, method, batch_size=batch) for batch in batches}


def _points(score):
  """Accuracy in percent."""
  return 100 * score.mean


def _margin(settings, methods, holds, **where):
  """Whether holds(accuracy in percent of each method), and the accuracies."""
  scores = {method: _best(settings, ACCURACY, method, **where) for method in methods}
  return holds(*map(_points, scores.values())), _where(where) + _listed(scores, ACCURACY)


def _within_one_std(settings, first, second, batch):
  scores = {method: _best(settings, ACCURACY, method, batch_size=batch) for method in (first, second)}
  for method, score in scores.items():
    _needs_std(score, f'{method} at batch {batch}')
  one, other = scores.values()
  return abs(one.mean - other.mean) <= max(one.std, other.std), f'batch {batch}: {_listed(scores, ACCURACY)}'


def _needs_std(score, says):
  if score.std is None:
    raise TooFewRuns(f'{says} has a single run at its best rate, so no standard deviation')


def _trains_at_depth_1000(settings, method, l2=True):
  scores = {depth: _best(settings, ACCURACY, method, depth=depth, l2=l2) for depth in (16, 1000)}
  return _points(scores[1000]) >= _points(scores[16]) - 1, f'{method}: {_listed(scores, ACCURACY, "depth ")}'


def _same_rate_at_all_depths(settings, method, l2=True):
  rates = [_best(settings, ACCURACY, method, depth=depth, l2=l2).learning_rate for depth in DEPTHS]
  return max(rates) <= 2 * min(rates), f'{method}: {", ".join(map(rate, rates))}'


def _largest_efficient_batch(curve):
  """0 where the smallest batch already is more than 0.5 points below the best."""
  best, largest = max(map(_points, curve.values())), 0
  for batch in sorted(curve):
    if _points(curve[batch]) < best - 0.5:
      break
    largest = batch
  return largest


def _proportional(settings, metric, method, smaller, larger):
  """Whether the rate grows as the batch does, within a factor of 2."""
  rates = [_best(settings, metric, method, batch_size=batch).learning_rate for batch in (smaller, larger)]
  return (0.5 <= rates[1] / rates[0] / (larger / smaller) <= 2,
          f'{_SHORT[metric]}, {method}: {rate(rates[0])} to {rate(rates[1])}')


def _similar_rates(settings, metric, methods, batch, factor):
  rates = {method: _best(settings, metric, method, batch_size=batch).learning_rate for method in methods}
  return (max(rates.values()) <= factor * min(rates.values()),
          f'{_SHORT[metric]}, batch {batch}: ' + ', '.join(f'{name} {rate(found)}' for name, found in rates.items()))


_SHORT = {ACCURACY: 'accuracy', LOSS: 'loss'}


def _all(judged):
  """Whether all hold, and the numbers of each."""
  judged = list(judged)
  return all(holds for holds, _ in judged), '; '.join(numbers for _, numbers in judged)


def _listed(scores, metric, before=''):
  return ', '.join(f'{before}{name} {value(score, metric)}' for name, score in scores.items())


def _where(where):
  return ''.join(f'{name.removesuffix("_size")} {number}: ' for name, number in where.items())
