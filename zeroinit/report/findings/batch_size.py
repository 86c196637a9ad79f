"""ZI, Figures 1 to 4: batch size."""

from zeroinit.report.findings.judging import CannotJudge, best, every, listed, margin, points
from zeroinit.report.groups import ACCURACY, LOSS, SHORT
from zeroinit.report.tables import rate, value

NORMALIZED_OR_NOT = ('ghost_norm', 'none', 'zeroinit')  # the lines of Figures 1 and 2
FIGURE_1_BATCHES = tuple(2**k for k in range(6, 14))
FIGURE_3_BATCHES = tuple(2**k for k in range(11))


# Figures 1 and 2: from 64 up, batch norm over ghost batches.


def batch_norm_is_well_above_none(settings):
  """Batch norm is at least 1 point above none after tuning both learning rate and batch size."""
  scores = {method: max(_curve(settings, ACCURACY, method, FIGURE_1_BATCHES).values(), key=lambda score: score.mean)
            for method in ('ghost_norm', 'none')}
  return points(scores['ghost_norm']) - points(scores['none']) >= 1, listed(scores, ACCURACY)


def flat_and_then_falling(settings):
  """Accuracy is flat at small batches and then falls: 64 and 128 within 0.5 points, and 8192 at least 1 point below."""
  def of(method):
    curve = _curve(settings, ACCURACY, method, FIGURE_1_BATCHES)
    first, second, last = (points(curve[batch]) for batch in (64, 128, 8192))
    shown = {batch: curve[batch] for batch in (64, 128, 8192)}
    return abs(first - second) <= 0.5 and first - last >= 1, f'{method}: {listed(shown, ACCURACY, "batch ")}'
  return every(map(of, NORMALIZED_OR_NOT))


def batch_norm_is_efficient_up_to_larger_batches(settings):
  """The largest efficient batch size, up to which accuracy stays within 0.5 points of the method's best, is at least
  8 times as large with batch norm as with ZeroInit and with none."""
  largest = {method: _largest_efficient_batch(_curve(settings, ACCURACY, method, FIGURE_1_BATCHES))
             for method in NORMALIZED_OR_NOT}
  return (largest['ghost_norm'] >= 8 * max(largest['zeroinit'], largest['none']),
          ', '.join(f'{method} {batch or "below 64"}' for method, batch in largest.items()))


def zeroinit_equals_batch_norm_at_small_batches(settings):
  """ZeroInit's accuracy is within 1 std of batch norm's, the larger of the two, at batches 64, 128 and 256."""
  return every(_within_one_std(settings, 'zeroinit', 'ghost_norm', batch) for batch in (64, 128, 256))


def zeroinit_is_below_batch_norm_at_large_batches(settings):
  """ZeroInit's accuracy is below batch norm's at batches 2048, 4096 and 8192."""
  return every(margin(settings, ('zeroinit', 'ghost_norm'), lambda zeroinit, norm: zeroinit < norm, batch_size=batch)
               for batch in (2048, 4096, 8192))


def batch_norm_has_the_lowest_loss(settings):
  """Batch norm has the lowest training loss at every batch size."""
  def at(batch):
    losses = {method: best(settings, LOSS, method, batch_size=batch) for method in NORMALIZED_OR_NOT}
    return losses['ghost_norm'].mean < min(losses['none'].mean, losses['zeroinit'].mean), \
        f'batch {batch}: {listed(losses, LOSS)}'
  return every(map(at, FIGURE_1_BATCHES))


def none_degrades_with_batch_size(settings):
  """Training losses of none and ZeroInit are within 20 % of each other at batch 64; at 8192 none's is at least twice
  what it was at 64."""
  none = _curve(settings, LOSS, 'none', FIGURE_1_BATCHES)
  zeroinit = best(settings, LOSS, 'zeroinit', batch_size=64)
  similar = abs(none[64].mean - zeroinit.mean) <= 0.2 * zeroinit.mean
  return (similar and none[8192].mean >= 2 * none[64].mean,
          f'batch 64: {listed({"none": none[64], "zeroinit": zeroinit}, LOSS)}; '
          f'batch 8192: none {value(none[8192], LOSS)}')


