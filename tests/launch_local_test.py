"""The local launcher: a whole study from the command to the report, and stopping it."""

import re
import signal
import subprocess
import sys
import time

import command
import pytest

from zeroinit.studies import manifest

pytestmark = pytest.mark.usefixtures('programs_apart')

SMALL = ('--study=digits', '--methods=none,zeroinit', '--set=depth=10', '--set=learning_rate=2^-6,2^-4',
         '--set=epochs=0.5', '--set=evaluations=1')


@pytest.mark.slow
def test_a_study_from_the_command_to_the_report(tmp_path):
  code, output, errors = command.run('zeroinit.launch.local', *SMALL, f'--workdir={tmp_path}/study', '--slots=2',
                                     JAX_COMPILATION_CACHE_DIR='')
  assert code == 0, errors
  assert '4 cells, 0 of them done; 2 workers' in output
  assert len(re.findall(r'\[\d/4\] (none|zeroinit)_WRN-10-1_b64_r[\d.]+_s0: test accuracy 0\.\d{4}', output)) == 4
  workdir = tmp_path / 'study'
  assert 'Test accuracy' in output
  assert output.splitlines()[-1].startswith(f'results: {workdir}/report.html; next: ')
  assert {'report.md', 'report.html', 'results.csv', 'manifest.json'} <= {path.name for path in workdir.iterdir()}
  assert list(workdir.glob('*.png'))
  said = ''.join(path.read_text() for path in workdir.glob('workers/*.log'))
  compiled = sum(map(int, re.findall(r'(\d+) training programs compiled', said)))
  assert compiled == 2  # one for each method, whoever compiles it

  locks = set(workdir.glob('cells/*/locks/*'))
  code, output, errors = command.run('zeroinit.launch.local', *SMALL, f'--workdir={workdir}')
  assert code == 0 and '4 cells, 4 of them done' in output, errors
  assert set(workdir.glob('cells/*/locks/*')) == locks  # nothing was taken again


@pytest.mark.slow
def test_two_methods_and_two_depths_are_four_programs(tmp_path):
  code, _, errors = command.run('zeroinit.launch.local', '--study=digits', '--methods=none,fixup', '--set=depth=10,16',
                                '--set=evaluations=1', '--set=epochs=0.1', '--set=learning_rate=2^-8,2^-7',
                                f'--workdir={tmp_path}/study', '--slots=2', JAX_COMPILATION_CACHE_DIR='')
  assert code == 0, errors
  said = ''.join(path.read_text() for path in (tmp_path / 'study').glob('workers/*.log'))
  assert sum(map(int, re.findall(r'(\d+) training programs compiled', said))) == 4
  assert len(manifest.load_study(tmp_path / 'study').results()) == 8


@pytest.mark.slow
def test_stopped_by_a_signal_the_same_command_goes_on(tmp_path):
  workdir = tmp_path / 'study'
  flags = [flag.replace('epochs=0.5', 'epochs=12') for flag in SMALL] + [f'--workdir={workdir}', '--slots=2']
  launcher = command.start('zeroinit.launch.local', *flags)
  deadline = time.monotonic() + 120
  while not list(workdir.glob('cells/*/config.json')) and time.monotonic() < deadline:
    time.sleep(0.05)
  time.sleep(2)
  launcher.send_signal(signal.SIGTERM)
  output, errors = launcher.communicate(timeout=120)
  assert launcher.returncode == 143 and 'the same command goes on' in output and 'Traceback' not in errors, errors
  study = manifest.load_study(workdir)
  assert len(study.results()) < 4
  here = subprocess.run(['pgrep', '-f', f'zeroinit.studies.worker --workdir={workdir}'], capture_output=True, text=True)
  assert not here.stdout  # no worker is left behind

  code, output, errors = command.run('zeroinit.launch.local', *flags)
  assert code == 0, errors
  assert len(study.results()) == 4
  assert 'PARTIAL' not in output


@pytest.mark.slow
def test_a_killed_worker_is_replaced(tmp_path):
  workdir = tmp_path / 'study'
  launcher = command.start('zeroinit.launch.local', *SMALL, f'--workdir={workdir}', '--slots=1')
  deadline = time.monotonic() + 120
  while not list(workdir.glob('cells/*/config.json')) and time.monotonic() < deadline:
    time.sleep(0.02)
  subprocess.run(['pkill', '-KILL', '-f', f'zeroinit.studies.worker --workdir={workdir}'], check=True)
  output, errors = launcher.communicate(timeout=300)
  assert launcher.returncode == 0 and 'a worker was killed by SIGKILL; starting another' in output, errors
  assert len(manifest.load_study(workdir).results()) == 4


def test_one_line_where_the_data_set_is_missing(tmp_path):
  code, output, errors = command.run('zeroinit.launch.local', '--study=table1', '--methods=none', '--seeds=1',
                                     f'--set=data_dir={tmp_path}', f'--workdir={tmp_path}/study')
  assert code == 2 and len(errors.strip().splitlines()) == 1 and str(tmp_path) in errors, errors
  assert 'the same command goes on' in output


def test_without_a_device_it_says_so(tmp_path):
  code, _, errors = command.run('zeroinit.launch.local', *SMALL, f'--workdir={tmp_path}/study', JAX_PLATFORMS='nothing')
  assert code == 2 and 'no device' in errors and 'Traceback' not in errors


def test_help_is_quick_and_complete():
  result = subprocess.run([sys.executable, '-m', 'zeroinit.launch.local', '--help'], capture_output=True, text=True,
                          cwd=command.ROOT)
  for flag in ('study', 'workdir', 'set', 'methods', 'seeds', 'slots', 'extend', 'list', 'keep_checkpoints', 'config'):
    assert f'--{flag}' in result.stdout.replace('--[no]', '--')
