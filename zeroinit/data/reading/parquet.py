"""Parquet files of encoded images and labels, as hubs of data sets offer them; no hub client is needed, and no pickle.

A split is one file or many, `train-00000-of-00002.parquet` or `train/0000.parquet`, in the folder itself or in folders
below it, as a download of the whole repository leaves it.
"""

import os
import pathlib
import re

import numpy as np

from zeroinit.system.errors import UserError, first_line

DEEP = 5  # folders: hub/datasets--NAME/snapshots/REVISION/plain_text/train
MOST = 300  # folders at one depth; a tree that has more is another data set's
IMAGE, LABEL = ('image', 'img', 'images'), ('label', 'labels', 'fine_label')  # columns


def find(root, names):
  """{split: its files, in order} in a folder or, at the smallest depth, below it; empty where there are none.

  Args:
    root: pathlib.Path of a folder.
    names: {split: what its files, or the folder around them, may be called, the preferred name first}.

  Raises:
    UserError: two folders have all splits.
  """
  level = [root]
  for _ in range(DEEP + 1):
    found, below = {}, []
    for folder in level:
      for entry in _entries(folder):
        if entry.is_dir():
          below.append(pathlib.Path(entry.path))
        elif entry.name.endswith('.parquet'):
          inside = any(folder.name in called for called in names.values())
          name = folder.name if inside else re.split(r'[-_.]', entry.name)[0]
          place = found.setdefault(folder.parent if inside else folder, {})
          place.setdefault(name, []).append(pathlib.Path(entry.path))
    whole = {folder: there for folder, there in found.items()
             if all(any(name in there for name in called) for called in names.values())}
    if len(whole) > 1:
      raise UserError(f'there are Parquet files of {" and of ".join(names)} in {" and in ".join(map(str, whole))}: '
                      'name one of these folders')
    if whole:
      there, = whole.values()
      return {split: there[next(name for name in called if name in there)] for split, called in names.items()}
    level = below if len(below) <= MOST else []
  return {}


def _entries(folder):
  """What lies in a folder, but for hidden files, by name, and by number where a name has one."""
  try:
    with os.scandir(folder) as entries:
      there = [entry for entry in entries if not entry.name.startswith('.')]
  except OSError:
    return []
  return sorted(there, key=lambda entry: [(part.isdecimal(), int(part) if part.isdecimal() else 0, part)
                                          for part in re.split(r'(\d+)', entry.name)])


def read(files):
  """Decoded images, uint8 [n, height, width, 3], labels, int32 [n], and whether the images are stored as JPEG.

  Raises:
    UserError: a file is no Parquet file, or damaged; it lacks a column; an image cannot be decoded, or has another size
      than the first.
  """
  from zeroinit.data.reading import images  # OpenCV, which whoever reads from the cache need not wait for

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
  strange = [label for label in labels if not 0 <= label < 2**31]
  if strange:
    raise UserError(f'{files[0]} or its like has the label {strange[0]}')
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
        are_bytes = any(test(contents.type) for test in (
            pyarrow.types.is_binary, pyarrow.types.is_large_binary, pyarrow.types.is_binary_view))
        if not are_bytes or not pyarrow.types.is_integer(numbers.type):
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
