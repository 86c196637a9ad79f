import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables

from zeroinit.errors import UserError
from zeroinit.methods import METHODS, Method
from zeroinit.resnet import BlockV2, Stage, WideResNet, alphas, basic

SILENT = ('multiplier', 'zeroinit', 'zeroinit_no_dropout', 'fixup', 'fixup_dropout', 'fixup_zero_only')


def shapes(net, image=(32, 32, 3)):
  images = jnp.zeros((2, *image))
  return jax.eval_shape(lambda key: net.init(key, images, train=False), jax.random.key(0))


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def init(net, images, seed=0):
  return jax.jit(lambda key: net.init(key, images, train=False))(jax.random.key(seed))


def some_images(batch=4, size=8, channels=3):
  return jax.random.normal(jax.random.key(7), (batch, size, size, channels))


@pytest.mark.parametrize('depth, width, method, parameters', [
    (16, 4, 'batch_norm', 2_748_890), (16, 4, 'ghost_norm', 2_748_890), (16, 4, 'none', 2_745_264),
    (16, 4, 'dropout', 2_745_264), (16, 4, 'divide_by_sqrt2', 2_745_264), (16, 4, 'multiplier', 2_745_270),
    (16, 4, 'skipinit_alpha_1', 2_745_270), (16, 4, 'biases', 2_747_530), (16, 4, 'zeroinit', 2_747_536),
    (16, 4, 'fixup', 2_745_306), (16, 2, 'none', 689_840), (100, 2, 'none', 6_108_848),
    (1000, 2, 'none', 64_169_648), (1000, 2, 'multiplier', 64_169_648 + 498), (28, 10, 'none', 36_461_232),
])
def test_parameter_count(depth, width, method, parameters):
  assert count(shapes(WideResNet(depth, width, METHODS[method], 10))['params']) == parameters


@pytest.mark.parametrize('method, expected', [('none', 4522), ('zeroinit', 4522), ('fixup', 1226.7)])
def test_sum_of_squared_kernels_at_init(method, expected):
  net = WideResNet(16, 4, METHODS[method], 10)
  squares = [float((leaf**2).sum()) for path, leaf in
             jax.tree_util.tree_leaves_with_path(init(net, jnp.zeros((1, 32, 32, 3)))['params'])
             if path[-1].key == 'kernel']
  assert sum(squares) == pytest.approx(expected, rel=0.01)


def test_scanned_kernels_are_drawn_one_by_one():
  kernels = init(WideResNet(28, 1, METHODS['none'], 10), some_images())['params']['stage2']['rest']['conv1']['kernel']
  assert kernels.shape == (3, 3, 3, 32, 32)
  np.testing.assert_allclose(kernels.std((1, 2, 3, 4)), np.sqrt(2 / (9 * 32)), rtol=0.05)
  assert not (kernels[0] == kernels[1]).any()


@pytest.mark.parametrize('name', METHODS)
def test_block_is_the_identity_at_init_where_the_method_says_so(name):
  block = BlockV2(basic(6, 1), METHODS[name], num_blocks=6)
  x = some_images(channels=6)
  variables = block.init(jax.random.key(0), x, train=False)
  y = block.apply(variables, x, train=False)
  assert bool((y == x).all()) == (name in SILENT)


@pytest.mark.parametrize('name', SILENT)
def test_block_that_changes_shape_is_its_shortcut_at_init(name):
  block = BlockV2(basic(12, 2), METHODS[name], num_blocks=6)
  x = some_images(channels=6)
  variables = block.init(jax.random.key(0), x, train=False)
  kernel = variables['params']['shortcut']['kernel'][0, 0]
  np.testing.assert_allclose(block.apply(variables, x, train=False), jax.nn.relu(x)[:, ::2, ::2] @ kernel, rtol=1e-4,
                             atol=1e-5)


def gradient_of_cross_entropy(net, variables, images):
  labels = jnp.arange(len(images)) % 10

  def loss(params):
    logits, _ = net.apply(variables | {'params': params}, images, train=True, mutable=['batch_stats'],
                          rngs={'dropout': jax.random.key(1)})
    return -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels].mean()

  return jax.jit(jax.grad(loss))(variables['params'])


@pytest.mark.parametrize('name', ['multiplier', 'zeroinit'])
def test_with_alpha_0_only_alpha_moves_a_branch_at_step_0(name):
  net = WideResNet(16, 1, METHODS[name], 10)
  gradient = gradient_of_cross_entropy(net, init(net, some_images()), some_images())
  branches, moved = 0, 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    names = [key.key for key in path]
    if names[-2] in ('conv1', 'conv2'):
      branches += 1
      assert not leaf.any(), names
    elif names[-1] == 'alpha':
      moved += leaf.size
      assert leaf.all(), names
  assert branches and moved == 6


