"""One run, one process: whoever else comes, dies, sleeps or wakes up."""

import contextlib
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from etils import epath

from zeroinit.runs import locks
from zeroinit.runs.checkpoints import CHECKSUMS, Checkpoints
from zeroinit.system import objects
from zeroinit.system.errors import UserError


@pytest.fixture
def directory(tmp_path):
  return epath.Path(tmp_path / 'run')


def sign(directory, number=0, **fields):
  """A lock as another worker would leave it."""
  path = directory / 'locks' / str(number)
  path.parent.mkdir(parents=True, exist_ok=True)
  says = {'host': 'elsewhere', 'machine': 'elsewhere', 'process': 1, 'started': None, 'beat': 0}
  path.write_text(json.dumps(says | fields))
  return path


def test_a_run_has_one_holder_at_a_time(directory):
  with locks.lock(directory) as still_held:
    still_held()
    assert locks.holder(directory) == f'process {os.getpid()} on {os.uname().nodename}'
    with pytest.raises(locks.Elsewhere, match=f'worked on by process {os.getpid()}'), locks.lock(directory):
      pass
  assert locks.holder(directory) is None
  with locks.lock(directory):
    pass


def test_what_a_dead_process_of_this_machine_held_is_free_at_once(directory):
  script = ('import os, sys; from zeroinit.runs import locks; print(os.getpid(), locks._started(os.getpid()))')
  process = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
  number, started = map(int, process.stdout.split())
  sign(directory, machine=locks._machine(), process=number, started=started)
  with locks.lock(directory) as still_held:
    still_held()


def test_a_later_process_of_the_same_number_is_not_the_holder(directory):
  sign(directory, machine=locks._machine(), process=os.getpid(), started=1)
  with locks.lock(directory):
    pass


def test_a_stopped_process_of_this_machine_keeps_its_lock_however_long(directory, monkeypatch):
  monkeypatch.setattr(locks, 'PATIENCE', 0.0)
  sign(directory, machine=locks._machine(), process=os.getpid(), started=locks._started(os.getpid()))
  with pytest.raises(locks.Elsewhere), locks.lock(directory):
    pass


def test_a_silent_holder_elsewhere_is_waited_for_and_then_taken_over_from(directory, monkeypatch):
  """As after a reboot: the process numbers of another machine, or of the time before, mean nothing here."""
  monkeypatch.setattr(locks, 'PATIENCE', 0.5)
  sign(directory, process=os.getpid())
  said = []
  with locks.lock(directory, say=said.append) as still_held:
    still_held()
    assert (directory / 'locks' / '1').exists()
  assert len(said) == 1 and 'on elsewhere was working on this: waiting' in said[0]


def test_a_holder_elsewhere_that_gives_signs_of_life_is_left_alone(directory, monkeypatch):
  monkeypatch.setattr(locks, 'PATIENCE', 20.0)
  sign(directory)
  assert locks.holder(directory) and locks.is_alive(directory) is None
  sign(directory, beat=1)
  assert locks.is_alive(directory) is True
  with pytest.raises(locks.Elsewhere, match='on elsewhere'), locks.lock(directory):
    pass


def test_a_sleeper_that_was_taken_over_from_may_not_write(directory):
  with locks.lock(directory) as still_held:
    still_held()
    sign(directory, number=1)
    with pytest.raises(locks.Elsewhere, match='has taken over'):
      still_held()
  assert locks.holder(directory) == 'process 1 on elsewhere'


def test_a_holder_whose_disk_has_gone_may_not_write(directory):
  with locks.lock(directory) as still_held:
    directory.rename(directory.with_name('away'))
    with pytest.raises(UserError, match='has gone'):
      still_held()


def test_a_checkpoint_that_was_on_its_way_when_the_disk_went_counts_for_nothing(directory, monkeypatch):
  away, state = directory.with_name('away'), {'step': np.int32(1)}
  with locks.lock(directory) as still_held, contextlib.closing(Checkpoints(directory / 'checkpoints')) as saved:
    saved.save(1, state, still_held=still_held)
    monkeypatch.setattr(saved, '_need_space', lambda size: directory.rename(away))  # the moment before Orbax writes
    with pytest.raises(UserError, match='has gone'):
      saved.save(2, state, still_held=still_held)
  assert (directory / 'checkpoints' / '2').exists()  # where the disk had been
  for place, restored in ((directory, None), (away, state)):
    with contextlib.closing(Checkpoints(place / 'checkpoints')) as found:
      assert found.restore(say=lambda line: None) == restored


def test_a_checkpoint_that_a_sleeper_put_there_too_late_is_saved_anew(directory):
  directory.mkdir()
  state = {'step': np.int32(1)}
  with contextlib.closing(Checkpoints(directory / 'checkpoints')) as sleeping:
    sleeping.save(1, {'step': np.int32(0)})
  (directory / 'checkpoints' / '1' / CHECKSUMS).unlink()  # as where it has lost its lock before these were written
  with contextlib.closing(Checkpoints(directory / 'checkpoints')) as awake:
    awake.save(1, state)
    assert awake.restore() == state


def test_a_sleeper_cannot_put_in_place_what_it_had_written_before(tmp_path):
  """It has asked whether it still holds the run, falls asleep, and wakes up when another has gone on."""
  path = tmp_path / 'metrics.jsonl'

  def take_over():
    objects.discard_unfinished(path)
    objects.replace(path, 'new')

  with pytest.raises(UserError, match='cannot write'):
    objects.replace(path, 'old', before=take_over)
  assert path.read_text() == 'new' and list(tmp_path.iterdir()) == [path]


def test_a_holder_gives_signs_of_life(directory, monkeypatch):
  monkeypatch.setattr(locks, 'HEARTBEAT', 0.02)
  with locks.lock(directory):
    path = directory / 'locks' / '0'
    seen = set()
    deadline = time.monotonic() + 10
    while len(seen) < 4 and time.monotonic() < deadline:
      seen.add(path.read_text())
    assert len(seen) >= 4


def test_a_lock_that_cannot_be_read_is_held_until_time_tells(directory, monkeypatch):
  monkeypatch.setattr(locks, 'PATIENCE', 0.3)
  sign(directory).write_text('{"host":')
  assert locks.is_alive(directory) is None and locks.holder(directory) == 'another process'
  with locks.lock(directory):
    pass
