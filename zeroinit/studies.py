"""A study is a list of cells, each one run of one config: expanding it, its manifest, and where its runs lie."""

import contextlib
import dataclasses
import hashlib
import inspect
import json
import math
import os
import re

from etils import epath
from ml_collections import ConfigDict

from zeroinit import claims, data, json_files, objects, own, runs
from zeroinit.config import check, compared_fields, method_label, method_of
from zeroinit.errors import UserError, first_line, suggestion
from zeroinit.protocol import protocol
from zeroinit.recipe import image_shape, network, schedule

# Inputs of a compiled program: cells that differ in nothing else share one. What differs otherwise is a setting, and
# the learning rate is tuned for each setting apart.
TUNED_OVER = ('learning_rate', 'seed')
ALWAYS_STATED = ('depth', 'width', 'batch_size', 'weight_decay', 'epochs', 'momentum', 'dampening', 'kernel_init',
                 'classifier_init')  # by a cell, whatever its study varies
STUDIES = 'configs/studies.py'


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
  """One run of a study, as it stands in the manifest.

  Attributes:
    identity: name of its directory, made from every field of its config: the same run has it in every study.
    config: the config file, and after a colon its argument.
    overrides: {field: value}, as flags would give them.
    method: name of the row and what departs from it.
    network: its title; dataset: its name, a file of zeroinit/data.
    fields: {field: value} of the config, those that a table may name.
    program: what tells its compiled program from others.
    protocol: 'paper', 'shortened' or 'own', if the data set is whole.
    whole_epochs: as many as the config file says by itself; with fewer the run is shortened.
    flop: floating-point operations of its training, counting three forward passes for one update.
    images: training images, each as often as it is used.
  """

  identity: str
  config: str
  overrides: dict
  method: str
  network: str
  dataset: str
  fields: dict
  program: str
  protocol: str
  whole_epochs: float
  flop: float
  images: float

  @property
  def learning_rate(self):
    return self.fields['learning_rate']

  @property
  def seed(self):
    return self.fields['seed']

  @property
  def setting(self):
    """All that tells this cell's group from others, hashable: cells of one group differ in learning rate and seed."""
    fields = {'method': self.method, 'network': self.network, **self.fields}
    return tuple((name, value) for name, value in fields.items() if name not in TUNED_OVER)

  def load_config(self, files=None):
    """The run's config.

    files: directory with copies of the config file and of the files of functions; None: they are where they were.

    Raises:
      UserError: the file is gone, or has changed so that it gives another run.
    """
    file, argument = _split(self.config)
    if files and (files / os.path.basename(file)).exists():
      config = load_config(f'{files / os.path.basename(file)}:{argument}', self.overrides)
      config.method.update(own.moved(config.method, files))
    else:
      config = load_config(self.config, self.overrides)
    if _identity(config) != self.identity:
      raise UserError(f'{self.config} now describes another run than when the study was begun; use another --workdir')
    return config


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
    return {path.parent.parent.name for path in self.workdir.glob('cells/*/claims/0')}

  def running(self):
    """Identities of the cells that a worker holds now, as far as is known."""
    left = self.begun() - self.finished()
    return {cell.identity for cell in self.cells
            if cell.identity in left and claims.holder(self.directory(cell)) is not None}

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
    return {cell.identity: runs.read_result(self.directory(cell)) for cell in self.cells if cell.identity in there}

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
    cell = Cell(**{name: value for name, value in described.items() if name != 'index'})
    json_files.checked(vars(cell), path, _OF_A_CELL)
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
    **dict.fromkeys(('overrides', 'fields'), _is_map),
    **dict.fromkeys(('whole_epochs', 'flop', 'images'), _is_amount),
}
_OF_FIELDS = {
    'learning_rate': lambda value: json_files.is_number(value) and value > 0,
    'batch_size': lambda value: json_files.is_count(value) and value > 0,
    **dict.fromkeys(('seed', 'depth', 'width'), json_files.is_count),
    **dict.fromkeys(('epochs', 'weight_decay', 'drop_by', 'drop_every', 'first_drop'), _is_amount),
}


