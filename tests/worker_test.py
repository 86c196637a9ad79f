"""Workers on one study: every cell once, whoever dies; one compilation for each program."""

import json
import random
import re
import signal
import time

import command
import pytest

from zeroinit.studies import manifest, sweeps
from zeroinit.studies.cells import make_cell

pytestmark = pytest.mark.usefixtures('programs_apart')

OUTCOME = ('status', 'steps', 'test_accuracy', 'test_cross_entropy', 'train_loss', 'train_cross_entropy', 'train_l2')

# Keeps compiled programs where users' workers do, in the study's directory.
THE_STUDYS = {'JAX_COMPILATION_CACHE_DIR': ''}


def begin(workdir, methods=('none', 'zeroinit'), rates=(2.0**-6, 2.0**-4, 2.0**-2), **axes):
  """A study of small runs."""
  axes = {'depth': [10], 'learning_rate': list(rates), 'epochs': [0.5], 'evaluations': [2], **axes}
  cells = sweeps.expand(sweeps.named_study('digits')[0], axes, methods)
  return manifest.begin(workdir, 'digits', 'Small.', cells)


def outcomes(study):
  return {identity: [result[name] for name in OUTCOME] for identity, result in study.results().items()}


def locks_of(study):
  """{identity: what its locks say, in order}"""
  paths = {cell.identity: sorted((study.directory(cell) / 'locks').glob('[0-9]*'), key=lambda path: int(path.name))
           for cell in study.cells}
  return {identity: [json.loads(path.read_text()) for path in of] for identity, of in paths.items()}


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
  """A study that one worker did, and what the worker said."""
  study = begin(tmp_path_factory.mktemp('alone') / 'study')
  code, output, errors = command.run('zeroinit.studies.worker', f'--workdir={study.workdir}', **THE_STUDYS)
  assert code == 0, errors
  return study, output


@pytest.mark.slow
def test_every_cell_is_done_and_each_program_compiled_once(alone):
  study, output = alone
  assert len(study.results()) == 6
  assert {len(locks) for locks in locks_of(study).values()} == {1}
  assert '6 done here, 2 training programs compiled and 0 taken from disk' in output
  assert not list(study.workdir.glob('cells/*/checkpoints'))


@pytest.mark.slow
def test_another_worker_finds_nothing_to_do(alone):
  study, _ = alone
  before = outcomes(study)
  code, output, _ = command.run('zeroinit.studies.worker', f'--workdir={study.workdir}')
  assert code == 0 and '0 done here' in output
  assert outcomes(study) == before


@pytest.mark.slow
def test_a_later_worker_takes_programs_from_disk(alone):
  study, _ = alone
  grown = manifest.begin(study.workdir, study.name, study.document,
                        [*study.cells, *begin(study.workdir.parent / 'other', rates=[2.0**-5]).cells])
  code, output, errors = command.run('zeroinit.studies.worker', f'--workdir={study.workdir}', '--keep_checkpoints',
                                     **THE_STUDYS)
  assert code == 0 and '2 done here, 0 training programs compiled and 2 taken from disk' in output, errors
  assert len(grown.results()) == 8
  assert len(list(study.workdir.glob('cells/*/checkpoints'))) == 2


@pytest.mark.slow
def test_only_the_cells_it_is_given(tmp_path):
  study = begin(tmp_path / 'study')
  code, _, errors = command.run('zeroinit.studies.worker', f'--workdir={study.workdir}', '--cells=1,4-5')
  assert code == 0, errors
  assert set(study.results()) == {study.cells[i].identity for i in (1, 4, 5)}


@pytest.mark.slow
@pytest.mark.parametrize('flags, expected', [
    ('--workdir=W', 'holds no study'), ('--workdir=S --cells=6', 'there is no cell 6: the study has 6, counted from 0'),
    ('--workdir=S --cells=a', 'write indices'), ('', 'workdir'), ('--workdir=S --coordinator=x:1', 'belong together')])
def test_mistakes(tmp_path, flags, expected):
  if '=S' in flags:
    begin(tmp_path / 'study')
  flags = flags.replace('=W', f'={tmp_path}/nothing').replace('=S', f'={tmp_path}/study')
  code, _, errors = command.run('zeroinit.studies.worker', *flags.split())
  assert code not in (0, None) and expected in errors and 'Traceback' not in errors


def test_a_missing_data_set_stops_the_study_with_one_line(tmp_path):
  cells = sweeps.expand(sweeps.named_study('table1')[0], {'data_dir': [str(tmp_path)]}, ['none'])
  manifest.begin(tmp_path / 'study', 'table1', '', cells)
  code, _, errors = command.run('zeroinit.studies.worker', f'--workdir={tmp_path}/study')
  assert code == 2 and 'Traceback' not in errors and str(tmp_path) in errors


