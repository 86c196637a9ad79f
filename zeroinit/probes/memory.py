"""Whether a probe fits into memory, asked before anything is computed."""

import os

import jax
import numpy as np

from zeroinit.system.errors import UserError


def need(title, size):
  """Raises UserError where a probe of so many bytes does not fit into the memory of the device."""
  device = jax.devices()[0]
  there = (device.memory_stats() or {}).get('bytes_limit')
  if there is None and hasattr(os, 'sysconf'):
    there = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  if there is not None and size > there:
    raise UserError(f'{title} needs about {size / 1e9:,.0f} GB, and there are {there / 1e9:,.0f} GB of memory: use '
                    'fewer layers, a narrower network, or a smaller --batch_size')


def need_to_train(config, recipe):
  """Raises UserError where updates of a network do not fit into memory: parameters, momentum, gradient, activations."""
  parameters = parameter_bytes(recipe.net, recipe.image_shape)
  need(recipe.net.title, 5 * parameters + activation_bytes(recipe, config.batch_size))


def parameter_bytes(net, shape):
  """Bytes of a network's parameters. shape: of one input."""
  init = lambda key: net.init(key, np.zeros((1, *shape), np.float32), train=False)
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0))))


def activation_bytes(recipe, examples):
  """Bytes that a backward pass through so many examples looks back on, about.

  Each convolution keeps its input and, of the ReLU or norm before it, as much again; with remat a third is left.
  """
  floats = 2 * float(recipe.net.activations(recipe.image_shape)) * examples
  return floats * np.dtype(recipe.net.dtype).itemsize / (3 if getattr(recipe.net, 'remat', False) else 1)
