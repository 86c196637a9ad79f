"""The layers of a network, counted along its depth, and how modules leave behind what probes want to know."""

import dataclasses
import itertools

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict

from zeroinit.training.recipe import image_shape


@dataclasses.dataclass(frozen=True)
class Layer:
  """A convolution or the classifier, and where its parameters are.

  Attributes:
    path: of its module among the parameters; place: in a stack of scanned layers, None outside of one.
  """

  path: tuple[str, ...]
  place: int | None

  @property
  def name(self):
    return '/'.join(self.path) + ('' if self.place is None else f'[{self.place}]')

  def of(self, tree, leaf):
    """Its leaf of that name, in a tree like the parameters."""
    for key in (*self.path, leaf):
      tree = tree[key]
    return np.asarray(tree if self.place is None else tree[self.place])


def along_depth(net, shape):
  """The Layers of a network along its depth, without the convolutions of shortcuts. shape: of one image."""
  axes = {}  # {path: axes of one kernel}, in the order of computation

  def note(call, args, kwargs, context):
    module = context.module
    if isinstance(module, (nn.Conv, nn.Dense)) and context.method_name == '__call__' and module.name != 'shortcut':
      axes[module.path] = 2 + (len(module.kernel_size) if isinstance(module, nn.Conv) else 0)
    return call(*args, **kwargs)

  init = lambda key: net.init(key, np.zeros((1, *shape), np.float32), train=False)
  with nn.intercept_methods(note):
    kernels = flatten_dict(jax.eval_shape(init, jax.random.key(0))['params'])
  for _, block in itertools.groupby(axes, key=lambda path: path[:-1]):
    block = list(block)
    kernel = kernels[(*block[0], 'kernel')]
    stacked = kernel.ndim > axes[block[0]]
    for place in range(kernel.shape[0]) if stacked else (None,):
      yield from (Layer(path, place) for path in block)


def depth(config, net):
  """Layers of a network as its config says it; as they are counted where it is one of one's own that takes no depth."""
  if 'depth' in getattr(net, 'left', ()):
    return len(list(along_depth(net, image_shape(config))))
  return config.depth


def middle(found):
  """Numbers of the layers that stand for the others: of each stage, the first layer of the middle block.

  found: list of all Layers. Where there are no stages, three convolutions evenly along the depth.
  """
  stages = {}
  for number, layer in enumerate(found, 1):
    if layer.path[0].startswith('stage'):
      stages.setdefault(layer.path[0], {}).setdefault((layer.path[:-1], layer.place), number)
  blocks = [list(first_of_block.values()) for first_of_block in stages.values()]
  evenly = sorted({max(1, len(found) * part // 6) for part in (1, 3, 5)})
  return [numbers[(len(numbers) - 1) // 2] for numbers in blocks] or evenly


def leave(module, name, value):
  """Has a module, when called, leave a value under a name in 'probes', the collection that a scan lets through."""
  module.sow('probes', name, value, init_fn=lambda: None, reduce_fn=lambda _, value: value)
