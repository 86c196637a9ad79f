"""Parquet files of encoded images and labels, as hubs of data sets offer them; no hub client is needed, and no pickle.

A split is one file or many, `train-00000-of-00002.parquet` or `train/0000.parquet`, in the folder itself or in folders
below it, as a download of the whole repository leaves it.
"""

import re

import numpy as np

from zeroinit.data.reading import images
from zeroinit.system.errors import UserError, first_line

DEEP = 5  # folders: hub/datasets--NAME/snapshots/REVISION/plain_text/train
IMAGE, LABEL = ('image', 'img', 'images'), ('label', 'labels', 'fine_label')  # columns


def find(root, names):
  """{split: its files, in order} below a folder; empty where a split has none.

  Args:
    root: pathlib.Path of a folder.
    names: {split: what its files or their folder may be called}.
  """
  below = ['*/' * depth + '*.parquet' for depth in range(DEEP + 1)]
  for pattern in below:  # the nearest first
    folders = {}
    for file in sorted(root.glob(pattern)):
      for split, called in names.items():
        inside = file.parent.name in called
        if inside or re.split(r'[-_.]', file.name)[0] in called:
          folders.setdefault(file.parent.parent if inside else file.parent, {}).setdefault(split, []).append(file)
    whole = [found for found in folders.values() if found.keys() == names.keys()]
    if whole:
      return max(whole, key=lambda found: max(file.stat().st_mtime for files in found.values() for file in files))
  return {}


def read(files):
  """Decoded images, uint8 [n, height, width, 3], labels, int32 [n], and whether the images are stored as JPEG.

  Raises:
    UserError: a file is no Parquet file, or damaged; it lacks a column; an image cannot be decoded, or has another size
      than the first.
  """
  pixels, labels, lossy = [], [], False
  for file in files:
    for content, label in _rows(file):
      try:
        image = images.decode(content)
        if pixels and image.shape != pixels[0].shape:
          raise ValueError(f'it is {image.shape[1]}x{image.shape[0]} and the first is '
                           f'{pixels[0].shape[1]}x{pixels[0].shape[0]}')
      except ValueError as error:
        raise UserError(f'image {len(pixels)} of the split, in {file}: {error}') from error
      pixels.append(image)
      labels.append(label)
      lossy = lossy or content[:2] == b'\xff\xd8'
  if not pixels:
    raise UserError(f'{files[0]} and its like hold no images')
  return np.stack(pixels), np.array(labels, np.int32), lossy


def _rows(file):
  """(bytes of the encoded image, its label) of every row."""
  import pyarrow  # half a second to import, and not needed from the cache
  import pyarrow.parquet

  try:
    with pyarrow.parquet.ParquetFile(file) as opened:
      columns = opened.schema_arrow.names
      image, label = (_column(file, columns, known) for known in (IMAGE, LABEL))
      for batch in opened.iter_batches(1000, columns=[image, label]):
        contents, numbers = batch.column(image), batch.column(label)
        if pyarrow.types.is_struct(contents.type):
          contents = contents.field('bytes')
        if not pyarrow.types.is_binary(contents.type) or not pyarrow.types.is_integer(numbers.type):
          raise UserError(f'{file} has {contents.type} for {image} and {numbers.type} for {label}; there must be '
                          'encoded images, as bytes, and whole numbers')
        if contents.null_count or numbers.null_count:
          raise UserError(f'{file} has rows without {image} or {label}')
        yield from zip(contents.to_pylist(), numbers.to_pylist(), strict=True)
  except (pyarrow.ArrowException, OSError, KeyError, OverflowError) as error:
    raise UserError(f'{file} is not a Parquet file of images, or damaged: {first_line(error)}') from error


def _column(file, columns, known):
  for name in known:
    if name in columns:
      return name
  raise UserError(f'{file} has none of the columns {", ".join(known)}; it has: {", ".join(columns)}')
