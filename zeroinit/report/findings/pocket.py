"""The claims of Table 1, Figure 1 and Table 2 that a study of CPU-hours can decide: about order and shape."""

from zeroinit.report.findings.judging import best, every, listed, margin, points
from zeroinit.report.findings.table1 import multiplier_has_the_lowest_loss
from zeroinit.report.groups import ACCURACY, LOSS
from zeroinit.report.tables import rate

ROWS = ('none', 'zeroinit', 'batch_norm')  # the lines of Figure 1, in the order of the rates they stand
BATCHES = (16, 64, 256, 1024)


def multiplier_gains_most(settings):
  """Of biases, dropout and the multiplier, each alone, the multiplier gains most test accuracy over none."""
  accuracies = {method: best(settings, ACCURACY, method) for method in ('none', 'biases', 'dropout', 'multiplier')}
  return max(accuracies, key=lambda method: accuracies[method].mean) == 'multiplier', listed(accuracies, ACCURACY)


def dropout_costs_loss(settings):
  """Dropout raises the training loss: alone over none, and with the biases over these."""
  pairs = (('dropout', 'none'), ('biases_dropout', 'biases'))
  losses = {method: best(settings, LOSS, method) for pair in pairs for method in pair}
  return all(losses[with_it].mean > losses[without].mean for with_it, without in pairs), listed(losses, LOSS)


def batch_norm_is_ahead_of_none(settings):
  """Batch norm is at least 1 point ahead of none (ZI, Figure 1: well above)."""
  return margin(settings, ('ghost_norm', 'none'), lambda norm, none: norm - none >= 1)


def rates_grow_and_then_saturate(settings):
  """The best rate for accuracy grows with the batch from 16 to 64, at least twofold, with all three rows."""
  def of(method):
    rates = [best(settings, ACCURACY, method, batch_size=batch).learning_rate for batch in BATCHES]
    return rates[1] >= 2 * rates[0], f'{method}: ' + ', '.join(map(rate, rates))
  return every(map(of, ROWS))


def rates_saturate_in_order(settings):
  """The largest best rate for accuracy is smallest for none, larger for ZeroInit, largest for batch norm."""
  largest = {method: max(best(settings, ACCURACY, method, batch_size=batch).learning_rate for batch in BATCHES)
             for method in ROWS}
  return (largest['none'] < largest['zeroinit'] < largest['batch_norm'],
          ', '.join(f'{method} {rate(found)}' for method, found in largest.items()))


def zeroinit_equals_batch_norm_at_the_smallest_batch(settings):
  """At batch 16 ZeroInit is within 1 point of batch norm, or above it."""
  return margin(settings, ('zeroinit', 'batch_norm'), lambda zeroinit, norm: zeroinit > norm - 1, batch_size=16)


def batch_norm_is_ahead_where_the_batch_is_large(settings):
  """Batch norm's lead over ZeroInit is larger at batch 1024 than at batch 16."""
  lead = lambda batch: margin(settings, ('batch_norm', 'zeroinit'), lambda norm, zeroinit: norm - zeroinit,
                              batch_size=batch)
  (small, at_small), (large, at_large) = lead(16), lead(1024)
  return large > small, f'{at_small}; {at_large}'


def none_fails_with_depth(settings):
  """Without normalization depth 100 does not train: at no rate above 15 % of test accuracy."""
  score = best(settings, ACCURACY, 'none', depth=100)
  return points(score) < 15, listed({'none': score}, ACCURACY)


def depth_100_trains(settings):
  """With batch norm, ZeroInit and Fixup depth 100 trains: above 20 %."""
  return _train(settings, 100)


def depth_1000_trains(settings):
  """With batch norm, ZeroInit and Fixup depth 1000 trains: above 20 %."""
  return _train(settings, 1000)


def _train(settings, depth):
  scores = {method: best(settings, ACCURACY, method, depth=depth) for method in ('ghost_norm', 'zeroinit', 'fixup')}
  return min(map(points, scores.values())) > 20, listed(scores, ACCURACY)


CLAIMS = {
    'pocket_table1': (multiplier_gains_most, multiplier_has_the_lowest_loss, dropout_costs_loss,
                      batch_norm_is_ahead_of_none),
    'pocket_figure1': (rates_grow_and_then_saturate, rates_saturate_in_order,
                       zeroinit_equals_batch_norm_at_the_smallest_batch, batch_norm_is_ahead_where_the_batch_is_large),
    'pocket_depth': (none_fails_with_depth, depth_100_trains, depth_1000_trains),
}
