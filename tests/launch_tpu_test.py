"""The commands for Cloud TPU slices, read back as a shell reads them, and run against a stand-in."""

import json
import os
import shlex
import signal
import sys
import tempfile
import time

import command
import pytest

AWKWARD = "gs://bucket/it's; a study"
ARCHIVE = os.path.join(tempfile.gettempdir(), f'zeroinit-{os.getuid()}.tar.gz')
TPU = 'zeroinit.launch.tpu'
STUDY = ('--study=digits', '--methods=zeroinit')
WHERE = ('--tpu=slice-a,slice-b', '--zone=us-central2-b')

# Instead of gcloud: notes how it was called, and does to one host, this one, what an ssh to it would do.
GCLOUD = f'''#!{sys.executable}
import json, os, subprocess, sys
with open(os.environ['CALLS'], 'a') as calls:
  calls.write(json.dumps(sys.argv[1:]) + chr(10))
for argument in sys.argv:
  if argument.startswith('--command='):
    sys.exit(subprocess.call(['sh', '-c', argument.partition('=')[2]], cwd=os.environ['HOST']))
'''


def dry_run(*flags):
  code, output, errors = command.run(TPU, *STUDY, *WHERE, '--dry_run', *flags)
  assert code == 0, errors
  return [shlex.split(line) for line in output.splitlines()]


def gcloud(verb, *arguments):
  return ['gcloud', 'compute', 'tpus', 'tpu-vm', verb, *arguments, '--worker=all', '--zone=us-central2-b']


def remote(words):
  """The words that a host's shell makes of an ssh command."""
  return shlex.split(words[6].removeprefix('--command='))


def test_a_dry_run_prints_what_is_meant_for_every_slice():
  printed = dry_run(f'--workdir={AWKWARD}', '--keep_checkpoints')
  worker = ['python3', '-m', 'zeroinit.studies.worker', f'--workdir={AWKWARD}', '--keep_checkpoints', '--distributed']
  assert [words[:6] + words[7:] for words in printed] == [gcloud('ssh', 'slice-a'), gcloud('ssh', 'slice-b')]
  for words in printed:
    assert remote(words) == ['cd', '--', 'zeroinit', '&&', 'echo', '$$', '>', 'worker.pid', '&&', 'exec', *worker]


def test_an_installation_comes_before_the_work():
  archive, *rest = dry_run(f'--workdir={AWKWARD}', '--install', '--directory=my code', '--python=/opt/a b/python',
                           '--project=p')
  assert archive == ['git', '-C', str(command.ROOT), 'archive', f'--output={ARCHIVE}', 'HEAD']
  for name, (copy, install, work) in zip(('slice-a', 'slice-b'), (rest[:3], rest[3:]), strict=True):
    assert copy == [*gcloud('scp', ARCHIVE, f'{name}:'), '--project=p']
    assert remote(install) == ['mkdir', '-p', '--', 'my code', '&&', 'cd', '--', 'my code', '&&',
                               'tar', '-xzf', f'~/{os.path.basename(ARCHIVE)}', '&&',
                               '/opt/a b/python', '-m', 'pip', 'install', '-e', '.[tpu]']
    assert remote(work)[:3] == ['cd', '--', 'my code']
    assert remote(work)[-5:] == ['/opt/a b/python', '-m', 'zeroinit.studies.worker', f'--workdir={AWKWARD}',
                                 '--distributed']


@pytest.fixture
def host(tmp_path):
  """Environment with the stand-in for gcloud, whose host has the checkout and a python that is written by the test."""
  for directory in ('bin', 'host/zeroinit'):
    (tmp_path / directory).mkdir(parents=True)
  (tmp_path / 'bin' / 'gcloud').write_text(GCLOUD)
  (tmp_path / 'bin' / 'gcloud').chmod(0o755)
  return {'PATH': f'{tmp_path}/bin:{os.environ["PATH"]}', 'CALLS': str(tmp_path / 'calls'),
          'HOST': str(tmp_path / 'host')}


def write_worker(tmp_path, script):
  worker = tmp_path / 'host' / 'worker'
  worker.write_text(f'#!{sys.executable}\n{script}')
  worker.chmod(0o755)
  return worker


def test_a_shell_gives_the_worker_its_flags_and_output_says_where_it_comes_from(host, tmp_path):
  worker = write_worker(tmp_path, 'import sys; print(sys.argv[1:])')
  workdir = tmp_path / "it's; a study"
  code, output, errors = command.run(TPU, *STUDY, *WHERE, f'--workdir={workdir}', f'--python={worker}', **host)
  assert (code, errors) == (0, '')
  said = str(['-m', 'zeroinit.studies.worker', f'--workdir={workdir}', '--distributed'])
  assert sorted(output.splitlines()[:2]) == [f'slice-a: {said}', f'slice-b: {said}']
  assert '10 of 10 cells have not finished' in output and (workdir / 'report.html').exists()
  assert len(json.loads((workdir / 'manifest.json').read_text())['cells']) == 10


def test_a_slice_that_fails_is_named(host, tmp_path):
  worker = write_worker(tmp_path, 'import sys; sys.exit("no chip")')
  code, output, errors = command.run(TPU, *STUDY, '--tpu=slice-a', '--zone=z', f'--workdir={tmp_path}/study',
                                     f'--python={worker}', **host)
  assert code == 2
  assert 'slice-a: no chip' in output
  assert errors.splitlines()[-1] == 'error: slice-a failed, as said above; the same command goes on'


@pytest.mark.slow
def test_an_interrupt_reaches_the_workers_behind_ssh(host, tmp_path):
  worker = write_worker(tmp_path, 'import signal, sys, time\n'
                        'signal.signal(signal.SIGTERM, lambda *_: (print("saved"), sys.exit(143)))\n'
                        'print("begun", flush=True)\ntime.sleep(60)\n')
  process = command.start('zeroinit.launch.tpu', *STUDY, '--tpu=slice-a', '--zone=z', f'--workdir={tmp_path}/study',
                          f'--python={worker}', **host)
  assert process.stdout.readline() == 'slice-a: begun\n'
  began = time.monotonic()
  process.send_signal(signal.SIGINT)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 130
  assert output.splitlines() == ['stopping the workers, which save their state; the same command goes on',
                                 'slice-a: saved']
  assert time.monotonic() - began < 30


def test_a_mistake_is_one_line():
  mistakes = {
      '--zone': ['--tpu=a'], '--tpu=NAME': ['--tpu=', '--zone=z', '--workdir=gs://b/d'],
      '--workdir=': ['--tpu=a', '--zone=z'], 'gs://BUCKET/DIRECTORY': ['--tpu=a', '--zone=z', '--workdir=runs/here']}
  ran = command.run_all([[TPU, *STUDY, '--dry_run', *flags] for flags in mistakes.values()])
  for (code, said), expected in zip(ran, mistakes, strict=True):
    assert code == 2
    command.assert_one_line(code, said, expected)


def test_without_gcloud_it_says_so(tmp_path):
  code, _, errors = command.run(TPU, *STUDY, *WHERE, f'--workdir={tmp_path}/study', PATH=str(tmp_path))
  assert code == 2
  assert errors.startswith('error: there is no gcloud here') and errors.count('\n') == 1