def rates_grow_with_the_batch(settings):
  """Optimal rates, for accuracy and for loss, grow in proportion to the batch from 64 to 256, within a factor of 2,
  with batch norm and with ZeroInit."""
  return every(_proportional(settings, metric, method, 64, 256)
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


# Figures 3 and 4: from 1 to 1024, batch norm over the whole batch.


def zeroinit_is_flat_at_small_batches(settings):
  """ZeroInit's accuracy is flat: at batches 1 to 256 within 1 std, the larger of the two, of that at 64."""
  curve = _curve(settings, ACCURACY, 'zeroinit', FIGURE_3_BATCHES)
  batches = [batch for batch in FIGURE_3_BATCHES if batch <= 256]
  for batch in batches:
    _need_std(curve[batch], f'zeroinit at batch {batch}')
  return (all(abs(curve[batch].mean - curve[64].mean) <= max(curve[batch].std, curve[64].std) for batch in batches),
          listed({batch: curve[batch] for batch in batches}, ACCURACY, 'batch '))


def batch_norm_drops_at_small_batches(settings):
  """Batch norm's accuracy drops below batch 64: at 1, 2, 4 and 8 it is lower than at 64 by more than 1 std, the larger
  of the two."""
  shown = {batch: best(settings, ACCURACY, 'batch_norm', batch_size=batch) for batch in (1, 2, 4, 8, 64)}
  for batch, score in shown.items():
    _need_std(score, f'batch_norm at batch {batch}')
  return (all(shown[64].mean - shown[batch].mean > max(shown[64].std, shown[batch].std) for batch in (1, 2, 4, 8)),
          listed(shown, ACCURACY, 'batch '))


def batch_norm_is_better_at_large_batches(settings):
  """Batch norm's accuracy is above ZeroInit's at batches 512 and 1024."""
  return every(margin(settings, ('batch_norm', 'zeroinit'), lambda norm, zeroinit: norm > zeroinit, batch_size=batch)
               for batch in (512, 1024))


def batch_norm_is_better_on_the_loss(settings):
  """Batch norm's training loss is below ZeroInit's at every batch size."""
  def at(batch):
    losses = {method: best(settings, LOSS, method, batch_size=batch) for method in ('batch_norm', 'zeroinit')}
    return losses['batch_norm'].mean < losses['zeroinit'].mean, f'batch {batch}: {listed(losses, LOSS)}'
  return every(map(at, FIGURE_3_BATCHES))


def small_rates_grow_with_the_batch(settings):
  """Optimal rates, for accuracy and for loss, grow in proportion to the batch from 1 to 16, within a factor of 2, with
  all three methods."""
  return every(_proportional(settings, metric, method, 1, 16)
               for metric in (ACCURACY, LOSS) for method in ('batch_norm', 'none', 'zeroinit'))


def small_rates_are_similar(settings):
  """At batches 1, 4 and 16 the optimal rates of the three methods are within a factor of 4, for accuracy and loss."""
  return every(_similar_rates(settings, metric, ('batch_norm', 'none', 'zeroinit'), batch, 4)
               for metric in (ACCURACY, LOSS) for batch in (1, 4, 16))


def _curve(settings, metric, method, batches):
  """{batch size: Score at its best rate}"""
  return {batch: best(settings, metric, method, batch_size=batch) for batch in batches}


def _within_one_std(settings, first, second, batch):
  scores = {method: best(settings, ACCURACY, method, batch_size=batch) for method in (first, second)}
  for method, score in scores.items():
    _need_std(score, f'{method} at batch {batch}')
  one, other = scores.values()
  return abs(one.mean - other.mean) <= max(one.std, other.std), f'batch {batch}: {listed(scores, ACCURACY)}'


def _need_std(score, says):
  if score.std is None:
    raise CannotJudge(f'{says} has a single run at its best rate, so no standard deviation')


def _largest_efficient_batch(curve):
  """0 where the smallest batch already is more than 0.5 points below the best."""
  highest, largest = max(map(points, curve.values())), 0
  for batch in sorted(curve):
    if points(curve[batch]) < highest - 0.5:
      break
    largest = batch
  return largest


def _proportional(settings, metric, method, smaller, larger):
  """Whether the rate grows as the batch does, within a factor of 2."""
  rates = [best(settings, metric, method, batch_size=batch).learning_rate for batch in (smaller, larger)]
  return (0.5 <= rates[1] / rates[0] / (larger / smaller) <= 2,
          f'{SHORT[metric]}, {method}: {rate(rates[0])} to {rate(rates[1])}')


def _similar_rates(settings, metric, methods, batch, factor):
  rates = {method: best(settings, metric, method, batch_size=batch).learning_rate for method in methods}
  return (max(rates.values()) <= factor * min(rates.values()),
          f'{SHORT[metric]}, batch {batch}: ' + ', '.join(f'{name} {rate(found)}' for name, found in rates.items()))


CLAIMS = {
    'figure1': (batch_norm_is_well_above_none, flat_and_then_falling, batch_norm_is_efficient_up_to_larger_batches,
                zeroinit_equals_batch_norm_at_small_batches, zeroinit_is_below_batch_norm_at_large_batches,
                batch_norm_has_the_lowest_loss, none_degrades_with_batch_size, rates_grow_with_the_batch,
                rates_are_similar_where_they_grow, rates_saturate),
    'figure3': (zeroinit_is_flat_at_small_batches, batch_norm_drops_at_small_batches,
                batch_norm_is_better_at_large_batches, batch_norm_is_better_on_the_loss,
                small_rates_grow_with_the_batch, small_rates_are_similar),
}
