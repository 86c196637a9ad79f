"""Parquet files of encoded images and labels, as hubs of data sets offer them; no hub client is needed, and no pickle.

A split is one file or many, `train-00000-of-00002.parquet` or `train/0000.parquet`, in the folder itself or in folders
below it, as a download of the whole repository leaves it.
"""

import contextlib
import json
import os
import pathlib
import re
import threading

import numpy as np

from zeroinit.system.errors import UserError, first_line

DEEP = 5  # folders: hub/datasets--NAME/snapshots/REVISION/plain_text/train
MOST = 300  # folders at one depth; a tree that has more is another data set's
IMAGE, LABEL = ('image', 'img', 'images'), ('label', 'labels', 'fine_label')  # columns


def find(root, names, configuration=''):
  """{split: its files, in order} in a folder or, at the smallest depth, below it; empty where there are none.

  Args:
    root: pathlib.Path of a folder.
    names: {split: what its files, or the folder around them, may be called, the preferred name first}.
    configuration: which of several that a hub has of one data set, each in a folder that is called so.

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
    chosen = [folder for folder in whole if folder.name == configuration]
    if len(chosen) == 1:
      whole = {chosen[0]: whole[chosen[0]]}
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


class Rows:
  """A `data.Split` of the rows of Parquet files.

  An image is read with the others of its row group, the last of which a thread keeps: fast in order, slow at random.

  Attributes:
    classes: names of the classes, in the order of their labels, where a hub's library has written them down; or None.
    group_bytes: mean size of a row group.
  """

  def __init__(self, files):
    """Raises UserError where a file is no Parquet file, or has no columns of encoded images and whole numbers."""
    import pyarrow.parquet  # half a second to import, and not needed from the cache

    self._groups, counts, sizes = [], [], []  # (file, number in it, (image, label))
    for file in files:
      with _naming(file), pyarrow.parquet.ParquetFile(file) as opened:
        columns = _columns(file, opened.schema_arrow)
        self.classes = _classes(opened.schema_arrow, columns[1])
        for number in range(opened.num_row_groups):
          group = opened.metadata.row_group(number)
          self._groups.append((file, number, columns))
          counts.append(group.num_rows)
          sizes.append(group.total_byte_size)
    self._ends = np.cumsum(counts, dtype=np.int64)
    if not sum(counts):
      raise UserError(f'{files[0]} and its like hold no images')
    self.group_bytes = sum(sizes) / len(sizes)
    self._kept = threading.local()

  def __len__(self):
    return int(self._ends[-1])

  def __getitem__(self, index):
    place = int(np.searchsorted(self._ends, index, side='right'))
    if getattr(self._kept, 'place', None) != place:
      self._kept.columns, self._kept.place = _read(*self._groups[place]), place
    contents, labels = self._kept.columns
    row = int(index) - (int(self._ends[place - 1]) if place else 0)
    return contents[row].as_py(), labels[row].as_py()

  def name_of(self, index):
    file, *_ = self._groups[int(np.searchsorted(self._ends, index, side='right'))]
    return f'image {index} of the split, in {file}'


def _columns(file, schema):
  """Names of the columns of images and of labels."""
  import pyarrow

  image, label = (_column(file, schema.names, known) for known in (IMAGE, LABEL))
  kind, number = schema.field(image).type, schema.field(label).type
  if pyarrow.types.is_struct(kind) and kind.get_field_index('bytes') >= 0:
    kind = kind.field('bytes').type
  are_bytes = any(test(kind) for test in (
      pyarrow.types.is_binary, pyarrow.types.is_large_binary, pyarrow.types.is_binary_view))
  if not are_bytes or not pyarrow.types.is_integer(number):
    raise UserError(f'{file} has {kind} for {image} and {number} for {label}; there must be encoded images, as bytes, '
                    'and whole numbers')
  return image, label


def _classes(schema, label):
  """The names in the `datasets.ClassLabel` of that column, which lies as JSON in the metadata; None where none does."""
  with contextlib.suppress(KeyError, TypeError, ValueError, RecursionError):
    names = json.loads(schema.metadata[b'huggingface'])['info']['features'][label]['names']
    return [str(name) for name in names]


def _read(file, number, columns):
  """The encoded images and the labels of a row group."""
  import pyarrow.parquet

  image, label = columns
  with _naming(file), pyarrow.parquet.ParquetFile(file) as opened:
    table = opened.read_row_group(number, columns=[image, label]).combine_chunks()
    contents, labels = (table[name].combine_chunks() for name in columns)
    if pyarrow.types.is_struct(contents.type):
      contents = contents.field('bytes')
    if contents.null_count or labels.null_count:
      raise UserError(f'{file} has rows without {image} or {label}')
    return contents, labels


@contextlib.contextmanager
def _naming(file):
  import pyarrow

  try:
    yield
  except (pyarrow.ArrowException, OSError, KeyError, OverflowError) as error:
    raise UserError(f'{file} is not a Parquet file of images, or damaged: {first_line(error)}') from error


def _column(file, columns, known):
  for name in known:
    if name in columns:
      return name
  raise UserError(f'{file} has none of the columns {", ".join(known)}; it has: {", ".join(columns)}')
