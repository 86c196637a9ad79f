"""A run is a directory: config.json, metrics.jsonl, result.json, checkpoints/, TensorBoard events.

Every file is put in place whole, so a reader never sees half of one, whenever the run is killed.
Numbers that are not finite are null in JSON.
"""

import contextlib
import functools
import importlib.metadata
import json
import math
import os
import platform
import subprocess

from etils import epath

from zeroinit import objects, processes
from zeroinit.checkpoints import Checkpoints
from zeroinit.config import NOT_COMPARED, base_config
from zeroinit.errors import UserError
from zeroinit.recipe import network

BESIDE_CONFIG = ('data', 'threads')  # what config.json holds and a config does not


class Run:
  """The directory of one run.

  Attributes:
    workdir: absolute path.
    records: what metrics.jsonl holds, a dict per evaluation, by step.
    checkpoints: see `zeroinit.checkpoints`.
  """

  def __init__(self, workdir, read_only=False):
    """Raises UserError where workdir is something else than a directory, or metrics.jsonl is damaged."""
    self.workdir = absolute(workdir)
    if self.workdir.exists() and not self.workdir.is_dir():
      raise UserError(f'workdir {self.workdir} is a file; it must be a directory, or not exist yet')
    self.checkpoints = Checkpoints(self.workdir / 'checkpoints', read_only)
    self.read()

  def read(self):
    """Reads metrics.jsonl."""
    metrics = self.workdir / 'metrics.jsonl'
    self.records = [parse(line, metrics, needs=('step', 'seconds'))
                    for line in metrics.read_text().splitlines()] if metrics.exists() else []

  @property
  def result(self):
    """What result.json holds, or None where the run has not finished."""
    return read_result(self.workdir)

  def compare(self, config):
    """Raises UserError, showing the differences, where the directory holds a run of another config."""
    path = self.workdir / 'config.json'
    if not path.exists():
      for left in ('checkpoints', 'metrics.jsonl', 'result.json'):
        if (self.workdir / left).exists():
          raise UserError(f'{self.workdir} holds {left} of a run whose config.json is gone; use another --workdir')
    else:
      there, here = parse(path.read_text(), path), config.to_dict()
      differences = list(_differences(compared_fields(there), compared_fields(here)))
      if differences:
        raise UserError(f'{self.workdir} holds a run with another config; use another --workdir, or repeat its flags '
                        f'(there -> here): {"; ".join(differences)}')

  def begin(self, config, data):
    """Makes the directory and writes config.json, unless an earlier attempt has.

    data: title of the data set, which must stay what it was, wherever the files are now.

    Returns:
      The number of CPU threads with which the run was begun.

    Raises:
      UserError: the run was begun with another copy of the data, or the directory cannot be made.
    """
    path = self.workdir / 'config.json'
    if path.exists():
      saved = parse(path.read_text(), path)
      if saved.get('data') != data:
        raise UserError(f'{self.workdir} was begun with {saved.get("data")}, and this is {data}; use another --workdir')
      return saved.get('threads')
    make_directory(self.workdir)
    if processes.is_first():
      write_json(path, {'data': data, 'threads': threads(), **config.to_dict()})
    return threads()

  def record(self, record):
    """Adds one evaluation to metrics.jsonl."""
    self.records.append(finite(record))
    self._write_metrics()

  def cut(self, step):
    """Forgets evaluations after `step`, from where the run goes on."""
    kept = [record for record in self.records if record['step'] <= step]
    if len(kept) < len(self.records):
      self.records = kept
      self._write_metrics()

  def finish(self, result):
    """Writes result.json: the run is over. A result that is there already stays as it is."""
    if processes.is_first():
      objects.create(self.workdir / 'result.json', _json(result))

  def _write_metrics(self):
    lines = [json.dumps(record, allow_nan=False) + '\n' for record in self.records]
    if processes.is_first():
      objects.replace(self.workdir / 'metrics.jsonl', ''.join(lines))


def absolute(workdir):
  """The path of a workdir, which may be an address such as gs://bucket/folder. Raises UserError where it
  is empty, or leads nowhere.
  """
  if not str(workdir):
    raise UserError('the workdir is empty; say where to keep what is made: --workdir=runs/NAME')
  path = epath.Path(workdir) if '://' in str(workdir) else epath.Path(os.path.abspath(workdir))
  objects.check_reachable(path)
  return path


