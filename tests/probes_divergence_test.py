"""The fatal update of a run, found and walked again: against the run itself, and an unrolled network."""

import dataclasses
from functools import partial

import command
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probing import LABELS, assert_mistakes, assert_on_page, cross_entropy, probe, small_config, some_images, unrolled
from random_variables import random_variables

from zeroinit.methods import METHODS
from zeroinit.networks.resnet import CifarResNet
from zeroinit.probes import divergence, inputs, layers, snapshots
from zeroinit.training.step import DIVERGED_ABOVE

SHARES = [0.0, 0.25, 1.0]


def network(name, **fields):
  return CifarResNet(depth=14, method=dataclasses.replace(METHODS[name], **fields))


def kernels_of(net, params):
  return [layer.of(params, 'kernel') for layer in layers.along_depth(net, (8, 8, 3))]


@pytest.fixture(scope='module')
def measured():
  """The kernels of a network of 14 layers before and after an update, images, and what the probe finds."""
  net, images = network('none'), some_images()
  before, other = (random_variables(net, images, seed=seed, train=False)['params'] for seed in (0, 1))
  after = jax.tree.map(lambda old, new: old + 0.5 * new, before, other)
  records = divergence.measure(net, before, after, images, LABELS, range(1, 15), SHARES)
  return [kernels_of(net, params) for params in (before, after)], images, records


def test_against_an_unrolled_network(measured):
  (old, new), images, records = measured
  assert [record['layer'] for record in records] == list(range(1, 15))
  for place, share in enumerate(SHARES):
    outputs = jax.jit(unrolled)([(1 - share) * a + share * b for a, b in zip(old, new, strict=True)], images)
    loss = float(optax.softmax_cross_entropy_with_integer_labels(outputs[-1], LABELS).mean())
    for record, output in zip(records, outputs, strict=True):
      flat = np.float64(output).reshape(-1, output.shape[-1])
      point = record['along'][place]
      assert point['share'] == share and point['cross_entropy'] == pytest.approx(loss, rel=1e-3)
      scale = np.abs(flat).max()
      np.testing.assert_allclose(point['means'], flat.mean(0), atol=1e-5 * scale)
      np.testing.assert_allclose(point['variances'], flat.var(0), rtol=1e-3, atol=1e-6 * scale**2)
      assert point['variance'] == pytest.approx(np.mean(point['variances']))
      assert point['squared_mean'] == pytest.approx(np.mean(np.square(point['means'])))


@pytest.mark.parametrize('name, grows', [('none', 1e4), ('batch_norm', 1)])
def test_a_norm_stops_what_the_first_layer_makes_larger(name, grows):
  net, images = network(name), some_images()
  before = random_variables(net, images, train=False)['params']
  after = before | {'stem': {'kernel': 100 * before['stem']['kernel']}}
  stem, other = divergence.measure(net, before, after, images, LABELS, [1, 9], SHARES)
  ratio = lambda record: record['along'][-1]['variance'] / record['along'][0]['variance']
  assert ratio(stem) == pytest.approx(1e4, rel=1e-3)
  assert ratio(other) == pytest.approx(grows, rel=0.02)


def test_squares_may_overflow_and_moments_too():
  net, images = network('none'), some_images()
  before = random_variables(net, images, train=False)['params']
  large = before | {'stem': {'kernel': 1e25 * before['stem']['kernel']}}
  stem, _ = divergence.measure(net, before, large, images, LABELS, [1, 14], SHARES)
  assert stem['along'][-1]['variance'] == pytest.approx(1e50 * stem['along'][0]['variance'], rel=1e-3)
  huge = jax.tree.map(lambda leaf: 1e30 * leaf, before)
  _, last = divergence.measure(net, before, huge, images, LABELS, [1, 14], SHARES)
  assert np.isfinite(last['along'][0]['variance']) and not np.isfinite(last['along'][-1]['variance'])


@pytest.fixture(scope='module')
def diverging():
  config = small_config(depth=14, learning_rate=5.0)
  return config, snapshots.constant(inputs.recipe_of(config), 30)


@pytest.mark.slow
def test_the_fatal_update_is_the_one_before_the_loss_is_lost(diverging):
  """Losses of the run, from its own updates: none is above the limit up to the fatal one, and the next is."""
  config, recipe = diverging
  updates, before, after = divergence.fatal_update(config, recipe, 30)
  run = {done: jax.device_get(variables['params'])
         for done, variables in snapshots.states(config, recipe, range(updates + 2))}
  jax.tree.map(np.testing.assert_array_equal, before, run[updates])
  jax.tree.map(np.testing.assert_array_equal, after, run[updates + 1])
  loss_of = jax.jit(partial(cross_entropy, recipe.net))
  losses = [float(loss_of({'params': run[step]}, *inputs.batch_at(config, step))) for step in range(updates + 2)]
  assert max(losses[:-1]) <= DIVERGED_ABOVE and not losses[-1] <= DIVERGED_ABOVE


@pytest.mark.slow
def test_a_run_that_does_not_diverge_has_none(diverging):
  config, recipe = diverging
  updates, _, _ = divergence.fatal_update(config, recipe, 30)
  assert divergence.fatal_update(config, recipe, updates + 1) is None
  assert divergence.fatal_update(small_config(learning_rate=1e-3), recipe, 3) is None


@pytest.mark.slow
def test_for_what_is_lost_from_the_beginning_no_update_is_to_blame(diverging, monkeypatch):
  config, recipe = diverging
  begin = divergence.init_state
  monkeypatch.setattr(divergence, 'init_state', lambda *args: (state := begin(*args)).replace(
      params=jax.tree.map(lambda leaf: leaf * jnp.inf, state.params)))
  assert divergence.fatal_update(config, recipe, 30) is None


DIGITS = ('--config=configs/digits.py:ghost_norm', '--config.depth=16')


@pytest.mark.slow
def test_those_that_diverge_have_records(tmp_path):
  made, output = probe('divergence', *DIGITS, '--methods=none,batch_norm', '--config.learning_rate=10', '--updates=20',
                       '--points=3', '--layers=4,14', workdir=tmp_path)
  assert [(record['method'], record['layer']) for record in made['records']] == [('none', 4), ('none', 14)]
  for record, channels_there in zip(made['records'], (16, 10), strict=True):
    assert [point['share'] for point in record['along']] == [0, 0.5, 1]
    assert all(len(point['means']) == len(point['variances']) == channels_there for point in record['along'])
  first, last = made['records'][1]['along'][0], made['records'][1]['along'][-1]
  assert last['cross_entropy'] > first['cross_entropy'] and last['variance'] > first['variance']
  assert any(note.startswith('batch_norm, WRN-16-1 does not diverge within 20 updates') for note in made['notes'])
  assert 'none, WRN-16-1: diverges at update' in output
  assert_on_page(divergence.TITLE, tmp_path)


@pytest.mark.slow
def test_mistakes(tmp_path):
  assert_mistakes('divergence', *DIGITS, workdir=tmp_path / 'made', mistakes={
      '--layers=15': '--layers=15 does not exist: WRN-16-1 has the layers 1 to 14',
      '--draws=2': 'leave out --checkpoint and --draws',
      '--checkpoint=runs/x': 'leave out --checkpoint and --draws'})


@pytest.mark.slow
def test_where_nothing_diverges_nothing_is_written(tmp_path):
  code, _, errors = command.run('zeroinit.probes.divergence', *DIGITS, '--updates=3', f'--workdir={tmp_path}')
  command.assert_one_line(code, errors, 'use a larger --config.learning_rate, or more --updates')
  assert not list(tmp_path.iterdir())
