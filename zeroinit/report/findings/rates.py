"""Which rates are the ZeroInit paper's: with the default start, and at rates as that prints them."""

from zeroinit.report.findings.judging import CannotJudge, choice, every
from zeroinit.report.groups import ACCURACY
from zeroinit.report.tables import rate

OURS = ('he', 'zero')
BEST = {'none': 2.0**-3, 'zeroinit': 2.0**-2, 'multiplier': 2.0**-2, 'ghost_norm': 2.0**-1}  # ZI, batch 64


def the_printed_rates_train(settings):
  """At batch 64 WRN-16-4 learns with every seed at the best rates that ZI prints: none 2^-3, ZeroInit and the
  multiplier 2^-2, batch norm 2^-1."""
  return every(_learns(settings, method, best) for method, best in BEST.items())


def none_does_not_train_at_1(settings):
  """Without normalization WRN-16-4 does not learn at 2^0."""
  learns, numbers = _learns(settings, 'none', 1.0)
  return not learns, numbers


def zeroinit_lasts(settings):
  """At 2^-2 ZeroInit has learnt after 4,000 updates, at width 1 and 2: what dies does not always die soon."""
  return every(_learns(settings, 'zeroinit', 2.0**-2, width, epochs=4000 / 781) for width in (1, 2))


def rates_stand_in_the_order_of_the_paper(settings):
  """At batch 1024 the largest rate at which it learns is smallest for none, larger for ZeroInit and largest for batch
  norm (ZI: 2^-3, 2^1 and 2^4)."""
  largest = {method: _largest(settings, method, 1, OURS, batch_size=1024)
             for method in ('none', 'zeroinit', 'batch_norm')}
  return (largest['none'] < largest['zeroinit'] < largest['batch_norm'],
          ', '.join(f'{method} {rate(found) if found else "at no rate"}' for method, found in largest.items()))


def _learns(settings, method, at, width=4, **where):
  """Whether every run at a rate learns."""
  scores = {score.learning_rate: score for score in choice(
      settings, ACCURACY, method, batch_size=64, width=width, start=OURS, **where).scores}
  if at not in scores:
    raise CannotJudge(f'{method} at {rate(at)} is not in the study')
  score = scores[at]
  failed = score.diverged + score.at_chance
  return not failed, f'{method}, width {width}, {rate(at)}: {score.runs - failed} of {score.runs} learn'


def _largest(settings, method, width, start, **where):
  """The largest rate at which every run learns, 0 where there is none."""
  scores = choice(settings, ACCURACY, method, width=width, start=start, **where).scores
  return max((score.learning_rate for score in scores if not (score.diverged or score.at_chance)), default=0)


CLAIMS = {'rates': (the_printed_rates_train, none_does_not_train_at_1, rates_stand_in_the_order_of_the_paper,
                    zeroinit_lasts)}
