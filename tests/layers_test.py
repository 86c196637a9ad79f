import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from zeroinit.networks.batch_norm import NOISE, GhostNorm, add_noise, standardize_groups
from zeroinit.networks.layers import dropout


def images(batch=12, key=0):
  """Images whose channels differ in mean and scale."""
  x = jax.random.normal(jax.random.key(key), (batch, 5, 4, 3))
  of_channel = lambda *values: jnp.array(values).reshape(1, 1, 1, 3)
  return x * of_channel(1.0, 3.0, 0.2) + of_channel(0.0, 2.0, -1.0)


def variables(seed=1):
  keys = jax.random.split(jax.random.key(seed), 4)
  params = {'scale': 1 + 0.3 * jax.random.normal(keys[0], (3,)), 'bias': jax.random.normal(keys[1], (3,))}
  stats = {'mean': jax.random.normal(keys[2], (3,)), 'var': jnp.exp(jax.random.normal(keys[3], (3,)))}
  return {'params': params, 'batch_stats': stats}


def flax_batch_norm(train):
  """With its variance computed as the definition says; its default, E[x^2] - E[x]^2, is 1e-5 off on these images."""
  return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, use_fast_variance=False)


@pytest.mark.parametrize('group_size', [None, 12, 64])
def test_one_group_is_flax_batch_norm(group_size):
  def ours(x, params):
    return GhostNorm(group_size).apply(variables() | {'params': params}, x, train=True, mutable=['batch_stats'])

  def theirs(x, params):
    return flax_batch_norm(True).apply(variables() | {'params': params}, x, mutable=['batch_stats'])

  params = variables()['params']
  for got, want in zip(jax.tree.leaves(ours(images(), params)), jax.tree.leaves(theirs(images(), params)), strict=True):
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-6)
  gradient = lambda apply: jax.grad(lambda x, params: (apply(x, params)[0] ** 3).sum(), (0, 1))(images(), params)
  for got, want in zip(jax.tree.leaves(gradient(ours)), jax.tree.leaves(gradient(theirs)), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


def test_evaluation_is_flax_batch_norm():
  np.testing.assert_allclose(GhostNorm(4).apply(variables(), images(), train=False),
                             flax_batch_norm(False).apply(variables(), images()), rtol=1e-6, atol=1e-6)


def test_groups_are_separate_batch_norms():
  got, changed = GhostNorm(4).apply(variables(), images(), train=True, mutable=['batch_stats'])
  parts = [flax_batch_norm(True).apply(variables(), images()[i : i + 4], mutable=['batch_stats']) for i in (0, 4, 8)]
  np.testing.assert_allclose(got, jnp.concatenate([part for part, _ in parts]), rtol=2e-6, atol=2e-6)
  for name in ('mean', 'var'):  # one update a step, with the mean over the groups
    want = np.mean([stats['batch_stats'][name] for _, stats in parts], 0)
    np.testing.assert_allclose(changed['batch_stats'][name], want, rtol=2e-6, atol=2e-6)


def test_the_gradient_of_groups_is_that_of_the_definition():
  """Also through the mean and the variance, and by finite differences in float64."""
  x, params = images(), variables()['params']
  weights = jax.random.normal(jax.random.key(2), x.shape)

  def loss(standardize):
    def of(x, scale, bias):
      y, mean, var = standardize(x.reshape(3, 4, *x.shape[1:]), scale, bias)
      return (weights.reshape(y.shape) * y).sum() + (mean**2).sum() + (jnp.sqrt(var) * mean).sum()
    return of

  def definition(x, scale, bias):
    mean, var = x.mean((1, 2, 3), keepdims=True), x.var((1, 2, 3), keepdims=True)
    scale, bias = (values.reshape(1, 1, 1, 1, 3) for values in (scale, bias))
    return scale * (x - mean) / jnp.sqrt(var + 1e-5) + bias, mean, var

  args = x, params['scale'], params['bias']
  with jax.enable_x64():
    args = [jnp.float64(arg) for arg in args]
    check_grads(loss(standardize_groups), args, order=2, modes=['rev'])
    gradients = [jax.grad(loss(each), (0, 1, 2))(*args) for each in (standardize_groups, definition)]
  for got, want in zip(*gradients, strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


def test_two_constants_become_minus_and_plus_one():
  x = jnp.concatenate([jnp.full((2, 1, 1, 1), 3.0), jnp.full((2, 1, 1, 1), 7.0)])
  params = {'params': {'scale': jnp.ones(1), 'bias': jnp.zeros(1)},
            'batch_stats': {'mean': jnp.zeros(1), 'var': jnp.ones(1)}}
  y, _ = GhostNorm().apply(params, x, train=True, mutable=['batch_stats'])
  np.testing.assert_allclose(y.ravel(), [-1, -1, 1, 1], atol=1e-5)
  y, _ = GhostNorm(2).apply(params, x, train=True, mutable=['batch_stats'])
  np.testing.assert_allclose(y.ravel(), [0, 0, 0, 0], atol=1e-5)


def test_a_size_that_does_not_divide_is_refused():
  with pytest.raises(ValueError, match='5 does not divide a batch of 12'):
    GhostNorm(5).apply(variables(), images(), train=True, mutable=['batch_stats'])


def test_statistics_are_float32_in_bfloat16_computation():
  got, changed = GhostNorm().apply(variables(), images().astype(jnp.bfloat16), train=True, mutable=['batch_stats'])
  assert got.dtype == jnp.bfloat16
  assert {x.dtype for x in jax.tree.leaves(changed)} == {jnp.dtype('float32')}


def test_dropout_depends_on_the_example_not_on_its_place():
  features, example = jax.random.normal(jax.random.key(0), (6, 40)), jnp.array([7, 3, 11, 0, 5, 2])
  whole = dropout(0.6, features, jax.random.key(1), example)
  np.testing.assert_array_equal(dropout(0.6, features[2:4], jax.random.key(1), example[2:4]), whole[2:4])
  np.testing.assert_array_equal(dropout(0.6, features[::-1], jax.random.key(1), example[::-1]), whole[::-1])
  assert (dropout(0.6, features, jax.random.key(2), example) != whole).any()


def test_dropout_drops_at_its_rate_and_keeps_the_mean():
  dropped = dropout(0.6, jnp.ones((200, 500)), jax.random.key(0), jnp.arange(200))
  assert set(np.unique(dropped)) == {0.0, np.float32(2.5)}
  deviation = np.sqrt(0.6 * 0.4 / dropped.size)  # of the dropped share
  assert abs(float((dropped == 0).mean()) - 0.6) < 5 * deviation


def test_noise_has_the_moments_of_the_paper():
  """Santurkar et al., Algorithm 1: over draws, of a channel, and of the examples within one draw."""
  x = jnp.stack([jnp.zeros((400, 1, 3)), jnp.ones((400, 1, 3))], 1)  # shift, and shift + scale, of every example
  drawn = jax.vmap(lambda key: add_noise(x, key))(jax.random.split(jax.random.key(0), 500))[:, :, :, 0]
  shift, scale = drawn[:, :, 0], drawn[:, :, 1] - drawn[:, :, 0]  # [draw, example, channel]
  of_channel = shift.mean(1)
  assert abs(float(of_channel.min()) + 0.5) < 0.03 and abs(float(of_channel.max()) - 0.5) < 0.03
  assert float((shift - of_channel[:, None]).std()) == pytest.approx(0.1 / np.sqrt(3), rel=0.02)
  assert float(scale.mean()) == pytest.approx(NOISE.mean_scale, abs=0.005)
  assert float(scale.mean(1).min()) > 0.98 and float(scale.mean(1).max()) < 1.27
  assert float((scale - scale.mean(1, keepdims=True)).std()) == pytest.approx(0.1, rel=0.02)


def test_noise_is_new_at_every_update_and_shared_by_the_positions_of_an_example():
  apply = lambda key, noisy=True: GhostNorm(noisy=noisy).apply(
      variables(), images(), train=True, mutable=['batch_stats'], rngs={'dropout': jax.random.key(key)})[0]
  assert not np.allclose(apply(0), apply(1)) and np.array_equal(apply(0), apply(0))
  plain, noisy = apply(0, noisy=False), apply(0)
  scale = (noisy[:, 1:] - noisy[:, :-1]) / (plain[:, 1:] - plain[:, :-1])  # where the shift has no part
  np.testing.assert_allclose(scale, np.broadcast_to(scale[:, :1, :1], scale.shape), rtol=2e-2)


def test_evaluation_has_the_mean_of_the_noise():
  got = GhostNorm(noisy=True).apply(variables(), images(), train=False)
  np.testing.assert_allclose(got, 1.125 * GhostNorm().apply(variables(), images(), train=False), rtol=1e-6)
