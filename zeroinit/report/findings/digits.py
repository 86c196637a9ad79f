"""The digits, at depth 100. No paper has numbers for them."""

from zeroinit.report.findings.judging import best, choice, listed, points
from zeroinit.report.groups import ACCURACY
from zeroinit.report.tables import rate


def depth_100_does_not_train_with_none(settings):
  """Without normalization or initialization depth 100 does not train: best accuracy below 50 %."""
  score = best(settings, ACCURACY, 'none', depth=100)
  return points(score) < 50, listed({'none': score}, ACCURACY)


def depth_100_trains_otherwise(settings):
  """With batch_norm, fixup or zeroinit depth 100 trains: best accuracy above 90 %."""
  scores = {method: best(settings, ACCURACY, method, depth=100) for method in ('batch_norm', 'fixup', 'zeroinit')}
  return min(map(points, scores.values())) > 90, listed(scores, ACCURACY)


def batch_norm_stands_the_largest_rates(settings):
  """At depth 100 the largest rate with accuracy above 50 % is with batch_norm at least that of every other method."""
  largest = {}
  for method in ('batch_norm', 'none', 'fixup', 'zeroinit'):
    scores = choice(settings, ACCURACY, method, depth=100).scores
    largest[method] = max((score.learning_rate for score in scores if points(score) > 50), default=0)
  return (largest['batch_norm'] == max(largest.values()) > 0,
          ', '.join(f'{method} {rate(found) if found else "at no rate"}' for method, found in largest.items()))


CLAIMS = {
    'digits': (depth_100_does_not_train_with_none, depth_100_trains_otherwise, batch_norm_stands_the_largest_rates),
}
