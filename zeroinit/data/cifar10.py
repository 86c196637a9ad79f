"""CIFAR-10 from whatever copy is at hand, without TensorFlow: TFDS (array_record or TFRecord), Parquet, or the archive.

Decoded images are kept in a cache, so that only the first start decodes. Nothing is ever downloaded.
"""

import contextlib
import dataclasses
import hashlib
import io
import os
import pathlib
import pickle
import pickletools
import re
import tarfile

import numpy as np

from zeroinit.data import Dataset
from zeroinit.data.reading import cache as _cache
from zeroinit.data.reading import parquet
from zeroinit.system import paths
from zeroinit.system.errors import UserError, first_line

NUM_CLASSES = 10
IMAGE_SIZE, CHANNELS = 32, 3
CROPS = ('reflect', 'zero', 'none')
MEAN, STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)  # of the training images, by channel

TRAIN_EXAMPLES = 50_000
SPLITS = {'train': TRAIN_EXAMPLES, 'test': 10_000}
PARQUET = {'train': ('train',), 'test': ('test', 'validation')}  # how the files of a split begin
ARCHIVES = ('cifar-10-python.tar.gz', 'cifar-10-binary.tar.gz')
FOLDERS = ('cifar-10-batches-py', 'cifar-10-batches-bin')
BATCHES = {'train': [f'data_batch_{i}' for i in range(1, 6)], 'test': ['test_batch']}
LARGEST_BATCH = 10**8  # bytes, three times what one has
MOST_MEMOS = 10**6
DOWNLOAD = 'https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz'


def load(data_dir=''):
  """CIFAR-10.

  Args:
    data_dir: a TFDS directory (which holds cifar10/3.0.2), the folder cifar-10-batches-py or cifar-10-batches-bin or
      the one that holds it, the archive of either or the folder that holds it, or a folder that holds Parquet files.
      Empty: $TFDS_DATA_DIR, then ~/tensorflow_datasets.

  Raises:
    UserError: there is no CIFAR-10 there (the message says what to do), or a file of it is damaged.
  """
  path, by_split = _find(data_dir)
  files = [file for split in by_split.values() for file in split]
  cached = _cache.directory() / f'cifar10-{_checksum(files or _files(path))}.npz'
  with contextlib.suppress(Exception):  # not there yet, or damaged, which has many forms: decode again
    with np.load(cached) as arrays:
      return _checked((str(arrays['title']), *(arrays[name] for name in _ARRAYS)), path)
  if by_split:
    arrays = _read_parquet(by_split)
  else:
    arrays = _read_tfds(path) if (path / 'dataset_info.json').exists() else _read_batches(path)
  dataset = _checked(arrays, path)
  _cache.keep(cached, 'decoded images',
              lambda file: np.savez(file, **dict(zip(('title', *_ARRAYS), arrays, strict=True))))
  return dataset


_ARRAYS = ('train_images', 'train_labels', 'test_images', 'test_labels')


def _find(data_dir):
  """Where it is, and {split: its files} where these are Parquet: the TFDS version directory, the folder of batches, the
  archive, the folder of Parquet files, in the order in which they are preferred.
  """
  if '://' in data_dir:
    raise UserError(f'data_dir is {data_dir}; CIFAR-10 is read from a local folder, so copy it to one first')
  roots = [data_dir] if data_dir else [os.environ.get('TFDS_DATA_DIR', ''), '~/tensorflow_datasets']
  roots = [pathlib.Path(paths.expanded(root)).absolute() for root in roots if root]
  for root in roots:
    if root.is_file():
      return root, {}
    versions = sorted(root.glob('cifar10/*/dataset_info.json'), reverse=True)
    candidates = [version.parent for version in versions]
    candidates += [root] if (root / 'dataset_info.json').exists() else []
    folders = [root, *(root / name for name in FOLDERS)]
    candidates += [folder for folder in folders if list(folder.glob('data_batch_1*'))]
    candidates += [root / name for name in ARCHIVES if (root / name).exists()]
    if candidates:
      return candidates[0], {}
    if by_split := parquet.find(root, PARQUET):
      return root, by_split
  places = ' and in '.join(str(root) + ('' if root.exists() else ' (which does not exist)') for root in roots)
  raise UserError(f'no CIFAR-10 in {places}: neither cifar10/VERSION of TFDS, nor {" or ".join(FOLDERS)}, nor their '
                  f'archive, nor Parquet files of train and test. Download {DOWNLOAD} and pass '
                  '--config.data_dir=THE_FOLDER_IT_IS_IN; nothing is downloaded by itself')


