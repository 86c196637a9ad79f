"""What each field of a `Method` does: norm, biases, alpha, dropout, and the two rules of initialization.

Parameters are named by role: `kernel` and `bias` of a convolution or the classifier, `scale` and `bias` under a module
called `norm`, and the scalars `alpha`, `bias_before`, `bias_after`. `optimizer.py` chooses them by these names.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from zeroinit.convolution import conv_general_dilated
from zeroinit.methods import INVERSE_SQRT_D, Method

ZEROS = nn.initializers.zeros
LECUN = nn.initializers.variance_scaling(1.0, 'fan_in', 'normal')


def he(scale=1.0):
  """He et al. 2015 (arXiv:1502.01852), fan in: standard deviation scale * sqrt(2 / fan_in)."""
  return nn.initializers.variance_scaling(2.0 * scale**2, 'fan_in', 'normal')


class GhostNorm(nn.Module):
  """Batch normalization (arXiv:1502.03167) over groups of examples: ghost batches (Hoffer et al., arXiv:1705.08741).

  y = scale * (x - mean) / sqrt(var + 1e-5) + bias, with the mean and the biased variance of each channel taken over
  the positions and examples of a group. One group of the whole batch is batch normalization, over all devices.

  Evaluation uses running averages, which move once a step by 0.1 towards the mean of the groups' statistics.

  Attributes:
    group_size: examples per group; None, or more than the batch, is one group of the whole batch.

  Raises:
    ValueError: in training, where group_size does not divide a larger batch.
  """

  group_size: int | None = None

  @nn.compact
  def __call__(self, x, train):
    """x: [batch, ..., channels] of any float type; the statistics are float32, the result has x's type."""
    channels = x.shape[-1]
    scale = self.param('scale', nn.initializers.ones, (channels,))
    bias = self.param('bias', ZEROS, (channels,))
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, (channels,))
    running_var = self.variable('batch_stats', 'var', jnp.ones, (channels,))

    group_size = min(self.group_size or len(x), len(x))
    if train and len(x) % group_size:
      raise ValueError(f'a ghost size of {group_size} does not divide a batch of {len(x)}')
    grouped = x.reshape(len(x) // group_size, group_size, *x.shape[1:]) if train else x
    if train:
      examples_and_positions = tuple(range(1, grouped.ndim - 1))
      wide = grouped.astype(jnp.float32)
      mean = wide.mean(examples_and_positions, keepdims=True)
      # Not E[x^2] - E[x]^2: its rounding exceeds the variance of a channel that hardly varies in a small group.
      var = ((wide - mean) ** 2).mean(examples_and_positions, keepdims=True)
      if not self.is_initializing():
        running_mean.value = 0.9 * running_mean.value + 0.1 * mean.reshape(-1, channels).mean(0)
        running_var.value = 0.9 * running_var.value + 0.1 * var.reshape(-1, channels).mean(0)
    else:
      mean, var = running_mean.value, running_var.value
    normalized = (grouped - mean) * (jax.lax.rsqrt(var + 1e-5) * scale) + bias
    return normalized.astype(x.dtype).reshape(x.shape)


class Activation(nn.Module):
  """(norm), (+ scalar bias), ReLU, (+ scalar bias): what comes before every convolution, and before the pooling.

  The two scalars are Fixup's (arXiv:1901.09321, rule 4): one before each ReLU, one before each convolution.
  """

  method: Method

  @nn.compact
  def __call__(self, x, train):
    if self.method.norm != 'none':
      x = GhostNorm(self.method.ghost_size if self.method.norm == 'ghost' else None, name='norm')(x, train)
    if self.method.biases == 'scalar':
      x = x + self.param('bias_before', ZEROS, ()).astype(x.dtype)
    x = nn.relu(x)
    if self.method.biases == 'scalar':
      x = x + self.param('bias_after', ZEROS, ()).astype(x.dtype)
    return x


def conv(method, features, size, stride, *, name, dtype, kernel_init=None):
  """size x size convolution, padded by (size - 1) / 2 on both sides, with a bias per channel where the method has one.

  Symmetric padding is the original's; 'SAME' would put the odd pixel of a strided convolution on the other side.
  """
  return nn.Conv(features, (size, size), (stride, stride), padding=(size - 1) // 2, name=name, dtype=dtype,
                 use_bias=method.biases == 'channel', kernel_init=kernel_init or he(),
                 conv_general_dilated=conv_general_dilated)


def branch_inits(method, convs, num_blocks):
  """Initializers of the `convs` kernels of one residual branch, in a network of num_blocks blocks.

  Fixup's rules 1 and 2 (arXiv:1901.09321, section 3.2): the last kernel zero, the others He * L^(-1/(2m-2)).
  """
  first = he(num_blocks ** (-1 / (2 * convs - 2)) if method.depth_init else 1.0)
  return [first] * (convs - 1) + [ZEROS if method.zero_init else he()]


def initial_alpha(method, num_blocks):
  """The number at which every multiplier starts, or None where the method has no multiplier."""
  return 1 / math.sqrt(num_blocks) if method.alpha == INVERSE_SQRT_D else method.alpha


def dropout(rate, features, key, example):
  """Zeroes each feature with probability `rate` and divides the others by 1 - rate.

  The mask of an example depends on (key, example) alone, not on its place in the batch: so micro-batches and devices
  do not change it. features: [batch, n]; example: int32 [batch], the examples' indices.
  """
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, example)
  keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, features.shape[1:]))(keys)
  return jnp.where(keep, features / (1 - rate), 0)


def classifier(method, num_classes, *, name):
  """Linear layer. It has a bias wherever the method has any bias or norm: 'none' is a network without any."""
  return nn.Dense(num_classes, name=name, use_bias=method.norm != 'none' or method.biases != 'none',
                  kernel_init=ZEROS if method.zero_init else LECUN)
