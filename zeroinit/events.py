"""TensorBoard events of a run, beside metrics.jsonl. Written by tensorboardX, which needs no TensorFlow."""

import pathlib
import tempfile

import numpy as np
from tensorboardX import SummaryWriter

from zeroinit import objects


class Events:
  """Writes the records of metrics.jsonl as scalars, and alpha over the blocks as a histogram.

  An object store cannot append: there the file grows aside, and is put in place whole after each record.
  """

  def __init__(self, workdir, step):
    """step: where the run goes on; what an earlier attempt wrote after it is hidden."""
    self._workdir = workdir
    self._aside = tempfile.TemporaryDirectory() if '://' in str(workdir) else None
    directory = self._aside.name if self._aside else str(workdir)
    self._writer = SummaryWriter(directory, purge_step=step + 1 if step else None)

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._writer.close()
    if self._aside:
      self._put()
      self._aside.cleanup()

  def write(self, record):
    for name, value in record.items():
      if name == 'alpha':
        if None not in value:  # not finite
          self._writer.add_histogram(name, np.array(value), record['step'])
      elif name != 'step' and value is not None:
        self._writer.add_scalar(name, value, record['step'])
    self._writer.flush()
    if self._aside:
      self._put()

  def _put(self):
    for file in pathlib.Path(self._aside.name).iterdir():
      objects.replace(self._workdir / file.name, file.read_bytes())
