"""Several processes train as one: the losses of one process, one record, one stop, and any number of them go on."""

import json
import re
import signal
import socket
import time

import command
import imagenet_copies
import numpy as np
import pytest

from zeroinit.system import processes, watch

pytestmark = pytest.mark.usefixtures('programs_apart')

STEPS = 20


@pytest.fixture(scope='module')
def flags(request, tmp_path_factory):
  """A run of 20 steps, each of which is recorded: from a data set on the devices, and from one that streams."""
  common = ['--config.depth=10', '--config.width=1', '--config.batch_size=16', '--config.learning_rate=1e-3',
            '--config.evaluations=20', '--config.tensorboard=False']
  if request.param == 'digits':
    return ['--config=configs/digits.py:ghost_norm', '--config.epochs=0.2247', '--config.method.ghost_size=8', *common]
  data_dir = tmp_path_factory.mktemp('data')
  imagenet_copies.write(data_dir, {'train': imagenet_copies.examples(0, 48),
                                   'validation': imagenet_copies.examples(48, 10)})
  return ['--config=configs/imagenet.py:ghost_norm', f'--config.data_dir={data_dir}', '--config.network=wide_resnet',
          '--config.image_size=16', '--config.epochs=6.667', '--config.eval_batch_size=8', '--config.micro_batches=2',
          '--config.dtype=float32', '--config.method.ghost_size=8', *common]


