"""One update, many updates in a dispatch, micro-batches, devices, evaluation."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rows import UNLIKE, few

from zeroinit.data import digits
from zeroinit.methods import METHODS
from zeroinit.ranges import OVER_THE_BATCH
from zeroinit.system import environment
from zeroinit.training import resident, step
from zeroinit.training.batches import draw, standardize
from zeroinit.training.clipping import clipped
from zeroinit.training.config import base_config
from zeroinit.training.optimizer import Plateau, plateau_factor, sgd
from zeroinit.training.recipe import make_recipe

DATA = digits.load()
TRAIN = (DATA.train_images, DATA.train_labels)


def config_of(method, **fields):
  """A small network. A ghost batch of 8 lies on two of eight devices.

  The rate is low because a ReLU input within rounding of zero may be cut in one of two equal computations and not in
  the other: that changes the gradient of so few images by 1e-3, and at rate 0.05 the next losses by 1e-4.
  """
  config = base_config(method)
  config.update(dataset='digits', depth=10, width=1, batch_size=32, crop='reflect', flip=False,
                learning_rate=1e-4, dampening=0.0, classifier_init='lecun')
  config.method.ghost_size = 8
  config.update(fields)
  return config


def recipe_of(config, devices=1):
  return make_recipe(config, len(DATA.train_images), jax.devices()[:devices])


def start(config, devices=1):
  recipe = recipe_of(config, devices)
  return recipe, step.init_state(recipe, config.learning_rate, config.seed)


def losses(recipe, state, steps):
  """The cross-entropy of each of the next steps, and the state after them."""
  values = []
  for _ in range(steps):
    state = state.replace(sums=jax.tree.map(jnp.zeros_like, state.sums))
    state = resident.train_steps(recipe, state, *TRAIN, int(state.step) + 1)
    values.append(float(step.means(state)['cross_entropy']))
  return np.array(values), state


def assert_close(got, want, rtol):
  for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(1e-3, float(np.abs(b).max())), err_msg=str(path))


@pytest.mark.parametrize('method', few(['ghost_norm', 'zeroinit', *UNLIKE], 2))
def test_eight_devices_are_one(method):
  config = config_of(method)
  one = losses(*start(config, devices=1), steps=10)[0]
  eight = losses(*start(config, devices=8), steps=10)[0]
  np.testing.assert_allclose(eight, one, rtol=1e-5)


@pytest.mark.parametrize('method', few(
    ['ghost_norm', *(name for name in UNLIKE if METHODS[name].norm not in OVER_THE_BATCH)], 1))
def test_micro_batches_are_one_batch(method):
  config = config_of(method)
  state = resident.train_steps(*start(config), *TRAIN, 2)
  config.micro_batches = 4
  parts = resident.train_steps(*start(config), *TRAIN, 2)
  assert_close(parts.params, state.params, rtol=1e-5)
  assert_close(parts.batch_stats, state.batch_stats, rtol=1e-5)
  assert_close(parts.sums, state.sums, rtol=1e-5)


def test_a_step_clips_the_gradient_of_the_loss_and_not_that_of_l2():
  config = config_of('none_agc', momentum=0.0, weight_decay=0.1, learning_rate=0.5)
  recipe, state = start(config)
  batch = jax.tree.map(lambda x: x[None], draw(jnp.array(TRAIN[0]), jnp.array(TRAIN[1]), jnp.arange(32), 0, 0, 'none',
                                               False))
  apply = jax.jit(step.train_step, static_argnums=0)
  without_l2 = dataclasses.replace(recipe, weight_decay=0.0)
  plain = dataclasses.replace(without_l2, net=recipe.net.clone(method=METHODS['none']))
  gradient = jax.tree.map(lambda w, after: (w - after) / 0.5, state.params, apply(plain, state, batch).params)
  want = clipped(gradient, state.params, 0.01)
  assert float(optax.tree.norm(want)) < 0.5 * float(optax.tree.norm(gradient))
  decayed = lambda path, w: 0.1 * w if path[-1].key == 'kernel' else 0 * w
  want = jax.tree.map(lambda w, g, l2: w - 0.5 * (g + l2), state.params, want,
                      jax.tree_util.tree_map_with_path(decayed, state.params))
  assert_close(apply(recipe, state, batch).params, want, rtol=1e-4)


@pytest.mark.slow
def test_micro_batches_on_eight_devices():
  config = config_of('ghost_norm', depth=16)  # so that a scan over blocks is within one over micro-batches
  one = losses(*start(config), steps=3)[0]
  config.micro_batches = 2
  np.testing.assert_allclose(losses(*start(config, devices=8), steps=3)[0], one, rtol=1e-5)


def test_one_step_follows_the_gradient_of_cross_entropy_and_l2():
  config = config_of('biases', batch_size=16, weight_decay=0.1, learning_rate=0.05)
  recipe, state = start(config)
  example = jnp.arange(16)
  batch = draw(jnp.array(TRAIN[0]), jnp.array(TRAIN[1]), example, 0, 0, 'none', False)
  one_part = jax.tree.map(lambda x: x[None], batch)

  def loss(params):
    images = standardize(batch['image'], digits.INFO.mean, digits.INFO.std)
    logits = recipe.net.apply({'params': params}, images, train=True)
    kernels = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if path[-1].key == 'kernel']
    cross_entropy = -jax.nn.log_softmax(logits)[example, batch['label']].mean()
    return cross_entropy + 0.05 * sum((kernel**2).sum() for kernel in kernels)

  value, gradient = jax.jit(jax.value_and_grad(loss))(state.params)
  want = jax.tree.map(lambda w, g: w - 0.05 * g, state.params, gradient)
  after = jax.jit(step.train_step, static_argnums=0)(recipe, state, one_part)
  assert_close(after.params, want, rtol=1e-5)
  assert float(after.sums['cross_entropy'] + after.sums['l2']) == pytest.approx(float(value), rel=1e-5)
  norm = np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(gradient)))
  assert float(after.sums['gradient_norm']) == pytest.approx(norm, rel=1e-4)


def test_any_cut_into_dispatches_gives_the_same_bits_and_nothing_is_compiled_again():
  config = config_of('zeroinit', batch_size=479)  # three steps an epoch
  recipe = recipe_of(config)
  whole, cut = step.init_state(recipe, 0.01, 0), step.init_state(recipe, 0.01, 0)
  before = resident.train_steps.program()._cache_size()
  for until in (3, 6):
    whole = resident.train_steps(recipe, whole, *TRAIN, until)
  for until in (1, 3, 3, 5, 6, 6):  # a dispatch without updates changes nothing, at the end of an epoch either
    cut = resident.train_steps(recipe, cut, *TRAIN, until)
  for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(cut), strict=True):
    np.testing.assert_array_equal(a, b)
  assert float(cut.sums['steps']) == 3  # of the second epoch only

  other = step.init_state(recipe_of(config_of('zeroinit', batch_size=479, seed=5)), 0.02, 5)
  other = resident.train_steps(recipe_of(config), other, *TRAIN, 1)
  assert resident.train_steps.program()._cache_size() == before + 1
  assert any((a != b).any() for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(other.params), strict=True))


def test_divergence_stops_at_its_step():
  recipe, state = start(config_of('none', learning_rate=1e4))
  state = resident.train_steps(recipe, state, *TRAIN, 80)
  assert bool(state.diverged) and 1 < int(state.step) < 80
  stopped = int(state.step)
  assert int(resident.train_steps(recipe, state, *TRAIN, 80).step) == stopped


@pytest.mark.slow
def test_a_high_loss_is_divergence_only_after_a_low_one():
  recipe, state = start(config_of('none', learning_rate=1e-9))
  params = state.params | {'classifier': {'kernel': state.params['classifier']['kernel'] * 1e6}}
  high = resident.train_steps(recipe, state.replace(params=params, settled=jnp.bool_(False)), *TRAIN, 2)
  assert not high.diverged and not high.settled and float(step.means(high)['cross_entropy']) > 1e3
  high = resident.train_steps(recipe, high.replace(settled=jnp.bool_(True)), *TRAIN, 9)
  assert high.diverged and int(high.step) == 3


@pytest.mark.slow
@pytest.mark.parametrize('devices', [1, 8])
@pytest.mark.parametrize('examples, batch_size', [(37, 10), (5, 1000), (16, 16)])
def test_every_test_image_is_scored_once(devices, examples, batch_size):
  recipe, state = start(config_of('ghost_norm'), devices)
  images, labels = DATA.test_images[:examples], DATA.test_labels[:examples]
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  standardized = standardize(images, digits.INFO.mean, digits.INFO.std)
  logits = jax.jit(partial(recipe.net.apply, train=False))(variables, standardized)
  test_batches = resident.in_batches(recipe, images, labels, batch_size)
  accuracy, top5_accuracy, cross_entropy = step.evaluate(recipe, state, test_batches, examples)
  assert accuracy == int((logits.argmax(-1) == labels).sum()) / examples
  assert top5_accuracy == (np.argsort(-logits, -1)[:, :5] == labels[:, None]).any(-1).sum() / examples
  expected = -jax.nn.log_softmax(logits)[jnp.arange(examples), labels].mean()
  np.testing.assert_allclose(cross_entropy, expected, rtol=1e-5)
  assert step.evaluate(recipe, state, test_batches, examples, stopping=lambda: 15) is None


def test_a_dead_network_guesses():
  """Equal logits are ranked as argmax does, and those that are not finite hit nothing."""
  recipe, state = start(config_of('none'))
  labels = jnp.arange(10, dtype=jnp.int32)
  for kernel, expected in ((0.0, [1, 5]), (float('nan'), [0, 0])):
    dead = state.replace(params=state.params | {'classifier': {'kernel': jnp.full((64, 10), kernel)}})
    correct, within_five, _ = step.score(recipe, dead, DATA.test_images[:10], labels)
    assert [int(correct), int(within_five)] == expected


def test_a_batch_that_the_devices_do_not_divide_uses_fewer():
  assert [recipe_of(config_of('none', batch_size=size), 8).mesh.size for size in (16, 12, 7, 1)] == [8, 6, 7, 1]
  assert recipe_of(config_of('none', batch_size=16, micro_batches=4), 8).mesh.size == 4


@pytest.mark.slow
def test_bfloat16_trains_with_float32_state():
  config = config_of('zeroinit', dtype='bfloat16')
  values, state = losses(*start(config), steps=3)
  assert np.isfinite(values).all()
  assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.momentum))} == {jnp.dtype('float32')}


def test_a_recipe_is_the_key_of_a_program():
  assert recipe_of(config_of('zeroinit')) == recipe_of(config_of('zeroinit', learning_rate=1.0, seed=3))
  assert recipe_of(config_of('zeroinit')) != recipe_of(config_of('biases_dropout'))
  assert hash(recipe_of(config_of('zeroinit'))) == hash(dataclasses.replace(recipe_of(config_of('zeroinit'))))


@pytest.mark.slow
def test_the_training_accuracy_is_that_of_the_batch_before_the_update():
  config = config_of('ghost_norm', crop='none')
  recipe, state = start(config)
  example = np.arange(config.batch_size)
  batch = draw(*map(jnp.asarray, TRAIN), example, np.uint32(0), 0, 'none', False)
  images = standardize(batch['image'], recipe.mean, recipe.std)
  logits, _ = recipe.net.apply({'params': state.params, 'batch_stats': state.batch_stats}, images, train=True,
                               mutable=['batch_stats'])
  after = jax.jit(step.train_step, static_argnums=0)(recipe, state, jax.tree.map(lambda x: x[None], batch))
  assert float(step.means(after)['accuracy']) == pytest.approx(float((logits.argmax(-1) == batch['label']).mean()))


def test_a_plateau_divides_the_rate():
  """Of a loss that is the same in every epoch, each second epoch after the first is the last of a plateau of 2."""
  tx = sgd(0.0, 0.0, 1.0, Plateau(epochs=2, steps_per_epoch=3, drop_by=10.0))
  params = {'kernel': jnp.ones(2)}
  state, factors, moved = tx.init(params), [], []
  for update in range(21):
    direction, state = tx.update({'kernel': jnp.full(2, 4.0)}, state, params, value=jnp.float32(1 + update % 3))
    moved.append(float(direction['kernel'][0]))
    factors.append(float(plateau_factor(state)))
  of_epochs = [1, 1, 0.1, 0.1, 0.01, 0.01, 0.001]
  assert factors[2::3] == pytest.approx(of_epochs)
  assert moved == pytest.approx([4 * factor for factor in factors])
  assert plateau_factor(sgd(0.9, 0.9, 1.0).init(params)) == 1


@pytest.mark.slow
def test_a_run_lowers_its_rate_on_a_plateau():
  config = config_of('none', learning_rate=1e-30, epochs=8.0, first_drop=1.0, plateau_epochs=2, drop_by=10.0,
                     batch_size=512)
  recipe, state = start(config)
  assert recipe.schedule.drops == () and recipe.plateau == Plateau(2, 2, 10.0)
  for epoch in range(1, 8):  # nothing moves, so the loss only changes with the crops
    state = resident.train_steps(recipe, state, *TRAIN, 2 * epoch)
  assert float(plateau_factor(state.momentum)) < 1


@pytest.mark.parametrize('method, batch_size, devices, micro_batches', [
    ('none', 64, 1, 4), ('zeroinit', 1024, 1, 64), ('zeroinit', 64, 4, 1), ('zeroinit', 1024, 8, 8), ('none', 24, 1, 2),
    ('none', 17, 1, 1), ('group_norm', 8, 1, 1), ('ghost_norm', 1024, 1, 16), ('ghost_norm', 256, 8, 1),
    ('ghost_norm', 1024, 8, 2), ('ghost_norm', 16, 1, 1), ('batch_norm', 1024, 1, 1), ('batch_renorm', 1024, 8, 1)])
def test_on_cpus_a_batch_is_cut_into_parts_that_fit_the_cache(method, batch_size, devices, micro_batches, monkeypatch):
  """Of 32x32 pixels and 16 channels 16 examples are 1 MiB. What a norm sees stays whole; each device has a share."""
  monkeypatch.setattr(environment, 'threads', lambda: 1)
  config = base_config(method)
  config.update(width=1, batch_size=batch_size)
  assert make_recipe(config, 50_000, jax.devices()[:devices]).micro_batches == micro_batches


def test_with_more_threads_the_parts_are_larger(monkeypatch):
  monkeypatch.setattr(environment, 'threads', lambda: 4 * jax.local_device_count())
  config = base_config('none')
  config.update(width=4, batch_size=128)
  assert make_recipe(config, 50_000, jax.devices()[:1]).micro_batches == 8  # 4 examples for each of 4 threads
  config.micro_batches = 16
  assert make_recipe(config, 50_000, jax.devices()[:1]).micro_batches == 16  # at least what the config says


def test_what_is_of_ones_own_gets_the_batch_that_the_config_says(tmp_path):
  """It may look at all of it, or draw numbers for it."""
  (tmp_path / 'mine.py').write_text('def scale(module, branch, train):\n  return branch.mean()\n')
  config = base_config('none')
  config.update(width=1, batch_size=1024)
  assert make_recipe(config, 50_000, jax.devices()[:1]).micro_batches > 1
  config.method.alpha = f'{tmp_path}/mine.py:scale'
  assert make_recipe(config, 50_000, jax.devices()[:1]).micro_batches == 1
