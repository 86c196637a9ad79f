"""Internal covariate shift: which parameter belongs to which layer; the shift, against an unrolled network."""

import dataclasses

import command
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from probing import LABELS, assert_mistakes, assert_on_page, probe, small_config, some_images, unrolled
from random_variables import random_variables

from zeroinit.methods import METHODS
from zeroinit.networks import vgg
from zeroinit.networks.blocks import BlockV1, bottleneck
from zeroinit.networks.resnet import CifarResNet, ResNet, WideResNet
from zeroinit.probes import covariate_shift, inputs, layers, snapshots


class Bottlenecks(ResNet, kw_only=True):
  """A small network like a ResNet-50."""

  stages = ((bottleneck(2, 1),) * 2, (bottleneck(3, 2), *(bottleneck(3, 1),) * 2))
  pools = True


class BottlenecksV1(Bottlenecks, kw_only=True):
  block = BlockV1


def network(kind, name, **fields):
  method = dataclasses.replace(METHODS[name], **fields)
  arguments = {WideResNet: {'depth': 16, 'width': 1}, CifarResNet: {'depth': 14}}.get(kind, {})
  return kind(method=method, num_classes=10, **arguments)


def inputs_of_layers(net, variables):
  """A function from parameters to what each layer receives, and the logits, as numpy arrays."""
  found, images = list(layers.along_depth(net, (8, 8, 3))), some_images()

  def keep(call, args, kwargs, context):
    if isinstance(context.module, (nn.Conv, nn.Dense)) and context.method_name == '__call__':
      layers.leave(context.module, 'input', args[0])
    return call(*args, **kwargs)

  @jax.jit
  def run(params):
    with nn.intercept_methods(keep):
      logits, left = net.apply(variables | {'params': params}, images, train=True, mutable=['probes', 'batch_stats'])
    return left['probes'], logits

  def inputs(params):
    left, logits = run(params)
    return [layer.of(left, 'input') for layer in found] + [np.asarray(logits)]

  return inputs


def one_by_one(params):
  """(path, place in a scan or None, params in which only that parameter is another one)."""
  rng, flat = np.random.default_rng(1), flatten_dict(params)
  for path, leaf in flat.items():
    for place in range(len(leaf)) if 'rest' in path else (None,):
      change = np.zeros(leaf.shape, np.float32)
      change[place if place is not None else ...] = rng.uniform(0.3, 0.6, leaf.shape[place is not None:])
      yield path, place, unflatten_dict(flat | {path: leaf + change})


@pytest.mark.slow
@pytest.mark.parametrize('kind, name, fields', [
    (WideResNet, 'fixup', {'zero_init': False, 'merge_bias': True}), (WideResNet, 'ghost_norm', {'alpha': 0.5}),
    (WideResNet, 'zeroinit_no_dropout', {}), (CifarResNet, 'fixup', {'zero_init': False}),
    (CifarResNet, 'batch_norm', {}), (Bottlenecks, 'batch_norm', {}), (BottlenecksV1, 'batch_norm', {'alpha': 0.5}),
    (BottlenecksV1, 'fixup', {'zero_init': False}), (BottlenecksV1, 'batch_norm_last', {}),
    (vgg.VGG, 'batch_norm', {}), (vgg.VGG, 'biases', {})])
def test_a_parameter_belongs_to_the_last_layer_whose_input_it_leaves_alone(kind, name, fields, monkeypatch):
  """Found out by changing each: that is the definition, but for shortcuts, which pass by other layers."""
  monkeypatch.setattr(vgg, 'GROUPS', ((4, 4), (4, 4), (4, 4, 4, 4, 4, 4, 4)))  # as many as have two digits
  net = network(kind, name, **fields)
  variables = random_variables(net, some_images(), train=False)
  params, found = variables['params'], list(layers.along_depth(net, (8, 8, 3)))
  numbers = flatten_dict(covariate_shift.numbers_of(net, found, params))
  inputs = inputs_of_layers(net, variables)
  before = inputs(params)
  for path, place, changed in one_by_one(params):
    number = int(numbers[path].ravel()[place or 0])
    after = inputs(changed)
    expected = next(i for i, pair in enumerate(zip(before, after, strict=True)) if not np.array_equal(*pair))
    if path[-2:][0].startswith('shortcut'):
      block = path[:2]
      assert number < expected
      expected = next(i for i, layer in enumerate(found, 1) if (layer.path[:-1], layer.place) == (block, place))
    assert number == expected, path


@pytest.fixture(scope='module')
def measured():
  """A network of 14 layers, its kernels in two states, and what the probe finds."""
  net, images = network(CifarResNet, 'none'), some_images()
  states = [random_variables(net, images, seed=seed, train=False)['params'] for seed in (0, 1)]
  states[1] = jax.tree.map(lambda old, other: old + 0.2 * other, *states)
  found = list(layers.along_depth(net, (8, 8, 3)))
  kernels = [[layer.of(params, 'kernel') for layer in found] for params in states]
  records = covariate_shift.measure(net, {'params': states[0]}, states[1], images, LABELS, range(1, 15))
  return kernels, images, records


