"""TensorBoard events of a run, beside metrics.jsonl. Written by tensorboardX, which needs no TensorFlow."""

import numpy as np
from tensorboardX import SummaryWriter


class Events:
  """Writes the records of metrics.jsonl as scalars, and alpha over the blocks as a histogram."""

  def __init__(self, workdir, step):
    """step: where the run goes on; what an earlier attempt wrote after it is hidden."""
    self._writer = SummaryWriter(str(workdir), purge_step=step + 1 if step else None)

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._writer.close()

  def write(self, record):
    for name, value in record.items():
      if name == 'alpha':
        if None not in value:  # not finite
          self._writer.add_histogram(name, np.array(value), record['step'])
      elif name != 'step' and value is not None:
        self._writer.add_scalar(name, value, record['step'])
    self._writer.flush()
