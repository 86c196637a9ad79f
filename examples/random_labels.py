"""A data set of one's own: the digits with random labels (Zhang et al., arXiv:1611.03530), which can only be memorized.

  zeroinit train examples/random_labels.py --workdir=runs/random_labels
  zeroinit study examples/random_labels.py --workdir=runs/random_labels_study

docs/own_data.md says what such a function may return. Copy the file to begin with.
"""

import numpy as np

from zeroinit import data, load_config


def random_labels(data_dir):
  """(train images, train labels, test images, test labels)."""
  digits = data.load('digits', data_dir)
  labels = np.random.default_rng(0).permutation(digits.train_labels)
  return digits.train_images, labels, digits.test_images, digits.test_labels


def get_config(method='zeroinit_no_dropout'):
  config = load_config(f'digits:{method}')
  config.dataset = f'{__file__}:random_labels'
  config.epochs = 20.0
  return config


def sweep():
  """Which methods memorize? Digits with random labels, depth 16."""
  for method in ('none', 'zeroinit_no_dropout', 'batch_norm'):
    for log2_rate in range(-2, 3, 2):
      yield f':{method}', {'learning_rate': 2.0**log2_rate}
