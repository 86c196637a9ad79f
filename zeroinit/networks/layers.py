"""What each field of a `Method` does: norm, biases, alpha, dropout, and the two rules of initialization.

Parameters are named by role: `kernel` and `bias` of a convolution or the classifier, `scale` and `bias` under a module
whose name ends in `norm`, and the scalars, `alpha` and five biases. `optimizer.py` chooses them by these names.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from zeroinit.methods import INVERSE_SQRT_D, Method
from zeroinit.networks import own_functions
from zeroinit.networks.convolution import conv_general_dilated
from zeroinit.system.errors import UserError

ZEROS = nn.initializers.zeros
EPSILON = 1e-5  # added to a variance
TRUNCATED_STDDEV = 0.87962566103423978  # of a standard normal cut at two deviations

# How convolutions start: variance * fan, which fan, distribution. The papers do not say which: see docs/design.md.
KERNEL_INITS = {
    'he': (2.0, 'fan_in', 'normal'),  # He et al. 2015, arXiv:1502.01852: the variance laws of SkipInit assume it
    'he_fan_out': (2.0, 'fan_out', 'normal'),  # the public code of Fixup, and of Wide-ResNets in PyTorch
    'lecun': (1.0, 'fan_in', 'normal'),  # LeCun et al. 1998
    # Stddev 1/sqrt(fan_in) before it is cut at two deviations, and not rescaled: the public code of SkipInit's authors.
    'truncated': (TRUNCATED_STDDEV**2, 'fan_in', 'truncated_normal'),
    'xavier': (1.0, 'fan_avg', 'uniform'),  # Glorot & Bengio 2010; Bjorck et al. (arXiv:1806.02375) used it
}
# How the kernel of the classifier starts, which no ReLU follows.
CLASSIFIER_INITS = {
    'zero': ZEROS,  # Fixup's rule 1; the public code of SkipInit's authors
    'small': nn.initializers.normal(0.01),  # Goyal et al. (arXiv:1706.02677); the public code of NF-ResNets
    'lecun': nn.initializers.variance_scaling(*KERNEL_INITS['lecun']),  # keeps the second moment, as no ReLU follows
    'truncated': nn.initializers.variance_scaling(*KERNEL_INITS['truncated']),  # flax's and TensorFlow's older default
    'xavier': nn.initializers.variance_scaling(*KERNEL_INITS['xavier']),  # as all of Bjorck et al.'s network
}


def kernel_initializer(name, factor=1.0):
  """The initializer of that row of KERNEL_INITS, its standard deviation multiplied by `factor`."""
  scale, fan, distribution = KERNEL_INITS[name]
  return nn.initializers.variance_scaling(scale * factor**2, fan, distribution)


def check_inits(net):
  """Raises UserError where a network's kernel_init or classifier_init has a value that does not exist."""
  for field, rows in (('kernel_init', KERNEL_INITS), ('classifier_init', CLASSIFIER_INITS)):
    if getattr(net, field) not in rows:
      raise UserError(f'{field} is {getattr(net, field)!r}; it must be one of: {", ".join(rows)}')


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
    scale = self.param('scale', nn.initializers.ones, (channels,))
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
        running_mean.value = 0.9 * running_mean.value + 0.1 * mean.reshape(-1, channels).mean(0)
        running_var.value = 0.9 * running_var.value + 0.1 * var.reshape(-1, channels).mean(0)
    else:
      normalized = _scaled(x, running_mean.value, running_var.value, scale, bias)
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
  wide, axes = x.astype(jnp.promote_types(x.dtype, jnp.float32)), tuple(range(1, x.ndim - 1))
  mean = wide.mean(axes, keepdims=True)
  # Not E[x^2] - E[x]^2: its rounding exceeds the variance of a channel that hardly varies in a small group.
  var = ((wide - mean) ** 2).mean(axes, keepdims=True)
  return _scaled(wide, mean, var, scale, bias).astype(x.dtype), mean, var


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
  of_x = _like(scale, x) * inverse * (of_y - average(of_y) - normalized * average(of_y * normalized))
  of_x += (of_mean + 2 * of_var * centred) / count
  return of_x.astype(x.dtype), (of_y * normalized).sum(everything_else), of_y.sum(everything_else)


standardize_groups.defvjp(_forward, _backward)


def _scaled(x, mean, var, scale, bias):
  mean, var, scale, bias = (_like(values, x) for values in (mean, var, scale, bias))
  return (x - mean) * (lax.rsqrt(var + EPSILON) * scale) + bias


def _like(values, x):
  """Values [..., channels] with as many axes as x, said aloud: jax can be set to refuse what NumPy does unasked."""
  return values.reshape((1,) * (x.ndim - values.ndim) + values.shape)


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


class OwnNorm(nn.Module):
  """A norm that is a function of one's own. Whatever it declares lies under the name of this module, which ends in
  `norm`, so that weight decay and the probes know it as part of a norm.
  """

  method: Method

  @nn.compact
  def __call__(self, x, train):
    return own_functions.apply(self.method, 'norm', self, x, train)


