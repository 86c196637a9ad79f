"""SA, Figures 1 and 2."""

import itertools

from zeroinit.report.findings.judging import CannotJudge, best, choice, listed, points
from zeroinit.report.groups import ACCURACY


def batch_norm_stands_both_rates(settings):
  """With batch norm VGG trains at 0.1 and at 0.5; without it not at 0.5: test accuracy below 50 %."""
  at = {(method, score.learning_rate): score for method in ('biases', 'batch_norm')
        for score in choice(settings, ACCURACY, method, l2=False).scores}
  for case in itertools.product(('biases', 'batch_norm'), (0.1, 0.5)):
    if case not in at:
      raise CannotJudge(f'{case[0]} at {case[1]} is not in the study')
  holds = min(points(at['batch_norm', 0.1]), points(at['batch_norm', 0.5])) > 50 > points(at['biases', 0.5])
  return holds, listed({f'{method} at {rate:g}': score for (method, rate), score in at.items()}, ACCURACY)


def noise_does_not_matter(settings):
  """With noisy batch norm VGG is at most 2 points below batch norm, and above the network without."""
  scores = {method: best(settings, ACCURACY, method, l2=False)
            for method in ('biases', 'batch_norm', 'noisy_batch_norm')}
  biases, norm, noisy = map(points, scores.values())
  return noisy >= norm - 2 and noisy > biases, listed(scores, ACCURACY)


CLAIMS = {'santurkar_figure1': (batch_norm_stands_both_rates,), 'santurkar_figure2': (noise_does_not_matter,)}
