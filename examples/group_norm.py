"""Group normalization (Wu & He, arXiv:1803.08494) as a method of one's own: a norm that does not look at the batch.

  python -m zeroinit.main --config=examples/group_norm.py --workdir=runs/group_norm
"""

import flax.linen as nn

from zeroinit.methods import METHODS, Method


def group_norm(module, x, train):
  """x, [batch, height, width, channels], normalized in 8 groups of channels."""
  return nn.GroupNorm(num_groups=8)(x)


METHODS['group_norm'] = Method(norm=group_norm)


def get_config(method='group_norm'):
  from configs import digits  # here, so that a run can be loaded without configs

  return digits.get_config(method)
