"""A cell is one run of a study: what it is, and by what it is known from others."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import typing

from zeroinit import data, own
from zeroinit.system.errors import UserError
from zeroinit.training.config import (
    check,
    code_of,
    compared_fields,
    described,
    functions,
    method_label,
    method_of,
    move,
)
from zeroinit.training.config_files import load_config, split
from zeroinit.training.protocol import protocol
from zeroinit.training.recipe import image_shape, network, schedule

# Inputs of a compiled program: cells that differ in nothing else share one. What differs otherwise is a setting, and
# the learning rate is tuned for each setting apart.
TUNED_OVER = ('learning_rate', 'seed')
ALWAYS_STATED = ('depth', 'width', 'batch_size', 'weight_decay', 'epochs', 'momentum', 'dampening', 'kernel_init',
                 'classifier_init')  # by a cell, whatever its study varies


class Place(typing.NamedTuple):
  """A data set, as a config names it."""

  dataset: str
  data_dir: str

  def __str__(self):
    return ' in '.join(filter(None, self))

  def differs(self, other):
    """Whether there are other images or labels than in another place, of data of one's own that is in both."""
    if self == other or ':' not in self.dataset:  # of the others a run knows each copy
      return False
    there, here = self._data(), other._data()
    return None not in (there, here) and there != here

  def _data(self):
    with contextlib.suppress(UserError):
      return data.info(*self), data.load(*self).order


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
  """One run of a study, as it stands in the manifest.

  Attributes:
    identity: name of its directory, made from every field of its config: the same run has it in every study.
    config: the config file, and after a colon its argument.
    overrides: {field: value}, as flags would give them.
    method: name of the row and what departs from it.
    network: its title; dataset: its name, without directories; classes: how many it has.
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
  classes: int
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
  def place(self):
    """Where its data is looked for, as far as its overrides say."""
    return Place(self.overrides.get('dataset', self.dataset), self.overrides.get('data_dir', ''))

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
    file, argument = split(self.config)
    if files and (files / os.path.basename(file)).exists():
      config = load_config(f'{files / os.path.basename(file)}:{argument}', self.overrides)
      move(config, files)
    else:
      config = load_config(self.config, self.overrides)
    if _identity(config) != self.identity:
      raise UserError(f'{self.config} now describes another run than when the study was begun; use another --workdir')
    return config


def make_cell(config_file, overrides, named=()):
  """The cell of one run. named: fields that any cell of the study overrides, and every cell therefore states.

  Raises:
    UserError: the run could not be trained.
  """
  config = load_config(config_file, overrides)
  try:
    check(config)
    net, info = network(config), data.info(config.dataset, config.data_dir)
    steps = schedule(config, info.train_examples).steps
  except UserError as error:
    raise UserError(f'{config_file} with {overrides}: {error}') from error
  overrides = {**overrides, **_located(config)}
  images = steps * config.batch_size
  there = compared_fields(described(config))
  if 'network' in functions(config):
    del there['network']  # whose title says more
  names = dict.fromkeys((*ALWAYS_STATED, *sorted({*named, *overrides}), *TUNED_OVER))
  fields = {name: there[name] for name in names if name in there and not name.startswith('method.')}
  return Cell(identity=_identity(config), config=config_file, overrides=overrides, method=method_label(config),
              network=net.title, dataset=data.short(config.dataset), classes=info.num_classes, fields=fields,
              program=_digest(config, TUNED_OVER),
              protocol=protocol(config, complete=True), whole_epochs=load_config(config_file, {}).epochs,
              images=images, flop=6.0 * net.multiply_adds(image_shape(config)) * images)


def _located(config):
  """Overrides with which a worker in another directory finds the same data."""
  found = {'dataset': data.located(config.dataset)} if config.dataset.startswith(data.FOLDER) else {}
  if config.data_dir and not re.match(r'[~$]|\w+://', config.data_dir):  # each machine has its own ~ and $VARIABLE
    found['data_dir'] = os.path.abspath(config.data_dir)
  return found


def extended(cells, rates):
  """Cells like those given, one for each of them, at other learning rates; for a grid that must grow."""
  found = {}
  for cell in cells:
    for rate in rates:
      grown = make_cell(cell.config, {**cell.overrides, 'learning_rate': rate}, cell.fields)
      found.setdefault(grown.identity, grown)
  return list(found.values())


# Fields that were added since studies have been begun with this version, at what their absence means: they leave the
# identities of cells as they were.
ADDED = {'matmul_precision': 'default', 'method.groups': 32, 'method.activation': 'relu', 'method.kernels': 'plain',
         'method.alpha_per_channel': False, 'method.branch_scale': 1.0, 'method.divide_by_std': False,
         'method.clip': 0.0}


def _identity(config):
  """Readable as far as it goes, and unique."""
  words = (config.method.name, network(config).title, f'b{config.batch_size}', f'r{config.learning_rate:g}',
           f's{config.seed}', _digest(config))
  return re.sub(r'[^\w.-]', '-', '_'.join(words))


def _digest(config, without=()):
  method = {'name': config.method.name, **dataclasses.asdict(method_of(config))}
  del method['code']
  code = {name: own.substance(text) for name, text in code_of(config)}
  fields = compared_fields(described(config) | {'method': method | ({'code': code} if code else {})})
  fields = {name: value for name, value in fields.items()
            if name not in without and (name, value) not in ADDED.items()}
  return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]
