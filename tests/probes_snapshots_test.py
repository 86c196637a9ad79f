"""The probes that train for a moment: they do what a run does, and bisection finds the limit."""

import math
from functools import partial

import jax
import numpy as np
import pytest
from probing import cross_entropy, small_config

from configs import digits
from zeroinit.probes import depth, inputs, snapshots, stability
from zeroinit.runs.train import train
from zeroinit.training.recipe import make_recipe
from zeroinit.training.step import init_state


@pytest.mark.parametrize('limit', [-15.9, -7.3, -3.0, 0.25, 6.0, 7.9])
@pytest.mark.parametrize('learns_in', [1.2, 4.0, 100.0])  # octaves below the limit
@pytest.mark.parametrize('start', [-30, -13, -4, 7])
def test_the_largest_stable_rate_is_found_from_anywhere(limit, learns_in, start):
  tried = []

  def outcome(rate):
    tried.append(rate)
    return stability.DIVERGED if rate > limit else stability.STABLE if rate > limit - learns_in else stability.AT_CHANCE

  lower, upper = stability.largest_stable(outcome, start, 0.25)
  assert lower <= limit < upper <= lower + 0.25 and lower in tried
  assert len(tried) == len(set(tried)) and all(stability.LOWEST <= rate <= stability.HIGHEST for rate in tried)


@pytest.mark.parametrize('outcome, expected', [
    (stability.STABLE, (8.0, math.inf)), (stability.AT_CHANCE, (-math.inf, math.inf)),
    (stability.DIVERGED, (-math.inf, -16.0))])
def test_where_there_is_no_limit(outcome, expected):
  assert stability.largest_stable(lambda rate: outcome, -4, 0.5) == expected


@pytest.mark.slow
def test_the_depth_test_is_the_first_epoch_of_a_run(tmp_path):
  config = digits.get_config('ghost_norm')
  config.update({'depth': 10, 'evaluations': 2, 'epochs': 2.0, 'tensorboard': False})
  config.method.dropout = 0.5
  train(config, tmp_path / 'run')
  from zeroinit.runs.run_directory import Run
  record = Run(tmp_path / 'run').records[0]
  assert record['epoch'] == 1
  # On the run's devices: on fewer, rounding grows into other losses within the epoch.
  recipe = make_recipe(config, inputs.dataset_of(config).train_examples)
  found = depth.measure(config, recipe)
  assert found['updates'] == record['step'] and found['diverged'] == 0
  assert found['test_accuracy'] == record['test_accuracy']
  assert found['train_cross_entropy'] == pytest.approx(record['train_cross_entropy'], rel=1e-5)


def test_a_diverged_network_counts_as_guessing():
  config = small_config(learning_rate=1e4)
  found = depth.measure(config, inputs.recipe_of(config))
  assert (found['test_accuracy'], found['diverged']) == (0.1, 1)


def test_advancing_in_parts_is_advancing_at_once():
  """Also over the end of an epoch, where the sums of a state begin anew."""
  config = small_config()
  recipe = inputs.recipe_of(config)
  assert recipe.schedule.steps_per_epoch == 2
  with snapshots.feeding(config, recipe) as feed:
    state = init_state(recipe, config.learning_rate, config.seed)
    state, whole = snapshots.advance(recipe, feed, state, 4)
    parts, means, ends = init_state(recipe, config.learning_rate, config.seed), [], (1, 3, 4)
    for end in ends:
      parts, mean = snapshots.advance(recipe, feed, parts, end)
      means.append(mean)
  jax.tree.map(np.testing.assert_array_equal, state.params, parts.params)
  assert np.average(means, weights=np.diff((0, *ends))) == pytest.approx(whole, rel=1e-4)


def test_the_batch_is_the_one_that_the_run_takes_next():
  """Its loss is the one of the run's next update; in the second epoch too."""
  config = small_config()
  recipe = inputs.recipe_of(config)
  loss_of = jax.jit(partial(cross_entropy, recipe.net))
  state = init_state(recipe, config.learning_rate, config.seed)
  with snapshots.feeding(config, recipe) as feed:
    for step in range(4):
      expected = float(loss_of({'params': state.params}, *inputs.batch_at(config, step)))
      state, of_the_run = snapshots.advance(recipe, feed, state, step + 1)
      assert of_the_run == pytest.approx(expected, rel=1e-5)


def test_nothing_is_the_mean_of_no_updates():
  config = small_config()
  recipe = inputs.recipe_of(config)
  with snapshots.feeding(config, recipe) as feed:
    state, mean = snapshots.advance(recipe, feed, init_state(recipe, 0.1, 0), 0)
  assert int(state.step) == 0 and math.isnan(mean)


def test_the_rate_of_a_stability_run_never_drops():
  recipe = snapshots.constant(inputs.recipe_of(small_config(plateau_epochs=1)), updates=1000)
  assert {float(recipe.schedule.factor(step)) for step in (0, 30, 43, 999)} == {1.0}
  assert recipe.schedule.steps == 1000 and recipe.plateau is None


@pytest.mark.slow
def test_at_the_rates_it_finds_a_run_is_stable_and_is_not():
  """Against updates taken one by one: the loss over the last quarter, and whether it diverges."""
  config = small_config(learning_rate=0.1)
  recipe = snapshots.constant(inputs.recipe_of(config), 16)
  found = stability.measure(config, recipe, updates=16, width=1.0)
  for log2_rate, want in ((found['log2_largest_stable_rate'], True), (found['log2_smallest_unstable_rate'], False)):
    losses, state = [], init_state(recipe, 2.0**log2_rate, config.seed)
    with snapshots.feeding(config, recipe) as feed:
      for step in range(16):
        if not state.diverged:
          state, loss = snapshots.advance(recipe, feed, state, step + 1)
          losses.append(loss)
    stable = not bool(state.diverged) and np.mean(losses[-4:]) <= 0.95 * math.log(10)
    assert stable == want
    outcome, = (run['outcome'] for run in found['tried'] if run['log2_rate'] == log2_rate)
    assert (outcome == stability.STABLE) == want and (outcome == stability.DIVERGED) == bool(state.diverged)
