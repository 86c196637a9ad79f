"""Norms over the examples of a batch: batch normalization, ghost batches, with noise, and batch renormalization."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

ZEROS, ONES = nn.initializers.zeros, nn.initializers.ones
EPSILON = 1e-5  # added to a variance


class GhostNorm(nn.Module):
  """Batch normalization (arXiv:1502.03167) over groups of examples: ghost batches (Hoffer et al., arXiv:1705.08741).

  y = scale * (x - mean) / sqrt(var + 1e-5) + bias, with the mean and the biased variance of each channel taken over
  the positions and examples of a group. One group of the whole batch is batch normalization, over all devices.

  Evaluation uses running averages, which move once a step by 0.1 towards the mean of the groups' statistics.

  Attributes:
    group_size: examples per group; None, or more than the batch, is one group of the whole batch.
    noisy: whether to distort the result, see `add_noise`.

  Raises:
    ValueError: in training, where group_size does not divide a larger batch.
  """

  group_size: int | None = None
  noisy: bool = False

  @nn.compact
  def __call__(self, x, train):
    """x: [batch, ..., channels] of any float type; the statistics are at least float32, the result has x's type."""
    channels = x.shape[-1]
    scale = self.param('scale', ONES, (channels,))
    bias = self.param('bias', ZEROS, (channels,))
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, (channels,))
    running_var = self.variable('batch_stats', 'var', jnp.ones, (channels,))

    if train:
      group_size = min(self.group_size or len(x), len(x))
      if len(x) % group_size:
        raise ValueError(f'a ghost size of {group_size} does not divide a batch of {len(x)}')
      grouped = x.reshape(len(x) // group_size, group_size, *x.shape[1:])
      normalized, mean, var = standardize_groups(grouped, scale, bias)
      normalized = normalized.reshape(x.shape)
      if not self.is_initializing():
        move(running_mean, mean.reshape(-1, channels).mean(0))
        move(running_var, var.reshape(-1, channels).mean(0))
    else:
      normalized = scaled(x, running_mean.value, running_var.value, scale, bias)
    if self.noisy:
      normalized = add_noise(normalized, self.make_rng('dropout')) if train else NOISE.mean_scale * normalized
    return normalized.astype(x.dtype)


@jax.custom_vjp
def standardize_groups(x, scale, bias):
  """scale * (x - mean) / sqrt(var + EPSILON) + bias, with the mean and the biased variance of every group.

  Its gradient is written out, so that of arrays of the size of x only x itself, in its own type, is kept for it.

  Args:
    x: [groups, examples, ..., channels] of any float type.
    scale, bias: [channels].

  Returns:
    An array like x, and mean and variance, at least float32 [groups, 1, ..., channels].
  """
  values, axes = wide(x), tuple(range(1, x.ndim - 1))
  mean = values.mean(axes, keepdims=True)
  # Not E[x^2] - E[x]^2: its rounding exceeds the variance of a channel that hardly varies in a small group.
  var = ((values - mean) ** 2).mean(axes, keepdims=True)
  return scaled(values, mean, var, scale, bias).astype(x.dtype), mean, var


def _forward(x, scale, bias):
  y, mean, var = standardize_groups(x, scale, bias)
  return (y, mean, var), (x, mean, var, scale)


def _backward(saved, gradients):
  """arXiv:1502.03167, section 3, with the terms of the mean and the variance as results of their own."""
  x, mean, var, scale = saved
  of_y, of_mean, of_var = gradients
  axes, everything_else = tuple(range(1, x.ndim - 1)), tuple(range(x.ndim - 1))
  centred, of_y = x - mean, of_y.astype(mean.dtype)  # float32, also where x is not
  inverse = lax.rsqrt(var + EPSILON)
  normalized = inverse * centred
  count = math.prod(x.shape[axis] for axis in axes)
  average = lambda values: values.mean(axes, keepdims=True)
  of_x = like(scale, x) * inverse * (of_y - average(of_y) - normalized * average(of_y * normalized))
  of_x += (of_mean + 2 * of_var * centred) / count
  return of_x.astype(x.dtype), (of_y * normalized).sum(everything_else), of_y.sum(everything_else)


standardize_groups.defvjp(_forward, _backward)


@dataclasses.dataclass(frozen=True)
class Noise:
  """Constants of `add_noise`: the largest shift and scale of a channel, and how far examples depart from them."""

  shift: float = 0.5
  scale: float = 1.25
  spread: float = 0.1

  @property
  def mean_scale(self):
    """Of which evaluation makes use, where there is no noise."""
    return (1 + self.scale) / 2


NOISE = Noise()


def add_noise(x, key):
  """x with the noise of Santurkar et al. (arXiv:1805.11604, Algorithm 1): s x + m, drawn for example i and channel j.

      mu_j ~ U(-0.5, 0.5),  sigma_j ~ U(1, 1.25),  m_ij ~ U(mu_j - 0.1, mu_j + 0.1),  s_ij ~ N(sigma_j, 0.1^2)

  x: [batch, ..., channels]. The paper leaves open whether the last 0.1 is a variance or, as here, a deviation.
  """
  batch, *between, channels = x.shape
  of_example = lambda values: values.reshape(batch, *[1] * len(between), channels)
  keys = jax.random.split(key, 4)
  shift = jax.random.uniform(keys[0], (1, channels), minval=-NOISE.shift, maxval=NOISE.shift)
  scale = jax.random.uniform(keys[1], (1, channels), minval=1.0, maxval=NOISE.scale)
  shift = shift + jax.random.uniform(keys[2], (batch, channels), minval=-NOISE.spread, maxval=NOISE.spread)
  scale = scale + NOISE.spread * jax.random.normal(keys[3], (batch, channels))
  return of_example(scale) * x + of_example(shift)


class BatchRenorm(nn.Module):
  """Batch renormalization (Ioffe, arXiv:1702.03275, Algorithm 1): batch norm that trains on what it evaluates with.

      y = scale * ((x - mean) / std * r + d) + bias,   r = std / running std,   d = (mean - running mean) / running std,

  no gradient through r and d, which are kept within [1 / R, R] and [-D, D]. R grows from 1 to 3 and D from 0 to 5, in
  the paper from update 5,000 until 40,000 and until 25,000, where averages move by 0.01; here they move by 0.1, so a
  tenth of that. Before it is batch norm. `updates` among the statistics counts.
  """

  @nn.compact
  def __call__(self, x, train):
    shape = x.shape[-1:]
    scale, bias = self.param('scale', ONES, shape), self.param('bias', ZEROS, shape)
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, shape)
    running_var = self.variable('batch_stats', 'var', jnp.ones, shape)
    updates = self.variable('batch_stats', 'updates', jnp.zeros, ())
    if not train:
      return scaled(x, running_mean.value, running_var.value, scale, bias)
    axes = tuple(range(x.ndim - 1))
    mean, var = x.mean(axes), x.var(axes)
    running_std = jnp.sqrt(running_var.value + EPSILON)
    grown = lambda until: jnp.clip((updates.value - 500) / (until - 500), 0, 1)
    largest_r, largest_d = 1 + 2 * grown(4000), 5 * grown(2500)
    r = lax.stop_gradient(jnp.clip(jnp.sqrt(var + EPSILON) / running_std, 1 / largest_r, largest_r))
    d = lax.stop_gradient(jnp.clip((mean - running_mean.value) / running_std, -largest_d, largest_d))
    if not self.is_initializing():
      move(running_mean, mean)
      move(running_var, var)
      updates.value += 1
    return scaled(x, mean, var, scale * r, scale * d + bias)


def move(average, statistic):
  """A running average, a variable of flax, by a tenth of the way towards the statistic of this batch."""
  average.value = 0.9 * average.value + 0.1 * statistic


def wide(x):
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def scaled(x, mean, var, scale, bias):
  mean, var, scale, bias = (like(values, x) for values in (mean, var, scale, bias))
  return (x - mean) * (lax.rsqrt(var + EPSILON) * scale) + bias


def like(values, x):
  """Values [..., channels] with as many axes as x, said aloud: jax can be set to refuse what NumPy does unasked."""
  return values.reshape((1,) * (x.ndim - values.ndim) + values.shape)
