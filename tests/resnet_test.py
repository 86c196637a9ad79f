"""Whole networks: what they are made of, how they start, what they cost."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params
from random_variables import random_variables
from rows import few

from zeroinit.methods import METHODS, Method
from zeroinit.networks import layers
from zeroinit.networks.resnet import CifarResNet, ResNet50V1, ResNet50V2, WideResNet, alphas
from zeroinit.system import compiling
from zeroinit.system.errors import UserError

ONLY_V2 = ('evonorm_s0', 'nf_resnet', 'nf_resnet_agc')
WITH_GRADIENTS = {'classifier_init': 'lecun'}  # of all layers, at the start


def wide(depth, width, name, **attributes):
  return WideResNet(depth=depth, width=width, method=METHODS[name], num_classes=10, **WITH_GRADIENTS | attributes)


def cifar(depth, name, **attributes):
  return CifarResNet(depth=depth, method=METHODS[name], **WITH_GRADIENTS | attributes)


def v1(name, **attributes):
  return ResNet50V1(method=METHODS[name], **WITH_GRADIENTS | attributes)


def v2(name, **attributes):
  return ResNet50V2(method=METHODS[name], **WITH_GRADIENTS | attributes)


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
  assert count(shapes(wide(depth, width, method))['params']) == parameters


@pytest.mark.parametrize('network, method, parameters', [
    (v1, 'none', 25_502_912), (v1, 'batch_norm', 25_557_032), (v1, 'multiplier', 25_502_928), (v1, 'fixup', 25_504_026),
    (v1, 'zeroinit', 25_530_488), (v1, 'zeroinit_scalar_bias', 25_530_504),
    (v2, 'batch_norm', 25_549_352), (v2, 'zeroinit', 25_530_488), (v2, 'fixup', 25_504_026),
    (partial(cifar, 110), 'none', 1_719_856), (partial(cifar, 110), 'batch_norm', 1_727_962),
    (partial(cifar, 110), 'fixup', 1_719_856 + 10 + 272),
])
def test_parameter_count_of_resnets(network, method, parameters):
  assert count(shapes(network(method))['params']) == parameters


def test_resnet50_has_the_tensors_of_the_original():
  """Kernels of torchvision's resnet50 by (size, inputs, outputs), written down from its printed layers."""
  params = shapes(v1('batch_norm'))['params']
  kernels = {path: leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(params) if path[-1].key == 'kernel'}
  of = lambda *names: kernels[tuple(map(jax.tree_util.DictKey, (*names, 'kernel')))]
  assert of('stem') == (7, 7, 3, 64) and of('classifier') == (2048, 1000)
  inputs = 64
  for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], 1):
    first, rest = (f'stage{stage}', 'first'), (f'stage{stage}', 'rest')
    assert [of(*first, f'conv{i}') for i in (1, 2, 3)] == [
        (1, 1, inputs, width), (3, 3, width, width), (1, 1, width, 4 * width)]
    assert of(*first, 'shortcut') == (1, 1, inputs, 4 * width)
    assert [of(*rest, f'conv{i}') for i in (1, 2, 3)] == [
        (blocks - 1, 1, 1, 4 * width, width), (blocks - 1, 3, 3, width, width), (blocks - 1, 1, 1, width, 4 * width)]
    inputs = 4 * width


@pytest.mark.parametrize('net, expected', few([
    (wide(16, 4, 'zeroinit', classifier_init='zero'), 4512), (cifar(110, 'none'), 8_106), (v1('fixup'), 11_584),
    (wide(16, 4, 'zeroinit'), 4522), (wide(16, 4, 'fixup'), 1226.7), (v2('zeroinit'), 54_120),
    (cifar(110, 'none', kernel_init='xavier', classifier_init='xavier'), 4_022),
], 2), ids=lambda value: value if isinstance(value, (int, float)) else f'{value.title}-{value.kernel_init}')
def test_sum_of_squared_kernels_at_init(net, expected):
  squares = [float((leaf**2).sum()) for path, leaf in
             jax.tree_util.tree_leaves_with_path(init(net, jnp.zeros((1, 32, 32, 3)))['params'])
             if path[-1].key == 'kernel']
  assert sum(squares) == pytest.approx(expected, rel=0.01)