@pytest.mark.parametrize('name', ['batch_norm', 'ghost_norm', 'none', 'zeroinit', 'divide_by_sqrt2', 'fixup'])
def test_scan_is_a_loop_over_blocks(name):
  """A stage against the same blocks applied one by one, each with its slice of the scanned variables."""
  method, x = dataclasses.replace(METHODS[name], ghost_size=2), some_images(channels=4)
  stage = Stage(basic, 6, 2, 3, method, num_blocks=9)
  variables = random_variables(stage, x, train=False)

  def scanned(variables):
    return stage.apply(variables, x, train=True, mutable=['batch_stats'])

  def looped(variables):
    y, stats = x, []
    for b in range(3):
      own = jax.tree.map(lambda leaf, b=b: leaf[b - 1], {kind: tree['rest'] for kind, tree in variables.items()})
      own = own if b else {kind: tree['first'] for kind, tree in variables.items()}
      block = BlockV2(basic(6, 1 if b else 2), method, num_blocks=9)
      y, changed = block.apply(own, y, train=True, mutable=['batch_stats'])
      stats.append(changed.get('batch_stats', {}))
    rest = jax.tree.map(lambda *leaves: jnp.stack(leaves), *stats[1:])
    return y, {'batch_stats': {'first': stats[0], 'rest': rest}} if rest else {}

  def with_gradient(apply):
    def loss(variables):
      y, changed = apply(variables)
      return (y**2).mean(), (y, changed)
    return jax.jit(jax.grad(loss, has_aux=True))(variables)

  for got, want in zip(jax.tree.leaves(with_gradient(scanned)), jax.tree.leaves(with_gradient(looped)), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * float(jnp.abs(want).max()))


def test_remat_changes_nothing():
  x = some_images(channels=4)
  stage = Stage(basic, 4, 1, 3, METHODS['ghost_norm'], num_blocks=9)
  variables = random_variables(stage, x, train=False)

  def gradient(stage):
    loss = lambda variables: (stage.apply(variables, x, train=True, mutable=['batch_stats'])[0] ** 2).mean()
    return jax.tree.leaves(jax.jit(jax.grad(loss))(variables))

  for want, got in zip(gradient(stage), gradient(dataclasses.replace(stage, remat=True)), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_fixup_begins_at_a_uniform_guess():
  net, images = WideResNet(10, 1, METHODS['fixup'], 10), some_images()
  start = lambda key: net.apply(net.init(key, images, train=False), images, train=False)
  assert not jax.jit(start)(jax.random.key(0)).any()


def test_alphas_are_in_order_of_depth():
  stage = lambda length: Stage(basic, 4, 1, length, METHODS['skipinit_alpha_inverse_sqrt_d'], num_blocks=9)
  draw = lambda stage: stage.init(jax.random.key(0), some_images(channels=4), train=False)['params']
  params = {'stem': {}, **{f'stage{i}': draw(stage(3)) for i in (1, 2, 3)}}
  np.testing.assert_allclose(alphas(params), [9**-0.5] * 9)
  params['stage2']['rest']['alpha'] = jnp.array([5.0, 6.0])
  assert alphas(params)[3:7] == pytest.approx([1 / 3, 5.0, 6.0, 1 / 3])
  assert alphas({'stage1': {'first': {'conv1': {}}}}) == []


def test_bfloat16_computes_the_same_with_float32_parameters_and_logits():
  net, images = WideResNet(10, 1, METHODS['zeroinit'], 10), some_images()
  variables = random_variables(net, images, train=False)
  low = dataclasses.replace(net, dtype=jnp.bfloat16)
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes(low))} == {jnp.dtype('float32')}
  logits = jax.jit(partial(net.apply, train=False))(variables, images)
  got = jax.jit(partial(low.apply, train=False))(variables, images)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, logits, atol=0.05 * float(jnp.abs(logits).max()))
  block = BlockV2(basic(3, 1), METHODS['fixup'], 6, jnp.bfloat16)
  x = images.astype(jnp.bfloat16)
  assert block.apply(block.init(jax.random.key(0), x, train=False), x, train=False).dtype == jnp.bfloat16


def test_one_field_at_a_time_every_ablation_builds():
  rows = {'norm': ('batch', 'ghost'), 'biases': ('channel', 'scalar'), 'alpha': (0.0, 0.5, 'inverse_sqrt_d'),
          'merge_scale': (0.7,), 'dropout': (0.2,), 'zero_init': (True,), 'depth_init': (True,), 'scalar_rate': (0.1,)}
  for field, values in rows.items():
    for value in values:
      for base in (Method(), METHODS['fixup']):
        if not (value == 0.0 and base.zero_init):
          shapes(WideResNet(10, 1, dataclasses.replace(base, **{field: value}), 10), (8, 8, 1))


@pytest.mark.parametrize('depth, width, names', [(15, 4, '10 or 16'), (4, 4, '10 or 16'), (16, 0, 'width')])
def test_sizes_that_do_not_exist(depth, width, names):
  with pytest.raises(UserError, match=names):
    WideResNet(depth, width, METHODS['none'], 10)


def test_as_the_readme_uses_it():
  net = WideResNet(depth=16, width=4, method=METHODS['zeroinit'], num_classes=10)
  images = some_images(2, 32)
  variables = jax.eval_shape(lambda: net.init(jax.random.key(0), images, train=False))
  assert jax.eval_shape(lambda v: net.apply(v, images, train=False), variables).shape == (2, 10)
  logits, updates = jax.eval_shape(lambda v, key: net.apply(v, images, train=True, mutable=['batch_stats'],
                                                            rngs={'dropout': key}), variables, jax.random.key(0))
  assert logits.shape == (2, 10) and logits.dtype == jnp.float32 and not updates


def test_depth_1000_is_a_program_as_small_as_depth_16():
  """What makes it compile as fast: the jaxpr of a training step has the same number of equations at any depth."""

  def size(depth):
    net = WideResNet(depth, 2, METHODS['zeroinit'], 10)
    loss = lambda params, images: net.apply({'params': params}, images, train=False).sum()
    return str(jax.make_jaxpr(jax.grad(loss))(shapes(net)['params'], some_images(2, 32))).count(' = ')

  assert size(1000) == size(22)