def _files(path):
  return [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())


def _checksum(files):
  """Of their names and contents."""
  total = hashlib.sha256()
  for file in files:
    with open(file, 'rb') as opened:
      total.update(file.name.encode() + hashlib.file_digest(opened, 'sha256').digest())
  return total.hexdigest()[:16]


def _read_tfds(path):
  import tensorflow_datasets as tfds  # a second to import, and not needed from the cache

  try:
    builder = tfds.builder_from_directory(path)
    arrays = []
    for split in SPLITS:
      examples = list(_tfds_examples(builder, split))
      arrays += [np.stack([example['image'] for example in examples]),
                 np.array([example['label'] for example in examples], np.int32)]
  except UserError:
    raise
  except Exception as error:  # every layer of the readers has its own kinds
    raise UserError(f'the CIFAR-10 in {path} cannot be read: {first_line(error)}') from error
  title = 'CIFAR-10'
  if builder.info.features['image'].encoding_format == 'jpeg':  # the real one is lossless
    quality = re.search(r'quality (\d+)', builder.info.description or '')
    title += f', JPEG q{quality[1]} copy' if quality else ', JPEG copy'
  return title, *arrays


def _tfds_examples(builder, split):
  """The examples of a split, in order, each with a decoded image."""
  for file in builder.info.splits[split].filepaths:
    if not os.path.exists(file):
      raise UserError(f'the TFDS copy of CIFAR-10 lacks its file {file}')
  if builder.info.file_format.value == 'tfrecord':
    import grain  # TFDS itself needs TensorFlow for TFRecord

    for file in builder.info.splits[split].filepaths:
      for record in grain.experimental.TFRecordIterDataset(str(file)):
        yield builder.info.features.deserialize_example_np(record)
    return
  source = builder.as_data_source(split)
  for start in range(0, len(source), 1000):
    yield from source.__getitems__(range(start, min(start + 1000, len(source))))


def _read_parquet(by_split):
  arrays, title = [], 'CIFAR-10'
  for split in SPLITS:
    images, labels, lossy = parquet.read(by_split[split])
    arrays += [images, labels]
    title = 'CIFAR-10, JPEG copy' if lossy else title  # the real one is lossless
  return title, *arrays


def _read_batches(path):
  """The original format: a folder, or its archive, of batches in either of its two forms."""
  files = _archive_files(path) if path.is_file() else {file.name: file for file in path.iterdir()}
  arrays = []
  for split in SPLITS:
    parts = []
    for batch in BATCHES[split]:
      for name, read in ((batch, _unpickle), (batch + '.bin', _split_records)):
        if name in files:
          content = files[name] if path.is_file() else files[name].read_bytes()
          parts.append(read(content, path / name))
          break
      else:
        raise UserError(f'the CIFAR-10 in {path} is not whole: it lacks {batch} or {batch}.bin')
    images, labels = zip(*parts, strict=True)
    images = np.concatenate(images).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    arrays += [np.ascontiguousarray(images), np.concatenate(labels).astype(np.int32)]
  return 'CIFAR-10', *arrays


def _archive_files(path):
  """{name: content} of the batches in an archive, to its end, where its checksum is. Nothing is extracted to disk."""
  wanted = {name + end for names in BATCHES.values() for name in names for end in ('', '.bin')}
  files = {}
  try:
    with tarfile.open(path) as archive:
      for member in archive:
        name = os.path.basename(member.name)
        if member.isfile() and name in wanted:
          if name in files or member.size > LARGEST_BATCH:
            raise ValueError(f'{name} is in it twice' if name in files else f'{name} has {member.size:,} bytes')
          files[name] = archive.extractfile(member).read()
      while archive.fileobj.read(1 << 20):
        pass
  except Exception as error:  # each compression has its own kinds
    raise UserError(f'{path} is not an archive of CIFAR-10, or damaged: {first_line(error)}') from error
  return files


