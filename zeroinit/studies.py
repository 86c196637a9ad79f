"""A study is a list of cells, each one run of one config: expanding it, its manifest, and where its runs lie."""

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import importlib.util
import inspect
import json
import os
import re

from etils import epath
from ml_collections import ConfigDict

from zeroinit import data, runs
from zeroinit.config import check, method_label, method_of, protocol
from zeroinit.errors import UserError, first_line
from zeroinit.recipe import image_shape, network, schedule

# Inputs of a compiled program: cells that differ in nothing else share one. What differs otherwise is a setting, and
# the learning rate is tuned for each setting apart.
TUNED_OVER = ('learning_rate', 'seed')
STUDIES = 'configs/studies.py'


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
  """One run of a study, as it stands in the manifest.

  Attributes:
    identity: name of its directory, made from every field of its config: the same run has it in every study.
    config: the config file, and after a colon its argument.
    overrides: {field: value}, as flags would give them.
    method: name of the row and what departs from it.
    network, dataset: titles.
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

  def load_config(self):
    """The run's config. Raises UserError where the file is gone, or has changed so that it gives another run."""
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
  def compiled(self):
    """Where compiled programs are kept."""
    return self.workdir / 'compiled'

  def finished(self):
    """Identities of the cells that have a result, of this study and of others in the same directory."""
    return {path.parent.name for path in self.workdir.glob('cells/*/result.json')}

  def begun(self):
    """Identities of the cells that a worker has taken at some time."""
    return {path.parent.parent.name for path in self.workdir.glob('cells/*/claims/0')}

  def failures(self):
    """{identity: message} of the cells that could not be trained, for a reason that is not the user's."""
    found = {}
    for path in self.workdir.glob('cells/*/failure.json'):
      with contextlib.suppress(FileNotFoundError):  # just forgotten by another launcher
        found[path.parent.name] = runs.parse(path.read_text(), path, needs=('message',))['message']
    return found

  def fail(self, cell, message):
    """Says that a cell could not be trained; workers pass it over until the failures are forgotten."""
    runs.make_directory(self.directory(cell))
    runs.write_json(self.directory(cell) / 'failure.json', {'message': message})

  def forget_failures(self):
    """Lets workers try the failed cells again."""
    for path in self.workdir.glob('cells/*/failure.json'):
      path.unlink(missing_ok=True)

  def results(self):
    """{identity: what its result.json holds} of the cells that have one."""
    there = self.finished()
    return {cell.identity: runs.read_result(self.directory(cell)) for cell in self.cells if cell.identity in there}


def load_study(workdir):
  """The study in a directory. Raises UserError where there is none, or its manifest is damaged."""
  workdir = runs.absolute(workdir)
  path = workdir / 'manifest.json'
  if not path.exists():
    raise UserError(f'{workdir} holds no study: it has no manifest.json')
  manifest = runs.parse(path.read_text(), path, needs=('study', 'document', 'cells'))
  try:
    cells = [{name: value for name, value in cell.items() if name != 'index'} for cell in manifest['cells']]
    return Study(workdir, manifest['study'], manifest['document'], tuple(Cell(**cell) for cell in cells))
  except (TypeError, AttributeError) as error:
    raise UserError(f'{path} is not the manifest of a study of this version: {first_line(error)}') from error


def begin(workdir, name, document, cells):
  """Makes a study in a directory, or goes on with the one that is there, which grows by the cells that it lacks.

  Cells that are there stay, and keep their index. A study grows by learning rates, seeds and whole settings, but does
  not change: what is there must be of settings that are among the new cells, or contain all of them.

  Raises:
    UserError: the directory holds another study, or one of other settings.
  """
  workdir = runs.absolute(workdir)
  there = load_study(workdir) if (workdir / 'manifest.json').exists() else Study(workdir, name, document, ())
  before = {cell.identity for cell in there.cells}
  new = [cell for cell in cells if cell.identity not in before]
  if there.name != name:
    raise UserError(f'{workdir} holds study {there.name}, and this is {name}; use another --workdir')
  others = {cell.setting for cell in there.cells} - {cell.setting for cell in cells}
  if new and others:
    raise UserError(f'{workdir} holds study {name} with other settings, such as {_in_words(min(others, key=str))}; '
                    'repeat its flags, or use another --workdir')
  if not new:
    return there
  runs.make_directory(workdir)
  study = Study(workdir, name, document, (*there.cells, *new))
  listed = [{'index': index, **dataclasses.asdict(cell)} for index, cell in enumerate(study.cells)]
  runs.write_json(workdir / 'manifest.json', {'study': name, 'document': document, 'cells': listed})
  return study


