"""A study on this machine: worker processes, one per accelerator, until every cell is done; then its report.

  zeroinit study digits --workdir=runs/digits
  zeroinit study table1 --workdir=runs/table1 --set=epochs=10 --methods=zeroinit,none --seeds=3

The same command goes on where an earlier one was stopped, by Ctrl-C or in any other way. Further machines help as soon
as they run the same command on the same directory. Without accelerators the CPU's threads are divided among the
workers.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from absl import flags
from rich.console import Console

from zeroinit import command_line
from zeroinit.launch import begin
from zeroinit.runs import ending, run_directory
from zeroinit.runs.progress import duration
from zeroinit.system import objects
from zeroinit.system.errors import UserError

POLL_SECONDS = 0.5  # between two looks at the study
POLL_STORE_SECONDS = 10.0  # where each look lists the objects of a store
MOST_CPU_WORKERS = 8  # by default; each holds a network and its data set
RESTARTS = 3  # of one worker that was killed

_SLOTS = flags.DEFINE_integer('slots', None, f'Workers per accelerator (1), or on the CPU (one per thread, at most '
                              f'{MOST_CPU_WORKERS}).', lower_bound=1)
flags.adopt_module_key_flags(begin)  # so that --help shows them


def main(argv):
  study = begin.begin()
  if study is None:
    return
  from zeroinit.report import live, print_report  # takes a second to import, and --list need not wait for it

  # Also where a shell that started this in the background has it ignore Ctrl-C.
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: sys.exit(128 + number))
  study.forget_failures()
  places = list(_places(_SLOTS.value))
  with live(study.workdir):
    while True:
      _work(study, places)
      grown = begin.grow(study)
      if grown is study:
        break
      study = grown
  print_report(study.workdir)
  begin.raise_failures(study)


def _places(slots):
  """Where to put each worker: (environment variables, the CPU threads that it may use)."""
  platform, devices = _devices()
  threads = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else list(range(os.cpu_count()))
  if platform == 'cpu':
    slots = slots or min(len(threads), MOST_CPU_WORKERS)
    environments = [{} for _ in range(slots)]
  elif platform == 'tpu':  # its chips belong to one process, which uses all
    if (slots or 1) > 1:
      raise UserError('the chips of a TPU belong to one worker: use --slots=1')
    environments = [{}]
  else:
    slots = slots or 1
    visible = os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')
    visible = visible if visible != [''] else [str(i) for i in range(devices)]
    environments = [{'CUDA_VISIBLE_DEVICES': device, 'XLA_PYTHON_CLIENT_MEM_FRACTION': f'{0.9 / slots:.3f}'}
                    for device in visible for _ in range(slots)]
  each = max(1, len(threads) // len(environments))
  for i, environment in enumerate(environments):
    first = i * each % len(threads)
    yield environment, threads[first:first + each]


def _devices():
  """(platform, number of devices) that jax finds here. A process that has asked it holds them, so another one does."""
  plugins = importlib.metadata.entry_points(group='jax_plugins')
  if not plugins and not importlib.util.find_spec('libtpu') and os.environ.get('JAX_PLATFORMS', '') in ('', 'cpu'):
    return 'cpu', 1  # without asking, which takes seconds
  question = 'import jax; print(jax.default_backend(), jax.local_device_count())'
  answer = subprocess.run([sys.executable, '-c', question], capture_output=True, text=True)
  if answer.returncode:
    raise UserError(f'no device to run on: {answer.stderr.strip().splitlines()[-1]}')
  platform, devices = answer.stdout.split()[-2:]
  return platform, int(devices)


def _work(study, places):
  """Keeps a worker in every place until no cell is left, and says how it goes."""
  in_store = '://' in str(study.workdir)
  logs = pathlib.Path(tempfile.mkdtemp(prefix='zeroinit-workers-') if in_store else study.workdir / 'workers')
  objects.make_directory(logs)
  workers = [_Worker(study, i, *place, logs) for i, place in enumerate(places)]
  try:
    with _Progress(study, [len(threads) for _, threads in places], logs) as progress:
      while True:
        progress.look()
        alive = [worker for worker in workers if worker.is_alive()]
        if not alive:
          break
        time.sleep(POLL_STORE_SECONDS if in_store else POLL_SECONDS)
      progress.look()
  except BaseException:
    print('stopping; the workers save their state', flush=True)
    for worker in workers:
      worker.stop()
    for worker in workers:
      worker.wait()
    print(f'stopped; the same command goes on ({study.workdir})', flush=True)
    raise


class _Worker:
  """A worker process, started again when it is killed."""

  def __init__(self, study, number, environment, threads, logs):
    self._log = logs / f'{os.uname().nodename}-{number}.log'
    self._command = begin.worker_command(study)
    self._environment, self._threads = environment, threads
    self._restarts = 0
    self._start()

  def _start(self):
    def divide():  # in the new process, before it starts any thread
      if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, self._threads)

    with open(self._log, 'a') as log:
      self._log_began = log.tell()
      self._process = subprocess.Popen(self._command, env={**os.environ, **self._environment}, stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=subprocess.STDOUT, preexec_fn=divide)

  def is_alive(self):
    """Whether it still works. Raises UserError where it met something that only the user can mend."""
    code = self._process.poll()
    if code == command_line.MISTAKE:
      raise UserError(self._last_words().removeprefix('error: '))
    if code is not None and code < 0 and self._restarts < RESTARTS:
      self._restarts += 1
      print(f'a worker was killed by {signal.Signals(-code).name}; starting another', flush=True)
      self._start()
      return True
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
      return False  # somebody stopped this one; the others go on
    if code:
      raise UserError(f'a worker ended with exit code {code}: {self._last_words()} (see {self._log})')
    return code is None

  def stop(self):
    """Asks it to save its state and to end."""
    if self._process.poll() is None:
      self._process.terminate()

  def wait(self):
    self._process.wait()

  def _last_words(self):
    lines = self._log.read_bytes()[self._log_began:].decode(errors='replace').strip().splitlines()
    return next((line for line in reversed(lines) if line.startswith('error: ')), lines[-1] if lines else 'nothing')


class _Progress:
  """One line per finished cell, and on a terminal a moving one with the time left."""

  def __init__(self, study, threads, logs):
    """threads: of each worker, on the CPU; logs: where the workers write."""
    self.study, self.threads, self.logs = study, threads, logs
    self._console = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
    self._status = self._console.status('') if self._console.is_terminal else contextlib.nullcontext()
    self._by_identity = {cell.identity: cell for cell in study.cells}
    self._results = study.results()

  def __enter__(self):
    self._status.__enter__()
    self._console.print(f'{len(self.study.cells)} cells, {len(self._results)} of them done; {len(self.threads)} '
                        f'worker{"s" * (len(self.threads) > 1)} with {max(self.threads)} CPU '
                        f'thread{"s" * (max(self.threads) > 1)} each; logs in {self.logs}')
    return self

  def __exit__(self, *error):
    self._status.__exit__(*error)

  def look(self):
    """Reports what has been done since the last look."""
    for identity in sorted(self.study.finished() & self._by_identity.keys() - self._results.keys()):
      cell = self._by_identity[identity]
      self._results[identity] = result = run_directory.read_result(self.study.directory(cell))
      outcome = (f'diverged after {result["steps"]:,} steps' if result['status'] == 'diverged'
                 else f'test accuracy {result["test_accuracy"]:.4f}'
                 + (', at chance' if ending.status(result) == 'at chance' else ''))
      self._console.print(f'[{len(self._results)}/{len(self.study.cells)}] {cell.identity.rpartition("_")[0]}: '
                          f'{outcome}  {self._time_left()}')
      sys.stdout.flush()
    if self._console.is_terminal:
      diverged = sum(result['status'] == 'diverged' for result in self._results.values())
      running = len(self.study.running())
      self._status.update(f'{len(self._results)} of {len(self.study.cells)} cells done, {diverged} of them diverged, '
                          f'{running} running  {self._time_left(running)}')

  def _time_left(self, running=0):
    """running: cells, on any machine; between two of them a worker here has none."""
    if len(self._results) == len(self.study.cells):
      return 'done'
    seconds = self.study.seconds_left(self._results, max(running, len(self.threads)))
    return '' if seconds is None else duration(seconds) + ' left'


if __name__ == '__main__':
  command_line.run(main)