def _unpickle(content, path):
  """A batch of cifar-10-batches-py: uint8 [n, 3072] and n labels."""
  try:
    # Python's unpickler makes room for all of them, of which a batch has two for every image.
    memos = (argument for opcode, argument, _ in pickletools.genops(content) if 'PUT' in opcode.name)
    if any(memo > MOST_MEMOS for memo in memos):
      raise ValueError('it asks for too much memory')
    batch = _Unpickler(io.BytesIO(content), encoding='bytes').load()
    images, labels = batch[b'data'].values, np.array(batch[b'labels'])
    if images.shape != (len(labels), 3072) or labels.shape != (len(labels),) or labels.dtype.kind != 'i':
      raise ValueError(f'images {images.shape}, for labels {labels.dtype} {labels.shape}')
  except Exception as error:  # a damaged pickle raises nearly anything
    raise UserError(f'{path} is not a batch of CIFAR-10, or damaged: {first_line(error)}') from error
  return images, labels


class _Unpickler(pickle.Unpickler):
  """Builds lists, dicts and arrays of uint8, since a pickle may otherwise run any code.

  In the place of what NumPy's own pickles name stand classes of this file, which look at what they are given first.
  """

  def find_class(self, module, name):
    found = {'numpy.ndarray': _Kind, 'numpy.dtype': _Kind, '_codecs.encode': _encode,
             'numpy.core.multiarray._reconstruct': _Array, 'numpy._core.multiarray._reconstruct': _Array}
    if f'{module}.{name}' not in found:
      raise pickle.UnpicklingError(f'it asks for {module}.{name}, which a batch of images does not need')
    return found[f'{module}.{name}']


class _Kind:
  """For numpy.dtype, whose pickle names the type of the elements; and for numpy.ndarray, which names nothing more."""

  def __init__(self, *named):
    self.is_uint8 = bool(named) and named[0] in ('u1', b'u1')

  def __setstate__(self, state):
    pass  # the byte order and the like, of which uint8 has none


class _Array:
  """For an array of uint8: `values`, from the shape and the bytes that are its pickled state."""

  def __init__(self, *_):
    self.values = None

  def __setstate__(self, state):
    _, shape, kind, in_columns, content = state
    if not kind.is_uint8:
      raise ValueError('it has arrays of something else than uint8')
    self.values = np.frombuffer(content, np.uint8).reshape(shape, order='F' if in_columns else 'C')


def _encode(text, encoding):
  """For _codecs.encode, as which Python 3 writes bytes into old pickles."""
  if encoding not in ('latin1', b'latin1'):
    raise ValueError(f'it asks for the encoding {encoding!r}')
  return text.encode('latin1')


def _split_records(content, path):
  """A batch of cifar-10-batches-bin: records of one byte of label and 3072 bytes of image."""
  if not content or len(content) % 3073:
    raise UserError(f'{path} is not a batch of CIFAR-10, or cut off: {len(content):,} bytes are not a multiple of 3073')
  records = np.frombuffer(content, np.uint8).reshape(-1, 3073)
  return records[:, 1:], records[:, 0]


def _checked(arrays, path):
  """The Dataset, if it is what CIFAR-10 looks like. A part of it is said to be one in the title."""
  dataset = Dataset(*arrays)
  for split, examples in SPLITS.items():
    images, labels = getattr(dataset, f'{split}_images'), getattr(dataset, f'{split}_labels')
    if images.dtype != np.uint8 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE, CHANNELS):
      raise UserError(f'the {split} images in {path} are {images.dtype} {images.shape[1:]}, not uint8 (32, 32, 3)')
    if not len(labels) or labels.shape != images.shape[:1]:
      raise UserError(f'there are {len(images):,} {split} images and {len(labels):,} labels in {path}')
    if labels.min() < 0 or labels.max() >= NUM_CLASSES:
      raise UserError(f'the {split} labels in {path} run from {labels.min()} to {labels.max()}, not from 0 to 9')
    if len(images) > examples:
      raise UserError(f'{path} has {len(images):,} {split} images, and CIFAR-10 {examples:,}: it is another data set')
    if len(images) != examples:
      title = f'{dataset.title}, {len(images):,} of {examples:,} {split} images'
      dataset = dataclasses.replace(dataset, title=title, complete=False)
  return dataset
