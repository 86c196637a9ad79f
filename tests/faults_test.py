"""Faults in real runs and studies, see faults.py: a few kills, and every other kind once."""

import pytest

from tests import faults

pytestmark = pytest.mark.usefixtures('programs_apart')

SHORT_RUN = (*faults.RUN, '--config.epochs=2', '--config.evaluations=5')
SMALL_STUDY = ('--study=digits', '--methods=none,zeroinit', '--set=depth=10', '--set=learning_rate=2^-7,2^-6',
               '--set=epochs=2', '--set=evaluations=2', '--set=checkpoint_seconds=0', '--set=tensorboard=False',
               '--slots=2')


@pytest.fixture(scope='module')
def harness(tmp_path_factory):
  return faults.Harness(tmp_path_factory.mktemp('faults'), seed=37)  # whose first kills hit saving and recording


@pytest.mark.slow
def test_kills_of_a_run(harness):
  harness.training_signals(3, SHORT_RUN)
  assert sum(count for fault, count in harness.done.items() if fault.startswith('SIGKILL to training')) == 3, (
      harness.done)


@pytest.mark.slow
def test_kills_of_a_study(harness):
  harness.study_signals(3, SMALL_STUDY)


@pytest.mark.slow
def test_a_flipped_bit_in_a_result(harness):
  harness.damaged_record('result.json', 'bit-flipped', SHORT_RUN)


# By name: which there are depends on who runs the tests.
@pytest.mark.slow
@pytest.mark.parametrize('fault', [
    'checkpoint bit-flipped, all', 'metrics.jsonl removed', 'metrics.jsonl bit-flipped', 'file-size limit',
    'vanished data', 'race', 'full disk, 300,000 bytes left', 'read-only disk', 'vanished mount', 'sleeper'])
def test_other_faults(harness, fault):
  tasks = dict([*faults.others(harness), *faults.slow_others(harness)])
  if fault not in tasks:
    pytest.skip('needs root, for disks of its own')
  tasks[fault]()
