"""ZI, section 3: halving the rate, or three drops."""

from zeroinit.report.findings.judging import best, every, listed, points
from zeroinit.report.groups import ACCURACY


def halving_beats_three_drops(settings):
  """Halving the rate again and again from mid-run on is at least 0.1 points more accurate than three drops by 10."""
  return every(_halving_beats_three_drops(settings, method) for method in ('ghost_norm', 'zeroinit'))


def _halving_beats_three_drops(settings, method):
  scores = {f'divided by {drop_by}': best(settings, ACCURACY, method, drop_by=drop_by) for drop_by in (2, 10)}
  halved, dropped = scores.values()
  return points(halved) >= points(dropped) + 0.1, f'{method}: {listed(scores, ACCURACY)}'


CLAIMS = {'schedules': (halving_beats_three_drops,)}
