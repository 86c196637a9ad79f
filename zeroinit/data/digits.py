"""scikit-learn's handwritten digits: 1,797 real 8x8 scans, which come with the package.

Enough to see the paper's point on a laptop: without normalization depth 100 does not train.
"""

import importlib.util
import pathlib

import numpy as np

from zeroinit.data import Dataset, Info

# Values are 0 ... 16. The first 80 % are for training; the other 360 are the test set.
INFO = Info(num_classes=10, train_examples=1437, image_size=8, channels=1, mean=(4.89,), std=(6.02,))


def load(data_dir=''):
  """The digits in a fixed order, chosen once so that both parts hold all writers. `data_dir` is not looked at."""
  del data_dir
  pixels, labels = _all()
  order = np.random.default_rng(0).permutation(len(labels))
  images = pixels.reshape(-1, INFO.image_size, INFO.image_size, INFO.channels).astype(np.uint8)[order]
  labels, n = labels.astype(np.int32)[order], INFO.train_examples
  return Dataset('scikit-learn digits', images[:n], labels[:n], images[n:], labels[n:])


def _all():
  """What `sklearn.datasets.load_digits` reads, without the time, over a second, that importing scikit-learn takes."""
  package, = importlib.util.find_spec('sklearn').submodule_search_locations
  file = pathlib.Path(package) / 'datasets' / 'data' / 'digits.csv.gz'
  if not file.exists():  # in a version that keeps it elsewhere
    from sklearn.datasets import load_digits
    return load_digits(return_X_y=True)
  rows = np.loadtxt(file, np.uint8, delimiter=',')
  return rows[:, :-1], rows[:, -1]
