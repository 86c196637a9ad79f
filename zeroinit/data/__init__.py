"""Data sets. Each has a file here, named as in `config.dataset`, with its constants and `load(data_dir)`.

`load` gives a `Dataset`, which is whole in memory, or a `StreamedDataset`, which stays on disk. The file says
NUM_CLASSES; TRAIN_EXAMPLES, how many there are when it is complete; IMAGE_SIZE, the height and width of every image, or
None where it can be chosen; CHANNELS; CROPS, the values of `config.crop` that it knows; and MEAN and STD of each
channel, in units of the stored uint8. `reading` has the forms in which they lie on disk.

May import system; knows nothing of who trains on it.
"""

import dataclasses
import hashlib
import importlib
import pkgutil
from typing import Protocol

import numpy as np

from zeroinit.system.errors import UserError, suggestion


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

  @property
  def order(self):
    """What tells copies apart that hold the same images in another order, which makes other batches."""
    return hashlib.sha256(self.train_labels.tobytes()).hexdigest()[:16]

  @property
  def train_examples(self):
    return len(self.train_labels)

  @property
  def test_examples(self):
    return len(self.test_labels)


class Split(Protocol):
  """Encoded examples on disk, any of which can be read at any time, and from several threads at once."""

  def __len__(self): ...

  def __getitem__(self, index):
    """(bytes of the encoded image, its label as int). Raises UserError where the record cannot be read."""

  def name_of(self, index):
    """Words that name the record in an error message."""


@dataclasses.dataclass(frozen=True)
class StreamedDataset:
  """Encoded images on disk, of any sizes; `loader` makes batches of them.

  Attributes:
    title: what to print beside any number that comes from it.
    train, test: each a Split.
    complete: whether these are all images that the data set has.
    order: see `Dataset.order`.
  """

  title: str
  train: Split
  test: Split
  complete: bool = True
  order: str = ''

  @property
  def train_examples(self):
    return len(self.train)

  @property
  def test_examples(self):
    return len(self.test)


def source(name):
  """The module of the data set of that name. Raises UserError, listing the names, where there is none."""
  names = [module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg]
  if name not in names:
    raise UserError(f'unknown dataset {name!r}; there are: {", ".join(sorted(names))}' + suggestion(name, names))
  return importlib.import_module(f'zeroinit.data.{name}')