def test_a_cell_that_fails_does_not_stop_the_others(tmp_path):
  """A bug, or too little memory: neither is the user's mistake."""
  file = tmp_path / 'mine.py'
  file.write_text('import zeroinit\n'
                  'def get_config(method):\n'
                  '  return zeroinit.load_config(f"digits:{method}")\n')
  overrides = {'depth': 10, 'epochs': 0.5}
  cells = [make_cell(f'{file}:none', {**overrides, 'learning_rate': rate}) for rate in (0.1, 0.2)]
  study = manifest.begin(tmp_path / 'study', 'mine', '', cells)
  copy = study.files / 'mine.py'
  copy.write_text('import zeroinit\n'
                  'from zeroinit.runs import train\n'
                  'original = train._Training._evaluate\n'
                  'def evaluate(self):\n'
                  '  if self.config.learning_rate == 0.1: raise MemoryError("RESOURCE_EXHAUSTED: 1 TB")\n'
                  '  original(self)\n'
                  'train._Training._evaluate = evaluate\n'
                  'def get_config(method):\n'
                  '  return zeroinit.load_config(f"digits:{method}")\n')
  code, output, errors = command.run('zeroinit.studies.worker', f'--workdir={study.workdir}')
  assert code == 0 and 'cell 0 failed' in output, errors
  assert study.failures() == {cells[0].identity: 'MemoryError: RESOURCE_EXHAUSTED: 1 TB'}
  assert set(study.results()) == {cells[1].identity}


def launch(study, workers):
  return [command.start('zeroinit.studies.worker', f'--workdir={study.workdir}') for _ in range(workers)]


@pytest.mark.slow
@pytest.mark.parametrize('seed', [1, 2])
def test_two_of_four_workers_are_killed(tmp_path, alone, seed):
  study = begin(tmp_path / 'study')
  rng = random.Random(seed)
  workers = launch(study, 4)
  victims = rng.sample(workers, 2)
  deadline = time.monotonic() + 300
  for victim in victims:
    finished = rng.randrange(3)  # how many cells are over at that moment, at least
    while len(study.finished()) < finished and victim.poll() is None and time.monotonic() < deadline:
      time.sleep(0.01)
    time.sleep(rng.uniform(0, 4))
    victim.kill()
  for worker in workers:
    _, errors = worker.communicate(timeout=600)
    assert worker.returncode in ((0, -signal.SIGKILL) if worker in victims else (0,)), errors
  assert outcomes(study) == outcomes(alone[0])
  dead = {victim.pid for victim in victims}
  for locks in locks_of(study).values():  # nobody took over from a living worker before it had let go
    assert all(lock['process'] in dead or lock.get('released') for lock in locks[:-1])
  print(f'{sum(len(locks) - 1 for locks in locks_of(study).values())} cells taken over')


@pytest.mark.slow
def test_a_worker_that_is_asked_to_stop_lets_go(tmp_path):
  study = begin(tmp_path / 'study', methods=['none'], epochs=[2000.0])
  worker = command.start('zeroinit.studies.worker', f'--workdir={study.workdir}')
  while 'compiled in' not in worker.stdout.readline():  # it trains
    assert worker.poll() is None
  worker.terminate()
  _, errors = worker.communicate(timeout=120)
  assert worker.returncode == 143, errors
  claim = next(iter(study.workdir.glob('cells/*/locks/0')))
  assert json.loads(claim.read_text())['released'] is True


@pytest.mark.slow
def test_two_processes_work_as_one(tmp_path, alone):
  """As the hosts of a TPU pod do, through the same entry point."""
  study = begin(tmp_path / 'study')
  workers = command.start_together(2, 'zeroinit.studies.worker', f'--workdir={study.workdir}')
  for i, worker in enumerate(workers):
    output, errors = worker.communicate(timeout=600)
    assert worker.returncode == 0, errors
    assert bool(re.search('6 done here', output)) == (i == 0), output  # the first speaks for all
  results = study.results()
  assert {result['device'] for result in results.values()} == {'2 x cpu'}
  assert {len(locks) for locks in locks_of(study).values()} == {1}
  for identity, outcome in outcomes(alone[0]).items():
    if identity in results and results[identity]['status'] == 'done' and results[identity]['learning_rate'] < 0.1:
      assert results[identity]['train_loss'] == pytest.approx(outcome[OUTCOME.index('train_loss')], rel=1e-4)
