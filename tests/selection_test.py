"""The paper's rule on results whose answer is known."""

import math

import pytest

from zeroinit.runs.ending import learnt, status
from zeroinit.studies.selection import choose, kept, score


def test_how_many_are_kept():
  assert [kept(n) for n in (1, 2, 3, 5, 10, 15)] == [1, 2, 2, 4, 8, 12]


def test_the_best_12_of_15_are_chosen_for_each_metric_apart():
  accuracies = [i / 100 for i in range(1, 16)]
  assert score(0.1, accuracies, 'test_accuracy').mean == pytest.approx(sum(range(4, 16)) / 1200)
  losses = score(0.1, accuracies, 'train_loss')
  assert losses.mean == pytest.approx(sum(range(1, 13)) / 1200)
  assert losses.std == pytest.approx(math.sqrt(13) / 100)  # sample deviation of 1 ... 12
  assert (losses.kept, losses.runs) == (12, 15)


def test_three_diverged_runs_cost_nothing_and_a_fourth_does():
  three = score(0.1, [0.9] * 12 + [None] * 3, 'test_accuracy')
  assert (three.mean, three.std, three.diverged) == (pytest.approx(0.9), 0, 3)
  four = score(0.1, [0.9] * 11 + [None] * 4, 'test_accuracy')
  assert four.mean == pytest.approx((0.9 * 11 + 0.1) / 12)
  loss = score(0.1, [0.2] * 11 + [None] * 4, 'train_loss')
  assert loss.mean == math.inf and loss.std is None


def test_a_single_run_has_no_deviation():
  assert score(0.1, [0.5], 'test_accuracy').std is None


def test_the_two_metrics_choose_different_rates():
  accuracy = {0.1: [0.90], 0.2: [0.94], 0.4: [0.92], 0.8: [0.5]}
  loss = {0.1: [0.3], 0.2: [0.2], 0.4: [0.1], 0.8: [9.0]}
  assert choose(accuracy, 'test_accuracy').best.learning_rate == 0.2
  assert choose(loss, 'train_loss').best.learning_rate == 0.4
  assert choose(accuracy, 'test_accuracy').edge is None


@pytest.mark.parametrize('means, edge', [([0.9, 0.8, 0.7], 'lowest'), ([0.7, 0.8, 0.9], 'highest'),
                                         ([0.7, 0.9, 0.8], None), ([0.9], 'lowest')])
def test_an_optimum_at_an_end_of_the_grid_is_marked(means, edge):
  assert choose({2.0**i: [mean] for i, mean in enumerate(means)}, 'test_accuracy').edge == edge


def test_rates_that_diverge_above_the_optimum_make_it_interior():
  assert choose({0.1: [0.8], 0.2: [0.9], 0.4: [None]}, 'test_accuracy').edge is None


def test_ties_go_to_the_lower_rate_and_are_within():
  choice = choose({0.1: [0.5], 0.2: [0.9], 0.4: [0.9], 0.8: [0.6]}, 'test_accuracy')
  assert choice.best.learning_rate == 0.2 and choice.within == (0.2, 0.4)


def test_rates_within_one_deviation_of_the_best():
  spread = lambda mean: [mean - 0.01, mean, mean + 0.01, mean, 0.0]  # the last is not kept
  choice = choose({0.1: spread(0.90), 0.2: spread(0.905), 0.4: spread(0.85)}, 'test_accuracy')
  assert choice.best.std == pytest.approx(0.01 * math.sqrt(2 / 3)) and choice.within == (0.1, 0.2)


def test_where_everything_diverges():
  choice = choose({0.1: [None, None], 0.2: [None, None]}, 'train_loss')
  assert choice.best.mean == math.inf and choice.best.diverged == 2 and choice.edge == 'lowest'


def test_a_rate_that_diverges_is_not_better_than_guessing_below_chance():
  assert choose({0.1: [0.0889], 0.2: [None]}, 'test_accuracy').best.learning_rate == 0.1
  assert choose({0.1: [0.1], 0.2: [None]}, 'test_accuracy').within == (0.1,)
  assert score(0.1, [0.05, None], 'test_accuracy').mean == pytest.approx(0.075)


def test_a_rate_at_which_all_stay_at_chance_is_never_optimal():
  """Also where what it came to is the best of all: 10.2 % by luck, or a loss that has hardly any L2 left in it."""
  values, at_chance = {0.1: [0.098, 0.1], 0.2: [0.12, 0.1], 0.4: [None, None]}, {0.2: 2}
  choice = choose(values, 'test_accuracy', at_chance=at_chance)
  assert choice.best.learning_rate == 0.1 and choice.within == (0.1,)
  assert [(score.at_chance, score.diverged, score.learns) for score in choice.scores] == [
      (0, 0, True), (2, 0, False), (0, 2, False)]
  losses = {0.1: [2.9], 0.2: [2.31]}
  assert choose(losses, 'train_loss', at_chance={0.2: 1}).best.learning_rate == 0.1


def test_what_came_of_a_run():
  guessing = math.log(10)
  assert not learnt(guessing, 10) and not learnt(0.985 * guessing, 10) and learnt(0.975 * guessing, 10)
  done = {'status': 'done', 'classes': 10}
  assert status(done | {'last_quarter_cross_entropy': guessing}) == 'at chance'
  assert status(done | {'last_quarter_cross_entropy': 1.5}) == status(done) == 'done'
  assert status({'status': 'diverged', 'classes': 10, 'last_quarter_cross_entropy': None}) == 'diverged'