def variance_of(init, fan_in, fan_out):
  """Of the weights; that of a normal distribution cut at two deviations is 0.7737."""
  return {'he': 2 / fan_in, 'he_fan_out': 2 / fan_out, 'lecun': 1 / fan_in, 'truncated': 0.7737 / fan_in,
          'xavier': 2 / (fan_in + fan_out), 'small': 1e-4, 'zero': 0.0}[init]


def largest_of(init, fan_in, fan_out):
  """The largest weight that can be drawn."""
  return {'truncated': 2 / np.sqrt(fan_in), 'xavier': np.sqrt(6 / (fan_in + fan_out)), 'zero': 0.0}.get(init, np.inf)


@pytest.mark.parametrize('kernel_init, classifier_init, name', few([
    ('he', 'zero', 'none'), ('he_fan_out', 'small', 'none'), ('lecun', 'lecun', 'fixup'),
    ('truncated', 'truncated', 'none'), ('xavier', 'xavier', 'none'), ('truncated', 'lecun', 'fixup'),
    ('xavier', 'xavier', 'fixup')], 3))
def test_every_kernel_is_drawn_as_it_is_said(kernel_init, classifier_init, name):
  """Fixup's factor, L^(-1/2) of a basic block, multiplies the standard deviation; its zeros remain."""
  net = wide(16, 2, name, kernel_init=kernel_init, classifier_init=classifier_init)
  for path, leaf in jax.tree_util.tree_leaves_with_path(init(net, some_images(1))['params']):
    names = [key.key for key in path]
    if names[-1] != 'kernel':
      continue
    *size, inputs, outputs = leaf.shape[-4:] if leaf.ndim > 2 else leaf.shape
    fan_in, fan_out = (np.prod(size, initial=n) for n in (inputs, outputs))
    drawn_as = classifier_init if names[0] == 'classifier' else kernel_init
    factor = {'conv1': 1 / 6, 'conv2': 0, 'classifier': 0}.get(names[-2], 1) if name == 'fixup' else 1
    variance, largest = factor * variance_of(drawn_as, fan_in, fan_out), largest_of(drawn_as, fan_in, fan_out)
    scatter = 5 / np.sqrt(2 * leaf.size)  # five standard deviations, of a relative standard deviation
    assert float(leaf.std()) == pytest.approx(np.sqrt(variance), rel=scatter), names
    assert float(jnp.abs(leaf).max()) <= largest * (1 + 1e-6), names


@pytest.mark.parametrize('network', [v1, v2, partial(cifar, 14), partial(wide, 16, 1)])
def test_start_that_does_not_exist(network):
  with pytest.raises(UserError, match=r'kernel_init .* he, he_fan_out, lecun'):
    network('none', kernel_init='orthogonal')
  with pytest.raises(UserError, match=r'classifier_init .* zero, small, lecun'):
    network('none', classifier_init='one')


@pytest.mark.parametrize('net', [wide(10, 1, 'fixup'), cifar(8, 'fixup')], ids=lambda net: net.title)
def test_fixup_begins_at_a_uniform_guess(net):
  start = lambda key: net.apply(net.init(key, some_images(), train=False), some_images(), train=False)
  assert not jax.jit(start)(jax.random.key(0)).any()


@pytest.mark.parametrize('net, blocks', [
    (wide(16, 4, 'multiplier'), 6), (cifar(110, 'multiplier'), 54), (v1('multiplier'), 16), (v2('multiplier'), 16)],
    ids=lambda value: getattr(value, 'title', None))
def test_alphas_are_in_order_of_depth(net, blocks):
  params, numbers = shapes(net)['params'], iter(range(blocks))
  for stage in ('stage1', 'stage2', 'stage3', 'stage4')[: len(net.stages)]:
    for place in ('first', 'rest'):
      length = params[stage][place]['alpha'].shape
      params[stage][place]['alpha'] = np.array([next(numbers) for _ in range(*length or [1])]).reshape(length)
  assert alphas(params) == list(range(blocks)) and net.num_blocks == blocks
  assert alphas({'stage1': {'first': {'conv1': {}}}}) == []


def test_alpha_starts_where_the_method_says():
  net = wide(22, 1, 'skipinit_alpha_inverse_sqrt_d')
  np.testing.assert_allclose(alphas(init(net, some_images())['params']), [9**-0.5] * 9)


def test_bfloat16_has_float32_parameters_and_logits():
  low = wide(10, 1, 'zeroinit', dtype=jnp.bfloat16)
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes(low))} == {jnp.dtype('float32')}
  images = some_images()
  assert jax.eval_shape(partial(low.apply, train=False), init(low, images), images).dtype == jnp.float32


