"""A network of one's own: convolutions without shortcuts, for methods about norms, biases and dropout.

  zeroinit train examples/plain_network.py --workdir=runs/plain
  zeroinit study examples/plain_network.py --workdir=runs/plain_study

docs/own_network.md says what is asked of such a network. Copy the file to begin with.
"""

from typing import Any

import flax.linen as nn

from zeroinit import Method, load_config
from zeroinit.networks.layers import Activation, ConvSpec, classify, conv, kernel_initializer


class Plain(nn.Module):
  """`depth` layers, the last of which is the classifier; width of 16, 32 and 64 times `width` channels."""

  method: Method
  num_classes: int
  depth: int
  width: int
  dtype: Any
  kernel_init: str
  classifier_init: str

  @nn.compact
  def __call__(self, images, train, example=None):
    x = images
    for i in range(self.depth - 1):
      stage, begins = divmod(3 * i, self.depth - 1)
      halve = stage > 0 and begins < 3
      spec = ConvSpec(16 * 2**stage * self.width, 3, 2 if halve else 1)  # channels, size, stride
      x = conv(self.method, spec, name=f'conv{i + 1}', dtype=self.dtype,
               kernel_init=kernel_initializer(self.kernel_init))(x)
      x = Activation(self.method, name=f'relu{i + 1}')(x, train)  # with the norm of the method before it
    return classify(self, x, train, example)  # mean over positions, dropout and linear layer, as the method has them


def get_config(method='batch_norm'):
  config = load_config(f'digits:{method}')
  config.network = f'{__file__}:Plain'
  return config


def sweep():
  """What do norms do without shortcuts? Digits, depth 10 and 28."""
  for method in ('biases', 'batch_norm'):
    for depth in (10, 28):
      for log2_rate in range(-4, 3, 2):
        yield f':{method}', {'depth': depth, 'learning_rate': 2.0**log2_rate}