def begin(workdir, name, document, cells):
  """Makes a study in a directory, or goes on with the one that is there, which grows by the cells that it lacks.

  Cells that are there stay, and keep their index. A study grows by learning rates, seeds and whole settings, but does
  not change: what is there must be of settings that are among the new cells, or contain all of them.

  Raises:
    UserError: the directory holds another study, one of other settings, or another version of a function of one's own.
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
  if not new:
    return there
  study = Study(workdir, name, document, (*there.cells, *new))
  listed = [{'index': index, **dataclasses.asdict(cell)} for index, cell in enumerate(study.cells)]
  json_files.write(workdir / 'manifest.json', {'study': name, 'document': document, 'cells': listed})
  return study


def _copy_files(cells, directory):
  """Copies what `Cell.load_config` needs. Raises UserError where there is another version of a function."""
  copies, code = {}, {}
  in_methods = lambda cell: str({name: value for name, value in cell.overrides.items() if name.startswith('method.')})
  for cell in {(cell.config, in_methods(cell)): cell for cell in cells}.values():
    file, _ = _split(cell.config)
    functions = dict(method_of(load_config(cell.config, cell.overrides)).code)
    for name, text in (functions | {os.path.basename(file): own.read(file)}).items():
      if copies.setdefault(name, text) != text:
        raise UserError(f'the study has two files called {name}, such as {file}; give one another name')
    code |= functions
  runs.need_same_code(code.items(), directory)
  objects.make_directory(directory)
  for name, text in copies.items():
    objects.replace(directory / name, text)


def names():
  """Names of the studies in configs/studies.py."""
  found = vars(load_module(STUDIES)).items()
  return [name for name, value in found if inspect.isgeneratorfunction(value) and not name.startswith('_')]


def named_study(name):
  """(runs, docstring) of the study of that name. Raises UserError, listing the names, where there is none."""
  if name not in names():
    raise UserError(f'there is no study {name!r} in {STUDIES}; there are: {", ".join(names())}'
                    + suggestion(name, names()))
  generator = getattr(load_module(STUDIES), name)
  return generator(), inspect.getdoc(generator) or ''


def own_study(config):
  """(runs, docstring) of the `sweep` in a user's config file, FILE.py or FILE.py:ARGUMENT.

  `sweep()` yields overrides, {field: value}, or pairs (FILE.py:METHOD, overrides); ':METHOD' is of the same file.
  `sweep(add)` calls add(field=value, ...) instead.

  Raises:
    UserError: the file has no `sweep`, it fails, or it yields something else.
  """
  file, _ = _split(config)
  sweep = getattr(load_module(file), 'sweep', None)
  if sweep is None:
    raise UserError(f'{file} has no function sweep: a generator of overrides beside get_config')
  with own.users_code(file):
    if inspect.signature(sweep).parameters:
      swept = []
      sweep(lambda overrides=(), **fields: swept.append({**dict(overrides), **fields}))
    else:
      swept = list(sweep())
  pairs = [(config, run) if isinstance(run, dict) else run for run in swept]
  for pair in pairs:
    if not (isinstance(pair, (tuple, list)) and list(map(type, pair)) == [str, dict]):
      raise UserError(f'{file}: sweep yields {pair!r}; it must yield overrides, or pairs (FILE.py:METHOD, overrides)')
  return [(file + of if of.startswith(':') else of, run) for of, run in pairs], inspect.getdoc(sweep) or ''


def expand(swept, axes=None, methods=None):
  """The cells of a study, in its order, each once, those of a compiled program together.

  Args:
    swept: iterable of (config file:method, overrides), as a study yields them.
    axes: {field: values}, which take the place of the study's own values of that field. A value that the study has
      keeps what goes with it, such as the learning rates for a batch size.
    methods: names of rows to keep; None keeps all.

  Raises:
    UserError: a run that could not be trained, a field that does not exist, a method that the study does not have.
  """
  pairs = [(config, dict(overrides)) for config, overrides in swept]
  if methods:
    row = lambda config: re.split('[:,]', config + ':')[1]
    rows = list(dict.fromkeys(row(config) for config, _ in pairs))
    missing = sorted(set(methods) - set(rows))
    if missing:
      raise UserError(f'the study has no method {", ".join(missing)}; it has: {", ".join(rows)}'
                      + suggestion(missing[0], rows))
    pairs = [(config, overrides) for config, overrides in pairs if row(config) in methods]
  for field, values in (axes or {}).items():
    pairs = _with_axis(pairs, field, values)
  named = {name for _, overrides in pairs for name in overrides}
  cells = {}
  for config, overrides in pairs:
    cell = make_cell(config, overrides, named)
    cells.setdefault(cell.identity, cell)
  place = {program: i for i, program in enumerate(dict.fromkeys(cell.program for cell in cells.values()))}
  return sorted(cells.values(), key=lambda cell: place[cell.program])


def _with_axis(pairs, field, values):
  """The runs with the values of a field replaced, for each config apart."""
  by_config = {}
  for config, overrides in pairs:
    by_config.setdefault(config, []).append(overrides)
  replaced = []
  for config, swept in by_config.items():
    default = compared_fields(load_config(config, {}).to_dict()).get(field)
    for value in values:
      having = [overrides for overrides in swept if overrides.get(field, default) == value]
      replaced += [(config, {**overrides, field: value}) for overrides in having or swept]
  return replaced


def make_cell(config_file, overrides, named=()):
  """The cell of one run. named: fields that any cell of the study overrides, and every cell therefore states.

  Raises:
    UserError: the run could not be trained.
  """
  config = load_config(config_file, overrides)
  try:
    check(config)
    net, source = network(config), data.source(config.dataset)
    steps = schedule(config, source.TRAIN_EXAMPLES).steps
  except UserError as error:
    raise UserError(f'{config_file} with {overrides}: {error}') from error
  images = steps * config.batch_size
  there = compared_fields(config.to_dict())
  names = dict.fromkeys((*ALWAYS_STATED, *sorted({*named, *overrides}), *TUNED_OVER))
  fields = {name: there[name] for name in names if name in there and not name.startswith('method.')}
  return Cell(identity=_identity(config), config=config_file, overrides=overrides, method=method_label(config),
              network=net.title, dataset=config.dataset, fields=fields, program=_digest(config, TUNED_OVER),
              protocol=protocol(config, complete=True), whole_epochs=load_config(config_file, {}).epochs,
              images=images, flop=6.0 * net.multiply_adds(image_shape(config)) * images)


def extended(cells, rates):
  """Cells like those given, one for each of them, at other learning rates; for a grid that must grow."""
  found = {}
  for cell in cells:
    for rate in rates:
      grown = make_cell(cell.config, {**cell.overrides, 'learning_rate': rate}, cell.fields)
      found.setdefault(grown.identity, grown)
  return list(found.values())


def load_module(file):
  """The Python module in a file: a config file, or a file of studies, executed again only where it has changed.

  Raises:
    UserError: there is none, or it fails.
  """
  text = own.read(file)
  if file not in _modules or _modules[file][0] != text:
    _modules[file] = text, own.execute(text, file)
  return _modules[file][1]


_modules = {}  # {file: (its text, the module)}


def _split(config_file):
  """('FILE.py', 'ARGUMENT') of FILE.py:ARGUMENT, in which FILE may be an address such as gs://bucket/mine."""
  match = re.fullmatch(r'(.*?\.py)(?::(.*))?', config_file, re.DOTALL)
  return (match[1], match[2] or '') if match else (config_file, '')


