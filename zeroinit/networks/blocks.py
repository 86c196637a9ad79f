"""Residual blocks, before (V2) and after (V1) activation, and the scanned stage of them."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from zeroinit.methods import Method
from zeroinit.networks import own_functions
from zeroinit.networks.batch_norm import like
from zeroinit.networks.layers import (
  Activation,
  ConvSpec,
  activate,
  add_scalar,
  branch_inits,
  conv,
  in_numbers,
  initial_alpha,
  kernel_initializer,
)
from zeroinit.networks.norms import normalize


def basic(width, stride):
  """The branch of a narrow block: two 3x3 convolutions."""
  return (ConvSpec(width, 3, stride), ConvSpec(width, 3))


def bottleneck(width, stride, strided='1x1'):
  """The branch of a wide block: 1x1 to `width` channels, 3x3, and 1x1 to four times as many.

  strided: which convolution has the stride, the first ('1x1': arXiv:1512.03385) or the second ('3x3': later codes).
  """
  first, second = (stride, 1) if strided == '1x1' else (1, stride)
  return (ConvSpec(width, 1, first), ConvSpec(width, 3, second), ConvSpec(4 * width, 1))


def projection(convs, channels):
  """The 1x1 convolution for the shortcut around `convs`; None where they keep the shape of an input of `channels`."""
  features, stride = convs[-1].features, max(spec.stride for spec in convs)
  return None if (features, stride) == (channels, 1) else ConvSpec(features, 1, stride)


def expected_variances(method, stages, channels):
  """Of the input of every block at initialization, by arXiv:2101.08692, section 3: a tuple of floats for every stage.

  It is 1 at the start and where a projection replaces the shortcut, and the branch of each block adds its multiplier
  squared; the trained multiplier is not counted, the scale of the sum is. None for every stage where the method does
  not divide by its root.

  Args:
    method: of all blocks.
    stages: of every stage, for every block, its convolutions; see `ResNet`.
    channels: of the input of the first block.
  """
  if not method.divide_by_std:
    return [None] * len(stages)
  num_blocks = sum(map(len, stages))
  added, variance, found = in_numbers(method.branch_scale, num_blocks) ** 2, 1.0, []
  for stage in stages:
    inputs = []
    for convs in stage:
      inputs.append(variance)
      variance = method.merge_scale**2 * (added + (1.0 if projection(convs, channels) else variance))
      channels = convs[-1].features
    found.append(tuple(inputs))
  return found


class Block(nn.Module):
  """What both kinds of block have in common.

  Attributes:
    convs: the convolutions of the branch, in order.
    method: what takes the place of normalization.
    num_blocks: residual blocks in the whole network; Fixup's initialization and alpha = 1/sqrt(d) look at it.
    dtype: of the computation; parameters are float32.
    kernel_init: see `layers.kernel_initializer`.
  """

  convs: tuple[ConvSpec, ...]
  method: Method
  num_blocks: int
  dtype: Any = jnp.float32
  kernel_init: str = 'he'

  projects = True  # where the shape changes, the shortcut is a 1x1 convolution

  def convolve(self, spec, x, *, name, init=None):
    init = init or kernel_initializer(self.kernel_init)
    return conv(self.method, spec, name=name, dtype=self.dtype, kernel_init=init)(x)

  def merge(self, shortcut, h, train, bias):
    """bias: whether the block has a scalar bias after the sum."""
    alpha = self.multiplier(h, train)
    x = self.method.merge_scale * (shortcut + alpha * h)
    return add_scalar(self, 'merge_bias', x) if bias else x

  def multiplier(self, h, train):
    fixed = in_numbers(self.method.branch_scale, self.num_blocks)
    if self.method.alpha is None:
      return fixed
    if 'alpha' in self.method.functions:
      return fixed * own_functions.apply(self.method, 'alpha', self, h, train)
    start = nn.initializers.constant(initial_alpha(self.method, self.num_blocks))
    alpha = self.param('alpha', start, h.shape[-1:] if self.method.alpha_per_channel else ()).astype(h.dtype)
    return fixed * (like(alpha, h) if alpha.ndim else alpha)


class BlockV2(Block):
  """Pre-activation block (arXiv:1603.05027): shortcut + alpha * f(x), where f repeats (norm, ReLU, convolution).

  Where the shape changes, the shortcut is a 1x1 convolution of the first activation, which it shares with the branch.
  """

  @nn.compact
  def __call__(self, x, train, variance=None):
    """x: [batch, height, width, channels] -> [batch, height / stride, width / stride, features].

    variance: that is expected of x, where the method divides by its root.
    """
    method, projected = self.method, projection(self.convs, x.shape[-1])
    inits = branch_inits(method, len(self.convs), self.num_blocks, self.kernel_init)
    shortcut = x
    h = x if variance is None else (x / jnp.sqrt(variance)).astype(x.dtype)
    for i, (spec, init) in enumerate(zip(self.convs, inits, strict=True), 1):
      h = Activation(method, name=f'relu{i}')(h, train)
      if i == 1 and projected:
        shortcut = self.convolve(projected, h, name='shortcut')
      h = self.convolve(spec, h, name=f'conv{i}', init=init)
    return self.merge(shortcut, h, train, method.merge_bias)


class BlockV1(Block):
  """Post-activation block (arXiv:1512.03385): ReLU(shortcut + alpha * f(x)), f being convolutions with ReLUs between.

  A norm follows every convolution, also that of the shortcut where the shape changes. Scalar biases stand as in
  Fixup's code (arXiv:1901.09321): the first is before the first convolution and the projection, but not on the
  shortcut that is the input itself; the last is the merge bias.
  """

  @nn.compact
  def __call__(self, x, train, variance=None):
    """x: [batch, height, width, channels] -> [batch, height / stride, width / stride, features]; no `variance`."""
    method, projected = self.method, projection(self.convs, x.shape[-1])
    inits = branch_inits(method, len(self.convs), self.num_blocks, self.kernel_init)
    scalars = method.biases == 'scalar'
    h = add_scalar(self, 'input_bias', x) if scalars else x
    shortcut = self.project(projected, h, train) if projected else x
    for i, (spec, init) in enumerate(zip(self.convs, inits, strict=True), 1):
      h = self.convolve(spec, h, name=f'conv{i}', init=init)
      if i < len(self.convs):
        h = Activation(method, name=f'relu{i}')(h, train)
    h = normalize(method, h, train, name='norm')
    return activate(self, self.merge(shortcut, h, train, scalars or method.merge_bias))

  def project(self, spec, x, train):
    return normalize(self.method, self.convolve(spec, x, name='shortcut'), train, name='shortcut_norm')


class BlockV1OptionA(BlockV1):
  """Where the shape changes, the shortcut takes every stride-th pixel and appends channels of zeros: no parameters."""

  projects = False

  def project(self, spec, x, train):
    return jnp.pad(x[:, :: spec.stride, :: spec.stride], ((0, 0), (0, 0), (0, 0), (0, spec.features - x.shape[-1])))


class Stage(nn.Module):
  """Blocks at one resolution. The first may change the shape; the others are equal and share one scanned body.

  The parameters of the scanned blocks have a leading axis, so `rest/alpha` is a vector over blocks, and tracing and
  compiling take as long at 1000 layers as at 16.

  Attributes:
    block: BlockV2, or another kind.
    convs: for every block, its convolutions; from the second on they are the same.
    remat: recompute the inside of a block in the backward pass instead of storing it: less memory, more work.
    method, num_blocks, dtype, kernel_init: of every block.
    variances: of the input of every block, see `expected_variances`; None where the method does not look at them.
  """

  block: type[Block]
  convs: tuple[tuple[ConvSpec, ...], ...]
  method: Method
  num_blocks: int
  dtype: Any = jnp.float32
  remat: bool = False
  kernel_init: str = 'he'
  variances: tuple[float, ...] | None = None

  @nn.compact
  def __call__(self, x, train):
    """x: [batch, height, width, channels] -> [batch, height / stride, width / stride, features]."""
    variances = None if self.variances is None else jnp.array(self.variances, jnp.float32)
    of = lambda blocks: None if variances is None else variances[blocks]
    shared = {'method': self.method, 'num_blocks': self.num_blocks, 'dtype': self.dtype,
              'kernel_init': self.kernel_init}
    block = nn.remat(self.block, static_argnums=(2,)) if self.remat else self.block
    x = block(self.convs[0], **shared, name='first')(x, train, of(0))
    if len(self.convs) > 1:
      scan = nn.scan(lambda block, x, variance: (block(x, train, variance), None), length=len(self.convs) - 1,
                     variable_axes={'params': 0, 'batch_stats': 0, 'probes': 0},
                     split_rngs={'params': True, 'dropout': True})
      # Inside a scan the compiler cannot undo remat, so the barriers against that are not needed.
      block = nn.remat(self.block, static_argnums=(2,), prevent_cse=False) if self.remat else self.block
      x, _ = scan(block(self.convs[1], **shared, name='rest'), x, of(slice(1, None)))
    return x
