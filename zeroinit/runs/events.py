"""TensorBoard events of a run, beside metrics.jsonl. Written by tensorboardX, which needs no TensorFlow.

`tensorboard --logdir=DIR` shows the curves of all runs below DIR, and under HPARAMS a row per run.
"""

import contextlib
import pathlib
import sys
import tempfile

import numpy as np

from zeroinit.system import objects
from zeroinit.training.config import compared_fields, method_label


@contextlib.contextmanager
def _without(package):
  """To import it fails while this is open, unless it has been before."""
  if package in sys.modules:
    yield
    return
  sys.modules[package] = None
  try:
    yield
  finally:
    del sys.modules[package]


with _without('torch'):  # which tensorboardX imports where it is there, only to know its tensors: for many seconds
  from tensorboardX import SummaryWriter
  from tensorboardX.proto.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
  from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo
  from tensorboardX.summary import hparams

FINAL = ('test_accuracy', 'test_cross_entropy', 'train_loss')  # in the row of a run that is done


class Events:
  """Writes the records of metrics.jsonl as scalars, alpha over the blocks as a histogram, and the run's row of HPARAMS.

  An object store cannot append: there the file grows aside, and is put in place whole after each record.
  """

  def __init__(self, workdir, step, config):
    """step: where the run goes on; what an earlier attempt wrote after it is hidden."""
    self._workdir = workdir
    self._aside = tempfile.TemporaryDirectory() if '://' in str(workdir) else None
    directory = self._aside.name if self._aside else str(workdir)
    self._writer = SummaryWriter(directory, purge_step=step + 1)
    # Every attempt has a file of its own, and to TensorBoard a directory is one run: one row. Without an experiment, of
    # which the first run's would count for all, TensorBoard finds out itself in which values runs differ.
    _, start, self._end = hparams(hyperparameters(config), {})
    self._writer.file_writer.add_summary(start)
    self._flush()

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._writer.close()
    if self._aside:
      self._put()
      self._aside.cleanup()

  def write(self, record):
    """Adds one evaluation; `record` is a line of metrics.jsonl."""
    for name, value in record.items():
      if name == 'alpha':
        if None not in value:  # not finite
          self._writer.add_histogram(name, np.array(value), record['step'])
      elif name != 'step' and value is not None:
        self._writer.add_scalar(name, value, record['step'])
    self._flush()

  def finish(self, result):
    """Says how the run ended; `result` is what result.json holds."""
    done = result['status'] == 'done'
    for name in FINAL if done else ():
      if result[name] is not None:  # not finite
        self._writer.add_scalar(f'final/{name}', result[name], result['steps'])
    status = SessionEndInfo(status=STATUS_SUCCESS if done else STATUS_FAILURE)
    self._end.value[0].metadata.plugin_data.content = HParamsPluginData(session_end_info=status).SerializeToString()
    self._writer.file_writer.add_summary(self._end)
    self._flush()

  def _flush(self):
    self._writer.flush()
    if self._aside:
      self._put()

  def _put(self):
    for file in pathlib.Path(self._aside.name).iterdir():
      objects.replace(self._workdir / file.name, file.read_bytes())


def hyperparameters(config):
  """{name: value} of all that may tell one run from another; of the method its label."""
  fields = compared_fields(config.to_dict())
  return {'method': method_label(config),
          **{name: value for name, value in fields.items() if not name.startswith('method.')}}
