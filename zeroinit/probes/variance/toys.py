"""SK's toy networks (arXiv:2002.10444): residual blocks of one shape, without stem and classifier.

A stage of blocks on images of one pixel is a fully connected network, so little here is new.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from zeroinit.methods import Method
from zeroinit.networks.blocks import Block, BlockV2, Stage, expected_variances
from zeroinit.networks.layers import ConvSpec, branch_inits
from zeroinit.networks.norms import normalize
from zeroinit.system.errors import UserError


class LinearBlock(Block):
  """A pre-activation block without its ReLUs: shortcut + alpha * f(x), where f repeats (norm, linear map)."""

  @nn.compact
  def __call__(self, x, train, variance=None):
    """x: [batch, height, width, channels] -> the same shape. variance: see `BlockV2`."""
    inits = branch_inits(self.method, len(self.convs), self.num_blocks, self.kernel_init)
    h = x if variance is None else x / jnp.sqrt(variance)
    for i, (spec, init) in enumerate(zip(self.convs, inits, strict=True), 1):
      h = normalize(self.method, h, train, name=f'norm{i}')
      h = self.convolve(spec, h, name=f'conv{i}', init=init)
    return self.merge(x, h, train, self.method.merge_bias)


# Block, kernel size, initializer that keeps the second moment of a layer's input, and what to call it.
KINDS = {
    'linear': (LinearBlock, 1, 'lecun', 'Fully connected linear network'),
    'relu': (BlockV2, 1, 'he', 'Fully connected ReLU network'),
    'conv': (BlockV2, 3, 'he', '3x3 convolutional ReLU network'),
}


class Toy(nn.Module):
  """`num_blocks` equal residual blocks.

  Attributes:
    kind: 'linear', 'relu' or 'conv', a row of KINDS.
    method: a row of METHODS, or one's own.
    num_blocks: 1 or more.
    channels: of the input and of every layer: the width of the network.
    layers: of each residual branch.

  Raises:
    UserError: the kind does not exist, or Fixup's rule 2, which rescales all layers of a branch but the last, finds
      only one.
  """

  kind: str
  method: Method
  num_blocks: int
  channels: int
  layers: int = 1

  def __post_init__(self):
    if self.kind not in KINDS:
      raise UserError(f'network is {self.kind!r}; a toy network is one of: {", ".join(KINDS)}')
    if self.method.depth_init and self.layers < 2:
      raise UserError("Fixup's rule 2 (method.depth_init) rescales all layers of a branch but the last, and here a "
                      'branch has one: use --branch_layers=2')
    super().__post_init__()

  @property
  def block(self):
    return KINDS[self.kind][0]

  @property
  def kernel_init(self):
    return KINDS[self.kind][2]

  @property
  def stages(self):
    """As of a ResNet: for every stage, here one, and every block in it the convolutions of the branch."""
    return (((ConvSpec(self.channels, KINDS[self.kind][1]),) * self.layers,) * self.num_blocks,)

  @property
  def title(self):
    layers = f'{self.layers} layer{"" if self.layers == 1 else "s"}'
    return f'{KINDS[self.kind][3]}, {self.num_blocks} blocks of {layers}, {self.channels} channels'

  @nn.compact
  def __call__(self, images, train):
    """images: float32 [batch, height, width, channels] -> the same shape."""
    [variances] = expected_variances(self.method, self.stages, self.channels)
    return Stage(self.block, self.stages[0], self.method.inner, self.num_blocks, kernel_init=self.kernel_init,
                 variances=variances, name='stage1')(images, train)


def inputs(toy, key, batch, image_size):
  """Gaussian inputs of second moment 1: float32 [batch, size, size, channels], of size 1 unless the toy convolves."""
  size = image_size if toy.kind == 'conv' else 1
  return jax.random.normal(key, (batch, size, size, toy.channels), jnp.float32)