def make_directory(workdir):
  """Makes a workdir, where there is none. Raises UserError where it cannot be made."""
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f'cannot make workdir {workdir}: {error.strerror or error}') from error


def read_result(workdir):
  """What the result.json of a run holds, or None where there is none. Raises UserError where it is damaged."""
  path = epath.Path(workdir) / 'result.json'
  return parse(path.read_text(), path, needs=('status', 'steps', 'test_accuracy')) if path.exists() else None


def load(workdir):
  """The network of a run and its variables, from the newest checkpoint.

  Returns:
    net: flax module; variables: {'params': ..., 'batch_stats': ...} for `net.apply`, as numpy arrays.

  Raises:
    UserError: workdir is not the directory of a run, or holds no checkpoint that can be read.
  """
  run = Run(workdir, read_only=True)
  path = run.workdir / 'config.json'
  if not path.exists():
    raise UserError(f'{run.workdir} is not the directory of a run: it holds no config.json')
  with contextlib.closing(run.checkpoints):
    state = run.checkpoints.restore()
  if state is None:
    raise UserError(f'{run.workdir} holds no checkpoint that can be read')
  if not (isinstance(state, dict) and {'params', 'batch_stats'} <= state.keys()):
    raise UserError(f'the newest checkpoint in {run.workdir} is not that of a run: it has no params and batch_stats')
  return network(read_config(path)), {'params': state['params'], 'batch_stats': state['batch_stats']}


def read_config(path):
  """The config in a config.json. Raises UserError where the file is damaged or from another version."""
  saved = parse(epath.Path(path).read_text(), path)
  try:
    config = base_config(saved['method']['name'])
    with config.unlocked():
      config.update({name: value for name, value in saved.items() if name not in ('method', *BESIDE_CONFIG)})
    config.method.update(saved['method'])
  except (KeyError, TypeError, ValueError) as error:
    raise UserError(f'{path} is not the config of a run of this version: {error}') from error
  return config


def write_json(path, value):
  """Writes a JSON file whole. Raises UserError where it cannot be written."""
  objects.replace(path, _json(value))


def _json(value):
  return json.dumps(finite(value), indent=2, allow_nan=False) + '\n'


def parse(text, path, needs=()):
  """The JSON object in a text, which must have the fields `needs`. Raises UserError, naming the file."""
  try:
    value = json.loads(text)
    if not isinstance(value, dict):
      raise ValueError('not an object')
    missing = [name for name in needs if name not in value]
    if missing:
      raise ValueError(f'it lacks {", ".join(missing)}')
    return value
  except ValueError as error:
    raise UserError(f'{path} is damaged: {error}; use another --workdir') from error


def compared_fields(config, prefix=''):
  """{'method.alpha': 0.0, ...} of a nested config, without the fields that change no number."""
  flat = {}
  for name, value in config.items():
    if isinstance(value, dict):
      flat |= compared_fields(value, f'{prefix}{name}.')
    elif prefix + name not in (*NOT_COMPARED, *BESIDE_CONFIG):
      flat[prefix + name] = value
  return flat


def finite(value):
  """The value with every number that is not finite replaced by None, as JSON has none."""
  if isinstance(value, dict):
    return {name: finite(item) for name, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [finite(item) for item in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value


def environment(devices):
  """What else a number may depend on: the devices used, CPU threads, versions, and the code's revision."""
  names = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
  versions = {'python': platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
  return {'device': f'{len(devices)} x {devices[0].device_kind}', 'threads': threads(),
          'versions': versions, 'git_revision': git_revision()}


def threads():
  """CPU threads that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()  # macOS has none


@functools.cache
def git_revision():
  """The revision of this code, with '-dirty' where files have changed since; None outside a git checkout."""
  here = os.path.dirname(__file__)
  git = ['git', '-C', here, 'describe', '--always', '--dirty', '--exclude=*', '--abbrev=40']
  try:
    return subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
  except (OSError, subprocess.SubprocessError):
    return None


def _differences(there, here):
  for name in sorted(there.keys() | here.keys()):
    if there.get(name) != here.get(name):
      yield f'{name} {there.get(name)} -> {here.get(name)}'
