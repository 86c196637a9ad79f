"""RMS norm (Zhang & Sennrich, arXiv:1910.07467) as a method of one's own: a norm that does not look at the batch.

  zeroinit train examples/rms_norm.py --workdir=runs/rms_norm
"""

import flax.linen as nn

from zeroinit import METHODS, Method, load_config


def rms_norm(module, x, train):
  """x, [batch, height, width, channels], divided at each position by its root mean square over channels."""
  return nn.RMSNorm()(x)


METHODS['rms_norm'] = Method(norm=rms_norm)


def get_config(method='rms_norm'):
  return load_config(f'digits:{method}')
