"""What stands before an activation: each value that the field `norm` of a `Method` can have.

All take images [batch, height, width, channels] of any float type, compute in at least float32, and give back the type
they were given. Their parameters lie under a module whose name ends in `norm`, by which weight decay knows them. Those
over the examples of a batch are in `batch_norm.py`.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from zeroinit.methods import Method
from zeroinit.networks import own_functions
from zeroinit.networks.batch_norm import EPSILON, ONES, ZEROS, BatchRenorm, GhostNorm, like, wide


def normalize(method, x, train, *, name):
  """x after the norm of the method, or x itself where it has none."""
  if method.norm == 'none':
    return x
  if 'norm' in method.functions:
    return OwnNorm(method, name=name)(x, train)
  if method.norm in ('batch', 'ghost'):
    return GhostNorm(method.ghost_size if method.norm == 'ghost' else None, method.noisy_norm, name=name)(x, train)
  if method.norm == 'batch_renorm':
    return BatchRenorm(name=name)(wide(x), train).astype(x.dtype)
  return _by_example(method, x.shape[-1], name)(wide(x)).astype(x.dtype)


def _by_example(method, channels, name):
  """Modules that look at one example at a time, so training, batch size and devices make no difference to them."""
  groups = math.gcd(method.groups, channels)
  # arXiv:1803.08494: (x - mean) / std of the positions and channels of a group, as of one example; scale and bias of
  # each channel. One group is layer norm, a group for every channel instance norm.
  group_norm = lambda groups: nn.GroupNorm(groups, epsilon=EPSILON, use_fast_variance=False, name=name)
  match method.norm:
    case 'group':
      return group_norm(groups)
    case 'layer':
      return group_norm(1)
    case 'instance':
      return group_norm(channels)
    case 'filter_response':
      return FilterResponseNorm(name=name)
    case 'evonorm_s0':
      return EvoNormS0(groups, name=name)
    case 'dynamic_tanh':
      return DynamicTanh(name=name)
    case 'derf':
      return Derf(name=name)


class FilterResponseNorm(nn.Module):
  """Filter response normalization (Singh & Krishnan, arXiv:1911.09737, equations 1 and 3), which subtracts no mean.

  y = scale * x / sqrt(E[x^2] + 1e-6) + bias, E over the positions of one example and channel.
  """

  @nn.compact
  def __call__(self, x):
    shape = x.shape[-1:]
    scale, bias = self.param('scale', ONES, shape), self.param('bias', ZEROS, shape)
    square = (x**2).mean(tuple(range(1, x.ndim - 1)), keepdims=True)
    return x * lax.rsqrt(square + 1e-6) * like(scale, x) + like(bias, x)


class EvoNormS0(nn.Module):
  """EvoNorm-S0 (Liu et al., arXiv:2004.02967, Table 2): norm and activation in one, found by a search.

  y = scale * x sigmoid(v x) / sqrt(var + 1e-5) + bias, the variance as in group norm; v of each channel starts at 1.
  """

  groups: int

  @nn.compact
  def __call__(self, x):
    shape = x.shape[-1:]
    scale, bias, v = self.param('scale', ONES, shape), self.param('bias', ZEROS, shape), self.param('v', ONES, shape)
    grouped = x.reshape(*x.shape[:-1], self.groups, -1)
    var = grouped.var((*range(1, x.ndim - 1), x.ndim), keepdims=True)
    gated = (x * nn.sigmoid(like(v, x) * x)).reshape(grouped.shape) * lax.rsqrt(var + EPSILON)
    return like(scale, x) * gated.reshape(x.shape) + like(bias, x)


class DynamicTanh(nn.Module):
  """DyT (Zhu et al., arXiv:2503.10622): y = scale * tanh(a x) + bias, with one a that starts at 0.5: no statistics."""

  @nn.compact
  def __call__(self, x):
    shape = x.shape[-1:]
    scale, bias = self.param('scale', ONES, shape), self.param('bias', ZEROS, shape)
    a = self.param('a', nn.initializers.constant(0.5), ())
    return like(scale, x) * jnp.tanh(a * x) + like(bias, x)


class Derf(nn.Module):
  """Derf (Chen et al., arXiv:2512.10938): y = scale * erf(a x + s) + bias, with one a and s that start at 0.5 and 0."""

  @nn.compact
  def __call__(self, x):
    shape = x.shape[-1:]
    scale, bias = self.param('scale', ONES, shape), self.param('bias', ZEROS, shape)
    a, s = self.param('a', nn.initializers.constant(0.5), ()), self.param('s', ZEROS, ())
    return like(scale, x) * lax.erf(a * x + s) + like(bias, x)


class OwnNorm(nn.Module):
  """A norm that is a function of one's own. Whatever it declares lies under the name of this module, which ends in
  `norm`, so that weight decay and the probes know it as part of a norm.
  """

  method: Method

  @nn.compact
  def __call__(self, x, train):
    return own_functions.apply(self.method, 'norm', self, x, train)
