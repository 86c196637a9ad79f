"""A bounded multiplier as a method of one's own: alpha = tanh(a), one for each channel, which cannot exceed 1.

  zeroinit train examples/bounded_alpha.py --workdir=runs/bounded_alpha
  zeroinit study examples/bounded_alpha.py --workdir=runs/bounded_alpha_study
  zeroinit report --workdir=runs/bounded_alpha_study

docs/own_method.md goes through it step by step. Copy the file to begin with.
"""

import flax.linen as nn
import jax.numpy as jnp

from zeroinit import METHODS, Method, load_config


def bounded_alpha(module, branch, train):
  """What branch, [batch, height, width, channels], is multiplied with."""
  return jnp.tanh(module.param('alpha', nn.initializers.zeros, branch.shape[-1:]))


METHODS['bounded_alpha'] = Method(alpha=bounded_alpha, biases='channel')


def get_config(method='bounded_alpha'):
  return load_config(f'digits:{method}')


def sweep():
  """Does a multiplier that cannot exceed 1 stand larger rates? Digits, depth 100."""
  for method in ('bounded_alpha', 'zeroinit_no_dropout', 'batch_norm'):
    for log2_rate in range(-4, 5, 2):
      yield f':{method}', {'depth': 100, 'learning_rate': 2.0**log2_rate}
