"""The paper's rule for reading a grid of learning rates and seeds (ZI, section 3).

At each rate the best 12 of 15 runs are kept, chosen for each metric apart; the optimal rate of a metric is the one with
the best mean; and it must not lie at an end of the grid.

A run has come to nothing if it has diverged, or if it has ended at chance: finite, but without having learnt. A rate at
which all runs came to nothing is never optimal.
"""

import dataclasses
import math
import statistics

BETTER = {'test_accuracy': max, 'train_loss': min}  # the metrics that have an optimal rate, and which value is better
KEPT_SHARE = 12 / 15
CHANCE = 0.1  # test accuracy of guessing


@dataclasses.dataclass(frozen=True)
class Score:
  """One metric at one learning rate.

  Attributes:
    mean: over the kept runs; a diverged run counts as the worst there is: accuracy at chance, infinite loss.
    std: sample standard deviation of the kept runs; None of a single run, or where one of them diverged with no loss.
    kept, runs, diverged, at_chance: how many runs were kept, finished (with those that came to nothing), diverged, and
      ended at chance.
  """

  learning_rate: float
  mean: float
  std: float | None
  kept: int
  runs: int
  diverged: int
  at_chance: int = 0

  @property
  def learns(self):
    """Whether any run came to something."""
    return self.diverged + self.at_chance < self.runs


@dataclasses.dataclass(frozen=True)
class Choice:
  """One metric over a grid of rates.

  Attributes:
    best: the score at the optimal rate; of rates with equal means the lowest.
    scores: at every rate, in order.
    within: the rates whose mean lies within one standard deviation of the best.
    edge: 'lowest' or 'highest' where the optimum is at that end of the grid and the true one may lie beyond; else None.
  """

  best: Score
  scores: tuple[Score, ...]
  within: tuple[float, ...]
  edge: str | None


def kept(runs):
  """How many of so many runs are kept: 12 of 15, and in proportion of other numbers, at least one."""
  return max(1, round(KEPT_SHARE * runs))


def score(learning_rate, values, metric, chance=CHANCE, at_chance=0):
  """The Score of one rate.

  Args:
    values: of every finished run, None where it diverged.
    chance: the accuracy of guessing.
    at_chance: how many of the runs ended there; their values count as they are.
  """
  finished = sorted((value for value in values if value is not None), reverse=BETTER[metric] is max)
  worst = chance if BETTER[metric] is max else math.inf
  best = (finished + [worst] * values.count(None))[: kept(len(values))]
  std = statistics.stdev(best) if len(best) > 1 and all(map(math.isfinite, best)) else None
  return Score(learning_rate, statistics.fmean(best), std, len(best), len(values), values.count(None), at_chance)


def choose(values_by_rate, metric, chance=CHANCE, at_chance=None):
  """The Choice from {learning rate: values of its runs}, each at least one run.

  at_chance: {learning rate: how many of them ended at chance}; see `score`.
  """
  scores = tuple(score(rate, values_by_rate[rate], metric, chance, (at_chance or {}).get(rate, 0))
                 for rate in sorted(values_by_rate))
  # A network that has diverged is not better than one that guesses a little below chance.
  training = [score for score in scores if score.learns] or scores
  mean = BETTER[metric](score.mean for score in training)
  best = next(score for score in training if score.mean == mean)
  within = tuple(score.learning_rate for score in training
                 if score == best or abs(score.mean - best.mean) <= (best.std or 0.0))
  edge = 'lowest' if best == scores[0] else 'highest' if best == scores[-1] else None
  return Choice(best, scores, within, edge)
