"""Data sets of which nothing is known beforehand: what must be is found out once, from the images, and kept.

One whose images all have one size, and are few enough to lie on the devices, is a `Dataset`; others are streamed.
"""

import contextlib
import dataclasses
import hashlib
import os

import numpy as np

from zeroinit.data import Dataset, Info, Split, StreamedDataset
from zeroinit.data.reading import cache
from zeroinit.data.reading.decoding import OfSeveralSizes, decoded, one
from zeroinit.system.errors import UserError

SMALL = 2 * 2**30  # bytes of pixels
SAMPLE = 5000  # training images, evenly spaced, by whose sizes, mean and deviation larger ones are judged
MOST_LOOKED_AT = 100_000  # files of which each is looked at to know whether it has changed
_ARRAYS = ('train_images', 'train_labels', 'test_images', 'test_labels')


@dataclasses.dataclass(frozen=True)
class Found:
  """Where such a data set lies.

  Attributes:
    title: to print, without directories.
    num_classes: how many.
    channels: of its images.
    train, test: each a `data.Split`.
    state: text that is another when it has changed.
    order: see `Dataset.order`.
  """

  title: str
  num_classes: int
  channels: int
  train: Split
  test: Split
  state: str
  order: str

  @property
  def info(self):
    """Its Info, from the cache or by looking at its images. Raises UserError where one cannot be used."""
    with contextlib.suppress(Exception):  # not there yet, or damaged, which has many forms
      with np.load(self._file('info')) as kept:
        return self._info(int(kept['size']), kept['mean'], kept['std'])
    print(f'looking at the images of {self.title}, once', flush=True)
    size, mean, std = self._sampled()
    arrays = self._decoded() if size else None
    if arrays:
      mean, std = mean_and_std(arrays[0])
      cache.keep(self._file('images'), 'decoded images',
                 lambda file: np.savez(file, **dict(zip(_ARRAYS, arrays, strict=True))))
    else:
      size, mean, std = 0, *(np.resize(values, 3) for values in (mean, std))  # what streams is read as RGB
    cache.keep(self._file('info'), 'what is known of images',
               lambda file: np.savez(file, size=size, mean=mean, std=std))
    return self._info(size, mean, std)

  def load(self):
    """The Dataset or StreamedDataset. Raises UserError where an image cannot be used."""
    if self.info.image_size is None:
      return StreamedDataset(self.title, self.train, self.test, order=self.order)
    with contextlib.suppress(Exception):  # as above
      with np.load(self._file('images')) as arrays:
        return Dataset(self.title, *(arrays[name] for name in _ARRAYS))
    return Dataset(self.title, *self._decoded())

  def _file(self, what):
    return cache.directory() / f'{what}-{hashlib.sha256(self.state.encode()).hexdigest()[:16]}.npz'

  def _info(self, size, mean, std):
    return Info(self.num_classes, len(self.train), size or None, len(mean), rounded(mean), rounded(std))

  def _sampled(self):
    """Of some training images: the size that all have, or 0 where these differ or are too many; mean and deviation."""
    sizes = set()

    def sample():
      for i in range(0, len(self.train), -(-len(self.train) // SAMPLE)):
        image, _ = one(self.train, i, self.channels)
        sizes.add(image.shape[:2])
        yield image

    mean, std = mean_and_std(sample())
    (height, width), *others = sizes
    pixels = (len(self.train) + len(self.test)) * height * width * self.channels
    return height if not others and height == width and pixels <= SMALL else 0, mean, std

  def _decoded(self):
    """All images and labels, or None where an image has another size than the first."""
    try:
      train, test = (decoded(split, self.channels) for split in (self.train, self.test))
    except OfSeveralSizes:
      return None
    for _, labels in (train, test):
      if labels.max() >= self.num_classes:
        raise UserError(f'{self.title} has the label {labels.max()}, and {self.num_classes} classes')
    return (*train, *test) if train[0].shape[1:] == test[0].shape[1:] else None


def mean_and_std(images):
  """Of each channel, every image counting the same. images: iterable of arrays [height, width, channels]."""
  count, mean, square = 0, 0.0, 0.0
  for image in images:
    pixels = np.float64(image.reshape(-1, image.shape[-1]))
    count, mean, square = count + 1, mean + pixels.mean(0), square + np.square(pixels).mean(0)
  mean, square = mean / count, square / count
  std = np.sqrt(np.maximum(square - mean**2, 0))
  return mean, np.where(std > 0, std, 1.0)


def rounded(values):
  """As floats of six digits, so that they are printed, and written down, as what they are."""
  return tuple(float(f'{value:.6g}') for value in values)


def state_of(files):
  """For `Found.state`: names, sizes and times of files, or of the folders around them where there are very many."""
  if len(files) > MOST_LOOKED_AT:
    files = sorted({os.path.dirname(file) for file in files})
  try:
    return repr([(str(file), status.st_size, status.st_mtime_ns) for file in files for status in [os.stat(file)]])
  except OSError as error:
    raise UserError(f'{error.filename} cannot be read: {error.strerror}') from error
