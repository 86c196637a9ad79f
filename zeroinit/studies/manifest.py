"""A study is a list of cells in a directory: its manifest, and where its runs lie."""

import contextlib
import dataclasses
import math
import os
import re

from etils import epath

from zeroinit import own
from zeroinit.runs import earlier, locks, run_directory
from zeroinit.studies.cells import ALWAYS_STATED, TUNED_OVER, Cell
from zeroinit.system import json_files, objects, users_files
from zeroinit.system.errors import UserError, first_line
from zeroinit.training.config import functions
from zeroinit.training.config_files import load_config, split


@dataclasses.dataclass(frozen=True)
class Study:
  """A study in its directory, as manifest.json has it.

  Attributes:
    workdir: absolute path, or an address such as gs://bucket/folder.
    name: of the generator, or of the user's file.
    document: its docstring.
    cells: in the order of their index.
  """

  workdir: epath.Path
  name: str
  document: str
  cells: tuple[Cell, ...]

  def directory(self, cell):
    """Where the run of a cell lies."""
    return self.workdir / 'cells' / cell.identity

  @property
  def files(self):
    """Where copies of the config files, and of the files of functions of one's own, lie, for workers anywhere."""
    return self.workdir / 'files'

  @property
  def compiled(self):
    """Where compiled programs are kept."""
    return self.workdir / 'compiled'

  def finished(self):
    """Identities of the cells that have a result, of this study and of others in the same directory."""
    return {path.parent.name for path in self.workdir.glob('cells/*/result.json')}

  def begun(self):
    """Identities of the cells that a worker has taken at some time."""
    return {path.parent.parent.name for path in self.workdir.glob('cells/*/locks/0')}

  def running(self):
    """Identities of the cells that a worker holds now, as far as is known."""
    left = self.begun() - self.finished()
    return {cell.identity for cell in self.cells
            if cell.identity in left and locks.holder(self.directory(cell)) is not None}

  def failures(self):
    """{identity: message} of the cells whose last attempt ended with an error, be it of a node or in their config."""
    found = {}
    for path in self.workdir.glob('cells/*/failure.json'):
      with contextlib.suppress(FileNotFoundError):  # just forgotten by another launcher
        found[path.parent.name] = json_files.read(path, {'message': json_files.is_text})['message']
    return found

  def fail(self, cell, message):
    """Says that a cell could not be trained; workers pass it over until the failures are forgotten."""
    objects.make_directory(self.directory(cell))
    json_files.write(self.directory(cell) / 'failure.json', {'message': message})

  def forget_failures(self):
    """Lets workers try the failed cells again."""
    for path in self.workdir.glob('cells/*/failure.json'):
      path.unlink(missing_ok=True)

  def results(self):
    """{identity: what its result.json holds} of the cells that have one."""
    there = self.finished()
    return {cell.identity: run_directory.read_result(self.directory(cell))
            for cell in self.cells if cell.identity in there}

  def seconds_left(self, results, workers):
    """Estimate of the time until every cell has a result, by that of the cells that have one for their work.

    Those that are running count as not begun, none as one that will diverge, and failed ones not at all.

    Args:
      results: {identity: result.json}.
      workers: how many work at the same time.

    Returns:
      Seconds, or None where nobody works or too little has been done to say.
    """
    done = [(cell, results[cell.identity]) for cell in self.cells if cell.identity in results]
    flop = math.fsum(cell.flop * result['steps'] / max(1, round(cell.images / cell.fields['batch_size']))
                     for cell, result in done)
    whole = math.fsum(cell.flop for cell in self.cells)
    if not workers or flop < 0.03 * whole:  # the first programs are still being compiled
      return None
    seconds = math.fsum(result.get('seconds') or 0.0 for _, result in done)
    over = results.keys() | self.failures().keys()
    return seconds / flop * math.fsum(cell.flop for cell in self.cells if cell.identity not in over) / workers


def load_study(workdir):
  """The study in a directory. Raises UserError where there is none, or its manifest is damaged."""
  workdir = objects.absolute(workdir)
  path = workdir / 'manifest.json'
  if not path.exists():
    raise UserError(f'{workdir} holds no study: it has no manifest.json')
  manifest = json_files.read(path, {
      'study': json_files.is_text, 'document': json_files.is_text, 'cells': lambda cells: isinstance(cells, list)})
  cells = tuple(_read_cell(cell, path) for cell in manifest['cells'])
  if len({cell.identity for cell in cells}) < len(cells):
    raise json_files.damaged(path, 'a cell is there twice')
  return Study(workdir, manifest['study'], manifest['document'], cells)


