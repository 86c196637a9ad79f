"""Residual networks: the block, the scanned stage, and Wide-ResNet (arXiv:1605.07146)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from zeroinit.errors import UserError
from zeroinit.layers import Activation, branch_inits, classifier, conv, dropout, initial_alpha
from zeroinit.methods import Method


@dataclasses.dataclass(frozen=True)
class Conv:
  """One convolution of a residual branch: size x size, to `features` channels."""

  features: int
  size: int
  stride: int = 1


def basic(features, stride):
  """The branch of Wide-ResNet: two 3x3 convolutions."""
  return (Conv(features, 3, stride), Conv(features, 3))


class BlockV2(nn.Module):
  """Pre-activation block: shortcut + alpha * f(x), where f repeats (norm, ReLU, convolution).

  Where the shape changes, the shortcut is a 1x1 convolution of the first activation, which it shares with the branch.

  Attributes:
    convs: the convolutions of the branch, in order.
    method: what takes the place of normalization.
    num_blocks: residual blocks in the whole network; Fixup's initialization and alpha = 1/sqrt(d) look at it.
    dtype: of the computation; parameters are float32.
  """

  convs: tuple[Conv, ...]
  method: Method
  num_blocks: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x, train):
    """x: [batch, height, width, channels] -> [batch, height / stride, width / stride, features]."""
    method, features = self.method, self.convs[-1].features
    stride = max(spec.stride for spec in self.convs)
    inits = branch_inits(method, len(self.convs), self.num_blocks)
    shortcut = h = x
    for i, (spec, init) in enumerate(zip(self.convs, inits, strict=True), 1):
      h = Activation(method, name=f'relu{i}')(h, train)
      if i == 1 and (x.shape[-1] != features or stride != 1):
        shortcut = conv(method, features, 1, stride, name='shortcut', dtype=self.dtype)(h)
      h = conv(method, spec.features, spec.size, spec.stride, name=f'conv{i}', dtype=self.dtype, kernel_init=init)(h)
    alpha = 1.0
    if method.alpha is not None:
      start = nn.initializers.constant(initial_alpha(method, self.num_blocks))
      alpha = self.param('alpha', start, ()).astype(h.dtype)
    return method.merge_scale * (shortcut + alpha * h)


class Stage(nn.Module):
  """`length` blocks at one resolution. The first may change the shape; the others are equal and share one scanned body.

  The parameters of the scanned blocks have a leading axis, so `rest/alpha` is a vector over blocks, and tracing and
  compiling take as long at 1000 layers as at 16.

  Attributes:
    layout: (features, stride) -> the convolutions of a block.
    remat: recompute the inside of a block in the backward pass instead of storing it: less memory, more work.
    method, num_blocks, dtype: of every block.
  """

  layout: Callable[[int, int], tuple[Conv, ...]]
  features: int
  stride: int
  length: int
  method: Method
  num_blocks: int
  dtype: Any = jnp.float32
  remat: bool = False

  @nn.compact
  def __call__(self, x, train):
    """x: [batch, height, width, channels] -> [batch, height / stride, width / stride, features]."""
    shared = {'method': self.method, 'num_blocks': self.num_blocks, 'dtype': self.dtype}
    block = nn.remat(BlockV2, static_argnums=(2,)) if self.remat else BlockV2
    x = block(self.layout(self.features, self.stride), **shared, name='first')(x, train)
    if self.length > 1:
      scan = nn.scan(lambda block, x, _: (block(x, train), None), length=self.length - 1,
                     variable_axes={'params': 0, 'batch_stats': 0}, split_rngs={'params': True})
      # Inside a scan the compiler cannot undo remat, so the barriers against that are not needed.
      block = nn.remat(BlockV2, static_argnums=(2,), prevent_cse=False) if self.remat else BlockV2
      x, _ = scan(block(self.layout(self.features, 1), **shared, name='rest'), x, None)
    return x


STAGES = ((16, 1), (32, 2), (64, 2))  # of a Wide-ResNet: channels at width 1, and stride


class WideResNet(nn.Module):
  """WRN-depth-width for small images (arXiv:1605.07146): three stages of (depth - 4) / 6 blocks.

  Channels are 16, 32 and 64 times `width`; the second and third stage halve the resolution.

  Attributes:
    depth: convolutional layers, 6n + 4.
    width: 1 or more.
    method: a row of METHODS, or one's own.
    num_classes: size of the output.
    dtype: of the computation, jnp.float32 or jnp.bfloat16. Parameters, statistics and logits are float32.
    remat: see Stage.

  Raises:
    UserError: depth or width is none that this network has.
  """

  depth: int
  width: int
  method: Method
  num_classes: int
  dtype: Any = jnp.float32
  remat: bool = False

  def __post_init__(self):
    if self.depth < 10 or (self.depth - 4) % 6:
      below = max(10, self.depth - (self.depth - 4) % 6)
      raise UserError(f'depth is {self.depth}; a Wide-ResNet has 6n + 4 layers: 10, 16, 22, ..., near yours '
                      f'{below} or {below + 6}')
    if not 1 <= self.width <= 1000 or self.depth > 1_000_000:
      raise UserError(f'depth is {self.depth} and width is {self.width}; a width from 1 to 1000 and a depth of up to a '
                      'million are the most that could be built')
    super().__post_init__()

  @property
  def num_blocks(self):
    """d of the papers: residual blocks, not layers."""
    return (self.depth - 4) // 2

  @property
  def title(self):
    return f'WRN-{self.depth}-{self.width}'

  def multiply_adds(self, image_shape):
    """Multiplications with additions in convolutions and classifier, for one image (height, width, channels)."""
    height, width, channels = image_shape
    total = height * width * 9 * channels * 16
    channels = 16
    for features, stride in STAGES:
      features *= self.width
      for block in range(self.num_blocks // 3):
        specs = basic(features, stride if block == 0 else 1)
        inputs = channels
        height, width = -(-height // specs[0].stride), -(-width // specs[0].stride)
        for spec in specs:
          total += height * width * spec.size**2 * inputs * spec.features
          inputs = spec.features
        if channels != features or specs[0].stride != 1:
          total += height * width * channels * features  # the shortcut
        channels = features
    return total + channels * self.num_classes

  @nn.compact
  def __call__(self, images, train, example=None):
    """Logits of images.

    Args:
      images: float32 [batch, height, width, channels], standardized.
      train: whether to use batch statistics and dropout; then 'batch_stats' must be mutable where the method has a
        norm, and rngs={'dropout': key} given where it has dropout.
      example: int32 [batch], which example each image is; dropout masks depend on it. Default: the place in the batch.

    Returns:
      float32 [batch, num_classes].
    """
    method = self.method
    x = conv(method, 16, 3, 1, name='stem', dtype=self.dtype)(images)
    for i, (features, stride) in enumerate(STAGES, 1):
      x = Stage(basic, features * self.width, stride, self.num_blocks // 3, method, self.num_blocks, self.dtype,
                self.remat, name=f'stage{i}')(x, train)
    x = Activation(method, name='relu')(x, train)
    x = x.astype(jnp.float32).mean((1, 2))
    if train and method.dropout:
      x = dropout(method.dropout, x, self.make_rng('dropout'), jnp.arange(len(x)) if example is None else example)
    return classifier(method, self.num_classes, name='classifier')(x)


def alphas(params):
  """The multipliers of all blocks in order of depth, a list of floats; empty where the method has none."""
  blocks = [params[stage][place] for stage in sorted(params) if stage.startswith('stage')
            for place in ('first', 'rest') if place in params[stage]]
  return [float(alpha) for block in blocks if 'alpha' in block for alpha in np.atleast_1d(block['alpha'])]
