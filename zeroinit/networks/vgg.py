"""VGG: a network without residual branches, in which Santurkar et al. (arXiv:1805.11604) looked at batch norm."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from zeroinit.methods import Method
from zeroinit.networks.layers import Activation, ConvSpec, check_inits, classify, conv, kernel_initializer
from zeroinit.system.errors import UserError

# Channels of the convolutions between two poolings, of the network with 16 layers (arXiv:1409.1556).
GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG(nn.Module):
  """The 13 convolutions of VGG-16, each followed by (norm) and ReLU, and one linear layer instead of three.

  A 2x2 max pool ends each group, while there is more than a pixel; images of 32 pixels end as one. The standard network
  is the row 'biases' of METHODS, with batch norm the row 'batch_norm'.

  Attributes:
    method: a row of METHODS that speaks of no residual branches.
    num_classes: size of the output.
    dtype: of the computation; parameters are float32, statistics and logits at least that.
    kernel_init, classifier_init: see `ResNet`.

  Raises:
    UserError: the method is for residual branches, or an attribute has a value that does not exist.
  """

  method: Method
  num_classes: int
  dtype: Any = jnp.float32
  kernel_init: str = 'he'
  classifier_init: str = 'zero'

  title = 'VGG-16'

  def __post_init__(self):
    check_inits(self)
    not_of_branches = ('norm', 'ghost_size', 'groups', 'noisy_norm', 'activation', 'kernels', 'biases', 'dropout',
                       'scalar_rate', 'clip', 'code')
    plain = Method(**{field: getattr(self.method, field) for field in not_of_branches})
    if plain != self.method or self.method.biases == 'scalar':
      raise UserError('a VGG has no residual branches, so of the rows of METHODS it takes those that are about norms, '
                      'kernels, activations, biases per channel, dropout and clipping only, such as biases (the '
                      'standard VGG) and batch_norm')
    super().__post_init__()

  @property
  def convs(self):
    """The convolutions, in order."""
    return tuple(ConvSpec(features, 3) for group in GROUPS for features in group)

  def multiply_adds(self, image_shape):
    """Multiplications with additions in convolutions and classifier, for one image (height, width, channels)."""
    of_convs = sum(spec.multiply_adds(shape) for spec, shape in zip(self.convs, self._inputs(image_shape), strict=True))
    return of_convs + self.convs[-1].features * self.num_classes

  def activations(self, image_shape):
    """Numbers in the outputs of the convolutions, for one image (height, width, channels)."""
    return sum(math.prod(spec.output_shape(shape))
               for spec, shape in zip(self.convs, self._inputs(image_shape), strict=True))

  def _inputs(self, shape):
    """The shape that enters each convolution."""
    for spec, last in zip(self.convs, _lasts(), strict=True):
      yield shape
      height, width, features = spec.output_shape(shape)
      shape = (height // 2, width // 2, features) if last and height > 1 else (height, width, features)

  @nn.compact
  def __call__(self, images, train, example=None):
    """Logits of images: see `ResNet`."""
    method, x = self.method, images
    for i, (spec, last) in enumerate(zip(self.convs, _lasts(), strict=True), 1):
      x = conv(method, spec, name=f'conv{i}', dtype=self.dtype, kernel_init=kernel_initializer(self.kernel_init))(x)
      x = Activation(method, name=f'relu{i}')(x, train)
      if last and x.shape[1] > 1:
        x = nn.max_pool(x, (2, 2), (2, 2))
    return classify(self, x, train, example)


def _lasts():
  """For every convolution, whether it is the last of its group."""
  return [i == len(group) for group in GROUPS for i in range(1, len(group) + 1)]