def _read_cell(described, path):
  """A Cell as the manifest has it. Its identity and program become names of files, so they must be plain names."""
  try:
    cell = Cell(**earlier.cell({name: value for name, value in described.items() if name != 'index'}))
    json_files.checked(vars(cell), path, _OF_A_CELL)
    cell = dataclasses.replace(cell, fields=earlier.config_fields(cell.fields))
    json_files.checked(cell.fields, path, dict.fromkeys(cell.fields, _is_scalar) | _OF_FIELDS)
    lacking = {*ALWAYS_STATED, *TUNED_OVER} - cell.fields.keys()
    if lacking:
      raise json_files.damaged(path, f'a cell lacks {", ".join(sorted(lacking))}')
  except (TypeError, AttributeError) as error:
    raise UserError(f'{path} is not the manifest of a study of this version: {first_line(error)}') from error
  return cell


def _is_scalar(value):
  return value is None or isinstance(value, (str, bool)) or json_files.is_number(value)


def _is_amount(value):
  return json_files.is_number(value) and value >= 0


def _is_map(value):
  return isinstance(value, dict)


_OF_A_CELL = {
    'identity': lambda value: json_files.is_text(value) and re.fullmatch(r'[\w.-]*\w[\w.-]*', value),
    'program': lambda value: json_files.is_text(value) and re.fullmatch(r'\w*', value),
    **dict.fromkeys(('config', 'method', 'network', 'dataset', 'protocol'), json_files.is_text),
    'classes': lambda value: json_files.is_count(value) and value > 1,
    **dict.fromkeys(('overrides', 'fields'), _is_map),
    **dict.fromkeys(('whole_epochs', 'flop', 'images'), _is_amount),
}
_OF_FIELDS = {
    'learning_rate': lambda value: json_files.is_number(value) and value > 0,
    'batch_size': lambda value: json_files.is_count(value) and value > 0,
    **dict.fromkeys(('seed', 'depth', 'width'), json_files.is_count),
    **dict.fromkeys(('epochs', 'momentum', 'dampening', 'weight_decay', 'drop_by', 'drop_every', 'first_drop'),
                    _is_amount),
    **dict.fromkeys(('kernel_init', 'classifier_init'), json_files.is_text),
}


def begin(workdir, name, document, cells):
  """Makes a study in a directory, or goes on with the one that is there, which grows by the cells that it lacks.

  Cells that are there stay, and keep their index. A study grows by learning rates, seeds and whole settings, but does
  not change: what is there must be of settings that are among the new cells, or contain all of them. Fields that change
  no number, such as data_dir, are those of now, unless somebody is at work on the study.

  Raises:
    UserError: the directory holds another study, one of other settings, on other images, or with another version of a
      function of one's own.
  """
  workdir = objects.absolute(workdir)
  there = load_study(workdir) if (workdir / 'manifest.json').exists() else Study(workdir, name, document, ())
  before = {cell.identity for cell in there.cells}
  new = [cell for cell in cells if cell.identity not in before]
  if there.name != name:
    raise UserError(f'{workdir} holds study {there.name}, and this is {name}; use another --workdir')
  others = {cell.setting for cell in there.cells} - {cell.setting for cell in cells}
  if new and others:
    raise UserError(f'{workdir} holds study {name} with other settings, such as {_in_words(min(others, key=str))}; '
                    'repeat its flags, or use another --workdir')
  _copy_files(cells, there.files)
  kept = _as_given(there, cells)
  if not new and kept == there.cells:
    return there
  study = Study(workdir, name, document, (*kept, *new))
  listed = [{'index': index, **dataclasses.asdict(cell)} for index, cell in enumerate(study.cells)]
  json_files.write(workdir / 'manifest.json', {'study': name, 'document': document, 'cells': listed})
  return study


def _as_given(study, cells):
  """The cells of a study, with the overrides of those given that are the same: these say where its data lies now."""
  given = {cell.identity: cell.overrides for cell in cells}
  now = tuple(dataclasses.replace(cell, overrides=cell.overrides | given.get(cell.identity, {}))
              for cell in study.cells)
  changed = {(cell.place, other.place) for cell, other in zip(study.cells, now, strict=True)
             if cell.overrides != other.overrides}
  for before, place in changed:
    if before.differs(place):
      raise UserError(f'{study.workdir} is a study on {before}, and {place} is other data; use another --workdir')
  return now if changed and not study.running() else study.cells


def _copy_files(cells, directory):
  """Copies what `Cell.load_config` needs. Raises UserError where there is another version of a function."""
  files, of_functions = set(), set()
  naming = lambda cell: str({name: value for name, value in cell.overrides.items()
                             if name.startswith('method.') or name in ('dataset', 'network')})
  for cell in {(cell.config, naming(cell)): cell for cell in cells}.values():
    files.add(split(cell.config)[0])
    of_functions |= {file for file, _ in functions(load_config(cell.config, cell.overrides)).values()}
  copies = users_files.texts(sorted(files | of_functions))
  own.need_same_code([(name, copies[name]) for name in map(os.path.basename, sorted(of_functions))], directory)
  objects.make_directory(directory)
  for name, text in copies.items():
    objects.replace(directory / name, text)


def _in_words(setting):
  return ', '.join(f'{name} {value}' for name, value in setting)
