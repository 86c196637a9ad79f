"""zeroinit/launch/slurm.py: what it submits, against stand-ins for Slurm's programs; and an array on a real Slurm."""

import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time

import command
import pytest

pytest.importorskip('submitit', reason='needs submitit: pip install -e ".[slurm]"')

STUDY = ('--study=digits', '--methods=zeroinit', '--set=depth=10,16')  # 2 programs of 5 cells each
AWKWARD = "it's; a study"

# sbatch keeps the script that it is given, or refuses; squeue says what stands in a file.
STAND_INS = {
    'sbatch': '[ ! -e "$FAKE/refuse" ] || { cat "$FAKE/refuse" >&2; exit 1; }\n'
              'cp "$1" "$FAKE/script"; echo Submitted batch job 7',
    'squeue': 'cat "$FAKE/queue" 2> /dev/null; true',
    'srun': 'exit 1',
}


@pytest.fixture
def slurm(tmp_path):
  """Environment in which Slurm's programs are stand-ins, and the directory they write to."""
  for name, script in STAND_INS.items():
    (tmp_path / name).write_text(f'#!/bin/sh\n{script}\n')
    (tmp_path / name).chmod(0o755)
  return {'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'FAKE': str(tmp_path)}


def submit(workdir, *flags, **environment):
  return command.run('zeroinit.launch.slurm', *STUDY, f'--workdir={workdir}', *flags, **environment)


def tasks_of(output):
  """The commands that a dry run lists, as a shell reads them."""
  return [shlex.split(line.partition(': ')[2]) for line in output.splitlines() if line.startswith('# task')]


def finish(workdir, indices):
  cells = json.loads((workdir / 'manifest.json').read_text())['cells']
  for index in indices:
    (workdir / 'cells' / cells[index]['identity']).mkdir(parents=True)
    (workdir / 'cells' / cells[index]['identity'] / 'result.json').write_text('{}')


def test_a_dry_run_shows_script_and_tasks_and_writes_nothing(tmp_path):
  workdir = tmp_path / AWKWARD
  code, output, errors = submit(workdir, '--cells_per_task=3', '--partition=gpu', '--array=2', '--slurm=account=my lab',
                                '--slurm=exclusive', '--keep_checkpoints', '--dry_run')
  assert (code, errors) == (0, '')
  assert not workdir.exists()
  worker = [sys.executable, '-m', 'zeroinit.studies.worker', f'--workdir={workdir}', '--keep_checkpoints']
  # 3 at a time, and never two programs in one task
  assert tasks_of(output) == [[*worker, f'--cells={cells}'] for cells in ('0,1,2', '3,4', '5,6,7', '8,9')]
  options = [shlex.split(line)[1] for line in output.splitlines() if line.startswith('#SBATCH')]
  assert {'--array=0-3%2', '--partition=gpu', '--account=my lab', '--cpus-per-task=8', '--exclusive', '--requeue',
          '--gpus-per-node=1', '--time=1440', f'--output={workdir}/slurm/%A_%a_0_log.out'} <= set(options)


@pytest.mark.slow
def test_what_is_done_or_queued_is_not_submitted(slurm, tmp_path):
  workdir = tmp_path / AWKWARD
  _, dry, _ = submit(workdir, '--dry_run', **slurm)
  code, output, errors = submit(workdir, **slurm)
  assert (code, errors) == (0, '')
  first, last = output.splitlines()
  assert first == (f'0 of 10 cells are done, 0 wait or run; submitted 10 in 10 tasks as job 7, with logs '
                   f'{workdir}/slurm/7_*')
  assert last.startswith(f'results: {workdir}; next: ')
  assert shlex.split(last.rpartition('next: ')[2]) == ['zeroinit', 'report', f'--workdir={workdir}']
  script = (tmp_path / 'script').read_text()
  assert dry.startswith(script)
  assert shlex.split(script.splitlines()[-1])[-1] == f'{workdir}/slurm'

  finish(workdir, [0, 1, 9])
  (tmp_path / 'queue').write_text('7_1\n7_2\n7_5\n99\n')  # 7_1 has only just written its result
  code, output, _ = submit(workdir, '--cells_per_task=5', **slurm)
  assert code == 0
  assert '3 of 10 cells are done, 2 wait or run; submitted 5 in 2 tasks' in output
  submitted = json.loads((workdir / 'slurm' / '7.json').read_text())
  identities = [cell['identity'] for cell in json.loads((workdir / 'manifest.json').read_text())['cells']]
  assert [[identities.index(cell) for cell in cells] for cells in submitted.values()] == [[3, 4], [6, 7, 8]]

  (tmp_path / 'queue').write_text('7_0\n7_1\n')
  finish(workdir, [2, 5])
  code, output, _ = submit(workdir, **slurm)
  assert (code, output.splitlines()[0]) == (0, '5 of 10 cells are done, 5 wait or run; there is nothing to submit')


def test_what_sbatch_refuses_is_one_line(slurm, tmp_path):
  (tmp_path / 'refuse').write_text('sbatch: error: Batch job submission failed: Invalid job array specification\n')
  code, output, errors = submit(tmp_path / 'study', **slurm)
  assert (code, output) == (2, '')
  assert errors.startswith('error: sbatch: error: Batch job submission failed: Invalid job array specification; ')
  assert errors.count('\n') == 1 and '--cells_per_task' in errors


def test_a_mistake_is_one_line(tmp_path):
  mistakes = {
      '--slurm=KEY=VALUE': ['--dry_run', '--slurm=qos='],
      'flag of zeroinit slurm': ['--dry_run', '--slurm=cpus-per-task=4'],
      'nodes share': ['--dry_run', '--workdir=gs://bucket/study'], 'no sbatch here': []}
  slurm = ['zeroinit.launch.slurm', *STUDY, f'--workdir={tmp_path}/study']
  ran = command.run_all([[*slurm, *flags] for flags in mistakes.values()], PATH=str(tmp_path))
  for (code, said), expected in zip(ran, mistakes, strict=True):
    assert code == 2
    command.assert_one_line(code, said, expected)
  assert not (tmp_path / 'study').exists()


WORKER = '''
import pathlib, signal, sys, time
begun, saved = pathlib.Path(sys.argv[1], 'begun'), pathlib.Path(sys.argv[1], 'saved')
if saved.exists():
  sys.exit(int(sys.argv[2]))
def save(*_):
  time.sleep(1)
  saved.touch()
  sys.exit(143)
signal.signal(signal.SIGTERM, save)
begun.touch()
time.sleep(60)
'''
# As Slurm does it, the signal goes to all processes of the task.
TASK = '''
import os, pathlib, signal, subprocess, sys, time
import submitit
from zeroinit.launch.slurm import Task
directory = sys.argv[1]
job = submitit.LocalExecutor(directory + '/log').submit(Task(), [sys.executable, '-c', sys.argv[2], *sys.argv[1:4:2]])
while not pathlib.Path(directory, 'begun').exists():
  time.sleep(0.1)
children = lambda process: open(f'/proc/{process}/task/{process}/children').read().split()
task, = children(job._process.pid)
for process in (task, *children(task)):
  os.kill(int(process), signal.SIGUSR2)
while not job.done():
  time.sleep(0.1)
print(job.stdout(), job.stderr(), job.paths.stdout, sep=chr(10))
'''


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists('/proc/self/task'), reason='needs Linux')
@pytest.mark.parametrize('code', [0, 2])
def test_a_task_saves_is_queued_again_and_ends_as_its_worker_does(code, tmp_path):
  ran = subprocess.run([sys.executable, '-c', TASK, tmp_path, WORKER, str(code)], cwd=command.ROOT, text=True,
                       capture_output=True, timeout=120)
  assert ran.returncode == 0, ran.stderr
  assert (tmp_path / 'saved').exists()
  assert 'Requeued' in ran.stdout
  assert ('Job completed successfully' in ran.stdout) == (code == 0)
  log = ran.stdout.split()[-1]
  assert (f'the worker ended with exit code 2; its log is {log}' in ran.stdout) == (code == 2)