@pytest.mark.parametrize('net, train, jit', few([
    (wide(10, 1, 'none'), False, jax.jit), (wide(10, 1, 'none'), True, compiling.jit),
    (wide(16, 1, 'batch_norm'), False, compiling.jit), (wide(16, 1, 'batch_norm'), True, jax.jit),
    (wide(10, 1, 'zeroinit_no_dropout'), True, jax.jit), (cifar(8, 'fixup'), False, compiling.jit),
    (wide(10, 1, 'nf_resnet'), True, compiling.jit), (wide(10, 1, 'evonorm_s0'), True, compiling.jit),
    (wide(10, 1, 'group_norm_ws'), True, jax.jit), (wide(10, 1, 'batch_renorm'), True, compiling.jit),
    (wide(10, 1, 'filter_response_norm'), True, jax.jit), (wide(10, 1, 'derf'), False, compiling.jit)], 6))
def test_bfloat16_computes_the_same_in_a_compiled_program(net, train, jit):
  """Compiled, and on images of a real size: jax 0.11 and 0.12 join there what they get wrong."""
  images, labels = some_images(32, 32), jnp.arange(32) % 10
  variables = random_variables(net, images, train=False)

  def logits(params, net):
    return net.apply(variables | {'params': params}, images, train=train, mutable=['batch_stats'])[0]

  def loss(params, net):
    return -jnp.mean(jax.nn.log_softmax(logits(params, net))[jnp.arange(32), labels])

  def both(function):
    low = dataclasses.replace(net, dtype=jnp.bfloat16)
    return [jit(partial(function, net=each))(variables['params']) for each in (net, low)]

  exact, got = both(logits)
  np.testing.assert_allclose(got, exact, atol=0.05 * float(jnp.abs(exact).max()))
  exact, got = both(jax.grad(loss))
  cosine = optax.tree.vdot(got, exact) / (optax.tree.norm(got) * optax.tree.norm(exact))
  assert cosine > 0.85  # random variables are harsher than those of a run: 0.89 with Fixup, else 0.98


@pytest.mark.slow
def test_one_field_at_a_time_every_ablation_builds():
  rows = {'norm': ('batch', 'ghost'), 'biases': ('channel', 'scalar'), 'alpha': (0.0, 0.5, 'inverse_sqrt_d'),
          'merge_scale': (0.7,), 'merge_bias': (True,), 'dropout': (0.2,), 'zero_init': (True,), 'depth_init': (True,),
          'scalar_rate': (0.1,), 'activation': ('scaled_relu', 'thresholded'), 'kernels': ('scaled',),
          'branch_scale': (0.2, 'inverse_sqrt_d', 'inverse_d'), 'clip': (0.01,)}
  for field, values in rows.items():
    for value in values:
      for base in (Method(), METHODS['fixup']):
        if not (base.zero_init and (value == 0.0 or field == 'kernels')):
          method = dataclasses.replace(base, **{field: value})
          shapes(WideResNet(depth=10, width=1, method=method, num_classes=10), (8, 8, 1))
          shapes(CifarResNet(depth=8, method=method), (8, 8, 1))


@pytest.mark.parametrize('network, name', [
    *((partial(cifar, 8), name) for name in METHODS if name not in ONLY_V2),
    *((partial(wide, 10, 1), name) for name in METHODS),
    *((network, name) for network in (v1, v2) for name in ('ghost_norm', 'zeroinit_scalar_bias', 'fixup_dropout'))])
def test_every_row_of_methods_trains_every_network(network, name):
  net, images = network(name), jnp.zeros((2, 32, 32, 3))

  def outputs(key):
    variables = net.init(key, images, train=False)
    return net.apply(variables, images, train=True, mutable=['batch_stats'], rngs={'dropout': key})

  logits, updates = jax.eval_shape(outputs, jax.random.key(0))
  assert logits.shape == (2, net.num_classes) and logits.dtype == jnp.float32
  assert bool(updates) == (net.method.norm in ('batch', 'ghost', 'batch_renorm'))


@pytest.mark.parametrize('name', ONLY_V2)
def test_what_needs_pre_activation_is_refused_elsewhere(name):
  for network in (v1, partial(cifar, 8)):
    with pytest.raises(UserError, match='wide_resnet or resnet50_v2'):
      network(name)


