"""What each field of a `Method` does, but for norms, which have their own file: kernels, activations, biases, dropout.

Parameters are named by role: `kernel`, `gain` and `bias` of a convolution or the classifier, `scale` and `bias` under a
module whose name ends in `norm`, `threshold` of an activation, and the scalars, `alpha` and five biases. `optimizer.py`
chooses them by these names.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from zeroinit.methods import INVERSE_D, INVERSE_SQRT_D, Method
from zeroinit.networks.batch_norm import ONES, ZEROS, like
from zeroinit.networks.convolution import conv_general_dilated
from zeroinit.networks.norms import normalize
from zeroinit.system.errors import UserError

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


def add_scalar(module, name, x):
  """x plus one trained number, a parameter of `module` that starts at 0."""
  return x + module.param(name, ZEROS, ()).astype(x.dtype)


# Times max(x, 0): variance 1 where x is a standard normal (arXiv:2101.08692, section 4.1; its code has 1.71396).
RELU_GAIN = math.sqrt(2 / (1 - 1 / math.pi))


def activate(module, x):
  """x after the activation of the method of `module`, a function of each number. See `Method.activation`."""
  match module.method.activation:
    case 'relu':
      return nn.relu(x)
    case 'scaled_relu':
      return RELU_GAIN * nn.relu(x)
    case 'thresholded':
      return jnp.maximum(x, like(module.param('threshold', ZEROS, x.shape[-1:]).astype(x.dtype), x))
    case 'none':
      return x


class Activation(nn.Module):
  """(norm), (+ scalar bias), activation, (+ scalar bias): what comes before a convolution, and the pooling of a V2.

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
    x = activate(self, add_scalar(self, 'bias_before', x) if scalars else x)
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
  return Conv(spec.features, (spec.size, spec.size), (spec.stride, spec.stride), padding=(spec.size - 1) // 2,
              name=name, dtype=dtype, use_bias=method.biases == 'channel', kernel_init=kernel_init,
              conv_general_dilated=conv_general_dilated, kernels=method.kernels)


class Conv(nn.Conv):
  """A convolution that uses its kernel as `Method.kernels` says; the parameter remains the kernel as it is trained.

  Weight standardization (Qiao et al., arXiv:1903.10520; as in BiT, arXiv:1912.11370): for each output channel
  (w - mean) / sqrt(var + 1e-10). Scaled (Brock et al., arXiv:2101.08692, equation 3), so that it keeps the variance of
  its input: gain * (w - mean) / sqrt(max(var * fan_in, 1e-4)), with a trained gain that starts at 1. So what is applied
  to given parameters is not linear in `kernel`.
  """

  kernels: str = 'plain'

  def param(self, name, *args, **kwargs):
    value = super().param(name, *args, **kwargs)
    if name != 'kernel' or self.kernels == 'plain':
      return value
    inputs = (0, 1, 2)
    centred, var = value - value.mean(inputs, keepdims=True), value.var(inputs, keepdims=True)
    if self.kernels == 'standardized':
      return centred * lax.rsqrt(var + 1e-10)
    gain = like(super().param('gain', ONES, (self.features,)), value)
    return gain * centred * lax.rsqrt(jnp.maximum(var * math.prod(value.shape[:3]), 1e-4))


def branch_inits(method, convs, num_blocks, kernel_init):
  """Initializers of the `convs` kernels of one residual branch, in a network of num_blocks blocks.

  Fixup's rules 1 and 2 (arXiv:1901.09321, section 3.2): the last kernel zero, the others scaled by L^(-1/(2m-2)).
  """
  first = kernel_initializer(kernel_init, num_blocks ** (-1 / (2 * convs - 2)) if method.depth_init else 1.0)
  return [first] * (convs - 1) + [ZEROS if method.zero_init else kernel_initializer(kernel_init)]


def initial_alpha(method, num_blocks):
  """The number at which every multiplier starts, or None where the method has none, or a function of one's own."""
  return None if 'alpha' in method.functions else in_numbers(method.alpha, num_blocks)


def in_numbers(multiplier, num_blocks):
  """A multiplier of a branch, which may be said as a function of d = num_blocks."""
  return {INVERSE_SQRT_D: 1 / math.sqrt(num_blocks), INVERSE_D: 1 / num_blocks}.get(multiplier, multiplier)


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