@pytest.fixture
def real_slurm():
  """A function that runs a command where there is a Slurm, and gives what it prints."""
  unshare = ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc']
  if not shutil.which('apt-get') or not shutil.which('nsenter') or subprocess.call([*unshare, 'true']):
    pytest.skip('needs Debian or its like, root, and leave to make namespaces')
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.create_server(('localhost', 0))) for _ in range(2)]
    ports = [str(listening.getsockname()[1]) for listening in sockets]
  with subprocess.Popen([*unshare, command.ROOT / 'tests' / 'slurm_node.sh', *ports], stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE, text=True) as node:
    if node.stdout.readline() != 'ready\n':
      if node.wait() == 77:
        pytest.skip('needs the packages slurmctld, slurmd, slurm-client and munge from apt-get')
      pytest.fail('Slurm did not start')
    inside, = pathlib.Path(f'/proc/{node.pid}/task/{node.pid}/children').read_text().split()
    enter = ['nsenter', f'--target={inside}', '--mount', '--pid', f'--wd={command.ROOT}']

    def run(*words):
      ran = subprocess.run([*enter, *map(str, words)], text=True, capture_output=True, timeout=300)
      assert ran.returncode == 0, ran.stderr
      return ran.stdout

    yield run
    node.stdin.close()


def until(condition, seconds=900):
  """Waits for something, and gives it."""
  deadline = time.monotonic() + seconds
  while not (found := condition()):
    assert time.monotonic() < deadline, 'waited in vain'
    time.sleep(0.2)
  return found


