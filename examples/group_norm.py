"""Group normalization (Wu & He, arXiv:1803.08494) as a method of one's own: a norm that does not look at the batch.

  python -m zeroinit.main --config=examples/group_norm.py --workdir=runs/group_norm
"""

import flax.linen as nn

from zeroinit.methods import METHODS, Method


def group_norm(module, x, train):
  """x, [batch, height, width, channels], with each example's channels normalized in 8 groups."""
  return nn.GroupNorm(num_groups=8)(x)


METHODS['group_norm'] = Method(norm=group_norm)


def get_config(method='group_norm'):
  from configs import digits  # not above: a run keeps this file, and is to be loaded where there are no configs as well

  return digits.get_config(method)
