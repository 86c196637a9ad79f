"""Submits a study to Slurm: an array of tasks, each of which trains one cell, or some that share a compiled program.

  zeroinit slurm figure1 --workdir=DIR --partition=gpu
  zeroinit slurm figure1 --workdir=DIR --partition=gpu --slurm=account=lab --slurm=qos=high

DIR must be on a file system that this machine and the nodes share; logs go to DIR/slurm. The command returns once the
array is submitted; meanwhile `zeroinit report --workdir=DIR --watch` keeps DIR/report.html up to date.
Repeated, it submits what is neither done nor waiting nor running, and once all is done it writes the report. A task
that reaches its time limit, or is preempted, saves its state, puts itself back in the queue, and goes on. Needs
submitit: pip install submitit.
"""

import contextlib
import importlib.util
import io
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

from absl import flags

from zeroinit import command_line
from zeroinit.launch import begin
from zeroinit.system import json_files
from zeroinit.system.errors import UserError, first_line

SIGNAL_SECONDS = 120  # from the signal that time is up to the end
SAVE_SECONDS = 60  # of these, at most, for the worker: the rest is for putting the task back in the queue
REQUEUES = 1000  # after a time limit; there is no reason to stop

_PARTITION = flags.DEFINE_string('partition', None, "By default the cluster's.")
_GPUS = flags.DEFINE_integer('gpus', 1, 'GPUs of a task, which all train the same cell.', lower_bound=0)
_CPUS = flags.DEFINE_integer('cpus', 8, 'CPUs of a task.', lower_bound=1)
_MEMORY = flags.DEFINE_string('memory', None, "Memory of a task, such as 32GB; by default the cluster's.")
_HOURS = flags.DEFINE_float('hours', 24.0, 'Time limit of a task, after which it goes back in the queue.',
                            lower_bound=0.1)
_ARRAY = flags.DEFINE_integer('array', 32, 'At most so many tasks at once.', lower_bound=1)
_CELLS_PER_TASK = flags.DEFINE_integer('cells_per_task', 1, 'Cells that a task trains one after another; only such as '
                                       'share a compiled program.', lower_bound=1)
_SLURM = flags.DEFINE_multi_string('slurm', [], 'Any other option of sbatch, KEY=VALUE or KEY: account=lab, qos=high, '
                                   'exclusive. May be repeated.')
_DRY_RUN = flags.DEFINE_boolean('dry_run', False, 'Print the script and its tasks, and stop; nothing is written.')
flags.adopt_module_key_flags(begin)  # so that --help shows them


def main(argv):
  if not begin.LIST.value:
    _check_surroundings()
  study = begin.begin(write=not _DRY_RUN.value)
  if study is None:
    return
  left = {cell.identity for cell in study.cells} - study.finished()
  folder = study.workdir / 'slurm'
  queued = left & (set() if _DRY_RUN.value else _queued(folder))
  tasks = chunks(study.cells, left - queued, _CELLS_PER_TASK.value)
  commands = [begin.worker_command(study, f'--cells={",".join(map(str, task))}') for task in tasks]
  if _DRY_RUN.value and tasks:
    print(_script(folder, len(tasks)))
    for task, command in enumerate(commands):
      print(f'# task {task}: {shlex.join(command)}')
    return
  said = 'there is nothing to submit'
  if tasks:
    study.forget_failures()
    jobs = _submit(folder, commands)
    array = jobs[0].partition('_')[0]
    cells = [[study.cells[index].identity for index in task] for task in tasks]
    (folder / f'{array}.json').write_text(json.dumps(dict(zip(jobs, cells, strict=True))))
    said = f'submitted {len(left - queued)} in {len(tasks)} tasks as job {array}, with logs {folder}/{array}_*'
  print(f'{len(study.cells) - len(left)} of {len(study.cells)} cells are done, {len(queued)} wait or run; {said}')
  if not left and not _DRY_RUN.value:
    from zeroinit.report import print_report  # takes a second to import, and is needed once
    print_report(study.workdir)
  else:
    command_line.end(study.workdir, shlex.join(['zeroinit', 'report', f'--workdir={study.workdir}']))


def _check_surroundings():
  if importlib.util.find_spec('submitit') is None:
    raise UserError('zeroinit slurm needs submitit: pip install submitit')
  missing = [program for program in ('sbatch', 'srun', 'squeue') if not shutil.which(program)]
  if missing and not _DRY_RUN.value:
    raise UserError(f'there is no {missing[0]} here: start this on a machine of the cluster, or see with --dry_run '
                    'what it would submit')
  workdir = begin.WORKDIR.value or ''
  if '://' in workdir or '%' in workdir or not workdir.isprintable():
    raise UserError(f"--workdir={workdir}: Slurm's logs need a directory that the nodes share, without % and control "
                    'characters in its name')


