"""The bound on the gradient through a norm: against projections written out, and other ways to the gradients."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probing import LABELS, assert_mistakes, assert_on_page, method, probe, some_images, wide
from random_variables import random_variables
from rows import few

from zeroinit.networks.batch_norm import GhostNorm
from zeroinit.networks.resnet import CifarResNet, ResNet50V1
from zeroinit.networks.vgg import VGG
from zeroinit.probes import bound
from zeroinit.system.errors import UserError


def measured(net, images=None, variables=None):
  images = some_images() if images is None else images
  variables = random_variables(net, images, train=False) if variables is None else variables
  return bound.measure(net, variables, images, LABELS[: len(images)])


@pytest.fixture
def layer():
  """What enters a norm, a gradient at its output, and its scales: [groups, examples, height, width, channels]."""
  rng = np.random.default_rng(0)
  y = rng.standard_normal((2, 3, 4, 4, 5)) * rng.uniform(0.3, 3, 5) + rng.standard_normal(5)
  return y, rng.standard_normal(y.shape) + 0.5 * y, rng.uniform(0.5, 2, 5)


def test_the_sides_are_those_of_projections_written_out(layer):
  """The gradient at the input is gamma / sigma times that at the output, projected away from 1 and from yhat."""
  y, gradient, scale = layer
  of_units, m = bound.sides(y, gradient, scale), 48
  for group in range(2):
    for channel in range(5):
      values, g = y[group, ..., channel].reshape(m), gradient[group, ..., channel].reshape(m)
      sigma = math.sqrt(values.var() + 1e-5)
      normalized = (values - values.mean()) / sigma
      one, along = (np.outer(direction, direction) / (direction @ direction) for direction in (np.ones(m), normalized))
      factor = (scale[channel] / sigma) ** 2
      want = {'gradient': g @ g, 'scaled': factor * g @ g, 'mean_part': factor * g @ one @ g,
              'direction_part': factor * g @ along @ g, 'right': factor * ((g - one @ g - along @ g) ** 2).sum()}
      want['right_sqrt_m'] = want['right'] - (math.sqrt(m) - 1) * want['direction_part']
      assert {name: part[group, channel] for name, part in of_units.items()} == pytest.approx(want, rel=1e-3)


def test_with_one_over_m_it_is_what_autodiff_finds_and_with_the_root_it_is_not(layer):
  y, gradient, scale = layer
  flat = lambda x: x.reshape(-1, *x.shape[2:])
  norm = GhostNorm(3)
  variables = norm.init(jax.random.key(0), jnp.float32(flat(y)), train=False)
  variables['params']['scale'] = jnp.float32(scale)

  def loss(x):
    return (norm.apply(variables, x, train=True, mutable=['batch_stats'])[0] * jnp.float32(flat(gradient))).sum()

  left = (np.asarray(jax.grad(loss)(jnp.float32(flat(y))), np.float64).reshape(y.shape) ** 2).sum((1, 2, 3))
  of_units = bound.sides(y, gradient, scale)
  np.testing.assert_allclose(left, of_units['right'], rtol=2e-3)
  assert (left > 1.1 * of_units['right_sqrt_m']).all()
  # With statistics of the whole batch it is another layer.
  whole = bound.sides(y.reshape(1, 6, 4, 4, 5), gradient.reshape(1, 6, 4, 4, 5), scale)
  assert np.abs(left.sum(0) / whole['right'].sum(0) - 1).max() > 5e-3


def test_the_constant_beside_a_small_variance_leaves_less_than_the_right_side(layer):
  """delta = epsilon / (var + epsilon) of the part along yhat is missing on the left side."""
  y, gradient, scale = layer
  y = 3e-3 * y / y.std((1, 2, 3), keepdims=True)
  of_units = bound.sides(y, gradient, scale)
  variance = y.var((1, 2, 3)) + 1e-5
  m, centred = 48, y - y.mean((1, 2, 3), keepdims=True)
  along = (gradient * centred).sum((1, 2, 3)) / variance / m
  at_input = gradient - gradient.mean((1, 2, 3), keepdims=True) - along[:, None, None, None] * centred
  left = (scale**2 / variance) * (at_input**2).sum((1, 2, 3))
  np.testing.assert_allclose(left, of_units['right'] - 1e-5 / variance * of_units['direction_part'], rtol=1e-9)
  assert (left < 0.9999 * of_units['right']).all()


NETWORKS = [
    wide('batch_norm', 22), wide('ghost_norm', 22, ghost_size=3), CifarResNet(depth=14, method=method('batch_norm')),
    CifarResNet(depth=14, method=method('ghost_norm', ghost_size=2)),
    VGG(method=method('batch_norm'), num_classes=10),
]


@pytest.mark.slow
@pytest.mark.parametrize('net', NETWORKS, ids=lambda net: f'{net.title}-{net.method.norm}')
def test_in_networks_the_equation_holds_at_every_norm(net):
  records = measured(net)
  groups = 6 // net.method.ghost_size if net.method.norm == 'ghost' else 1
  for record in records:
    assert record['left'] == pytest.approx(record['right'], rel=1e-3) and record['left'] > 0
    assert record['deviation'] < 1e-2 and record['exceeded'] < 0.01
    taken = 1 - record['mean_share'] - record['direction_share']
    assert record['left'] == pytest.approx(record['gradient'] * record['factor'] * taken, rel=1e-3)
    assert record['exceeded_sqrt_m'] > 0.7 and record['right_sqrt_m'] < record['left']
    assert record['units'] % groups == 0
  assert [record['norm'] for record in records] == list(range(1, len(records) + 1))
  assert len({record['layer'] for record in records}) == len(records)


@pytest.mark.slow
def test_the_norms_are_in_the_order_of_computation():
  expected = []
  before = (16, 64)  # channels and pixels; the first norm of a stage sees those of the stage before
  for stage, after in enumerate(((16, 64), (32, 16), (64, 4)), 1):
    for block in ('first/relu{}/norm', 'rest/relu{}/norm[0]', 'rest/relu{}/norm[1]'):
      for i, (channels, pixels) in ((1, before), (2, after)):
        expected.append((f'stage{stage}/{block.format(i)}', 2 * channels, 3 * pixels))
      before = after
  expected.append(('relu/norm', 2 * 64, 3 * 4))
  records = measured(wide('ghost_norm', 22, ghost_size=3))
  assert [(record['layer'], record['units'], record['m']) for record in records] == expected


def test_the_norms_of_other_networks():
  def layers(net):
    norms, _ = bound._norms(net, random_variables(net, some_images(), train=False), some_images())
    return [norm.name for norm in norms]

  blocks = ['first/relu1/norm', 'first/norm', *(f'rest/{name}[{i}]' for i in (0, 1) for name in ('relu1/norm', 'norm'))]
  assert layers(CifarResNet(depth=20, method=method('batch_norm'))) == [
      'stem_relu/norm', *(f'stage{stage}/{name}' for stage in (1, 2, 3) for name in blocks)]
  assert layers(wide('batch_norm_last')) == ['relu/norm']
  assert layers(CifarResNet(depth=8, method=method('batch_norm_last'))) == ['norm']


@pytest.mark.parametrize('net', few([wide('batch_norm', 22), CifarResNet(depth=14, method=method('batch_norm'))], 1),
                         ids=lambda net: net.title)
def test_the_terms_are_the_gradients_of_shift_and_scale(net):
  """dL/dbeta = <1, g> and dL/dgamma = <g, yhat>, at every norm, also of scanned blocks: another way to both terms."""
  images = some_images()
  variables = random_variables(net, images, train=False)

  def loss(params):
    logits, changed = net.apply(variables | {'params': params}, images, train=True, mutable=['batch_stats'])
    return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean(), changed['batch_stats']

  gradients, running = jax.device_get(jax.jit(jax.grad(loss, has_aux=True))(variables['params']))
  for record in measured(net, images, variables):
    path, _, place = record['layer'].partition('[')

    def of(tree, path=path, place=place):
      for name in path.split('/'):
        tree = tree[name]
      return jax.tree.map(lambda leaf: np.asarray(leaf[int(place[:-1])] if place else leaf, np.float64), tree)

    gradient, scale = of(gradients), of(variables['params'])['scale']
    variance = (of(running)['var'] - 0.9 * of(variables['batch_stats'])['var']) / 0.1  # of this batch
    scaled = record['factor'] * record['gradient']
    for term, name in (('mean_share', 'bias'), ('direction_share', 'scale')):
      want = (scale**2 / (variance + 1e-5) * gradient[name] ** 2).sum() / record['m']
      assert record[term] * scaled == pytest.approx(want, rel=5e-3), (record['layer'], term)


def test_the_gradients_are_those_of_the_loss_as_a_function_of_the_layer():
  """Against autodiff of the network with what enters, or leaves, one of its norms replaced."""
  net, images = wide('batch_norm'), some_images()
  variables = random_variables(net, images, train=False)

  def run(path, place, replacement=None):
    seen = {}

    def replace(call, args, kwargs, context):
      if not isinstance(context.module, GhostNorm) or '/'.join(context.module.path) != path:
        return call(*args, **kwargs)
      x = replacement if place == 'input' and replacement is not None else args[0]
      y = call(x, *args[1:], **kwargs)
      seen['value'] = x if place == 'input' else y
      return replacement if place == 'output' and replacement is not None else y

    with nn.intercept_methods(replace):
      logits, _ = net.apply(variables, images, train=True, mutable=['batch_stats'])
    return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean(), seen['value']

  record = measured(net, images, variables)[3]
  assert record['layer'] == 'stage2/first/relu2/norm'
  for place, field in (('input', 'left'), ('output', 'gradient')):
    value = jax.jit(partial(run, record['layer'], place))()[1]
    gradient = jax.jit(jax.grad(lambda x, place=place: run(record['layer'], place, x)[0]))(value)
    assert record[field] == pytest.approx(float((gradient**2).sum()), rel=1e-3)


@pytest.mark.parametrize('name', ['none', 'zeroinit', 'fixup'])
def test_without_a_norm_there_is_nothing_to_look_at(name):
  with pytest.raises(UserError, match='WRN-10-1 has no batch or ghost norm'):
    measured(wide(name))


def test_neither_dropout_nor_noise():
  plain = wide('batch_norm')
  variables = random_variables(plain, some_images(), train=False)
  want = measured(plain, variables=variables)
  assert measured(wide('batch_norm', dropout=0.5), variables=variables) == want
  assert measured(wide('noisy_batch_norm'), variables=variables) == want


def test_remat_and_bfloat16_change_nothing():
  net = wide('batch_norm')
  variables = random_variables(net, some_images(), train=False)
  want = measured(net, variables=variables)
  for other in (net.clone(remat=True), net.clone(dtype=jnp.bfloat16)):  # which is measured in float32
    for record, expected in zip(measured(other, variables=variables), want, strict=True):
      assert record.pop('layer') == (expected := dict(expected)).pop('layer')
      assert record == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_where_no_gradient_arrives_nothing_is_exceeded():
  """Behind a multiplier of zero; the norms after it are alive."""
  net, images = wide('batch_norm', 10, alpha=0.0), some_images()
  variables = random_variables(net, images, train=False)
  for stage in ('stage1', 'stage2', 'stage3'):
    variables['params'][stage]['first']['alpha'] = jnp.float32(0)
  *branches, last = measured(net, images, variables)
  dead = [record for record in branches if record['layer'].endswith('relu2/norm')]
  assert len(dead) == 3 and last['left'] > 0
  for record in dead:
    assert record['left'] == record['gradient'] == record['exceeded'] == record['exceeded_sqrt_m'] == 0
    assert math.isnan(record['mean_share'])
  assert 'no gradient arrives at any norm' in bound._note('x', 0, dead)


@pytest.mark.slow
def test_a_bottleneck_network():
  net = ResNet50V1(method=method('batch_norm'), num_classes=3)
  records = measured(net, some_images(4, 64))
  assert len(records) == 1 + 3 * 16 + 4
  assert all(record['left'] == pytest.approx(record['right'], rel=1e-2) for record in records)


DIGITS = ('--config=configs/digits.py:ghost_norm', '--config.depth=10', '--config.method.ghost_size=32')


@pytest.mark.slow
def test_the_command(tmp_path):
  made, output = probe('bound', *DIGITS, '--methods=ghost_norm,batch_norm_last', '--updates=0,3', '--draws=2',
                       workdir=tmp_path)
  ghost, last = 'ghost_norm(ghost_size=32)', 'batch_norm_last(ghost_size=32)'
  assert [(record['method'], record['updates'], record['norm']) for record in made['records']] == [
      *((ghost, updates, norm) for updates in (0, 3) for norm in range(1, 8)), (last, 0, 1), (last, 3, 1)]
  for record in made['records']:
    assert record['left'] == pytest.approx(record['right'], rel=1e-4) and record['exceeded'] == 0
    assert record['standard_error']['left'] > 0
  table = bound.summary(made)
  assert len(table.rows) == 16 and all(len(row) == len(table.columns) for row in table.rows)
  assert len(made['notes']) == 4 and all(note in output for note in made['notes'])
  assert_on_page(bound.TITLE, tmp_path)


@pytest.mark.slow
def test_mistakes(tmp_path):
  assert_mistakes('bound', '--config=configs/digits.py:ghost_norm', workdir=tmp_path / 'made', mistakes={
      '--methods=batch_norm,zeroinit': 'zeroinit has no batch or ghost norm to look at',
      '--updates=9999': 'is more than the',
      '--batch_size=100': 'does not divide batch_size 100'})
