"""CIFAR-10 and CIFAR-100 as their authors distribute them: batches, in a folder or its archive, in either of two forms.
"""

import dataclasses
import io
import os
import pickle
import pickletools
import tarfile

import numpy as np

from zeroinit.system.errors import UserError, first_line

IMAGE = 3 * 32 * 32  # bytes
LARGEST_BATCH = 5 * 10**8  # bytes, three times what the largest one has
MOST_MEMOS = 10**6


@dataclasses.dataclass(frozen=True)
class Batches:
  """How one of the two is cut into batches; an `Original` of `whole`.

  Attributes:
    number: of classes.
    folders: of the Python form and of the binary one.
    train, test: names of their batches.
    labels: where in a batch of the Python form the labels are.
    labels_before: bytes before the label in a record of the binary form.
  """

  number: int
  folders: tuple[str, str]
  train: tuple[str, ...]
  test: tuple[str, ...]
  labels: bytes
  labels_before: int = 0

  @property
  def archives(self):
    return f'cifar-{self.number}-python.tar.gz', f'cifar-{self.number}-binary.tar.gz'

  @property
  def words(self):
    return f'{" or ".join(self.folders)}, nor their archive'

  @property
  def download(self):
    return f'https://www.cs.toronto.edu/~kriz/{self.archives[0]}'

  def find(self, folder):
    """The folder of batches, or the archive, in a folder; None where there is none."""
    for place in (folder, *(folder / name for name in self.folders)):
      if any((place / name).is_file() for batch in self.train[:1] for name in (batch, f'{batch}.bin')):
        return place
    return next((folder / name for name in self.archives if (folder / name).exists()), None)

  def files(self, path):
    return [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())

  def read(self, path):
    """(train images, train labels, test images, test labels). Raises UserError where it is damaged, or not whole."""
    files = self._of_archive(path) if path.is_file() else {file.name: file for file in path.iterdir()}
    arrays = []
    for batches in (self.train, self.test):
      parts = []
      for batch in batches:
        name = next((name for name in (batch, f'{batch}.bin') if name in files), None)
        if name is None:
          raise UserError(f'the CIFAR-{self.number} in {path} is not whole: it lacks {batch} or {batch}.bin')
        content = files[name] if path.is_file() else files[name].read_bytes()
        parts.append(_split_records(content, path / name, self.labels_before) if name.endswith('.bin')
                     else _unpickle(content, path / name, self.labels))
      images, labels = zip(*parts, strict=True)
      images = np.concatenate(images).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
      arrays += [np.ascontiguousarray(images), np.concatenate(labels).astype(np.int32)]
    return arrays

  def _of_archive(self, path):
    """{name: content} of the batches in an archive, to its end, where its checksum is. Nothing is extracted to disk."""
    wanted = {name + end for name in self.train + self.test for end in ('', '.bin')}
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
      raise UserError(f'{path} is not an archive of CIFAR-{self.number}, or damaged: {first_line(error)}') from error
    return files


def _unpickle(content, path, key):
  """A batch of the Python form: uint8 [n, 3072] and n labels. key: of the labels."""
  try:
    # Python's unpickler makes room for all of them, of which a batch has two for every image.
    memos = (argument for opcode, argument, _ in pickletools.genops(content) if 'PUT' in opcode.name)
    if any(memo > MOST_MEMOS for memo in memos):
      raise ValueError('it asks for too much memory')
    batch = _Unpickler(io.BytesIO(content), encoding='bytes').load()
    images, labels = batch[b'data'].values, np.array(batch[key])
    if images.shape != (len(labels), 3072) or labels.shape != (len(labels),) or labels.dtype.kind != 'i':
      raise ValueError(f'images {images.shape}, for labels {labels.dtype} {labels.shape}')
  except Exception as error:  # a damaged pickle raises nearly anything
    raise UserError(f'{path} is not a batch of CIFAR, or damaged: {first_line(error)}') from error
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


def _split_records(content, path, before):
  """A batch of the binary form: records of one byte of label, after so many others, and those of the image."""
  length = before + 1 + IMAGE
  if not content or len(content) % length:
    raise UserError(f'{path} is not a batch of CIFAR, or cut off: {len(content):,} bytes are not a multiple of '
                    f'{length}')
  records = np.frombuffer(content, np.uint8).reshape(-1, length)
  return records[:, before + 1:], records[:, before]
