"""Residual networks: Wide-ResNet, ResNet-50 in both forms, and the CIFAR ResNet that ResNet-110 is."""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from zeroinit.methods import Method
from zeroinit.networks.blocks import (
  BlockV1,
  BlockV1OptionA,
  BlockV2,
  Stage,
  basic,
  bottleneck,
  expected_variances,
  projection,
)
from zeroinit.networks.layers import Activation, ConvSpec, check_inits, classify, conv, kernel_initializer
from zeroinit.networks.norms import normalize
from zeroinit.system.errors import UserError


class ResNet(nn.Module, kw_only=True):
  """A stem, stages of residual blocks, and a head; each network below says which.

  Attributes:
    method: a row of METHODS, or one's own.
    num_classes: size of the output.
    dtype: of the computation, jnp.float32 or jnp.bfloat16; or jnp.float64, where jax allows it, as a reference.
      Parameters are float32; statistics and logits at least that.
    remat: see Stage.
    kernel_init: how convolutions start, a row of `layers.KERNEL_INITS`.
    classifier_init: how the classifier starts, a row of `layers.CLASSIFIER_INITS`.

  Raises:
    UserError: an attribute has a value that does not exist.
  """

  method: Method
  num_classes: int
  dtype: Any = jnp.float32
  remat: bool = False
  kernel_init: str = 'he'
  classifier_init: str = 'zero'

  # Each network has a title, `stages` (of every stage, for every block, the convolutions of its branch), and of these:
  block = BlockV2  # decides whether the stem and the head are those of V1 or V2
  stem = ConvSpec(16, 3)
  pools = False  # whether the stem ends with a 3x3 max pool of stride 2

  def __post_init__(self):
    check_inits(self)
    if self.block is not BlockV2 and (self.method.norm == 'evonorm_s0' or self.method.divide_by_std):
      raise UserError('norm=evonorm_s0 and divide_by_std are for pre-activation blocks (V2), in which an activation '
                      'follows every norm and the shortcut passes through none: use wide_resnet or resnet50_v2')
    super().__post_init__()

  @property
  def num_blocks(self):
    """d of the papers: residual blocks, not layers."""
    return sum(map(len, self.stages))

  def multiply_adds(self, image_shape):
    """Multiplications with additions in convolutions and classifier, for one image (height, width, channels)."""
    total, shape = self.stem.multiply_adds(image_shape), self.stem.output_shape(image_shape)
    if self.pools:
      shape = ConvSpec(shape[-1], 3, 2).output_shape(shape)
    for stage in self.stages:
      for convs in stage:
        projected = projection(convs, shape[-1])
        if projected and self.block.projects:
          total += projected.multiply_adds(shape)
        for spec in convs:
          total += spec.multiply_adds(shape)
          shape = spec.output_shape(shape)
    return total + shape[-1] * self.num_classes

  def activations(self, image_shape):
    """Numbers in the outputs of the convolutions of all branches, for one image (height, width, channels)."""
    total, shape = 0, self.stem.output_shape(image_shape)
    if self.pools:
      shape = ConvSpec(shape[-1], 3, 2).output_shape(shape)
    for spec in (spec for stage in self.stages for convs in stage for spec in convs):
      shape = spec.output_shape(shape)
      total += math.prod(shape)
    return total

  @nn.compact
  def __call__(self, images, train, example=None):
    """Logits of images.

    Args:
      images: float32 [batch, height, width, channels], standardized.
      train: whether to use batch statistics and dropout; then 'batch_stats' must be mutable where the method has a
        norm over the batch, and rngs={'dropout': key} given where it has dropout or noise.
      example: int32 [batch], which example each image is; dropout masks depend on it. Default: the place in the batch.

    Returns:
      float32 [batch, num_classes].
    """
    method, before = self.method, self.block is BlockV2  # activation before the branches, or after them
    x = conv(method, self.stem, name='stem', dtype=self.dtype, kernel_init=kernel_initializer(self.kernel_init))(images)
    if not before:
      x = Activation(method.inner, then_conv=False, name='stem_relu')(x, train)
    if self.pools:
      x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    variances = expected_variances(method, self.stages, self.stem.features)
    for i, (convs, of_stage) in enumerate(zip(self.stages, variances, strict=True), 1):
      x = Stage(self.block, convs, method.inner, self.num_blocks, self.dtype, self.remat, self.kernel_init, of_stage,
                name=f'stage{i}')(x, train)
    if before:
      x = Activation(method, name='relu')(x, train)
    elif method.last_norm_only:
      x = normalize(method, x, train, name='norm')
    return classify(self, x, train, example, scalar_bias=not before and method.biases == 'scalar')