def test_against_an_unrolled_network(measured):
  (old, new), images, records = measured

  @jax.jit
  def gradients(kernels):
    loss = lambda kernels: optax.softmax_cross_entropy_with_integer_labels(
        unrolled(kernels, images)[-1], LABELS).mean()
    return jax.grad(loss)(kernels)

  before = gradients(old)
  assert [record['layer'] for record in records] == list(range(1, 15))
  for i, record in enumerate(records):
    g, shifted = (np.float64(found[i]).ravel() for found in (before, gradients(new[:i] + old[i:])))
    assert record['gradient_norm'] == pytest.approx(np.linalg.norm(g), rel=1e-4)
    assert record['shifted_gradient_norm'] == pytest.approx(np.linalg.norm(shifted), rel=1e-4)
    assert record['shift'] == pytest.approx(np.linalg.norm(g - shifted), rel=1e-3, abs=1e-6)
    assert record['relative_shift'] == pytest.approx(record['shift'] / record['gradient_norm'])
    assert record['cosine'] == pytest.approx(g @ shifted / np.linalg.norm(g) / np.linalg.norm(shifted), abs=1e-4)


def test_the_first_layer_has_none_and_the_others_have(measured):
  shifts = [record['shift'] for record in measured[2]]
  assert shifts[0] == 0 and min(shifts[1:]) > 0


def test_gradients_that_are_zero_or_overflow_have_no_cosine():
  net, images = network(CifarResNet, 'none'), some_images()
  params = random_variables(net, images, train=False)['params']
  zero = params | {'classifier': {'kernel': jnp.zeros_like(params['classifier']['kernel'])}}
  layer, classifier = covariate_shift.measure(net, {'params': zero}, params, images, LABELS, [5, 14])
  assert layer['gradient_norm'] == 0 and np.isnan(layer['cosine'])  # the classifier, which comes later, is not updated
  assert -1 <= classifier['cosine'] <= 1
  huge = jax.tree.map(lambda leaf: 1e30 * leaf, params)
  assert not np.isfinite(covariate_shift.measure(net, {'params': params}, huge, images, LABELS, [5])[0]['shift'])


def test_the_update_is_the_one_of_the_run():
  """With its momentum, at its rate; in the second epoch too."""
  config = small_config()
  recipe = inputs.recipe_of(config)
  found = list(covariate_shift.steps(config, recipe, [0, 1, 3]))
  run = {updates: jax.device_get(variables['params'])
         for updates, variables in snapshots.states(config, recipe, [0, 1, 2, 3, 4])}
  assert [updates for updates, _, _ in found] == [0, 1, 3]
  for updates, variables, updated in found:
    jax.tree.map(np.testing.assert_array_equal, variables['params'], run[updates])
    jax.tree.map(np.testing.assert_array_equal, updated, run[updates + 1])


def test_a_run_that_diverges_ends_there():
  config = small_config(learning_rate=1e4)
  found = list(covariate_shift.steps(config, inputs.recipe_of(config), [0, 50, 60]))
  assert [updates for updates, _, _ in found] == [0]


DIGITS = ('--config=configs/digits.py:ghost_norm', '--config.depth=16')


@pytest.mark.slow
def test_a_record_for_every_method_moment_and_layer(tmp_path):
  made, _ = probe('covariate_shift', *DIGITS, '--methods=none,zeroinit', '--updates=0,3', '--layers=4,9', '--draws=2',
                  workdir=tmp_path)
  assert [(record['method'], record['updates'], record['layer']) for record in made['records']] == [
      (name, updates, layer) for name in ('none', 'zeroinit') for updates in (0, 3) for layer in (4, 9)]
  for record in made['records']:
    start = (record['method'], record['updates']) == ('zeroinit', 0)
    assert (record['cosine'] is None) == start and (record['shift'] == 0) == start
    assert start or record['standard_error']['shift'] > 0
  assert 'zeroinit: the gradient of layer 4, 9 is exactly zero, so there is no cosine.' in made['notes']
  assert_on_page(covariate_shift.TITLE, tmp_path)


@pytest.mark.slow
def test_a_run_is_measured_where_it_stands(tmp_path):
  workdir = tmp_path / 'trained'
  code, _, errors = command.run('zeroinit.main', *DIGITS, '--config.epochs=0.5', f'--workdir={workdir}')
  assert code == 0, errors
  made, _ = probe('covariate_shift', f'--checkpoint={workdir}', workdir=tmp_path / 'made')
  assert [(record['method'], record['updates'], record['layer']) for record in made['records']] == [
      ('ghost_norm in trained', None, layer) for layer in (2, 6, 10)]
  assert any('no momentum' in note for note in made['notes'])


@pytest.mark.slow
def test_mistakes(tmp_path):
  assert_mistakes('covariate_shift', *DIGITS, workdir=tmp_path / 'made', mistakes={
      '--layers=0': '--layers=0: write positive numbers',
      '--layers=2,15': '--layers=15 does not exist: WRN-16-1 has the layers 1 to 14',
      '--updates=1000000': 'is more than the'})
