"""Runs a study on Cloud TPU slices: one worker on each, which takes one cell after another.

  zeroinit tpu figure1 --workdir=gs://BUCKET/figure1 --tpu=NAME --zone=ZONE --install
  zeroinit tpu figure1 --workdir=gs://BUCKET/figure1 --tpu=NAME,NAME2 --zone=ZONE --dry_run

The slices exist already, gcloud has been on each of them once (which makes the key for `ssh-add
~/.ssh/google_compute_engine`), and all their hosts, and this machine, can write to the workdir. --install copies the
committed state of this checkout to every host and installs it there. A cell is trained by all hosts of a slice
together, so the command goes to all of them at once (--worker=all): if one is left out, the start-up of the others
hangs (https://github.com/jax-ml/jax/issues/22436).

`gcloud compute tpus tpu-vm` gets fixes only. Capacity is now mostly asked for with
`gcloud compute tpus queued-resources create`, whose nodes have names that are given here as --tpu; TPU7x and later are
reached through Compute Engine or GKE instead, where `zeroinit work --workdir=DIR --distributed` on every host does the
same.
"""

import itertools
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

from absl import flags

import zeroinit
from zeroinit import command_line
from zeroinit.launch import begin
from zeroinit.system import environment
from zeroinit.system.errors import UserError

ARCHIVE = os.path.join(tempfile.gettempdir(), f'zeroinit-{os.getuid()}.tar.gz')  # and of that name on the hosts
PID_FILE = 'worker.pid'

_TPU = flags.DEFINE_list('tpu', None, 'Names of the slices.')
_ZONE = flags.DEFINE_string('zone', None, 'Zone of the slices.')
_PROJECT = flags.DEFINE_string('project', None, "Their project; by default that of gcloud's configuration.")
_DIRECTORY = flags.DEFINE_string('directory', 'zeroinit', 'Where the checkout lies on the hosts, seen from the home.')
_PYTHON = flags.DEFINE_string('python', 'python3', 'Python 3.11 or newer on the hosts.')
_INSTALL = flags.DEFINE_boolean('install', False, 'First copy this checkout to the hosts, and install it there.')
_DRY_RUN = flags.DEFINE_boolean('dry_run', False, 'Print the commands, and stop; nothing is written either.')
flags.adopt_module_key_flags(begin)  # so that --help shows them


def main(argv):
  if not begin.LIST.value:
    _check_flags(begin.WORKDIR.value or '')
  study = begin.begin(write=not _DRY_RUN.value)
  if study is None:
    return
  checkout = str(pathlib.Path(zeroinit.__file__).parents[1])
  if _INSTALL.value and environment.git_revision() is None:
    raise UserError('--install copies a checkout, and this zeroinit is installed without one: leave it out, and '
                    'install zeroinit on the hosts')
  archive = ['git', '-C', checkout, 'archive', f'--output={ARCHIVE}', 'HEAD']
  slices = {name: commands(name, study) for name in _TPU.value}
  if _DRY_RUN.value:
    for command in [archive] * _INSTALL.value + list(itertools.chain.from_iterable(slices.values())):
      print(shlex.join(command))
    return
  study.forget_failures()
  if _INSTALL.value and subprocess.run(archive).returncode:
    raise UserError('--install copies what is committed, and git could not pack it')
  from zeroinit.report import live, print_report  # takes a second to import, and --list need not wait for it
  with live(study.workdir):
    failed = _run(slices)
  print_report(study.workdir)
  if failed:
    raise UserError(f'{", ".join(failed)} failed, as said above; the same command goes on')
  begin.raise_failures(study)


def _check_flags(workdir):
  if workdir and '://' not in workdir and not os.path.isabs(workdir):
    raise UserError(f'--workdir={workdir} is not seen by the TPU hosts: use gs://BUCKET/DIRECTORY, or the absolute '
                    'path of a file system that is mounted on them and here')
  if not _TPU.value or any(not name or name.startswith('-') for name in _TPU.value):
    raise UserError(f'--tpu={",".join(_TPU.value or [])}: write the names of slices, --tpu=NAME,NAME2')
  if not _ZONE.value:
    raise UserError('say in which zone the slices are: --zone=ZONE')
  if not _DRY_RUN.value and not shutil.which('gcloud'):
    raise UserError('there is no gcloud here: install it (https://cloud.google.com/sdk), or see what it would be asked '
                    'to do with --dry_run')


def commands(name, study):
  """What is run for one slice, one after another, each as a list."""
  worker = shlex.join(begin.worker_command(study, '--distributed', python=_PYTHON.value))
  into = f'cd -- {shlex.quote(_DIRECTORY.value)}'
  # By its number the worker can be stopped: a process on the other side of ssh does not see Ctrl-C.
  work = _ssh(name, f'{into} && echo $$ > {PID_FILE} && exec {worker}')
  if not _INSTALL.value:
    return [work]
  unpack = f'mkdir -p -- {shlex.quote(_DIRECTORY.value)} && {into} && tar -xzf ~/{os.path.basename(ARCHIVE)}'
  install = shlex.join([_PYTHON.value, '-m', 'pip', 'install', '-e', '.[tpu]'])
  return [_gcloud('scp', ARCHIVE, f'{name}:'), _ssh(name, f'{unpack} && {install}'), work]


def _ssh(name, command):
  return _gcloud('ssh', name, f'--command={command}')


def _gcloud(verb, *arguments):
  where = [f'--zone={_ZONE.value}'] + ([f'--project={_PROJECT.value}'] if _PROJECT.value else [])
  return ['gcloud', 'compute', 'tpus', 'tpu-vm', verb, *arguments, '--worker=all', *where]


def _run(slices):
  """Runs the commands of all slices, which work at the same time. Returns the names of those where one failed."""
  failed, stopping = [], threading.Event()

  def work(name):
    if not all(_stream(name, command) for command in slices[name] if not stopping.is_set()):
      failed.append(name)

  threads = [threading.Thread(target=work, args=[name], daemon=True) for name in slices]
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
  except KeyboardInterrupt:
    stopping.set()
    print('stopping the workers, which save their state; the same command goes on', flush=True)
    stop = f'cd -- {shlex.quote(_DIRECTORY.value)} && kill -TERM "$(cat {PID_FILE})"'
    stops = [threading.Thread(target=_stream, args=[name, _ssh(name, stop)], daemon=True) for name in slices]
    for thread in stops:
      thread.start()
    for thread in stops + threads:
      thread.join()
    raise
  return failed


def _stream(name, command):
  """Runs a command and prints each line of its output after the name of the slice. Returns whether it succeeded."""
  # In a session of its own, so that Ctrl-C leaves the connection, and what is still to be printed, alone.
  with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                        text=True, errors='replace', start_new_session=True) as process:
    for line in process.stdout:
      print(f'{name}: {line}', end='', flush=True)
  if process.returncode:
    print(f'{name}: {command[4]} ended with exit code {process.returncode}', file=sys.stderr, flush=True)
  return not process.returncode


if __name__ == '__main__':
  command_line.run(main)