@pytest.mark.slow
def test_an_array_on_a_real_slurm(real_slurm, tmp_path):
  workdir = tmp_path / AWKWARD
  launch = [sys.executable, '-m', 'zeroinit.launch.slurm', '--study=digits', '--methods=zeroinit,batch_norm',
            '--set=depth=10', '--set=epochs=12', '--set=learning_rate=2^-8,2^-7,2^-6,2^-5', '--seeds=1',
            f'--workdir={workdir}', '--gpus=0', '--cpus=1']
  submitted = real_slurm(*launch)
  assert '0 of 8 cells are done, 0 wait or run; submitted 8 in 8 tasks' in submitted
  job = re.search(r'as job (\d+)', submitted)[1]
  assert '0 of 8 cells are done, 8 wait or run; there is nothing to submit' in real_slurm(*launch)

  manifest = json.loads((workdir / 'manifest.json').read_text())
  cells = [workdir / 'cells' / cell['identity'] for cell in manifest['cells']]
  state = lambda task: real_slurm('squeue', '--noheader', '--array', '--format=%t', f'--jobs={job}_{task}').strip()
  all_over = lambda: not real_slurm('squeue', '--noheader')
  taken = lambda cell: (cells[cell] / 'locks' / '0').exists()

  until(lambda: taken(0))
  real_slurm('kill', '-KILL', json.loads((cells[0] / 'locks' / '0').read_text())['process'])
  until(lambda: taken(1))
  real_slurm('scontrol', 'requeue', f'{job}_1')
  until(lambda: state(1) == 'PD')
  real_slurm('scontrol', 'update', f'JobId={job}_1', 'StartTime=now')  # Slurm lets it wait for two minutes
  cancelled = next(cell for cell in range(2, 8) if not taken(cell))
  until(lambda: taken(cancelled))
  real_slurm('scancel', f'{job}_{cancelled}')

  until(all_over)
  finished = {index for index, cell in enumerate(cells) if (cell / 'result.json').exists()}
  assert finished == set(range(8)) - {0, cancelled}
  log = (workdir / 'slurm' / f'{job}_0_0_log.err').read_text()
  assert f'the worker ended with exit code -9; its log is {workdir}/slurm/{job}_0_0_log.out' in log
  assert '6 of 8 cells are done, 0 wait or run; submitted 2 in 2 tasks' in real_slurm(*launch)

  until(all_over)
  assert '8 of 8 cells are done, 0 wait or run; there is nothing to submit' in real_slurm(*launch)
  assert (workdir / 'report.md').exists()
  logs = ''.join(path.read_text() for path in (workdir / 'slurm').glob('*_log.out'))
  assert sum(int(done) for done in re.findall(r'(\d+) done here', logs)) == 8
  for index, cell in enumerate(cells):
    assert json.loads((cell / 'result.json').read_text())['status'] in ('done', 'diverged')
    assert len(list((cell / 'locks').iterdir())) == (2 if index in (0, 1, cancelled) else 1)
