"""Works on a study: takes one cell after another until all are done.

  zeroinit work --workdir=runs/digits

Any number of workers, on any machines that share the directory, may work on one study, and come and go. Each cell is
done once: finished and diverged ones are skipped, and what a worker leaves behind when it dies another goes on with.
Cells that share a compiled program are taken one after another. A launcher (launch/) writes the manifest and starts the
workers.
"""

import contextlib
import re
import sys
import time

from absl import flags

from zeroinit import command_line
from zeroinit.runs import locks
from zeroinit.studies import manifest
from zeroinit.system import compiling, objects, processes
from zeroinit.system.errors import UserError, first_line
from zeroinit.training.recipe import DoesNotDivide

POLL_SECONDS = 2.0  # between two looks at cells that others hold
_DONE, _WAIT = -1, -2

_WORKDIR = flags.DEFINE_string('workdir', None, 'Directory of the study.')
_CELLS = flags.DEFINE_list('cells', None,
                           'Only these cells, by index: 3,5-9; one that another worker holds is left to it.')
_KEEP_CHECKPOINTS = flags.DEFINE_boolean('keep_checkpoints', False, "Keep a finished cell's last checkpoints.")
flags.adopt_module_key_flags(command_line)  # so that --help shows them


def main(argv):
  command_line.join_processes()
  from zeroinit.runs.train import Stopped  # takes a second to import, and --help need not wait for it
  try:
    work(_WORKDIR.value, _CELLS.value and _indices(_CELLS.value), _KEEP_CHECKPOINTS.value)
  except Stopped as stopped:
    sys.exit(128 + stopped.signal)


def work(workdir, cells=None, keep_checkpoints=False):
  """Trains cells of a study until every one has a result or has failed.

  Args:
    workdir: of the study.
    cells: indices of those to look at; None is all, and then cells that other workers hold are waited for, since a
      holder may die.
    keep_checkpoints: of finished cells.

  Raises:
    UserError: there is no study, or the same is wrong with two cells in a row, such as a missing data set.
    Stopped: see `zeroinit.runs.train`.
  """
  worker = _Worker(workdir, cells)
  compiling.keep_programs(worker.study.compiled)
  with compiling.counted(('train_steps', 'train_on'), worker.compiled) as counts:
    while (index := processes.agree(worker.choose() if processes.is_first() else 0)) != _DONE:
      if index == _WAIT:
        time.sleep(POLL_SECONDS)
      else:
        worker.train(index, keep_checkpoints)
  if processes.is_first():
    print(f'no more cells to take; {worker.trained} done here, {counts["compiled"]} training programs compiled and '
          f'{counts["from_disk"]} taken from disk', flush=True)


class _Worker:

  def __init__(self, workdir, cells):
    self.study = manifest.load_study(workdir)
    if cells is not None and max(cells, default=0) >= len(self.study.cells):
      raise UserError(f'there is no cell {max(cells)}: the study has {len(self.study.cells)}, counted from 0')
    self.cells = cells
    self.cell = None  # the one that is being trained
    self.program = None  # of the last cell that was trained here
    self.trained = 0
    self.last_error = None  # message, where the last cell failed

  def read(self):
    """Reads the manifest, which may have grown since; what it held keeps its index."""
    self.study = manifest.load_study(self.study.workdir)

  def choose(self):
    """Index of the cell to train next, or _DONE, or _WAIT while others hold all that is left."""
    self.read()
    study = self.study
    begun = study.begun() - study.finished()
    held = {cell for cell in study.cells if cell.identity in begun and locks.holder(study.directory(cell))}
    over = study.finished() | study.failures().keys()  # again, since who has let go by now had written its result
    held = {cell for cell in held if cell.identity not in over}
    left = {cell: index for index, cell in enumerate(study.cells) if cell.identity not in over}
    if self.cells is not None:
      left = {cell: index for cell, index in left.items()
              if index in self.cells and not (cell in held and locks.is_alive(study.directory(cell)))}
    busy = {cell.program for cell in held}
    # What another worker is just compiling is soon there to be taken from disk.
    coming = {program for program in busy if not self._mark(program).exists()}
    free = {cell: index for cell, index in left.items() if cell not in held and cell.program not in coming}
    if not free:
      return _WAIT if left else _DONE
    size = {}
    for cell in free:
      size[cell.program] = size.get(cell.program, 0) + cell.flop

    def last(cell):  # this program goes on, then one that nobody is at, the longest first
      return cell.program != self.program, cell.program in busy, -size[cell.program], free[cell]

    return free[min(free, key=last)]

  def compiled(self):
    """Lets the other workers know that the program of this cell is on disk."""
    if processes.is_first():
      with contextlib.suppress(UserError, OSError):  # then they compile it themselves
        self.study.compiled.mkdir(parents=True, exist_ok=True)
        objects.replace(self._mark(self.cell.program), '')

  def _mark(self, program):
    return self.study.compiled / f'{program}.ready'

  def train(self, index, keep_checkpoints):
    """Trains a cell, unless another worker comes first. What is wrong with this cell alone is kept as its failure."""
    from zeroinit.runs.train import Stopped, train

    if not processes.is_first():
      self.read()
    self.cell = cell = self.study.cells[index]
    directory = self.study.directory(cell)
    if cell.program != self.program:
      compiling.forget()  # programs of cells that are done
    if processes.is_first():
      print(f'\ncell {index} of {len(self.study.cells)}: {cell.identity}', flush=True)
    try:
      train(cell.load_config(self.study.files), directory, cell.overrides)
    except locks.Elsewhere as elsewhere:
      if processes.is_first():
        print(elsewhere, flush=True)
      return
    except Stopped:
      raise
    except Exception as error:
      self._failed(cell, index, error)
      return
    self.last_error = None
    self.trained, self.program = self.trained + 1, cell.program
    if processes.is_first() and not keep_checkpoints:
      with contextlib.suppress(OSError):
        (directory / 'checkpoints').rmtree()

  def _failed(self, cell, index, error):
    """Keeps what is wrong with a cell as its failure. Raises it where it is likely to be wrong with all cells."""
    expected = isinstance(error, UserError)
    message = str(error) if expected else f'{type(error).__name__}: {first_line(error)}'
    again = message == self.last_error if expected else self.last_error is not None  # a device may be broken
    if again or (processes.count() > 1 and not isinstance(error, DoesNotDivide)):  # of which the others know nothing
      raise error
    self.last_error = message
    if processes.is_first():
      self.study.fail(cell, message)
      print(f'cell {index} failed: {message}', flush=True)


def _indices(texts):
  """['3', '5-7'] -> {3, 5, 6, 7}"""
  found = set()
  for text in texts:
    match = re.fullmatch(r'([0-9]{1,6})(?:-([0-9]{1,6}))?', text)
    cells = range(int(match[1]), int(match[2] or match[1]) + 1) if match else ()
    if not cells:
      raise UserError(f'--cells={",".join(texts)}: write indices and ranges of them, such as 3,5-9')
    found.update(cells)
  return found


if __name__ == '__main__':
  flags.mark_flag_as_required('workdir')
  command_line.run(main)