def names():
  """Names of the studies in configs/studies.py."""
  found = vars(load_module(STUDIES)).items()
  return [name for name, value in found if inspect.isgeneratorfunction(value) and not name.startswith('_')]


def named_study(name):
  """(runs, docstring) of the study of that name. Raises UserError, listing the names, where there is none."""
  if name not in names():
    raise UserError(f'there is no study {name!r} in {STUDIES}; there are: {", ".join(names())}')
  generator = getattr(load_module(STUDIES), name)
  return generator(), inspect.getdoc(generator) or ''


def own_study(config):
  """(runs, docstring) of the `sweep` in a user's config file, FILE.py or FILE.py:ARGUMENT.

  `sweep()` yields overrides, {field: value}, or pairs (FILE.py:METHOD, overrides); ':METHOD' is of the same file.
  `sweep(add)` calls add(field=value, ...) instead.

  Raises:
    UserError: the file has no `sweep`, it fails, or it yields something else.
  """
  file = config.partition(':')[0]
  sweep = getattr(load_module(file), 'sweep', None)
  if sweep is None:
    raise UserError(f'{file} has no function sweep: a generator of overrides beside get_config')
  with _users_code(file):
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
    missing = set(methods) - {row(config) for config, _ in pairs}
    if missing:
      raise UserError(f'the study has no method {", ".join(sorted(missing))}; it has: '
                      + ', '.join(dict.fromkeys(row(config) for config, _ in pairs)))
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
    default = runs.compared_fields(load_config(config, {}).to_dict()).get(field)
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
  there = runs.compared_fields(config.to_dict())
  names = dict.fromkeys(('depth', 'width', 'batch_size', 'weight_decay', 'epochs', *sorted({*named, *overrides}),
                         *TUNED_OVER))
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


@functools.cache
def load_module(file):
  """The Python module in a file: a config file, or a file of studies. Raises UserError where there is none."""
  if not os.path.isfile(file):
    raise UserError(f'there is no file {file}' + ('' if os.path.isabs(file) else f' in {os.getcwd()}'))
  spec = importlib.util.spec_from_file_location(os.path.basename(file).removesuffix('.py'), file)
  module = importlib.util.module_from_spec(spec)
  with _users_code(file):
    spec.loader.exec_module(module)
  return module


@contextlib.contextmanager
def _users_code(file):
  """A user's file is Python, so anything can come out of it: as one line that names the file."""
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    raise UserError(f'{file} fails: {type(error).__name__}: {first_line(error)}') from error


def load_config(config_file, overrides):
  """The config of FILE.py:ARGUMENT, with {field: value} replaced. Raises UserError where either is wrong."""
  file, _, argument = config_file.partition(':')
  get_config = getattr(load_module(file), 'get_config', None)
  if get_config is None:
    raise UserError(f'{file} has no function get_config')
  with _users_code(file):
    config = get_config(*([argument] if argument else []))
  for name, value in overrides.items():
    *groups, field = name.split('.')
    place = config
    for group in groups:
      place = place.get(group)
    if not isinstance(place, ConfigDict) or field not in place or name in ('method', 'method.name'):
      near = difflib.get_close_matches(name, runs.compared_fields(config.to_dict()), 1)
      raise UserError(f'{config_file} has no field {name}' + (f'; did you mean {near[0]}?' if near else ''))
    try:
      place[field] = value
    except (TypeError, ValueError) as error:
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
  described = {**config.to_dict(), 'method': {'name': config.method.name, **dataclasses.asdict(method_of(config))}}
  fields = {name: value for name, value in runs.compared_fields(described).items() if name not in without}
  return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]
