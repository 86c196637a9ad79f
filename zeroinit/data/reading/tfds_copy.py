"""A data set as TensorFlow Datasets prepares it, in array_record or TFRecord, read without TensorFlow."""

import contextlib
import dataclasses
import os
import re
import resource
from collections.abc import Callable

import numpy as np

from zeroinit.data.reading.tfrecord import TFRecords
from zeroinit.system import paths
from zeroinit.system.errors import UserError, first_line


@dataclasses.dataclass(frozen=True)
class Copy:
  """What a directory of TFDS holds.

  Attributes:
    name: of the data set, with its version.
    num_classes: how many; 0 where it does not say.
    channels: of its images.
    jpeg: whether they are stored as JPEG.
    description: in TFDS's words.
    splits: their names.
    split: a function that gives the `Records` of one. Raises UserError where there is none of that name, or it is empty
      or not whole, whatever the others are.
  """

  name: str
  num_classes: int
  channels: int
  jpeg: bool
  description: str
  splits: tuple[str, ...]
  split: Callable


def roots(data_dir):
  """The folders to look in, as text: that of the user, or those that TFDS itself looks in."""
  named = [data_dir] if data_dir else [os.environ.get('TFDS_DATA_DIR', ''), '~/tensorflow_datasets']
  return [paths.expanded(root) for root in named if root]


def find(root, name):
  """The directory of the newest version of a data set below a folder, or the folder itself where it is such a one.

  Args:
    root: epath.Path or pathlib.Path.
    name: such as 'cifar10', 'imagenet_v2/matched-frequency' or 'cifar10/3.0.2'.

  Returns:
    A path, or None where there is none.
  """
  versions = {}
  for file in root.glob(f'{name}/*/dataset_info.json'):
    if re.fullmatch(r'\d+\.\d+\.\d+', file.parent.name):
      versions[tuple(map(int, file.parent.name.split('.')))] = file.parent
  if versions:
    return versions[max(versions)]
  return next((path for path in (root / name, root) if (path / 'dataset_info.json').exists()), None)


def read(path, name):
  """The Copy in a directory that `find` has found.

  name: of the data set that it must be.

  Raises:
    UserError: it is damaged, another data set, or its examples are not images with one label each.
  """
  import tensorflow_datasets as tfds  # half a second to import

  try:
    builder = tfds.builder_from_directory(path)
    info = builder.info
    known, file_format = dict(info.splits), info.file_format.value
    files = {split: [file.name for file in of.filepaths] for split, of in known.items()}
    images = [field for field, feature in info.features.items() if isinstance(feature, tfds.features.Image)]
    labels = [field for field, feature in info.features.items() if isinstance(feature, tfds.features.ClassLabel)]
  except Exception as error:  # every layer of the readers has its own kinds
    raise UserError(f'{path} cannot be read as a data set of TFDS: {first_line(error)}') from error
  if builder.name != name:
    raise UserError(f'{path} holds {builder.name}, not {name}')
  # Of several labels, such as coarse and fine ones, the one that is called so.
  image = next(iter(images), None)
  label = 'label' if 'label' in info.features else next(iter(labels), None)
  if not (image and label):
    raise UserError(f'the {name} of TFDS in {path} is no set of images with classes; its examples have: '
                    f'{", ".join(info.features)}')
  there = {file.name for file in path.iterdir()}

  def records(split):
    if split not in known:
      raise UserError(f'the {name} in {path} has no {split} split; it has: {", ".join(known) or "none"}')
    if not known[split].num_examples:
      raise UserError(f'the {split} split of the {name} in {path} is empty')
    for file in files[split]:
      if file not in there:
        raise UserError(f'the {name} in {path} is not whole: it lacks {file}')
    return Records(known[split], file_format, name, image, label)

  feature, classes = info.features[image], getattr(info.features[label], 'num_classes', None)
  return Copy(f'{name} {info.version}', classes or 0, feature.shape[-1] or 3, feature.encoding_format == 'jpeg',
              info.description or '', tuple(known), records)


class Records:
  """A `data.Split`: each record is a tf.train.Example with an image, a label, and in some copies file_name."""

  def __init__(self, info, file_format, name, image, label):
    """name: of the data set; image, label: of the fields."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource
    from tensorflow_datasets.proto import tf_example_pb2

    self._parse = tf_example_pb2.Example.FromString
    self._name, self._image, self._label = f'{name} {info.name}', image, label
    self._files, counts = info.filepaths, np.array(info.shard_lengths)
    self._ends = np.cumsum(counts)
    if file_format == 'array_record':
      _allow_open_files(len(self._files))
      try:
        self._records = ArrayRecordDataSource(info.file_instructions)
      except Exception as error:  # as above
        raise UserError(f'{self._files[0]} or its like cannot be read: {first_line(error)}') from error
    elif file_format != 'tfrecord':
      raise UserError(f'the files beside {self._files[0]} are {file_format}, not array_record or tfrecord')
    elif '://' in str(self._files[0]):
      raise UserError(f'{self._files[0]} is a TFRecord file; from a bucket only array_record is read: copy it to disk')
    else:
      self._records = TFRecords(self._files, counts)

  def __len__(self):
    return int(self._ends[-1])

  def __getitem__(self, index):
    features = self._features(index)
    try:
      return features[self._image].bytes_list.value[0], features[self._label].int64_list.value[0]
    except IndexError:
      raise UserError(f'{self.name_of(index)} lacks its image or its label') from None

  def name_of(self, index):
    name = f'record {index} of {self._name}'
    with contextlib.suppress(Exception):
      return f'{name} ({self._features(index)["file_name"].bytes_list.value[0].decode()})'
    return name

  def _features(self, index):
    if not 0 <= index < len(self):
      raise IndexError(index)
    try:
      return self._parse(self._records[int(index)]).features.feature
    except Exception as error:  # every layer of the readers has its own kinds
      file = self._files[np.searchsorted(self._ends, index, side='right')]
      raise UserError(f'record {index} of {self._name} cannot be read from {file}: {first_line(error)}') from error


def _allow_open_files(files):
  """array_record keeps every file open, and ImageNet has more than the 1024 that many systems allow at first."""
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  if soft != resource.RLIM_INFINITY:
    wanted = soft + files if hard == resource.RLIM_INFINITY else min(soft + files, hard)
    with contextlib.suppress(ValueError, OSError):  # a system that keeps to itself how many it allows
      resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
