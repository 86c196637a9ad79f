"""Data sets. Each has a file here, named as in `config.dataset`, with its constants and `load(data_dir) -> Dataset`.

The file says NUM_CLASSES, TRAIN_EXAMPLES (how many there are when it is complete), IMAGE_SHAPE (height, width,
channels), and MEAN and STD of each channel, in units of the stored uint8.
"""

import dataclasses
import importlib
import pkgutil

import numpy as np

from zeroinit.errors import UserError


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Decoded images, whole, on the host.

  Attributes:
    title: what to print beside any number that comes from it.
    train_images, test_images: uint8 [n, height, width, channels].
    train_labels, test_labels: int32 [n], 0 ... NUM_CLASSES - 1.
    complete: whether these are all images that the data set has.
  """

  title: str
  train_images: np.ndarray
  train_labels: np.ndarray
  test_images: np.ndarray
  test_labels: np.ndarray
  complete: bool = True


def source(name):
  """The module of the data set of that name. Raises UserError, listing the names, where there is none."""
  names = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith('_')]
  if name not in names:
    raise UserError(f'unknown dataset {name!r}; there are: {", ".join(sorted(names))}')
  return importlib.import_module(f'zeroinit.data.{name}')
