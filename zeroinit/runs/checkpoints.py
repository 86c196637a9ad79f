"""Saving and restoring the state of a run: the one file that knows Orbax."""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp

from zeroinit.system import processes
from zeroinit.system.errors import UserError, first_line

CHECKPOINTS_KEPT = 2  # the one before as well, should the newest be damaged
MOST = 8  # that are looked at: holders that were killed or only slept may have left more than are kept
CHECKSUMS = 'checksums.json'  # in a checkpoint's directory, written last: {file: sha256}
RECORDS = 'metrics.jsonl'  # in it, for the lines that the run had recorded by then


class Checkpoints:
  """The checkpoints of one run, by step. Nothing is made on disk before the first save.

  Orbax writes a checkpoint aside and renames it, so a kill leaves none half written. What happens to the files later
  it does not notice, hence the checksums. They also cover what the run had recorded by then: from a state alone a run
  would go on with evaluations missing.

  Attributes:
    passed_over: whether a damaged checkpoint has been met.
  """

  def __init__(self, directory):
    self.directory = directory
    self.passed_over = False
    self._manager = None
    self._damaged = set()  # steps

  def save(self, step, state, records=(), still_held=lambda: None):
    """Saves a state (arrays in nested dicts) and returns when it is on disk. Raises UserError where it cannot be.

    Args:
      records: the lines of metrics.jsonl so far.
      still_held: see `locks.lock`; what it raises leaves a checkpoint without checksums, which nobody takes for one.
    """
    try:
      with _quiet():
        if step in self._steps():
          if not self._damage(step, records):
            return  # the run went on from here and has not moved
          self._damaged.add(step)  # such as one that a holder before this one was about to save
        self._remove_damaged()
        self._need_space(sum(leaf.nbytes for leaf in jax.tree.leaves(state)))
        self._open().save(step, args=ocp.args.StandardSave(state), force=True)
      still_held()  # Orbax makes what directories it misses, also where the disk has gone in between
      if processes.is_first():
        *_, recorded = digests(records)
        checksums = json.dumps({RECORDS: recorded, **dict(self._checksums(step))})
        (self.directory / str(step) / CHECKSUMS).write_text(checksums)
    except UserError:
      raise
    except Exception as error:
      raise UserError(f'cannot save a checkpoint in {self.directory}: {_reason(error)}; what was written before is '
                      'intact, and the same command goes on from there') from error

  def restore(self, sharding=None, say=logging.warning, records=None):
    """The newest state whose files are as they were written, or None where there is none.

    Args:
      sharding: where to put the arrays, whatever devices they were saved from; None gives numpy arrays.
      say: called with a line for each checkpoint that is damaged, and passed over.
      records: the lines of metrics.jsonl, which must begin with those of that time; None does not ask.

    Raises:
      UserError: the files are as they were written, but cannot be read.
    """
    newest = None
    for step in self._steps():
      try:
        damage = self._damage(step, records)
        if damage:
          self._damaged.add(step)
          self.passed_over = True
          say(f'checkpoint {self.directory / str(step)} is damaged and passed over: {damage}')
        elif newest is None:
          with _quiet():
            newest = self._restore(step, sharding)
      except Exception as error:
        raise UserError(f'cannot read {self.directory / str(step)}: {first_line(error)}') from error
    return newest

  def close(self):
    if self._manager is not None:
      with _quiet():
        self._manager.close()
      self._manager = None

  def _open(self):
    if self._manager is None:
      self._manager = ocp.CheckpointManager(self.directory, options=ocp.CheckpointManagerOptions(
          max_to_keep=CHECKPOINTS_KEPT, cleanup_tmp_directories=True, enable_async_checkpointing=False))
    return self._manager

  def _steps(self):
    """The steps that directories are named by, the newest first, as the first of several processes sees them.

    Orbax, asked, reads metadata in them, and fails where one is damaged.
    """
    names = [path.name for path in self.directory.iterdir()] if self.directory.exists() else []
    steps = sorted((int(name) for name in names if re.fullmatch('[0-9]{1,9}', name)), reverse=True)[:MOST]
    return [step for step in processes.agree(steps + [-1] * (MOST - len(steps))) if step >= 0]

  def _remove_damaged(self):
    if self._damaged:
      self.close()  # Orbax remembers which there are
      for step in self._damaged if processes.is_first() else ():
        path = self.directory / str(step)
        path.rmtree() if path.is_dir() else path.unlink()
      processes.agree(True)  # nobody goes on before they are gone
      self._damaged.clear()

  def _need_space(self, size):
    """Raises OSError before Orbax would, whose threads print much when a disk is full."""
    local = '://' not in str(self.directory)
    if local and shutil.disk_usage(self.directory.parent).free < size:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  def _restore(self, step, sharding):
    def empty(saved):
      if sharding is None:
        return np.zeros(saved.shape, saved.dtype)
      return jax.ShapeDtypeStruct(saved.shape, saved.dtype, sharding=sharding)

    directory = self.directory / str(step) / 'default'
    with contextlib.closing(ocp.StandardCheckpointer()) as reader:
      return reader.restore(directory, jax.tree.map(empty, reader.metadata(directory).item_metadata.tree))

  def _damage(self, step, records):
    """What is not as it was written, in words; '' where all is, for every process."""
    changed = self._changed(step, records)
    return ', '.join(changed) or 'as another process sees it' if processes.any_of(bool(changed)) else ''

  def _changed(self, step, records):
    """Names of the files that are not as they were written."""
    try:
      expected = json.loads((self.directory / str(step) / CHECKSUMS).read_text())
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError, RecursionError):
      expected = None
    if not isinstance(expected, dict):
      return [CHECKSUMS]  # which a kill may also have prevented; any other OSError is of a store that is out of reach
    found = dict(self._checksums(step))
    if RECORDS in expected:  # versions before had none
      known = [expected[RECORDS]] if records is None else list(digests(records))
      found[RECORDS] = expected[RECORDS] if expected[RECORDS] in known else None
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))

  def _checksums(self, step):
    root = self.directory / str(step)
    for path in _files(root):
      if path.name != CHECKSUMS:
        yield str(path.relative_to(root)), hashlib.sha256(path.read_bytes()).hexdigest()


def _files(directory):
  for path in sorted(directory.iterdir()):
    yield from _files(path) if path.is_dir() else [path]


def digests(lines):
  """sha256 of the first 0, 1, 2, ... lines of metrics.jsonl."""
  digest = hashlib.sha256()
  yield digest.hexdigest()
  for line in lines:
    digest.update(line.encode() + b'\n')
    yield digest.hexdigest()


def _reason(error):
  """What the system said, out of what Orbax and tensorstore, which raise their own kinds, make of it."""
  code = re.search(r"os_error_code='(\d+)'", str(error))
  if code:
    return os.strerror(int(code[1]))
  return getattr(error, 'strerror', None) or re.split(r'[<\[{]', first_line(error))[0].strip(' .:')


@contextlib.contextmanager
def _quiet():
  """Orbax logs every step it takes, and every error that it also raises.

  After an error its threads go on to print theirs for a while, so then it stays quiet.
  """
  loggers = {logging.getLogger(name): logging.getLogger(name).level for name in ('absl', 'asyncio')}
  for logger in loggers:
    logger.setLevel(logging.CRITICAL + 1)
  hook = sys.unraisablehook
  sys.unraisablehook = lambda found: 'Event loop is closed' in str(found.exc_value) or hook(found)
  yield
  sys.unraisablehook = hook
  for logger, level in loggers.items():
    logger.setLevel(level)