def chunks(cells, wanted, size):
  """Indices of the cells whose identity is wanted, in lists of at most `size` that share a compiled program."""
  indices = [index for index, cell in enumerate(cells) if cell.identity in wanted]
  groups = [list(group) for _, group in itertools.groupby(indices, key=lambda index: cells[index].program)]
  return [group[start:start + size] for group in groups for start in range(0, len(group), size)]


class Task:
  """What an array task does: it starts a worker, and ends as the worker ends.

  The worker is a process of its own, since submitit has signal handlers and so has the training loop.
  """

  _worker = None

  def __call__(self, command):
    """Runs on the node."""
    # When time is up Slurm signals every process of the task; the worker is told by `checkpoint` instead.
    ignore = lambda: [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGUSR1, signal.SIGUSR2)]
    self._worker = subprocess.Popen(command, preexec_fn=ignore)
    code = self._worker.wait()
    if code in (-signal.SIGTERM, 128 + signal.SIGTERM):
      time.sleep(5)  # Slurm may preempt with SIGTERM first; the signal that leads to `checkpoint` ends this
    if code:
      import submitit
      sys.exit(f'the worker ended with exit code {code}; its log is {submitit.JobEnvironment().paths.stdout} and .err '
               'beside it; zeroinit slurm again submits what is left')

  def checkpoint(self, command):
    """Called by submitit when the task is to end and be queued again. Returns what it does then."""
    import submitit

    if self._worker:
      self._worker.send_signal(signal.SIGTERM)
      deadline = time.monotonic() + SAVE_SECONDS
      while _runs(self._worker.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    return submitit.helpers.DelayedSubmission(Task(), command)


def _runs(process):
  # Popen's own methods would wait for a lock: this runs in a signal handler, which may have interrupted one of them.
  try:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
  except ChildProcessError:
    return False


def _parameters():
  """The options of sbatch, as submitit has them."""
  parameters = {'job_name': 'zeroinit', 'partition': _PARTITION.value, 'gpus_per_node': _GPUS.value or None,
                'cpus_per_task': _CPUS.value, 'mem': _MEMORY.value, 'time': round(60 * _HOURS.value),
                'signal_delay_s': SIGNAL_SECONDS, 'array_parallelism': _ARRAY.value,
                'srun_args': [f'--cpus-per-task={_CPUS.value}']}  # Slurm 22.05 and some others do not pass it on
  others = {'requeue': True}
  for option in _SLURM.value:
    name, equals, value = option.partition('=')
    if not re.fullmatch('[A-Za-z][A-Za-z0-9_-]*', name) or (equals and not value):
      raise UserError(f'--slurm={option}: write --slurm=KEY=VALUE or --slurm=KEY, as after sbatch --')
    if name.replace('-', '_') in (*parameters, 'array'):
      raise UserError(f'--slurm={option}: this is set by a flag of zeroinit slurm, see --help')
    others[name] = value or True
  for name, value in (parameters | others).items():
    if not str(value).isprintable():  # Slurm reads its options line by line, and a shell what stands between them
      raise UserError(f'{name} is {value!r}: an option of sbatch has no line breaks and no control characters')
  return {name: value for name, value in parameters.items() if value is not None} | {'additional_parameters': others}


def _script(folder, tasks):
  """What submitit gives to sbatch."""
  from submitit.slurm.slurm import _make_sbatch_string  # submitit has it nowhere else without submitting

  command = shlex.join([sys.executable, '-u', '-m', 'submitit.core._submit', str(folder)])
  return _make_sbatch_string(command, folder, map_count=tasks if tasks > 1 else None, **_parameters())


def _submit(folder, commands):
  """The commands become the tasks of an array. Returns the job id of each."""
  import submitit

  executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES)
  executor.update_parameters(**_parameters())
  try:
    with contextlib.redirect_stderr(io.StringIO()):  # submitit prints there what it raises as well
      return [job.job_id for job in executor.map_array(Task(), commands)]
  except submitit.core.utils.FailedJobError as error:
    raise UserError(f'{first_line(error)}; if these are too many tasks for one array, --cells_per_task makes '
                    'fewer') from error


def _queued(folder):
  """Identities of the cells of earlier submissions that wait or run."""
  command = ['squeue', '--noheader', '--array', '--format=%i', f'--user={os.getuid()}']
  squeue = subprocess.run(command, capture_output=True, text=True)
  if squeue.returncode:
    raise UserError(f'squeue fails: {squeue.stderr.strip()}')
  jobs = set(squeue.stdout.split())
  are_names = lambda names: isinstance(names, list) and all(map(json_files.is_text, names))
  queued = set()
  for path in folder.glob('*.json'):
    submitted = json_files.read(path)
    json_files.checked(submitted, path, dict.fromkeys(submitted, are_names))
    queued.update(*(identities for job, identities in submitted.items() if job in jobs))
  return queued


if __name__ == '__main__':
  command_line.run(main)
