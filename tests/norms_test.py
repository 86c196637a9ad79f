"""The norms that do not look at the batch, and batch renormalization."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables

from zeroinit.methods import METHODS, Method
from zeroinit.networks.batch_norm import BatchRenorm, GhostNorm
from zeroinit.networks.norms import normalize
from zeroinit.ranges import BY_EXAMPLE
from zeroinit.training.optimizer import SCALARS


class Normalized(nn.Module):
  """A norm under the name that it has in a network."""

  method: Method

  @nn.compact
  def __call__(self, x, train):
    return normalize(self.method, x, train, name='norm')


def method_with(norm, **fields):
  return Method(norm=norm, activation='none' if norm == 'evonorm_s0' else 'relu', **fields)


def images(batch=6, channels=8, key=0):
  x = jax.random.normal(jax.random.key(key), (batch, 5, 4, channels))
  return x * jnp.linspace(0.2, 3, channels).reshape(1, 1, 1, -1) + 1


OTHERS = [norm for norm in BY_EXAMPLE if norm != 'none']


@pytest.mark.parametrize('norm', OTHERS)
def test_what_looks_at_one_example_knows_neither_the_others_nor_training(norm):
  module, x = Normalized(method_with(norm, groups=4)), images()
  variables = random_variables(module, x, train=False)
  whole = module.apply(variables, x, train=True)
  alone = jnp.concatenate([module.apply(variables, x[i:i + 1], train=False) for i in range(len(x))])
  np.testing.assert_allclose(alone, whole, rtol=1e-5, atol=1e-6)
  assert variables.keys() == {'params'} and variables['params'].keys() == {'norm'}


@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('norm', [*OTHERS, 'batch', 'batch_renorm'])
def test_it_computes_in_float32_and_gives_back_the_type_of_its_input(norm, train):
  module, x = Normalized(method_with(norm)), images().astype(jnp.bfloat16)
  variables = random_variables(module, x, train=False)
  apply = lambda x: module.apply(variables, x, train=train, mutable=['batch_stats'])[0]
  got, exact = apply(x), apply(x.astype(jnp.float32))
  assert got.dtype == jnp.bfloat16 and exact.dtype == jnp.float32
  np.testing.assert_array_equal(got, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize('norm', OTHERS)
def test_no_parameter_has_the_name_of_a_scalar_of_the_optimizer(norm):
  """The optimizer and the probes would take DyT's a, were it called alpha, for the multiplier of a branch."""
  names = random_variables(Normalized(method_with(norm)), images(), train=False)['params']['norm'].keys()
  assert not names & set(SCALARS)


@pytest.mark.parametrize('channels, groups, means', [(64, 32, 32), (48, 32, 16), (16, 32, 16), (12, 4, 4)])
def test_groups_are_fewer_where_channels_are(channels, groups, means):
  """At 16 channels 32 groups are instance norm: each channel of each example has mean 0."""
  x = images(2, channels)
  module = Normalized(Method(norm='group', groups=groups))
  y = module.apply(module.init(jax.random.key(0), x, train=False), x, train=False)
  of_groups = y.reshape(2, 20, means, channels // means)
  np.testing.assert_allclose(of_groups.mean((1, 3)), 0, atol=1e-5)
  np.testing.assert_allclose(of_groups.var((1, 3)), 1, rtol=1e-3)


def test_layer_norm_is_one_group_and_instance_norm_one_for_each_channel():
  x, apply = images(), lambda method: Normalized(method).init_with_output(jax.random.key(0), x, train=False)[0]
  np.testing.assert_array_equal(apply(Method(norm='layer')), apply(Method(norm='group', groups=1)))
  np.testing.assert_array_equal(apply(Method(norm='instance')), apply(Method(norm='group', groups=8)))


def renorm_variables(updates, spread=0.1):
  rng = np.random.default_rng(0)
  near = lambda start: jnp.float32(start + spread * rng.standard_normal(8))
  x = images()
  stats = {'mean': x.mean((0, 1, 2)) + near(0), 'var': x.var((0, 1, 2)) * near(1), 'updates': jnp.float32(updates)}
  return {'params': {'scale': near(1), 'bias': near(0)}, 'batch_stats': stats}


def test_before_update_500_batch_renorm_is_batch_norm():
  variables = renorm_variables(499)
  got, changed = BatchRenorm().apply(variables, images(), train=True, mutable=['batch_stats'])
  assert changed['batch_stats'].pop('updates') == 500
  del variables['batch_stats']['updates']
  want, statistics = GhostNorm().apply(variables, images(), train=True, mutable=['batch_stats'])
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
  for name, value in statistics['batch_stats'].items():
    np.testing.assert_allclose(changed['batch_stats'][name], value, rtol=1e-5)


def test_in_the_end_batch_renorm_trains_on_what_it_evaluates_with():
  """Where the batch is within the limits of the running averages."""
  variables = renorm_variables(4000)
  got, _ = BatchRenorm().apply(variables, images(), train=True, mutable=['batch_stats'])
  np.testing.assert_allclose(got, BatchRenorm().apply(variables, images(), train=False), rtol=1e-4, atol=1e-4)


def test_batch_renorm_keeps_its_corrections_within_limits():
  """Update 2250 is half of the way for r, 1 to 3, and 0.875 of that for d, 0 to 5."""
  variables, x = renorm_variables(2250), images()
  variables['batch_stats'] |= {'mean': jnp.full(8, -1e3), 'var': jnp.full(8, 1e-9)}
  got, _ = BatchRenorm().apply(variables, x, train=True, mutable=['batch_stats'])
  x = np.array(x)
  normalized = (x - x.mean((0, 1, 2), keepdims=True)) / np.sqrt(x.var((0, 1, 2), keepdims=True) + 1e-5)
  scale, bias = (np.array(variables['params'][name]) for name in ('scale', 'bias'))
  want = scale * (2 * normalized + 4.375) + bias
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_no_gradient_goes_through_the_corrections_of_batch_renorm():
  """So it is r times that of batch norm, Algorithm 1 of the paper."""
  variables = renorm_variables(4000)
  weights = jax.random.normal(jax.random.key(3), images().shape)
  gradient = lambda module, variables: jax.grad(lambda x: (weights * module.apply(
      variables, x, train=True, mutable=['batch_stats'])[0]).sum())(images())
  got = gradient(BatchRenorm(), variables)
  stats = variables['batch_stats']
  r = np.sqrt((images().var((0, 1, 2)) + 1e-5) / (stats['var'] + 1e-5))
  del stats['updates']
  np.testing.assert_allclose(got, np.array(r) * np.array(gradient(GhostNorm(), variables)), rtol=1e-3, atol=1e-5)


def test_a_norm_of_a_row_says_what_the_row_is():
  assert METHODS['group_norm'].examples_together(64) == 1 == METHODS['evonorm_s0'].examples_together(64)
  assert METHODS['batch_renorm'].examples_together(64) == 64
  assert dataclasses.replace(METHODS['ghost_norm'], ghost_size=8).examples_together(64) == 8
