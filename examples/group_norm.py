"""Group normalization (Wu & He, arXiv:1803.08494) as a method of one's own: a norm that does not look at the batch.

  zeroinit train examples/group_norm.py --workdir=runs/group_norm
"""

import flax.linen as nn

from zeroinit import METHODS, Method, load_config


def group_norm(module, x, train):
  """x, [batch, height, width, channels], normalized in 8 groups of channels."""
  return nn.GroupNorm(num_groups=8)(x)


METHODS['group_norm'] = Method(norm=group_norm)


def get_config(method='group_norm'):
  return load_config(f'digits:{method}')
