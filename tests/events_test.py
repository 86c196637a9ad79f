"""What TensorBoard reads of a run: its curves, and its row under HPARAMS."""

import os
import pathlib
import struct
import subprocess
import sys

import pytest
from tensorboardX.proto.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from configs import digits
from zeroinit.runs.events import Events

RESULT = {'status': 'done', 'steps': 44, 'test_accuracy': 0.9, 'test_cross_entropy': 0.3, 'train_loss': 0.4}


def read(workdir):
  """The events that one attempt has written into a workdir."""
  path, = workdir.glob('events.out.tfevents.*')
  content = path.read_bytes()
  while content:
    length, = struct.unpack('<Q', content[:8])  # and a checksum, before the event and after it
    yield Event.FromString(content[12:12 + length])
    content = content[16 + length:]


def values(events, tag):
  """(step, value) of each with a tag."""
  return [(event.step, value) for event in events for value in event.summary.value if value.tag == tag]


def hparams(events, what):
  """What events say about the run under HPARAMS, each time: session_start_info or session_end_info."""
  content = [value.metadata.plugin_data for _, value in values(events, f'_hparams_/{what}')]
  assert all(data.plugin_name == 'hparams' for data in content)
  return [getattr(HParamsPluginData.FromString(data.content), what) for data in content]


def small_config():
  config = digits.get_config('zeroinit')
  config.method.scalar_rate = 0.1
  return config


def test_a_run_that_is_interrupted_has_one_row_and_each_record_once(tmp_path):
  config, record = small_config(), {'step': 11, 'test_accuracy': 0.5, 'test_cross_entropy': None, 'alpha': [0.0, 0.1]}
  with Events(tmp_path / 'first', 0, config) as events:  # in truth both into the same directory
    events.write(record)
    events.write(record | {'step': 22})
  first = list(read(tmp_path / 'first'))
  assert not hparams(first, 'session_end_info') and not values(first, 'final/test_accuracy')
  with Events(tmp_path / 'second', 11, config) as events:
    events.write(record | {'step': 22})
    events.finish(RESULT)
  second = list(read(tmp_path / 'second'))

  # TensorBoard merges what is equal, and hides what came before at these steps.
  assert hparams(first, 'session_start_info') == hparams(second, 'session_start_info')
  hidden = [event.step for event in second if event.session_log.status == SessionLog.START]
  assert hidden == [12] and [step for step, _ in values(second, 'test_accuracy')] == [22]
  start, = hparams(second, 'session_start_info')
  plain = {name: value.string_value or value.number_value for name, value in start.hparams.items()}
  assert {'method': 'zeroinit(scalar_rate=0.1)', 'depth': config.depth, 'batch_size': 64, 'seed': 0,
          'learning_rate': config.learning_rate, 'dataset': 'digits'}.items() <= plain.items()
  assert not {'data_dir', 'profile', 'method.scalar_rate'} & plain.keys()


@pytest.mark.parametrize('status, said, final', [('done', STATUS_SUCCESS, [44]), ('diverged', STATUS_FAILURE, [])])
def test_the_row_ends_with_the_result(tmp_path, status, said, final):
  with Events(tmp_path, 0, small_config()) as events:
    events.write({'step': 11, 'test_accuracy': 0.5})
    events.finish(RESULT | {'status': status})
  events = list(read(tmp_path))
  assert [end.status for end in hparams(events, 'session_end_info')] == [said]
  for name in ('test_accuracy', 'test_cross_entropy', 'train_loss'):
    assert [(step, value.simple_value) for step, value in values(events, f'final/{name}')] == [
        (step, pytest.approx(RESULT[name])) for step in final]


def test_a_pytorch_that_is_installed_is_not_imported_by_it_and_can_be_afterwards(tmp_path):
  (tmp_path / 'torch.py').write_text('raise SystemExit("imported")')
  code = 'import zeroinit.runs.events, sys; assert "torch" not in sys.modules; import torch'
  done = subprocess.run([sys.executable, '-c', code], cwd=pathlib.Path(__file__).parents[1], capture_output=True,
                        text=True, env=os.environ | {'PYTHONPATH': str(tmp_path)}, check=False)
  assert done.stderr.strip() == 'imported'
