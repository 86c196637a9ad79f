"""A run is a directory: config.json, metrics.jsonl, result.json, checkpoints/, TensorBoard events.

Where its method has a function of one's own, the file of that lies beside config.json.

Every file is put in place whole, so a reader never sees half of one, whenever the run is killed.
Numbers that are not finite are null in JSON.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys

from etils import epath

from zeroinit import methods, objects, own, processes
from zeroinit.checkpoints import Checkpoints, digests
from zeroinit.config import NOT_COMPARED, base_config, check, described, method_of
from zeroinit.errors import UserError, first_line
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
    lines = metrics.read_bytes().splitlines() if metrics.exists() else []
    self.records = [checked(parse(line, metrics, RECORD), metrics, IF_THERE) for line in lines]
    steps = [record['step'] for record in self.records]
    if steps != sorted(set(steps)):
      raise damaged(metrics, 'its steps do not grow')

  def take_over(self):
    """To be called by a new holder: who held the run before cannot put records in place any more, and these are read.
    """
    if processes.is_first():
      objects.discard_unfinished(self.workdir / 'metrics.jsonl')
    self.read()

  @property
  def result(self):
    """What result.json holds, or None where the run has not finished. Raises UserError where it, or metrics.jsonl, is
    not as it was written.
    """
    result = read_result(self.workdir)
    if result and result.get('checksums', {}).get('metrics.jsonl', self._digest()) != self._digest():
      raise UserError(f'{self.workdir / "metrics.jsonl"} is not as the run left it; delete it and result.json, and the '
                      'same command makes both again')
    return result

  def compare(self, config):
    """Raises UserError, showing the differences, where the directory holds a run of another config."""
    path = self.workdir / 'config.json'
    if not path.exists():
      for left in ('checkpoints', 'metrics.jsonl', 'result.json'):
        if (self.workdir / left).exists():
          raise UserError(f'{self.workdir} holds {left} of a run whose config.json is gone; use another --workdir')
    else:
      there, here = parse(path.read_bytes(), path), described(config)
      differences = list(_differences(compared_fields(there), compared_fields(here)))
      if differences:
        raise UserError(f'{self.workdir} holds a run with another config; use another --workdir, or repeat its flags '
                        f'(there -> here): {"; ".join(differences)}')
      need_same_code(method_of(config).code, self.workdir)

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
      saved = parse(path.read_bytes(), path)
      if saved.get('data') != data:
        raise UserError(f'{self.workdir} was begun with {saved.get("data")}, and this is {data}; use another --workdir')
      return saved.get('threads')
    make_directory(self.workdir)
    if processes.is_first():
      for name, text in method_of(config).code:
        objects.replace(self.workdir / name, text)
      write_json(path, {'data': data, 'threads': threads(), **described(config)})
    return threads()

  def save(self, step, state):
    """Saves a checkpoint, which goes with the records so far. Raises UserError where it cannot be."""
    self.checkpoints.save(step, state, self._lines())

  def restore(self, sharding, say):
    """The state of the newest checkpoint that is whole and goes with the records: see `Checkpoints.restore`."""
    return self.checkpoints.restore(sharding, say, self._lines())

  def record(self, record, still_held=lambda: None):
    """Adds one evaluation to metrics.jsonl. still_held: see `claims.claim`."""
    self.records.append(finite(record))
    self._write_metrics(still_held)

  def cut(self, step):
    """Forgets evaluations after `step`, from where the run goes on."""
    kept = [record for record in self.records if record['step'] <= step]
    if len(kept) < len(self.records):
      self.records = kept
      self._write_metrics()

  def finish(self, result):
    """Writes result.json, with checksums: the run is over. A result that is there already stays as it is.

    Returns:
      What was written.
    """
    result = finite(result)
    result |= {'checksums': {'metrics.jsonl': self._digest(), 'result.json': _checksum(result)}}
    if processes.is_first():
      objects.create(self.workdir / 'result.json', _json(result))
    return result

  def _lines(self):
    return [json.dumps(record, allow_nan=False) for record in self.records]

  def _digest(self):
    *_, digest = digests(self._lines())
    return digest

  def _write_metrics(self, still_held=lambda: None):
    if processes.is_first():
      content = ''.join(line + '\n' for line in self._lines())
      objects.replace(self.workdir / 'metrics.jsonl', content, before=still_held)
    else:
      still_held()


def absolute(workdir):
  """The path of a workdir, which may be an address such as gs://bucket/folder. Raises UserError where it
  is empty, or leads nowhere.
  """
  if not str(workdir):
    raise UserError('the workdir is empty; say where to keep what is made: --workdir=runs/NAME')
  path = epath.Path(workdir) if '://' in str(workdir) else epath.Path(os.path.abspath(workdir))
  objects.check_reachable(path)
  return path


def need_same_code(code, directory):
  """Raises UserError where a directory holds another version of a file of functions. code: of a Method."""
  for name, text in code:
    copy = directory / name
    if copy.exists() and own.substance(own.read(copy)) != own.substance(text):
      raise UserError(f'{name} has changed since {copy} was copied from it, and numbers of two versions would mix; use '
                      'another --workdir, or undo the change')


def make_directory(workdir):
  """Makes a workdir, where there is none. Raises UserError where it cannot be made."""
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f'cannot make workdir {workdir}: {error.strerror or error}') from error


def read_result(workdir):
  """What the result.json of a run holds, or None where there is none. Raises UserError where it is damaged."""
  path = epath.Path(workdir) / 'result.json'
  if not path.exists():
    return None
  result = checked(parse(path.read_bytes(), path, RESULT), path, IF_THERE)
  if result.get('checksums', {}).get('result.json', _checksum(result)) != _checksum(result):
    raise damaged(path, 'it is not as the run wrote it')
  if result['status'] == 'done':
    lacking = [name for name in OF_DONE if result.get(name) is None]
    if lacking:
      raise damaged(path, f'its status is done, and it lacks {", ".join(lacking)}')
  return result


def load(workdir):
  """The network of a run and its variables, from the newest checkpoint.

  Returns:
    net: flax module; variables: {'params': ..., 'batch_stats': ...} for `net.apply`, as numpy arrays.

  Raises:
    UserError: workdir is not the directory of a run, or holds no checkpoint that can be read.

  Where the method has a function of its user's, its file in the workdir is executed.
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
  saved = parse(epath.Path(path).read_bytes(), path)
  try:
    name = saved['method']['name']
    config = base_config(name if name in methods.METHODS else 'none')  # a row of one's own: its values are all there
    fields = {name: value for name, value in saved.items() if name not in ('method', *BESIDE_CONFIG)}
    unknown = sorted(fields.keys() - config.keys())
    if unknown:
      raise ValueError(f'it has no field {", ".join(unknown)}')
    config.update(fields)
    config.method.update(saved['method'])
    config.method.update(own.moved(config.method, epath.Path(path).parent))
    check(config)
  except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
    raise UserError(f'{path} is not the config of a run of this version: {first_line(error)}') from error
  return config


