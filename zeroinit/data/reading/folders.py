"""Encoded images as files in a folder for each class, or as members of a tar archive, read in place.

What is where is found out once and kept in the cache, until a folder or archive changes.
"""

import contextlib
import hashlib
import io
import os
import tarfile
import weakref

import numpy as np

from zeroinit.data.reading import cache
from zeroinit.system.errors import UserError, first_line

FORMAT = 1  # of what is kept: to be raised where the rule of what counts changes
ENDINGS = ('.jpeg', '.jpg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm')


class Files:
  """A `data.Split` of files.

  Attributes:
    root: a folder; names: their paths, seen from there; labels: int32 array.
  """

  def __init__(self, root, names, labels):
    self.root, self.names, self.labels = root, names, labels

  def __len__(self):
    return len(self.names)

  def __getitem__(self, index):
    file = self.root / self.names[index]
    try:
      return file.read_bytes(), int(self.labels[index])
    except OSError as error:
      raise UserError(f'{file} cannot be read: {error.strerror}') from error

  def name_of(self, index):
    return str(self.root / self.names[index])


class Members:
  """A `data.Split` of members of a tar archive that is not compressed.

  Attributes:
    names: those of the members; labels: int32 array.
  """

  def __init__(self, archive, names, labels, places):
    """places: int64 [n, 2], where each begins and how long it is."""
    self.names, self.labels = names, labels
    self._archive, self._places = archive, places
    self._file = os.open(archive, os.O_RDONLY)
    weakref.finalize(self, os.close, self._file)

  def __len__(self):
    return len(self.names)

  def __getitem__(self, index):
    begin, length = self._places[index].tolist()
    try:
      content = os.pread(self._file, length, begin)
    except OSError as error:
      raise UserError(f'{self.name_of(index)} cannot be read: {error.strerror}') from error
    if len(content) < length:
      raise UserError(f'{self.name_of(index)} is cut off')
    return content, int(self.labels[index])

  def name_of(self, index):
    return f'{self.names[index]} in {self._archive}'


def classes(folder):
  """Names of the folders in one, in the order of their labels: sorted."""
  return sorted(entry.name for entry in _entries(folder) if entry.is_dir())


def by_class(folder, known):
  """The `Files` in the folders of classes in one.

  Args:
    folder: pathlib.Path.
    known: {name of a class: its label}.

  Raises:
    UserError: there is a class that is not known, or one without images.
  """
  there = classes(folder)
  strange = [name for name in there if name not in known]
  if strange:
    raise UserError(f'{folder / strange[0]} is none of the {len(known):,} classes' + _others(strange))
  key = [str(folder), *((name, *_state(folder / name)) for name in there)]
  index = _kept(key, lambda: _walk(folder, there, known))
  return Files(folder, index['names'].tolist(), index['labels'])


def _walk(folder, there, known):
  names, labels = [], []
  for name in there:
    files = images_in(folder / name)
    if not files:
      raise UserError(f'{folder / name} holds no images')
    names += [f'{name}/{file}' for file in files]
    labels += [known[name]] * len(files)
  return {'names': np.array(names), 'labels': np.array(labels, np.int32)}


def images_in(folder):
  """Names of the image files in a folder, sorted."""
  return sorted(entry.name for entry in _entries(folder) if entry.name.lower().endswith(ENDINGS))


def _entries(folder):
  """What lies in a folder and is not hidden. Raises UserError where it cannot be read."""
  try:
    with os.scandir(folder) as entries:
      return [entry for entry in entries if not entry.name.startswith('.')]
  except OSError as error:
    raise UserError(f'{folder} cannot be read: {error.strerror}') from error


def members(archive, inner=False):
  """What a tar archive has in it, by name: names, and int64 [n, 2], where each begins and how long it is.

  inner: whether its members are archives themselves, and those in them are meant, called ARCHIVE/NAME.

  Raises UserError where it is none, compressed, or cut off.
  """
  index = _kept([str(archive), inner, *_state(archive)], lambda: _list(archive, inner))
  return index['names'].tolist(), index['places']


def _list(archive, inner):
  names, places = [], []
  try:
    with open(archive, 'rb') as file:
      for name, begin, length in _members(file, 0, archive.stat().st_size):
        if inner:
          for below, start, size in _members(file, begin, length):
            names.append(f'{os.path.splitext(name)[0]}/{below}')
            places.append((start, size))
        else:
          names.append(name)
          places.append((begin, length))
  except (tarfile.TarError, OSError, EOFError) as error:
    raise UserError(f'{archive} is not a tar archive that can be read in place, or cut off: {first_line(error)}'
                    ) from error
  order = np.argsort(np.array(names))  # as in folders, whatever the archive's
  return {'names': np.array(names)[order], 'places': np.array(places, np.int64).reshape(-1, 2)[order]}


def _members(file, begin, length):
  """[(name, where it begins in the file, length)] of the members of the archive that is so long and begins there.

  tarfile takes a damaged header for the end, so it is looked at whether the end is one: a block of zeros.
  """
  part = _Part(file, begin, length)
  with tarfile.open(fileobj=part, mode='r:') as opened:
    found = [(os.path.basename(member.name), begin + member.offset_data, member.size)
             for member in opened if member.isfile()]
    part.seek(opened.offset)
    if part.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
      raise tarfile.ReadError(f'it ends, or is damaged, after {len(found):,} members')
  return found


class _Part(io.RawIOBase):
  """A part of a file, as a file of its own."""

  def __init__(self, file, begin, length):
    self._file, self._begin, self._length, self._place = file, begin, length, 0

  def readable(self):
    return True

  def seekable(self):
    return True

  def tell(self):
    return self._place

  def seek(self, offset, whence=os.SEEK_SET):
    self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._length}[whence]
    return self._place

  def readinto(self, buffer):
    self._file.seek(self._begin + self._place)
    content = self._file.read(max(0, min(len(buffer), self._length - self._place)))
    buffer[:len(content)] = content
    self._place += len(content)
    return len(content)


def _state(path):
  """What tells that a file, or what lies in a folder, has changed: ctime is none that copying restores."""
  state = path.stat()
  return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _kept(key, make):
  """{name: array} from the cache; made, and kept there, where it is not in it."""
  path = cache.directory() / f'index-{hashlib.sha256(repr((FORMAT, key)).encode()).hexdigest()[:16]}.npz'
  with contextlib.suppress(Exception):  # not there yet, or damaged
    with np.load(path) as arrays:
      return {name: arrays[name] for name in arrays.files}
  made = make()
  cache.keep(path, 'the places of images', lambda file: np.savez(file, **made))
  return made


def _others(names):
  return f', and {len(names) - 1:,} others there' if len(names) > 1 else ''