def normalize(method, x, train, *, name):
  """x after the norm of the method, or x itself where it has none."""
  if method.norm == 'none':
    return x
  if 'norm' in method.functions:
    return OwnNorm(method, name=name)(x, train)
  return GhostNorm(method.ghost_size if method.norm == 'ghost' else None, method.noisy_norm, name=name)(x, train)


def add_scalar(module, name, x):
  """x plus one trained number, a parameter of `module` that starts at 0."""
  return x + module.param(name, ZEROS, ()).astype(x.dtype)


class Activation(nn.Module):
  """(norm), (+ scalar bias), ReLU, (+ scalar bias): what comes before a convolution, and before the pooling of a V2.

  The two scalars are Fixup's (arXiv:1901.09321, rule 4): one before each ReLU, one before each convolution.

  Attributes:
    then_conv: whether the second scalar has its place here; a V1 stem leaves it to the first block.
  """

  method: Method
  then_conv: bool = True

  @nn.compact
  def __call__(self, x, train):
    scalars = self.method.biases == 'scalar'
    x = normalize(self.method, x, train, name='norm')
    x = nn.relu(add_scalar(self, 'bias_before', x) if scalars else x)
    return add_scalar(self, 'bias_after', x) if scalars and self.then_conv else x


@dataclasses.dataclass(frozen=True)
class ConvSpec:
  """One convolution: size x size, to `features` channels. Shapes are (height, width, channels)."""

  features: int
  size: int
  stride: int = 1

  def output_shape(self, shape):
    height, width, _ = shape
    return -(-height // self.stride), -(-width // self.stride), self.features

  def multiply_adds(self, shape):
    """Multiplications with additions, for one image."""
    height, width, features = self.output_shape(shape)
    return height * width * features * self.size**2 * shape[-1]


def conv(method, spec, *, name, dtype, kernel_init):
  """The convolution, padded by (size - 1) / 2 on both sides, with a bias per channel where the method has one.

  Symmetric padding is the original's; 'SAME' would put the odd pixel of a strided convolution on the other side.
  """
  return nn.Conv(spec.features, (spec.size, spec.size), (spec.stride, spec.stride), padding=(spec.size - 1) // 2,
                 name=name, dtype=dtype, use_bias=method.biases == 'channel', kernel_init=kernel_init,
                 conv_general_dilated=conv_general_dilated)


def branch_inits(method, convs, num_blocks, kernel_init):
  """Initializers of the `convs` kernels of one residual branch, in a network of num_blocks blocks.

  Fixup's rules 1 and 2 (arXiv:1901.09321, section 3.2): the last kernel zero, the others scaled by L^(-1/(2m-2)).
  """
  first = kernel_initializer(kernel_init, num_blocks ** (-1 / (2 * convs - 2)) if method.depth_init else 1.0)
  return [first] * (convs - 1) + [ZEROS if method.zero_init else kernel_initializer(kernel_init)]


def initial_alpha(method, num_blocks):
  """The number at which every multiplier starts, or None where the method has none, or a function of one's own."""
  if 'alpha' in method.functions:
    return None
  return 1 / math.sqrt(num_blocks) if method.alpha == INVERSE_SQRT_D else method.alpha


def dropout(rate, features, key, example):
  """Zeroes each feature with probability `rate` and divides the others by 1 - rate.

  The mask of an example depends on (key, example) alone, not on its place in the batch: so micro-batches and devices
  do not change it. features: [batch, n]; example: int32 [batch], the examples' indices.
  """
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, example)
  keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, features.shape[1:]))(keys)
  return jnp.where(keep, features / (1 - rate), 0)


def classify(net, x, train, example, *, scalar_bias=False):
  """Logits, at least float32: the mean over positions, (+ scalar bias), dropout, and a linear layer.

  The linear layer has a bias wherever the method has any bias or norm: 'none' is a network without any.

  Args:
    net: the flax module that is being built, which has a method, num_classes and classifier_init.
    x: [batch, height, width, channels].
    train, example: see `ResNet`.
    scalar_bias: whether the scalar has its place here, as in Fixup's V1.
  """
  method = net.method
  if x.dtype == jnp.bfloat16:  # on CPUs jax 0.11 and 0.12 join this sum and the convolutions before it into a NaN
    x = lax.optimization_barrier(x)
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))
  if scalar_bias:
    x = add_scalar(net, 'pooled_bias', x)
  if train and method.dropout:
    x = dropout(method.dropout, x, net.make_rng('dropout'), jnp.arange(len(x)) if example is None else example)
  kernel_init = ZEROS if method.zero_init else CLASSIFIER_INITS[net.classifier_init]
  return nn.Dense(net.num_classes, name='classifier', use_bias=method.norm != 'none' or method.biases != 'none',
                  kernel_init=kernel_init)(x)