@pytest.fixture(scope='module')
def alone(flags, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('alone') / 'run'
  code, _, errors = command.run('zeroinit.main', *flags, f'--workdir={workdir}')
  assert code == 0, errors
  return workdir


def records(workdir):
  return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def losses(workdir, steps):
  names = 'train_cross_entropy', 'test_cross_entropy'
  return np.array([[record[name] for name in names] for record in records(workdir)
                   if record['step'] in steps])


def untimed(workdir):
  timed = ('seconds', 'images_per_second', 'waited_for_data')
  return [{name: value for name, value in record.items() if name not in timed} for record in records(workdir)]


def finish(group, codes=(0,)):
  for process in group:
    output, errors = process.communicate(timeout=600)
    assert process.returncode in codes, output + errors
    assert 'Traceback' not in errors


@pytest.mark.slow
@pytest.mark.parametrize('flags', ['digits', 'imagenet'], indirect=True)
def test_two_are_one(flags, alone, tmp_path):
  finish(command.start_together(2, 'zeroinit.main', *flags, f'--workdir={tmp_path}/run'))
  assert len(records(alone)) == STEPS
  np.testing.assert_allclose(losses(tmp_path / 'run', range(11)), losses(alone, range(11)), rtol=1e-5)
  result = json.loads((tmp_path / 'run' / 'result.json').read_text())
  assert result['device'] == '2 x cpu' and result['steps'] == STEPS


def end_within(group, seconds):
  """The exit codes, and what was said on standard error."""
  deadline = time.monotonic() + seconds
  errors = [process.communicate(timeout=max(1, deadline - time.monotonic()))[1] for process in group]
  return [process.returncode for process in group], errors


@pytest.mark.slow
@pytest.mark.parametrize('flags, count, victim', [('digits', 2, 1), ('digits', 4, 0)], indirect=['flags'])
def test_one_is_killed(flags, alone, tmp_path, count, victim):
  """While they compile, when nobody waits for it in a collective operation."""
  flags = [*flags, f'--workdir={tmp_path}/run']
  group = command.start_together(count, 'zeroinit.main', *flags, JAX_ENABLE_COMPILATION_CACHE='false')
  while 'Total:' not in group[0].stdout.readline():
    assert group[0].poll() is None
  group[victim].kill()
  codes, errors = end_within(group, 10)
  assert codes == [-signal.SIGKILL if i == victim else 2 for i in range(count)], errors
  assert all('error: another process of this run has ended' in error for i, error in enumerate(errors) if i != victim)
  finish(command.start_together(count, 'zeroinit.main', *flags))
  np.testing.assert_allclose(losses(tmp_path / 'run', range(11)), losses(alone, range(11)), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('flags, victim', [('digits', 0), ('digits', 1)], indirect=['flags'])
def test_one_is_stopped(flags, tmp_path, victim):
  flags = [*flags, '--config.epochs=200', f'--workdir={tmp_path}/run']
  group = command.start_together(2, 'zeroinit.main', *flags)
  while 'epoch' not in group[0].stdout.readline():
    assert group[0].poll() is None
  group[victim].send_signal(signal.SIGSTOP)
  codes, errors = end_within([group[1 - victim]], watch.PATIENCE + 20)
  assert codes == [2] and f'given no sign of life for {watch.PATIENCE:.0f} s' in errors[0], errors
  group[victim].send_signal(signal.SIGCONT)
  codes, errors = end_within([group[victim]], 10)
  if victim and codes == [-signal.SIGABRT]:  # jax was faster to notice that the first process had gone
    return
  assert codes == [2] and 'error: another process of this run' in errors[0], errors


@pytest.mark.slow
@pytest.mark.parametrize('flags', ['digits'], indirect=True)
def test_one_is_slow(flags, alone, tmp_path):
  group = command.start_together(2, 'zeroinit.main', *flags, f'--workdir={tmp_path}/run')
  while group[1].poll() is None:
    group[1].send_signal(signal.SIGSTOP)
    time.sleep(0.2)
    group[1].send_signal(signal.SIGCONT)
    time.sleep(0.1)
  finish(group)
  np.testing.assert_allclose(losses(tmp_path / 'run', range(11)), losses(alone, range(11)), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('flags', ['imagenet'], indirect=True)
@pytest.mark.parametrize('then', [2, 4, 1])
def test_sigterm_to_one_stops_all_at_one_step_and_any_number_goes_on(flags, alone, tmp_path, then):
  workdir = tmp_path / 'run'
  group = command.start_together(2, 'zeroinit.main', *flags, f'--workdir={workdir}')
  deadline = time.monotonic() + 300
  while not (workdir / 'metrics.jsonl').exists() and time.monotonic() < deadline:
    time.sleep(0.01)
  group[1].send_signal(signal.SIGTERM)
  finish(group, codes=(143,))
  stopped = {int(path.name) for path in (workdir / 'checkpoints').iterdir()}
  assert len(stopped) == 1 and 0 < max(stopped) < STEPS
  finish(command.start_together(then, 'zeroinit.main', *flags, f'--workdir={workdir}'))
  assert [record['step'] for record in records(workdir)] == list(range(1, STEPS + 1))
  np.testing.assert_allclose(losses(workdir, range(max(stopped) + 11)), losses(alone, range(max(stopped) + 11)),
                             rtol=1e-5)
  if then == 2:
    whole = tmp_path / 'whole'
    finish(command.start_together(2, 'zeroinit.main', *flags, f'--workdir={whole}'))
    assert untimed(workdir) == untimed(whole)


@pytest.mark.slow
@pytest.mark.parametrize('bad', [43, 30])
def test_an_image_that_one_process_cannot_read_ends_all(tmp_path, bad):
  """The first update needs both: 43 is for the first process, 30 for the second."""
  examples = imagenet_copies.examples(0, 48)
  examples[bad] = (examples[bad][0], examples[bad][1][:300], examples[bad][2])
  data_dir = imagenet_copies.write(tmp_path / 'data', {'train': examples, 'validation': examples[:10]})
  flags = ['--config=configs/imagenet.py:none', '--config.network=wide_resnet', '--config.depth=10', '--config.width=1',
           '--config.image_size=16', '--config.batch_size=16', f'--config.data_dir={data_dir}']
  group = command.start_together(2, 'zeroinit.main', *flags, f'--workdir={tmp_path}/run')
  ends = [(process.communicate(timeout=100)[1], process.returncode) for process in group]  # not at jax's leisure
  said, code = ends[0 if bad == 43 else 1]
  assert code == 2 and re.fullmatch(f'error: record {bad} of imagenet2012 train .* cannot be used: .*\n', said)
  assert all(code != 0 for _, code in ends)


@pytest.mark.slow
@pytest.mark.parametrize('flags_of_two, says', [
    (('--config.seed=0', '--config.seed=1'), ['different settings or workdirs'] * 2),
    (('', '--config.dataset=cifar10 --config.data_dir=/nowhere'), ['different settings'] * 2),
    (('--config.dataset=cifar10 --config.data_dir=HERE', '--config.dataset=cifar10 --config.data_dir=/nowhere'),
     ['another process of this run has ended', 'no CIFAR-10 in /nowhere'])])
def test_what_differs_between_processes_is_said_by_all(tmp_path, real_cifar10, flags_of_two, says):
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  group = [command.start('zeroinit.main', '--config=configs/digits.py', f'--workdir={tmp_path}/run',
                         *flags.replace('HERE', str(real_cifar10)).split(), f'--coordinator=localhost:{port}',
                         '--processes=2', f'--process={i}') for i, flags in enumerate(flags_of_two)]
  for process, expected in zip(group, says, strict=True):
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 2 and expected in errors and 'Traceback' not in errors, errors
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('environment, expected', [
    ({}, False), ({'SLURM_STEP_NUM_TASKS': '1'}, False), ({'SLURM_STEP_NUM_TASKS': '4'}, True),
    ({'OMPI_COMM_WORLD_SIZE': '2'}, True), ({'TPU_WORKER_HOSTNAMES': 'a'}, False),
    ({'TPU_WORKER_HOSTNAMES': 'a,b'}, True)])
def test_a_cluster_is_seen(monkeypatch, environment, expected):
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  assert processes.expects_others() == expected