def load_config(config_file, overrides):
  """The config of FILE.py:ARGUMENT, with {field: value} replaced. Raises UserError where either is wrong."""
  file, argument = _split(config_file)
  get_config = getattr(load_module(file), 'get_config', None)
  if get_config is None:
    raise UserError(f'{file} has no function get_config')
  with own.users_code(file):
    config = get_config(*([argument] if argument else []))
  for name, value in overrides.items():
    *groups, field = name.split('.')
    place = config
    for group in groups:
      place = place.get(group) if isinstance(place, ConfigDict) else None
    if not isinstance(place, ConfigDict) or field not in place or name in ('method', 'method.name'):
      raise UserError(f'{config_file} has no field {name}'
                      + suggestion(name, compared_fields(config.to_dict())))
    try:
      place[field] = value
    except (TypeError, ValueError, OverflowError) as error:
      raise UserError(f'{config_file} does not take {name}={value!r}: {first_line(error)}') from error
  return config


def _identity(config):
  """Readable as far as it goes, and unique."""
  words = (config.method.name, network(config).title, f'b{config.batch_size}', f'r{config.learning_rate:g}',
           f's{config.seed}', _digest(config))
  return re.sub(r'[^\w.-]', '-', '_'.join(words))


def _in_words(setting):
  return ', '.join(f'{name} {value}' for name, value in setting)


def _digest(config, without=()):
  method = {'name': config.method.name, **dataclasses.asdict(method_of(config))}
  code = {name: own.substance(text) for name, text in method.pop('code')}
  described = {**config.to_dict(), 'method': method | ({'code': code} if code else {})}
  fields = {name: value for name, value in compared_fields(described).items() if name not in without}
  return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]
