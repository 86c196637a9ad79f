"""BJ, Figure 1 and section 4."""

from zeroinit.report.findings.judging import best, listed, points
from zeroinit.report.groups import ACCURACY


def large_rates_generalize(settings):
  """With batch norm test accuracy falls with the rate, and at the smallest is at most 1 point above that of none."""
  of = {rate: _after(settings, 'batch_norm', epochs) for rate, epochs in ((0.1, 165), (0.003, 1320), (0.0001, 2400))}
  none = _after(settings, 'none', 2400)
  holds = of[0.1].mean > of[0.003].mean > of[0.0001].mean and points(of[0.0001]) <= points(none) + 1
  return holds, f'batch norm: {listed(of, ACCURACY, "rate ")}; {listed({"none at 0.0001": none}, ACCURACY)}'


def none_fails_at_large_rates(settings):
  """Without batch norm a rate of 0.1 does not train: test accuracy below 20 %."""
  scores = {'none at 0.1': _after(settings, 'none', 165)}
  return points(scores['none at 0.1']) < 20, listed(scores, ACCURACY)


def the_last_norm_is_most_of_it(settings):
  """One batch norm after the last block has at least half of the gain of batch norm over none (BJ: two thirds)."""
  scores = {name: _after(settings, name, epochs)
            for name, epochs in (('none', 2400), ('batch_norm_last', 165), ('batch_norm', 165))}
  none, last, everywhere = map(points, scores.values())
  return last - none >= (everywhere - none) / 2 > 0, listed(scores, ACCURACY)


def _after(settings, method, epochs):
  """The Score of a method after so many epochs, with He et al.'s drops."""
  return best(settings, ACCURACY, method, drop_by=10.0, epochs=float(epochs))


CLAIMS = {'bjorck_figure1': (large_rates_generalize, none_fails_at_large_rates, the_last_norm_is_most_of_it)}
