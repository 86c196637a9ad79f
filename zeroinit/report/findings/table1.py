"""ZI, Table 1: which modification matters without batch norm."""

from zeroinit.report.findings.judging import best, listed, margin
from zeroinit.report.groups import ACCURACY, LOSS

ROWS = ('none', 'biases', 'dropout', 'multiplier', 'biases_dropout', 'zeroinit')


def multiplier_gains(settings):
  """The multiplier alone gains at least 1 point of test accuracy over none (ZI: 1.7)."""
  return margin(settings, ('multiplier', 'none'), lambda multiplier, none: multiplier - none >= 1)


def multiplier_has_the_lowest_loss(settings):
  """The multiplier alone has the lowest training loss of all rows."""
  losses = {method: best(settings, LOSS, method) for method in ROWS}
  return min(losses, key=lambda method: losses[method].mean) == 'multiplier', listed(losses, LOSS)


def biases_hurt_slightly(settings):
  """Biases alone lower test accuracy, by less than 1 point (ZI: 0.4)."""
  return margin(settings, ('biases', 'none'), lambda biases, none: 0 < none - biases < 1)


def dropout_helps_and_raises_the_loss(settings):
  """Dropout alone raises test accuracy and raises training loss."""
  higher, accuracies = margin(settings, ('dropout', 'none'), lambda dropout, none: dropout > none)
  losses = {method: best(settings, LOSS, method) for method in ('dropout', 'none')}
  raised = losses['dropout'].mean > losses['none'].mean
  return higher and raised, f'accuracy: {accuracies}; loss: {listed(losses, LOSS)}'


def all_three_parts_are_best(settings):
  """ZeroInit, all three parts together, has the highest test accuracy of all rows."""
  accuracies = {method: best(settings, ACCURACY, method) for method in ROWS}
  return max(accuracies, key=lambda method: accuracies[method].mean) == 'zeroinit', listed(accuracies, ACCURACY)


CLAIMS = {
    'table1': (multiplier_gains, multiplier_has_the_lowest_loss, biases_hurt_slightly,
               dropout_helps_and_raises_the_loss, all_three_parts_are_best),
}