def write_json(path, value):
  """Writes a JSON file whole. Raises UserError where it cannot be written."""
  objects.replace(path, _json(value))


def _checksum(result):
  """sha256 of a result, whatever the order and layout of its fields."""
  fields = {name: value for name, value in result.items() if name != 'checksums'}
  return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _json(value):
  return json.dumps(finite(value), indent=2, allow_nan=False) + '\n'


def parse(content, path, needs=None):
  """The JSON object in some bytes, which must have the fields `needs`; see `checked`.

  Raises:
    UserError: it is none, or not as it must be; the message names the file.
  """
  try:
    value = json.loads(content.decode(), parse_constant=_no_number, parse_float=_number, object_pairs_hook=_each_once)
    if b'\\ud' in content.lower():
      json.dumps(value, ensure_ascii=False).encode()  # half a character can be written in JSON, but not shown
    if not isinstance(value, dict):
      raise ValueError('not an object')
  except (ValueError, RecursionError) as error:
    raise damaged(path, first_line(error)) from error
  missing = [name for name in needs or {} if name not in value]
  if missing:
    raise damaged(path, f'it lacks {", ".join(missing)}')
  return checked(value, path, needs or {})


def checked(value, path, fields):
  """The JSON object, if what it has of `fields`, {name: condition}, holds. Raises UserError, naming file and field."""
  for name, holds in fields.items():
    if name in value and not holds(value[name]):
      raise damaged(path, f'its {name} is {value[name]!r}')
  return value


def damaged(path, reason):
  """The UserError about a file that is not as it was written."""
  return UserError(f'{path} is damaged: {reason}; delete it, or use another --workdir')


def is_text(value):
  return isinstance(value, str)


def is_number(value):
  """Whether a value out of a JSON file is a number; true and false are none."""
  return type(value) in (int, float) and abs(value) <= sys.float_info.max


def is_count(value):
  """Whether it is a whole number, not negative, such as a device can count."""
  return type(value) is int and 0 <= value < 2**63


def is_share(value):
  """Whether it is a number from 0 to 1."""
  return is_number(value) and 0 <= value <= 1


# What every record, every result, and every result of a run that has not diverged must hold.
RECORD = {'step': is_count, 'seconds': is_number}
RESULT = {'status': lambda status: status in ('done', 'diverged'), 'steps': is_count, 'test_accuracy': lambda _: True}
OF_DONE = ('test_accuracy', 'train_loss')
# And those that may be missing, where an earlier version wrote it.
IF_THERE = {
    **dict.fromkeys(('test_accuracy', 'test_top5_accuracy', 'train_accuracy', 'best_test_accuracy'),
                    lambda value: value is None or is_share(value)),
    **dict.fromkeys(('train_loss', 'test_loss', 'seconds'), lambda value: value is None or is_number(value)),
    **dict.fromkeys(('data', 'dataset', 'device', 'protocol', 'method'), is_text),
    **dict.fromkeys(('versions', 'checksums'),
                    lambda value: isinstance(value, dict) and all(map(is_text, value.values()))),
}


def _number(text):
  value = float(text)
  if not math.isfinite(value):
    raise ValueError(f'{text[:20]} is no number')
  return value


def _no_number(text):
  raise ValueError(f'{text} is no number')


def _each_once(pairs):
  value = dict(pairs)
  if len(value) < len(pairs):
    raise ValueError('a field is there twice')
  return value


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
