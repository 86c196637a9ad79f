"""One run, one process: whoever else comes, dies, sleeps or wakes up."""

import json
import os
import subprocess
import sys
import time

import pytest
from etils import epath

from zeroinit import claims


@pytest.fixture
def directory(tmp_path):
  return epath.Path(tmp_path / 'run')


def sign(directory, number=0, **fields):
  """A claim as another worker would leave it."""
  path = directory / 'claims' / str(number)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps({'host': 'elsewhere', 'machine': 'elsewhere', 'process': 1, 'beat': 0, **fields}))
  return path


def test_a_run_has_one_holder_at_a_time(directory):
  with claims.claim(directory) as still_held:
    still_held()
    assert claims.holder(directory) == f'process {os.getpid()} on {os.uname().nodename}'
    with pytest.raises(claims.Elsewhere, match=f'worked on by process {os.getpid()}'), claims.claim(directory):
      pass
  assert claims.holder(directory) is None
  with claims.claim(directory):
    pass


def test_what_a_dead_process_of_this_machine_held_is_free_at_once(directory):
  process = subprocess.run([sys.executable, '-c', 'import os; print(os.getpid())'], capture_output=True, text=True)
  sign(directory, machine=claims._machine(), process=int(process.stdout))
  with claims.claim(directory) as still_held:
    still_held()


def test_the_process_numbers_of_another_machine_mean_nothing_here(directory):
  sign(directory, process=2**22 + 1)  # no such process here
  with pytest.raises(claims.Elsewhere, match='on elsewhere'), claims.claim(directory):
    pass


def test_a_holder_elsewhere_is_given_time_and_then_taken_over_from(directory, monkeypatch):
  monkeypatch.setattr(claims, 'PATIENCE', 0.3)
  path = sign(directory)
  for beat in range(3):
    assert claims.holder(directory)
    time.sleep(0.2)
    sign(directory, beat=beat + 1)
  assert claims.holder(directory) and claims.seen_alive(directory)
  time.sleep(0.4)
  with claims.claim(directory) as still_held:
    still_held()
    assert (directory / 'claims' / '1').exists() and path.exists()


def test_a_sleeper_that_was_taken_over_from_may_not_write(directory):
  with claims.claim(directory) as still_held:
    still_held()
    sign(directory, number=1)
    with pytest.raises(claims.Elsewhere, match='has taken over'):
      still_held()
  assert claims.holder(directory) == 'process 1 on elsewhere'


def test_a_holder_gives_signs_of_life(directory, monkeypatch):
  monkeypatch.setattr(claims, 'HEARTBEAT', 0.02)
  with claims.claim(directory):
    path = directory / 'claims' / '0'
    seen = set()
    deadline = time.monotonic() + 10
    while len(seen) < 4 and time.monotonic() < deadline:
      seen.add(path.read_text())
    assert len(seen) >= 4


def test_a_claim_that_is_half_written_is_held(directory):
  sign(directory).write_text('{"host":')
  with pytest.raises(claims.Elsewhere), claims.claim(directory):
    pass
