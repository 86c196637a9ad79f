"""Data sets. Those with a name have a file here, named as in `config.dataset`, with INFO and `load(data_dir)`.

`others` has what is read without being known beforehand, and must be looked at: tfds:NAME, folder:PATH, and
FILE.py:FUNCTION. `load` gives a `Dataset`, which is whole in memory, or a `StreamedDataset`, which stays on disk.
`reading` has the forms in which they lie there.

May import system and own; knows nothing of who trains on it.
"""

import dataclasses
import hashlib
import importlib
import os
import pkgutil
from collections.abc import Callable
from typing import Protocol

import numpy as np

from zeroinit.system import json_files, paths, references, users_files
from zeroinit.system.errors import UserError, suggestion


@dataclasses.dataclass(frozen=True)
class Info:
  """What is known of a data set before its images are loaded.

  Attributes:
    num_classes: labels are 0 ... num_classes - 1.
    train_examples: how many there are when it is complete.
    image_size: the height and width of every image; None where images are cut to any size.
    channels: of an image.
    mean, std: of each channel over the training images, in units of what is stored.
  """

  num_classes: int
  train_examples: int
  image_size: int | None
  channels: int
  mean: tuple[float, ...]
  std: tuple[float, ...]

  @classmethod
  def from_json(cls, saved, path):
    """The Info whose fields stand in the JSON file at `path`. Raises UserError where they are not those of one."""
    if not isinstance(saved, dict) or saved.keys() != _IN_JSON.keys():
      raise json_files.damaged(path, f'its info is not {", ".join(_IN_JSON)}')
    json_files.checked(saved, path, _IN_JSON)
    if not len(saved['mean']) == len(saved['std']) == saved['channels']:
      raise json_files.damaged(path, 'its mean and std are not those of so many channels')
    return cls(**saved | {name: tuple(saved[name]) for name in ('mean', 'std')})

  def alike(self, other):
    """Whether both may be of the same images, whatever the last digits of a sum."""
    rest, others_rest = (dataclasses.replace(info, mean=(), std=()) for info in (self, other))
    return rest == others_rest and np.allclose((self.mean, self.std), (other.mean, other.std), rtol=1e-4)

  @property
  def crops(self):
    """The values that `config.crop` can have."""
    if not self.image_size:
      return 'random_resized', 'none'
    # A crop reaches 4 pixels beyond an edge, where those beside it are mirrored, and the edge itself is not.
    return ('reflect', 'zero', 'none') if self.image_size > 4 else ('zero', 'none')


def _is_positive(value):
  return json_files.is_count(value) and value > 0


def _are_numbers(values):
  return isinstance(values, list) and all(map(json_files.is_number, values))


_IN_JSON = {'num_classes': lambda value: _is_positive(value) and value > 1, 'train_examples': _is_positive,
            'image_size': lambda value: value is None or _is_positive(value), 'channels': _is_positive,
            'mean': _are_numbers, 'std': lambda values: _are_numbers(values) and all(value > 0 for value in values)}


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Decoded images, whole, on the host.

  Attributes:
    title: what to print beside any number that comes from it.
    train_images, test_images: [n, height, width, channels], uint8, or float32 where they are one's own.
    train_labels, test_labels: int32 [n], 0 ... num_classes - 1.
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


@dataclasses.dataclass(frozen=True)
class Look:
  """What one look at a data set has found of which nothing is known beforehand.

  Attributes:
    info: its Info.
    load: a function that gives its Dataset or StreamedDataset; None where it need not be there.
    state: text that is another when it has changed; empty where nothing tells.
  """

  info: Info
  load: Callable | None = None
  state: str = ''


def info(name, data_dir=''):
  """The `Info` of the data set of that name.

  Args:
    name: of a file here; or tfds:NAME, folder:PATH, FILE.py:FUNCTION.
    data_dir: where to look for it.

  Raises:
    UserError: there is none of that name (the message lists them), or it must be looked at and cannot be read.
  """
  module, rest = _module(name)
  if not rest:
    return module.INFO
  known_by = _key(name, data_dir)
  if known_by not in _looks:
    _keep(known_by, module.look(rest, data_dir))
  return _looks[known_by].info


def load(name, data_dir=''):
  """The `Dataset` or `StreamedDataset` of that name, as it is now. Raises UserError where it is missing or damaged."""
  module, rest = _module(name)
  known_by = _key(name, data_dir)
  _loaded.pop(known_by, None)
  if not rest:
    return module.load(data_dir)
  look = module.look(rest, data_dir, _looks.pop(known_by, None))
  _keep(known_by, look)
  return look.load()


def loaded(name, data_dir=''):
  """The same as it was when it was first asked for, or last loaded: for whoever reads it again and again."""
  known_by = _key(name, data_dir)
  if known_by not in _loaded:
    _loaded[known_by] = load(name, data_dir)
  return _loaded[known_by]


def remember(name, data_dir, known):
  """Takes an Info that is written down for that of a data set which need not be there any more."""
  if _module(name)[1]:
    _looks.setdefault(_key(name, data_dir), Look(known))


def short(name):
  """The name without directories, as what tells data sets apart: two copies of one are the same."""
  if isinstance(name, str) and name.startswith(FOLDER):
    return FOLDER + os.path.basename(os.path.normpath(name.removeprefix(FOLDER)))
  return references.short(name)


def located(name):
  """The name with the whole path of a folder, for whoever looks from elsewhere."""
  if not name.startswith(FOLDER) or '://' in name:
    return name
  return FOLDER + os.path.abspath(paths.expanded(name.removeprefix(FOLDER)))


FOLDER, TFDS = 'folder:', 'tfds:'
_looks, _loaded = {}, {}  # {key: the last Look}, {key: Dataset or StreamedDataset}


def _key(name, data_dir):
  """What a data set is known by in this process: for one of one's own, also the text of its file."""
  named = references.reference(name)
  return name, data_dir, users_files.read(named[0]) if named and not name.startswith((FOLDER, TFDS)) else ''


def _keep(known_by, look):
  """For who asks next; without its images, where nothing would tell that they have changed."""
  _looks[known_by] = look if look.state else Look(look.info)


def _module(name):
  """The module that reads a data set, and the words that tell it which; these are empty for one with a file here."""
  for prefix in (FOLDER, TFDS):
    if name.startswith(prefix):
      if not name.removeprefix(prefix):
        raise UserError(f'the dataset is {name!r}; a {"path" if prefix == FOLDER else "name"} must follow')
      return importlib.import_module(f'zeroinit.data.others.{prefix[:-1]}'), name.removeprefix(prefix)
  if references.reference(name):
    return importlib.import_module('zeroinit.data.others.function'), name
  names = [module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg]
  if name not in names:
    raise UserError(f'unknown dataset {name!r}; there are: {", ".join(sorted(names))}, tfds:NAME, folder:PATH, '
                    'FILE.py:FUNCTION' + suggestion(name, names))
  return importlib.import_module(f'zeroinit.data.{name}'), ''
