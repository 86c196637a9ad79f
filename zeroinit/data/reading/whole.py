"""A data set that is small and known: found in whatever form is at hand, decoded whole, checked, kept in the cache.

TFDS (array_record or TFRecord), Parquet, or as its authors distribute it. Nothing is ever downloaded.
"""

import contextlib
import dataclasses
import hashlib
import pathlib
import re
from typing import Protocol

import numpy as np

from zeroinit.data import Dataset, Info
from zeroinit.data.reading import cache, decoding, parquet, tfds_copy
from zeroinit.system.errors import UserError

PARQUET = {'train': ('train',), 'test': ('test', 'validation')}  # how the files of a split begin
_ARRAYS = ('train_images', 'train_labels', 'test_images', 'test_labels')


class Original(Protocol):
  """The form in which its authors distribute a data set.

  Attributes:
    words: what it is, for 'there is neither ... nor ...'.
    download: its address.
  """

  words: str
  download: str

  def find(self, folder):
    """Where it is in a folder, a pathlib.Path; or None."""

  def files(self, path):
    """The files of what `find` has found, or a file of it that the user has named."""

  def read(self, path):
    """(train images, train labels, test images, test labels) of the same. Raises UserError where it is damaged."""


@dataclasses.dataclass(frozen=True)
class Whole:
  """What is known of such a data set.

  Attributes:
    name: TFDS's.
    title: to print.
    info: an Info; test_examples: how many test images there are.
    original: an Original.
    a_class: what one of its classes is called, and none of a data set like it.
    configuration: which one is meant of those that a hub may have in one download.
  """

  name: str
  title: str
  info: Info
  test_examples: int
  original: Original
  a_class: str
  configuration: str = ''

  def load(self, data_dir=''):
    """The Dataset; a part of it is said to be one in the title.

    Args:
      data_dir: a TFDS directory (which holds NAME/VERSION); or a folder that holds the original form, or that itself;
        or one that holds Parquet files. Empty: $TFDS_DATA_DIR, then ~/tensorflow_datasets.

    Raises:
      UserError: it is not there (the message says what to do), or a file of it is damaged.
    """
    form, path, files = self._find(data_dir)
    cached = cache.directory() / f'{self.name}-{_checksum(files)}.npz'
    with contextlib.suppress(Exception):  # not there yet, or damaged, which has many forms: decode again
      with np.load(cached) as arrays:
        return self._checked((str(arrays['title']), *(arrays[name] for name in _ARRAYS)), path)
    arrays = getattr(self, f'_read_{form}')(path)
    dataset = self._checked(arrays, path)
    cache.keep(cached, 'decoded images',
               lambda file: np.savez(file, **dict(zip(('title', *_ARRAYS), arrays, strict=True))))
    return dataset

  def _find(self, data_dir):
    """(form, where it is, its files), in the order in which the forms are preferred."""
    if '://' in data_dir:
      raise UserError(f'data_dir is {data_dir}; {self.title} is read from a local folder, so copy it to one first')
    roots = [pathlib.Path(root).absolute() for root in tfds_copy.roots(data_dir)]
    for root in roots:
      if root.is_file():
        return 'original', root, self.original.files(root)
      if found := tfds_copy.find(root, self.name):
        return 'tfds', found, sorted(file for file in found.iterdir() if file.is_file())
      if found := self.original.find(root):
        return 'original', found, self.original.files(found)
      if by_split := parquet.find(root, PARQUET, self.configuration):
        return 'parquet', root, [file for split in by_split.values() for file in split]
    places = ' and in '.join(str(root) + ('' if root.exists() else ' (which does not exist)') for root in roots)
    raise UserError(f'no {self.title} in {places}: neither {self.name}/VERSION of TFDS, nor {self.original.words}, nor '
                    f'Parquet files of train and test. Download {self.original.download} and pass '
                    '--config.data_dir=THE_FOLDER_IT_IS_IN; nothing is downloaded by itself')

  def _read_tfds(self, path):
    copy = tfds_copy.read(path, self.name)
    splits = [copy.split(name) for name in ('train', 'test')]
    arrays = [array for split in splits for array in decoding.decoded(split, copy.channels)]
    quality = re.search(r'quality (\d+)', copy.description)
    return self._title_of(copy.jpeg, f' q{quality[1]}' if quality else ''), *arrays

  def _read_parquet(self, path):
    splits = [parquet.Rows(files) for files in parquet.find(path, PARQUET, self.configuration).values()]
    if classes := splits[0].classes:
      named = not all(name.isdecimal() for name in classes)  # else whoever wrote the copy had no names for them
      if len(classes) != self.info.num_classes or (named and self.a_class not in classes):
        raise UserError(f'{path} has {len(classes)} classes, {", ".join(classes[:3])} and so on, which are not those '
                        f'of {self.title}: it is another data set')
    arrays = [array for split in splits for array in decoding.decoded(split, self.info.channels)]
    return self._title_of(any(split[0][0][:2] == b'\xff\xd8' for split in splits)), *arrays

  def _read_original(self, path):
    return self.title, *self.original.read(path)

  def _title_of(self, jpeg, quality=''):
    return f'{self.title}, JPEG{quality} copy' if jpeg else self.title  # the real one is lossless

  def _checked(self, arrays, path):
    """The Dataset, if it is what this data set looks like."""
    dataset, last = Dataset(*arrays), self.info.num_classes - 1
    shape = (self.info.image_size, self.info.image_size, self.info.channels)
    for split, examples in (('train', self.info.train_examples), ('test', self.test_examples)):
      images, labels = getattr(dataset, f'{split}_images'), getattr(dataset, f'{split}_labels')
      if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise UserError(f'the {split} images in {path} are {images.dtype} {images.shape[1:]}, not uint8 {shape}')
      if not len(labels) or labels.shape != images.shape[:1]:
        raise UserError(f'there are {len(images):,} {split} images and {len(labels):,} labels in {path}')
      if labels.min() < 0 or labels.max() > last:
        raise UserError(f'the {split} labels in {path} run from {labels.min()} to {labels.max()}, not from 0 to {last}')
      if split == 'train' and labels.max() < self.info.num_classes // 2:
        raise UserError(f'no label in {path} is above {labels.max()}, and {self.title} has {self.info.num_classes} '
                        'classes: it is another data set')
      if len(images) > examples:
        raise UserError(f'{path} has {len(images):,} {split} images, and {self.title} {examples:,}: it is another data '
                        'set')
      elif len(images) == examples and len(np.unique(labels)) <= last:
        raise UserError(f'the {split} images in {path} are of {len(np.unique(labels))} classes, and {self.title} has '
                        f'{last + 1}: it is another data set')
      if len(images) != examples:
        title = f'{dataset.title}, {len(images):,} of {examples:,} {split} images'
        dataset = dataclasses.replace(dataset, title=title, complete=False)
    return dataset


def _checksum(files):
  """Of their names and contents."""
  total = hashlib.sha256()
  for file in files:
    with open(file, 'rb') as opened:
      total.update(file.name.encode() + hashlib.file_digest(opened, 'sha256').digest())
  return total.hexdigest()[:16]