SMALL = ((16, 1), (32, 2), (64, 2))  # stages of the networks for small images: channels, and stride


class WideResNet(ResNet, kw_only=True):
  """WRN-depth-width for small images (arXiv:1605.07146): three stages of (depth - 4) / 6 blocks.

  Channels are 16, 32 and 64 times `width`; the second and third stage halve the resolution.

  Attributes:
    depth: convolutional layers, 6n + 4.
    width: 1 or more.
  """

  depth: int
  width: int

  def __post_init__(self):
    _check_depth(self.depth, 4, 'Wide-ResNet')
    if not 1 <= self.width <= 1000:
      raise UserError(f'width is {self.width}; a width from 1 to 1000 is the most that could be built')
    super().__post_init__()

  @property
  def title(self):
    return f'WRN-{self.depth}-{self.width}'

  @property
  def stages(self):
    return tuple(_stage(basic, features * self.width, stride, (self.depth - 4) // 6) for features, stride in SMALL)


class CifarResNet(ResNet, kw_only=True):
  """He et al.'s ResNet for small images (arXiv:1512.03385, section 4.2): three stages of (depth - 2) / 6 V1 blocks.

  Channels are 16, 32 and 64; the second and third stage halve the resolution, and their shortcuts have no parameters.

  Attributes:
    depth: convolutional layers and the classifier, 6n + 2; shortcuts are not counted.
  """

  depth: int = 110
  num_classes: int = 10

  block = BlockV1OptionA

  def __post_init__(self):
    _check_depth(self.depth, 2, 'CIFAR ResNet')
    super().__post_init__()

  @property
  def title(self):
    return f'ResNet-{self.depth}'

  @property
  def stages(self):
    return tuple(_stage(basic, features, stride, (self.depth - 2) // 6) for features, stride in SMALL)


class ResNet50(ResNet, kw_only=True):
  """What both forms have in common: 3, 4, 6 and 3 bottlenecks, of 256 to 2048 channels.

  Attributes:
    bottleneck_stride: which convolution of a bottleneck has the stride, the first ('1x1', the original) or '3x3'.
  """

  num_classes: int = 1000
  bottleneck_stride: str = '1x1'

  stem = ConvSpec(64, 7, 2)
  pools = True

  def __post_init__(self):
    if self.bottleneck_stride not in ('1x1', '3x3'):
      raise UserError(f"bottleneck_stride is {self.bottleneck_stride!r}; it must be '1x1' or '3x3'")
    super().__post_init__()

  @property
  def stages(self):
    layout = partial(bottleneck, strided=self.bottleneck_stride)
    return tuple(_stage(layout, *stage) for stage in ((64, 1, 3), (128, 2, 4), (256, 2, 6), (512, 2, 3)))


class ResNet50V1(ResNet50):
  """The original ResNet-50 (arXiv:1512.03385): every scale of a norm starts at 1."""

  block = BlockV1
  title = 'ResNet-50-V1'


class ResNet50V2(ResNet50):
  """ResNet-50 with pre-activation (arXiv:1603.05027), also of the first block: the stem has no norm and no ReLU."""

  title = 'ResNet-50-V2'


def _stage(layout, width, stride, length):
  """The convolutions of each of `length` blocks, the first of which has the stride."""
  return (layout(width, stride),) + (layout(width, 1),) * (length - 1)


def _check_depth(depth, outside, network):
  """Refuses a depth that is not 6n layers and those `outside` the stages."""
  first = 6 + outside
  if depth < first or (depth - outside) % 6:
    below = max(first, depth - (depth - outside) % 6)
    raise UserError(f'depth is {depth}; a {network} has 6n + {outside} layers: {first}, {first + 6}, {first + 12}, '
                    f'..., near yours {below} or {below + 6}')
  if depth > 1_000_000:
    raise UserError(f'depth is {depth}; a million layers are the most that could be built')


def alphas(params):
  """The multipliers of all blocks in order of depth, a list of floats; empty where the method has none.

  Of a multiplier of one's own that is no single number, the mean, if it is a parameter called alpha.
  """
  found = []
  for stage in (params[name] for name in sorted(params) if name.startswith('stage')):
    for place in ('first', 'rest'):
      alpha = stage.get(place, {}).get('alpha')
      if hasattr(alpha, 'shape'):
        found += np.asarray(alpha).reshape(len(alpha) if place == 'rest' else 1, -1).mean(1).tolist()
  return found
