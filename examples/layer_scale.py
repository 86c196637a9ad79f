"""LayerScale (Touvron et al., arXiv:2103.17239) as a method of one's own: a multiplier per channel that starts at 1e-4.

  zeroinit train examples/layer_scale.py --workdir=runs/layer_scale
  zeroinit study examples/layer_scale.py --workdir=runs/layer_scale_study
  zeroinit report --workdir=runs/layer_scale_study

docs/own_method.md goes through it step by step. Copy the file to begin with.
"""

import flax.linen as nn

from zeroinit import METHODS, Method, load_config


def layer_scale(module, branch, train):
  """What branch, [batch, height, width, channels], is multiplied with."""
  return module.param('alpha', nn.initializers.constant(1e-4), branch.shape[-1:])


METHODS['layer_scale'] = Method(alpha=layer_scale, biases='channel')


def get_config(method='layer_scale'):
  return load_config(f'digits:{method}')


def sweep():
  """Is a multiplier per channel better than one per block? Digits, depth 100."""
  for method in ('layer_scale', 'zeroinit_no_dropout', 'batch_norm'):
    for log2_rate in range(-4, 5, 2):
      yield f':{method}', {'depth': 100, 'learning_rate': 2.0**log2_rate}
