"""FILE.py:FUNCTION, a data set of one's own: a function of one's own file that returns arrays.

FUNCTION(data_dir) returns (train images, train labels, test images, test labels): images [n, size, size, channels] of
uint8 or of floats, labels [n] of whole numbers from 0. See examples/random_labels.py.
"""

import os

import numpy as np

from zeroinit import own
from zeroinit.data import Dataset, Info, Look
from zeroinit.data.others import mean_and_std, rounded
from zeroinit.system import paths, users_files
from zeroinit.system.errors import UserError
from zeroinit.system.references import reference

NAMES = ('train images', 'train labels', 'test images', 'test labels')


def look(name, data_dir='', last=None):
  """The Look at it, for which the function is called each time, since what it reads may have changed.

  data_dir: given to the function, with ~ and $VARIABLES expanded.
  """
  del last
  file, function = reference(name)
  arrays = _made(file, function, data_dir)
  images, labels, _, _ = arrays
  mean, std = mean_and_std(images)
  info = Info(int(labels.max()) + 1, len(labels), images.shape[1], images.shape[3], rounded(mean), rounded(std))
  return Look(info, lambda: Dataset(f'{os.path.basename(file)}:{function}', *arrays))


def _made(file, function, data_dir):
  found, name = own.function(file, function, users_files.read(file)), f'{os.path.basename(file)}:{function}'
  with users_files.users_code(name):
    made = found(paths.expanded(data_dir))
  try:
    arrays = [np.asarray(array) for array in made]
    images, labels, *test = arrays
    test_images, test_labels = test
  except Exception as error:  # it may return anything
    raise UserError(f'{name} must return four arrays: {", ".join(NAMES)}') from error
  for what, array, axes, kinds in zip(NAMES, arrays, (4, 1, 4, 1), ('uf', 'iu', 'uf', 'iu'), strict=True):
    wide = array.dtype.kind == 'u' and axes == 4 and array.dtype != np.uint8
    if array.ndim != axes or array.dtype.kind not in kinds or wide:
      raise UserError(f'{name} returns {array.dtype} {list(array.shape)} as {what}; there must be '
                      + ('[n, size, size, channels] of uint8 or floats' if axes == 4 else '[n] of whole numbers'))
  pixels = lambda x: x if x.dtype == np.uint8 else x.astype(np.float32)
  for split, x, y in (('train', images, labels), ('test', test_images, test_labels)):
    if not len(y) or len(x) != len(y):
      raise UserError(f'{name} returns {len(x):,} {split} images and {len(y):,} labels')
    if x.shape[1] != x.shape[2] or x.shape[1:] != images.shape[1:] or not x.size:
      raise UserError(f'{name} returns {split} images of {list(x.shape[1:])}; all must have one size and be square')
    if not np.isfinite(pixels(x)).all():
      raise UserError(f'{name} returns {split} images that are not finite')
    if y.min() < 0 or y.max() > labels.max() or y.max() >= 2**31:
      raise UserError(f'{name} returns {split} labels from {y.min()} to {y.max()}; they must count from 0, and the '
                      f'largest of training is {labels.max()}')
  if labels.max() < 1:
    raise UserError(f'{name} returns one class; there must be two or more')
  return pixels(images), labels.astype(np.int32), pixels(test_images), test_labels.astype(np.int32)
