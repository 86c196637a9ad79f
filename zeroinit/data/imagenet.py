"""ImageNet (ILSVRC 2012), read in place and without TensorFlow: as TFDS stores it, in array_record or TFRecord, or as
image-net.org distributes it, in folders or archives.

It stays on disk: a record is read and decoded when its turn comes. Nothing is ever downloaded.
"""

import contextlib
import os
import pathlib
import re
import resource

import numpy as np
from etils import epath

from zeroinit.data import StreamedDataset
from zeroinit.data.reading import ilsvrc
from zeroinit.data.reading.tfrecord import TFRecords
from zeroinit.system import objects, paths
from zeroinit.system.errors import UserError, first_line

NUM_CLASSES = 1000
IMAGE_SIZE, CHANNELS = None, 3
CROPS = ('random_resized', 'none')
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of the training images, by channel; torchvision's

TRAIN_EXAMPLES = 1_281_167
SPLITS = {'train': TRAIN_EXAMPLES, 'validation': 50_000}  # all test on the validation set: the test set has no labels


def load(data_dir=''):
  """ImageNet.

  Args:
    data_dir: a TFDS directory (which holds imagenet2012/VERSION), or that VERSION itself; an array_record copy may be
      on gs://. Or a folder that holds train and val, or their archives: see `reading.ilsvrc`. Empty: $TFDS_DATA_DIR,
      then ~/tensorflow_datasets.

  Returns:
    A StreamedDataset. A part of ImageNet is said to be one in the title.

  Raises:
    UserError: there is no ImageNet there (the message says what to do), or it is not whole.
  """
  is_tfds, path = _find(data_dir)
  splits = _of_tfds(path) if is_tfds else ilsvrc.splits(path)
  parts = [f'{len(split):,} of {whole:,} {name} images'
           for (name, whole), split in zip(SPLITS.items(), splits, strict=True) if len(split) != whole]
  return StreamedDataset(', '.join(['ImageNet', *parts]), *splits, complete=not parts,
                         order='TFDS' if is_tfds else ilsvrc.ORDER)


def _of_tfds(path):
  import tensorflow_datasets as tfds  # half a second to import

  try:
    builder = tfds.builder_from_directory(path)
    known, file_format = dict(builder.info.splits), builder.info.file_format.value
    files = {name: [file.name for file in split.filepaths] for name, split in known.items()}
  except Exception as error:  # every layer of the readers has its own kinds
    raise UserError(f'{path} cannot be read as a data set of TFDS: {first_line(error)}') from error
  if builder.name != 'imagenet2012':
    raise UserError(f'{path} holds {builder.name}, not imagenet2012')
  there = {file.name for file in path.iterdir()}
  splits = []
  for name in SPLITS:
    if name not in known:
      raise UserError(f'the ImageNet in {path} has no {name} split; it has: {", ".join(known) or "none"}')
    if not known[name].num_examples:
      raise UserError(f'the {name} split of the ImageNet in {path} is empty')
    for file in files[name]:
      if file not in there:
        raise UserError(f'the ImageNet in {path} is not whole: it lacks {file}')
    splits.append(_Split(known[name], file_format))
  return splits


def _find(data_dir):
  """Whether it is a copy of TFDS, and where: the directory of the newest version, or what `ilsvrc.find` has found."""
  if re.match('https?:', data_dir):
    raise UserError(f'data_dir is {data_dir}; ImageNet is read from a folder or from gs://')
  roots = [data_dir] if data_dir else [os.environ.get('TFDS_DATA_DIR', ''), '~/tensorflow_datasets']
  roots = [epath.Path(paths.expanded(root)) for root in roots if root]
  for root in roots:
    objects.check_reachable(root)
    versions = {}
    for file in root.glob('imagenet2012/*/dataset_info.json'):
      if re.fullmatch(r'\d+\.\d+\.\d+', file.parent.name):
        versions[tuple(map(int, file.parent.name.split('.')))] = file.parent
    if versions:
      return True, versions[max(versions)]
    if (root / 'dataset_info.json').exists():
      return True, root
    if '://' not in str(root) and (found := ilsvrc.find(pathlib.Path(root))):
      return False, found
  places = ' and in '.join(str(root) + ('' if root.exists() else ' (which does not exist)') for root in roots)
  raise UserError(f'no ImageNet in {places}: there must be train/, with a folder for each class, and val/; or '
                  f'{ilsvrc.TRAIN_ARCHIVE} and {ilsvrc.VALIDATION_ARCHIVE}; or imagenet2012/VERSION of TFDS, in '
                  'array_record or TFRecord. Nothing is downloaded by itself')


class _Split:
  """A `data.Split`: each record is a tf.train.Example with image, label, and in most copies file_name."""

  def __init__(self, info, file_format):
    from array_record.python.array_record_data_source import ArrayRecordDataSource
    from tensorflow_datasets.proto import tf_example_pb2

    self._parse = tf_example_pb2.Example.FromString
    self._name, self._files, counts = info.name, info.filepaths, np.array(info.shard_lengths)
    self._ends = np.cumsum(counts)
    if file_format == 'array_record':
      _allow_open_files(len(self._files))
      self._records = ArrayRecordDataSource(info.file_instructions)
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
      return features['image'].bytes_list.value[0], features['label'].int64_list.value[0]
    except IndexError:
      raise UserError(f'{self.name_of(index)} lacks its image or its label') from None

  def name_of(self, index):
    name = f'record {index} of imagenet2012 {self._name}'
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
      raise UserError(f'record {index} of imagenet2012 {self._name} cannot be read from {file}: {first_line(error)}'
                      ) from error


def _allow_open_files(files):
  """array_record keeps every file open, and ImageNet has more than the 1024 that many systems allow at first."""
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  if soft != resource.RLIM_INFINITY:
    wanted = soft + files if hard == resource.RLIM_INFINITY else min(soft + files, hard)
    with contextlib.suppress(ValueError, OSError):  # a system that keeps to itself how many it allows
      resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
