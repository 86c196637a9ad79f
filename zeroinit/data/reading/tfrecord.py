"""Records of TFRecord files by their number, without TensorFlow.

A record is framed: its length (8 bytes, little-endian), a checksum of that (4), the record, a checksum of it (4); see
tensorflow/core/lib/io/record_writer.h. So where a record lies is known only from the lengths of all before it. These
are walked over once, and kept in the cache: an index.
"""

import contextlib
import hashlib
import os
import struct
from concurrent.futures import ThreadPoolExecutor

import google_crc32c
import numpy as np

from zeroinit.data.reading import cache as _cache
from zeroinit.system.errors import UserError

BEFORE, AFTER = 12, 4  # bytes of the frame
FILES_AT_ONCE = 32  # to walk over; a disk or file server answers several questions at a time


class TFRecords:
  """A sequence of records, bytes each; may be read from several threads."""

  def __init__(self, files, counts):
    """files: paths, in order; counts: number of records in each. Raises UserError where a file does not fit that."""
    self._files, self._lengths = files, _lengths(files, counts)
    self._ends = np.cumsum(counts)
    after = np.cumsum(self._lengths + BEFORE + AFTER)  # as if the files were one
    starts_of_files = np.concatenate([[0], after])[self._ends - counts]
    self._starts = after - AFTER - self._lengths - np.repeat(starts_of_files, counts)

  def __len__(self):
    return len(self._lengths)

  def __getitem__(self, index):
    file, length = self._files[np.searchsorted(self._ends, index, side='right')], self._lengths[index]
    with open(file, 'rb', buffering=0) as opened:
      framed = os.pread(opened.fileno(), length + AFTER, self._starts[index])
    if len(framed) < length + AFTER:
      raise UserError(f'{file} has been cut off since its index was made')
    record, checksum = framed[:length], framed[length:]
    if checksum != _checksum(record):
      raise UserError('it is not as it was written; copy the file again')
    return record


def _lengths(files, counts):
  """Length of every record, int64 [n], from the cache or by a walk."""
  looks = [(str(file), os.stat(file).st_size, os.stat(file).st_mtime_ns, count)
           for file, count in zip(files, counts, strict=True)]
  kept = _cache.directory() / f'tfrecord-{hashlib.sha256(str(looks).encode()).hexdigest()[:16]}.npy'
  with contextlib.suppress(Exception):  # not there yet, or damaged, which has many forms
    lengths = np.load(kept)
    ends = np.concatenate([[0], np.cumsum(lengths + BEFORE + AFTER)])[np.cumsum([0, *counts])]
    if lengths.dtype == np.int64 and np.diff(ends).tolist() == [size for _, size, _, _ in looks]:
      return lengths
  with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
    lengths = np.concatenate(list(threads.map(_walk, files, counts)))
  _cache.keep(kept, 'the places of records in TFRecord files', lambda file: np.save(file, lengths))
  return lengths


def _walk(file, count):
  lengths, position, size = [], 0, os.path.getsize(file)
  with open(file, 'rb', buffering=0) as opened:
    while position < size:
      frame = os.pread(opened.fileno(), BEFORE, position)
      if frame[8:] != _checksum(frame[:8]):
        raise UserError(f'{file} is cut off, damaged, or not a TFRecord file: at byte {position:,} there is no record; '
                        'copy it again')
      lengths.append(int.from_bytes(frame[:8], 'little'))
      position += BEFORE + lengths[-1] + AFTER
  if position != size:
    raise UserError(f'{file} is cut off: record {len(lengths) - 1} of it ends at byte {position:,}, the file at '
                    f'{size:,}; copy it again')
  if len(lengths) != count:
    raise UserError(f'{file} has {len(lengths):,} records where dataset_info.json says {count:,}; copy it again')
  return np.array(lengths, np.int64)


def _checksum(content):
  """4 bytes: CRC-32C, masked as TFRecord masks it."""
  crc = google_crc32c.value(content)
  return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xa282ead8) % 2**32)
