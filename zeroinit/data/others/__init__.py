"""Data sets of which nothing is known beforehand: what must be is found out once, from the images, and kept.

One whose images all have one size, and are few enough to lie on the devices, is a `Dataset`; others are streamed.
"""

import contextlib
import dataclasses
import hashlib
import os

import numpy as np

from zeroinit.data import Dataset, Info, Look, Split, StreamedDataset
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
    place: the directory, as text.
    num_classes: how many.
    channels: of its images.
    train, test: each a `data.Split`.
    state: see `Look.state`.
    order: see `Dataset.order`.
  """

  title: str
  place: str
  num_classes: int
  channels: int
  train: Split
  test: Split
  state: str
  order: str

  def look(self, last=None):
    """The Look at it, from the cache, or by looking at its images. Raises UserError where one cannot be used.

    last: the Look before, in this process, or None.
    """
    if last and last.state == self.state:
      return last
    with contextlib.suppress(Exception):  # not there yet, or damaged, which has many forms
      with np.load(self._file('info')) as kept:
        return self._look(int(kept['size']), kept['mean'], kept['std'])
    print(f'looking at the images of {self.title}, once', flush=True)
    cache.discard(set(cache.directory().glob(self._name('*', '*'))) - {self._file('info'), self._file('images')})
    size, mean, std = self._sampled()
    arrays = self._decoded() if size else None
    if arrays:
      mean, std = mean_and_std(arrays[0])
      if self._keep('images', 'decoded images', dict(zip(_ARRAYS, arrays, strict=True))):
        arrays = None  # which need not lie in memory until they are asked for
    else:
      size, mean, std = 0, *(np.resize(values, 3) for values in (mean, std))  # what streams is read as RGB
    self._keep('info', 'what is known of images', {'size': size, 'mean': mean, 'std': std})
    return self._look(size, mean, std, arrays)

  def _look(self, size, mean, std, arrays=None):
    info = Info(self.num_classes, len(self.train), size or None, len(mean), rounded(mean), rounded(std))
    return Look(info, lambda: self._load(info, arrays), self.state)

  def _load(self, info, arrays):
    """The Dataset or StreamedDataset. arrays: where the cache does not take them."""
    if info.image_size is None:
      return StreamedDataset(self.title, self.train, self.test, order=self.order)
    with contextlib.suppress(Exception):  # as above
      with np.load(self._file('images')) as kept:
        return Dataset(self.title, *(kept[name] for name in _ARRAYS))
    return Dataset(self.title, *arrays or self._decoded())

  def _keep(self, what, words, arrays):
    return cache.keep(self._file(what), words, lambda file: np.savez(file, **arrays))

  def _file(self, what):
    return cache.directory() / self._name(what, _digest(self.state))

  def _name(self, what, state):
    """Of a file of the cache. Those of another state are from before the data set has changed, and are removed."""
    return f'{what}-{_digest(self.place)}-{state}.npz'

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


def _digest(text):
  return hashlib.sha256(text.encode()).hexdigest()[:16]


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