@pytest.mark.parametrize('depth, width, names', [(15, 4, '10 or 16'), (4, 4, '10 or 16'), (16, 0, 'width')])
def test_sizes_that_do_not_exist(depth, width, names):
  with pytest.raises(UserError, match=names):
    wide(depth, width, 'none')


@pytest.mark.parametrize('depth, names', [(51, '8, 14, 20, .* 50 or 56'), (2, '8 or 14'), (6_000_002, 'million')])
def test_depths_that_no_cifar_resnet_has(depth, names):
  with pytest.raises(UserError, match=names):
    cifar(depth, 'none')


def test_bottleneck_stride():
  one, three = v1('fixup'), v1('fixup', bottleneck_stride='3x3')
  assert shapes(one) == shapes(three) and one != three
  with pytest.raises(UserError, match='bottleneck_stride'):
    v2('none', bottleneck_stride='5x5')


def test_equal_networks_are_one_key_of_a_program():
  assert hash(v1('fixup')) == hash(v1('fixup')) and v1('fixup') == v1('fixup')
  assert v1('fixup') != v2('fixup') and v1('fixup') != v1('fixup', kernel_init='lecun')


def multiply_adds_of_jaxpr(jaxpr):
  """Products in the convolutions and matrix products of a program, a scanned body counted as often as it runs."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'conv_general_dilated':
      kernel = equation.invars[1].aval  # [height, width, inputs, outputs]
      total += equation.outvars[0].aval.size * kernel.size // kernel.shape[-1]
    elif equation.primitive.name == 'dot_general':
      ((contracted,), _), _ = equation.params['dimension_numbers']
      total += equation.outvars[0].aval.size * equation.invars[0].aval.shape[contracted]
    else:
      inner = sum(map(multiply_adds_of_jaxpr, jaxprs_in_params(equation.params)))
      total += inner * equation.params.get('length', 1)
  return total


@pytest.mark.parametrize('net, size, published', [
    (v1('fixup'), 224, 3.86e9), (v1('none', bottleneck_stride='3x3'), 224, 4.09e9),
    (v2('none'), 224, 3.86e9), (v2('none', bottleneck_stride='3x3'), 224, 4.09e9), (v2('none'), 97, None),
    (cifar(110, 'none'), 32, None), (wide(28, 10, 'none'), 32, 5.24e9), (wide(16, 4, 'none'), 9, None),
], ids=lambda value: getattr(value, 'title', None))
def test_multiply_adds_are_those_of_the_program(net, size, published, monkeypatch):
  monkeypatch.setattr(layers, 'conv_general_dilated', lax.conv_general_dilated)  # the one for CPUs fills kernels up
  images = jnp.zeros((1, size, size, 3))
  program = jax.make_jaxpr(partial(net.apply, train=False))(shapes(net), images)
  counted = net.multiply_adds((size, size, 3))
  assert counted == multiply_adds_of_jaxpr(program.jaxpr)
  assert published is None or counted == pytest.approx(published, rel=0.005)


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
    net = wide(depth, 2, 'zeroinit')
    loss = lambda params, images: net.apply({'params': params}, images, train=False).sum()
    return str(jax.make_jaxpr(jax.grad(loss))(shapes(net)['params'], some_images(2, 32))).count(' = ')

  assert size(1000) == size(22)


@pytest.mark.slow
@pytest.mark.parametrize('net', [WideResNet(depth=16, width=1, method=METHODS['batch_norm_last'], num_classes=10),
                                 CifarResNet(depth=14, method=METHODS['batch_norm_last'])])
def test_the_last_norm_is_the_only_one_and_normalizes_what_leaves_the_last_block(net):
  images = jax.random.normal(jax.random.key(0), (8, 8, 8, 3))
  variables = net.init(jax.random.key(1), images, train=False)
  assert sum(leaf.size for leaf in jax.tree.leaves(variables['batch_stats'])) == 2 * 64
  scaled = jax.tree.map(lambda leaf: leaf, variables)
  scaled['params'] = dict(variables['params'], stem={'kernel': 1000 * variables['params']['stem']['kernel']})
  logits, large = (net.apply(these, images, train=True, mutable=['batch_stats'])[0] for these in (variables, scaled))
  # Without biases the network is linear in the scale of its stem.
  np.testing.assert_allclose(large, logits, rtol=1e-2, atol=1e-3)
