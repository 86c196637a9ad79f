"""A residual block, in both forms, and the scanned stage."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables
from rows import few

from zeroinit.methods import METHODS, Method
from zeroinit.networks.blocks import (
  BlockV1,
  BlockV1OptionA,
  BlockV2,
  Stage,
  basic,
  bottleneck,
  expected_variances,
)
from zeroinit.networks.layers import ConvSpec

SILENT = ('multiplier', 'zeroinit', 'zeroinit_no_dropout', 'zeroinit_scalar_bias', 'fixup', 'fixup_dropout',
          'fixup_zero_only', 'zeroinit_agc')  # and the two below, in which a shortcut is no plain kernel's
NF = ('nf_resnet', 'nf_resnet_agc')
KINDS = [(BlockV2, basic), (BlockV2, bottleneck), (BlockV1, basic), (BlockV1, bottleneck), (BlockV1OptionA, basic)]


def some_inputs(channels, batch=4, size=8):
  return jax.random.normal(jax.random.key(7), (batch, size, size, channels))


def init(module, x):
  return jax.jit(partial(module.init, train=False))(jax.random.key(0), x)


def test_a_bottleneck_has_its_stride_in_the_first_or_the_second_convolution():
  assert bottleneck(64, 2) == (ConvSpec(64, 1, 2), ConvSpec(64, 3), ConvSpec(256, 1))
  assert bottleneck(64, 2, strided='3x3') == (ConvSpec(64, 1), ConvSpec(64, 3, 2), ConvSpec(256, 1))


@pytest.mark.parametrize('name', METHODS)
def test_block_is_the_identity_at_init_where_the_method_says_so(name):
  block, x = BlockV2(basic(6, 1), METHODS[name], num_blocks=6), some_inputs(6)
  assert bool((block.apply(init(block, x), x, train=False) == x).all()) == (name in SILENT + NF)


@pytest.mark.parametrize('name', few(['none', *SILENT, *(name for name in METHODS if name not in NF)], 8))
def test_v1_block_is_a_relu_at_init_and_so_the_identity_on_what_a_relu_gave(name):
  block, x = BlockV1(bottleneck(2, 1), METHODS[name], num_blocks=6), some_inputs(8)
  variables = init(block, x)
  assert bool((block.apply(variables, x, train=False) == jax.nn.relu(x)).all()) == (name in SILENT)
  x = jnp.abs(x)
  assert bool((block.apply(variables, x, train=False) == x).all()) == (name in SILENT)


@pytest.mark.parametrize('name', SILENT)
def test_block_that_changes_shape_is_its_shortcut_at_init(name):
  block, x = BlockV2(basic(12, 2), METHODS[name], num_blocks=6), some_inputs(6)
  variables = init(block, x)
  kernel = variables['params']['shortcut']['kernel'][0, 0]
  np.testing.assert_allclose(block.apply(variables, x, train=False), jax.nn.relu(x)[:, ::2, ::2] @ kernel, rtol=1e-4,
                             atol=1e-5)


@pytest.mark.parametrize('name', SILENT)
def test_v1_block_that_changes_shape_is_the_relu_of_its_shortcut_at_init(name):
  block, x = BlockV1(bottleneck(3, 2), METHODS[name], num_blocks=6), some_inputs(6)
  variables = init(block, x)
  want = jax.nn.relu(x[:, ::2, ::2] @ variables['params']['shortcut']['kernel'][0, 0])
  np.testing.assert_allclose(block.apply(variables, x, train=False), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', SILENT)
def test_option_a_takes_every_second_pixel_and_appends_zeros(name):
  block, x = BlockV1OptionA(basic(16, 2), METHODS[name], num_blocks=6), some_inputs(6)
  variables = init(block, x)
  y = block.apply(variables, x, train=False)
  np.testing.assert_array_equal(y[..., :6], jax.nn.relu(x)[:, ::2, ::2])
  assert y.shape == (4, 4, 4, 16) and not y[..., 6:].any()
  assert not any(name.startswith('shortcut') for name in variables['params'])


def scalars_of(block):
  variables = jax.eval_shape(lambda: block.init(jax.random.key(0), some_inputs(8), train=False))
  return [leaf.shape for leaf in jax.tree.leaves(variables['params'])].count(())


@pytest.mark.parametrize('name, scalars', [('fixup', 7), ('zeroinit_scalar_bias', 2), ('zeroinit', 1), ('none', 0)])
@pytest.mark.parametrize('kind', [BlockV1, BlockV2])
def test_scalars_of_a_bottleneck(kind, name, scalars):
  method = METHODS[name]
  assert scalars_of(kind(bottleneck(2, 1), method, num_blocks=6)) == scalars
  # The last scalar of Fixup in V1 is the merge bias, which is there once; in V2 it has none, unless one asks for it.
  has_it = method.merge_bias or (kind is BlockV1 and method.biases == 'scalar')
  asked = dataclasses.replace(method, merge_bias=True)
  assert scalars_of(kind(bottleneck(2, 1), asked, num_blocks=6)) == (scalars if has_it else scalars + 1)


@pytest.mark.parametrize('kind', [BlockV1, BlockV1OptionA, BlockV2])
def test_fixup_has_five_scalars_in_a_basic_block(kind):
  assert scalars_of(kind(basic(8, 1), METHODS['fixup'], num_blocks=6)) == 5


@pytest.mark.parametrize('kind, layout', KINDS)
def test_merge_is_scale_times_sum_plus_bias(kind, layout):
  """Against a twin without the two, whose output before the last ReLU is known where it is positive."""
  x = some_inputs(8)
  twin = kind(layout(2 if layout is bottleneck else 8, 1), Method(alpha=0.5), num_blocks=6)
  block = dataclasses.replace(twin, method=Method(alpha=0.5, merge_scale=0.7, merge_bias=True))
  variables = random_variables(block, x, train=False)
  assert variables['params'].pop('merge_bias').shape == ()
  merged = twin.apply(variables, x, train=False)
  variables['params']['merge_bias'] = jnp.float32(0.3)
  got = block.apply(variables, x, train=False)
  np.testing.assert_allclose(got[merged > 0], 0.7 * merged[merged > 0] + 0.3, rtol=1e-4, atol=1e-5)
  assert (got >= 0).all() == (kind is not BlockV2)


@pytest.mark.parametrize('kind, layout, name', few([
    (BlockV2, basic, 'multiplier'), (BlockV1OptionA, basic, 'zeroinit'), (BlockV1, bottleneck, 'zeroinit_scalar_bias'),
    (BlockV2, bottleneck, 'zeroinit')], 2))
def test_with_alpha_0_only_alpha_moves_a_branch_at_step_0(kind, layout, name):
  x = some_inputs(3)
  stage = Stage(kind, (layout(4, 2), layout(4, 1), layout(4, 1)), METHODS[name], num_blocks=9)
  variables = init(stage, x)
  loss = lambda variables: (stage.apply(variables, x, train=True) ** 2).sum()
  gradient = jax.jit(jax.grad(loss))(variables)
  moved = {'conv': 0, 'alpha': 0}
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    *_, owner, parameter = (key.key for key in path)
    if owner.startswith('conv'):
      moved['conv'] += int((leaf != 0).sum())
    else:
      assert leaf.any(), path
      moved['alpha'] += leaf.size * (parameter == 'alpha')
  assert moved == {'conv': 0, 'alpha': 3}


STAGES = [(BlockV2, basic, 'ghost_norm'), (BlockV1, bottleneck, 'zeroinit_scalar_bias'),
          (BlockV1OptionA, basic, 'fixup'), (BlockV1, bottleneck, 'batch_norm')]
STAGES += [(BlockV2, basic, name) for name in ('nf_resnet', 'zeroinit', 'divide_by_sqrt2', 'fixup', 'layer_scale',
                                               'completep', 'group_norm_ws', 'batch_renorm', 'filter_response_norm',
                                               'evonorm_s0', 'derf')]
STAGES += [(BlockV1, bottleneck, 'filter_response_norm')]


@pytest.mark.parametrize('kind, layout, name', few(STAGES, 5))
def test_scan_is_a_loop_over_blocks(kind, layout, name):
  """A stage against the same blocks applied one by one, each with its slice of the scanned variables."""
  method, x = dataclasses.replace(METHODS[name], ghost_size=2), some_inputs(4)
  convs = (layout(6, 2), layout(6, 1), layout(6, 1))
  variances = (1.5, 2.0, 3.0) if method.divide_by_std else None
  stage = Stage(kind, convs, method, num_blocks=9, variances=variances)
  variables = random_variables(stage, x, train=False)

  def scanned(variables):
    return stage.apply(variables, x, train=True, mutable=['batch_stats'])

  def looped(variables):
    y, stats = x, []
    for b in range(3):
      own = jax.tree.map(lambda leaf, b=b: leaf[b - 1], {kind: tree['rest'] for kind, tree in variables.items()})
      own = own if b else {kind: tree['first'] for kind, tree in variables.items()}
      y, changed = kind(convs[b], method, num_blocks=9).apply(
          own, y, True, variances and variances[b], mutable=['batch_stats'])
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


def test_the_expected_variance_begins_again_where_the_shortcut_is_projected():
  stages = [(basic(16, 1),) * 2, (basic(32, 2), basic(32, 1)), (basic(64, 2), basic(64, 1))]
  found = lambda **fields: np.array(expected_variances(dataclasses.replace(METHODS['nf_resnet'], **fields), stages, 16))
  np.testing.assert_allclose(found(), [(1, 1.04), (1.08, 1.04), (1.08, 1.04)])
  np.testing.assert_allclose(found(merge_scale=0.5), [(1, 0.26), (0.075, 0.26), (0.075, 0.26)])
  np.testing.assert_allclose(found(branch_scale='inverse_sqrt_d')[0], (1, 7 / 6))
  assert expected_variances(METHODS['zeroinit'], stages, 16) == [None] * 3


@pytest.mark.slow
@pytest.mark.parametrize('kind, layout', [(BlockV2, basic), (BlockV1, bottleneck)])
def test_remat_changes_nothing(kind, layout):
  x = some_inputs(4)
  stage = Stage(kind, (layout(4, 1),) * 3, METHODS['ghost_norm'], num_blocks=9)
  variables = random_variables(stage, x, train=False)

  def gradient(stage):
    loss = lambda variables: (stage.apply(variables, x, train=True, mutable=['batch_stats'])[0] ** 2).mean()
    return jax.tree.leaves(jax.jit(jax.grad(loss))(variables))

  for want, got in zip(gradient(stage), gradient(dataclasses.replace(stage, remat=True)), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6 * float(jnp.abs(want).max()))


@pytest.mark.parametrize('kind', [BlockV2, BlockV1])
def test_a_block_computes_in_the_type_it_is_given(kind):
  for name in ('fixup', 'batch_norm', 'zeroinit_scalar_bias'):
    block, x = kind(basic(3, 1), METHODS[name], 6, jnp.bfloat16), some_inputs(3).astype(jnp.bfloat16)
    variables = init(block, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
    assert block.apply(variables, x, train=False).dtype == jnp.bfloat16


@pytest.mark.parametrize('kind, layout', [(BlockV2, basic), (BlockV1, partial(bottleneck, strided='3x3'))])
def test_scanned_kernels_are_drawn_one_by_one(kind, layout):
  stage = Stage(kind, (layout(32, 1),) * 4, METHODS['none'], num_blocks=4)
  kernels = init(stage, some_inputs(32))['params']['rest']['conv2']['kernel']
  assert kernels.shape == (3, 3, 3, 32, 32)
  np.testing.assert_allclose(kernels.std((1, 2, 3, 4)), np.sqrt(2 / (9 * 32)), rtol=0.05)
  assert not (kernels[0] == kernels[1]).any()
