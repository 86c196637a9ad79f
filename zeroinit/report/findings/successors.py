"""The successors of batch norm: what their papers promise of depth, of batch size and of rates, on a small task."""

from zeroinit.report.findings.judging import best, choice, every, listed, points
from zeroinit.report.groups import ACCURACY
from zeroinit.report.tables import rate

BY_EXAMPLE = ('group_norm', 'layer_norm', 'instance_norm', 'group_norm_ws', 'filter_response_norm', 'evonorm_s0')
POINTWISE = ('dynamic_tanh', 'derf')
WITHOUT_NORM = ('nf_resnet', 'layer_scale', 'depth_mup', 'completep')


def norms_of_one_example_train_depth_100(settings):
  """Norms that look at one example train depth 100: best accuracy of each above 90 %."""
  return _train(settings, BY_EXAMPLE)


def functions_in_the_place_of_a_norm_train_depth_100(settings):
  """DyT and Derf, functions of single numbers, train depth 100: above 90 %."""
  return _train(settings, POINTWISE)


def networks_without_norm_train_depth_100(settings):
  """NF-ResNets, LayerScale and fixed multipliers of 1/sqrt(d) and 1/d train depth 100: above 90 %."""
  return _train(settings, WITHOUT_NORM)


def clipping_alone_does_not_train_depth_100(settings):
  """Adaptive gradient clipping alone does not train depth 100: none_agc stays below 50 %."""
  score = best(settings, ACCURACY, 'none_agc', depth=100)
  return points(score) < 50, listed({'none_agc': score}, ACCURACY)


def clipping_stands_larger_rates(settings):
  """At depth 16 and batch 64 the largest rate with accuracy above 50 % is at least as large with clipping as without,
  of NF-ResNet and of ZeroInit."""
  def of(method):
    rates = [_largest_rate(settings, name) for name in (method, f'{method}_agc')]
    return rates[1] >= rates[0], f'{method} {_said(rates[0])}, with clipping {_said(rates[1])}'
  return every(map(of, ('nf_resnet', 'zeroinit')))


def norms_of_one_example_do_not_depend_on_the_batch(settings):
  """Group norm loses no more than batch norm from batch 64 to batch 8 at depth 16, and 1 point more at most."""
  lost = {}
  for method in ('batch_norm', 'group_norm'):
    at = {batch: best(settings, ACCURACY, method, depth=16, batch_size=batch) for batch in (64, 8)}
    lost[method] = points(at[64]) - points(at[8])
  return (lost['group_norm'] <= lost['batch_norm'] + 1,
          ', '.join(f'{method} loses {of:.2f}' for method, of in lost.items()))


def rates_carry_over_depth(settings):
  """With a branch scale of 1/sqrt(d) the best rate for accuracy is the same at depth 16 and 100."""
  rates = [best(settings, ACCURACY, 'depth_mup', depth=depth, batch_size=64).learning_rate for depth in (16, 100)]
  return rates[0] == rates[1], f'depth_mup {rate(rates[0])} and {rate(rates[1])}'


def _train(settings, methods):
  scores = {method: best(settings, ACCURACY, method, depth=100) for method in methods}
  return min(map(points, scores.values())) > 90, listed(scores, ACCURACY)


def _largest_rate(settings, method):
  scores = choice(settings, ACCURACY, method, depth=16, batch_size=64).scores
  return max((score.learning_rate for score in scores if points(score) > 50), default=0)


def _said(learning_rate):
  return rate(learning_rate) if learning_rate else 'none'


CLAIMS = {
    'successors': (norms_of_one_example_train_depth_100, functions_in_the_place_of_a_norm_train_depth_100,
                   networks_without_norm_train_depth_100, clipping_alone_does_not_train_depth_100,
                   clipping_stands_larger_rates, norms_of_one_example_do_not_depend_on_the_batch,
                   rates_carry_over_depth),
}
