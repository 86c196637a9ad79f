"""Saving and restoring the state of a run: the one file that knows Orbax."""

import contextlib
import logging

import jax
import numpy as np
import orbax.checkpoint as ocp

from zeroinit.errors import UserError

KEPT = 2  # the one before, should the newest be damaged


class Checkpoints:
  """The checkpoints of one run, by step. Nothing is made on disk before the first save."""

  def __init__(self, directory):
    self.directory = directory
    self._manager = None

  def _open(self):
    if self._manager is None:
      options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, create=True, enable_async_checkpointing=False)
      self._manager = ocp.CheckpointManager(self.directory, options=options)
    return self._manager

  def save(self, step, state):
    """Saves a state (a dict of arrays, nested) and returns when it is on disk. Raises UserError where it cannot be."""
    try:
      with _quiet():
        self._open().save(step, args=ocp.args.StandardSave(state), force=True)
    except Exception as error:  # Orbax and tensorstore raise their own kinds for a full disk
      reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
      raise UserError(f'cannot save a checkpoint in {self.directory}: {reason}; what was written before is intact, '
                      'and the same command goes on from there') from error

  def restore(self, sharding=None, say=logging.warning):
    """The newest state that can be read, as saved, or None where there is none. Damaged ones are named and passed over.

    sharding: where to put the arrays, on whatever devices they were saved; None gives numpy arrays.
    """
    if not self.directory.exists():
      return None
    with _quiet():
      steps = sorted(self._open().all_steps(), reverse=True)
    for step in steps:
      try:
        with _quiet():
          saved = self._open().item_metadata(step)
          make = (lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)) if sharding else (
              lambda x: np.zeros(x.shape, x.dtype))
          return self._open().restore(step, args=ocp.args.StandardRestore(jax.tree.map(make, saved)))
      except Exception as error:
        say(f'checkpoint {self.directory / str(step)} is damaged and passed over ({type(error).__name__})')
    return None

  def close(self):
    if self._manager is not None:
      self._manager.close()
      self._manager = None


@contextlib.contextmanager
def _quiet():
  """Orbax reports every step it takes at INFO and WARNING."""
  logger = logging.getLogger('absl')
  level = logger.level
  logger.setLevel(logging.ERROR)
  try:
    yield
  finally:
    logger.setLevel(level)
