"""A run is a directory: config.json, metrics.jsonl, result.json, checkpoints/, TensorBoard events.

Where its method, network or data set is a function of one's own, the file of that lies beside config.json.

Every file is put in place whole, so a reader never sees half of one, whenever the run is killed.
"""

import contextlib
import dataclasses
import hashlib
import json

from etils import epath

from zeroinit import data, own
from zeroinit.runs import earlier
from zeroinit.runs.checkpoints import Checkpoints, digests
from zeroinit.system import environment, json_files, objects, processes
from zeroinit.system.errors import UserError, first_line
from zeroinit.training.config import base_config, check, code_of, compared_fields, described, move
from zeroinit.training.recipe import network

BESIDE_CONFIG = ('data', 'order', 'info', 'threads', 'settings')  # what config.json holds and a config does not


class Run:
  """The directory of one run.

  Attributes:
    workdir: absolute path.
    records: what metrics.jsonl holds, a dict per evaluation, by step.
    checkpoints: see `zeroinit.runs.checkpoints`.
  """

  def __init__(self, workdir):
    """Raises UserError where workdir is something else than a directory, or metrics.jsonl is damaged."""
    self.workdir = objects.absolute(workdir)
    if self.workdir.exists() and not self.workdir.is_dir():
      raise UserError(f'workdir {self.workdir} is a file; it must be a directory, or not exist yet')
    self.checkpoints = Checkpoints(self.workdir / 'checkpoints')
    self.read()

  def read(self):
    """Reads metrics.jsonl."""
    metrics = self.workdir / 'metrics.jsonl'
    lines = metrics.read_bytes().splitlines() if metrics.exists() else []
    self.records = [json_files.checked(json_files.parse(line, metrics, RECORD), metrics, IF_THERE) for line in lines]
    steps = [record['step'] for record in self.records]
    if steps != sorted(set(steps)):
      raise json_files.damaged(metrics, 'its steps do not grow')

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
      there, here = described(read_config(path)), described(config)
      differences = list(_differences(compared_fields(there), compared_fields(here)))
      if differences:
        raise UserError(f'{self.workdir} holds a run with another config; use another --workdir, or repeat its flags '
                        f'(there -> here): {"; ".join(differences)}')
      own.need_same_code(code_of(config), self.workdir)

  def begin(self, config, dataset):
    """Makes the directory and writes config.json, unless an earlier attempt has.

    dataset: whose title and order must stay what they were, wherever the files are now.

    Returns:
      `environment.changing` when the run was begun, without what its config.json does not say.

    Raises:
      UserError: the run was begun with other data, or another copy of them, or the directory cannot be made.
    """
    path = self.workdir / 'config.json'
    here = environment.changing()
    info, of_ones_own = data.info(config.dataset, config.data_dir), ':' in config.dataset
    if path.exists():
      saved = json_files.read(path)
      if not isinstance(saved.get('settings', {}), dict):
        raise json_files.damaged(path, 'its settings are no names and values')
      if saved.get('data') != dataset.title:
        raise UserError(f'{self.workdir} was begun with {saved.get("data")}, and this is {dataset.title}; use another '
                        '--workdir')
      if of_ones_own and 'info' in saved and not info.alike(data.Info.from_json(saved['info'], path)):
        raise UserError(f'{self.workdir} was begun with other images than those of {data.short(config.dataset)} now; '
                        'use another --workdir')
      if saved.get('order', dataset.order) != dataset.order:
        was = (f'the images of {data.short(config.dataset)} in another order, or with other labels; undo the change'
               if of_ones_own else
               f'a copy of {dataset.title} in another order, as TFDS has it or the archives; give that as data_dir')
        raise UserError(f'{self.workdir} was begun with {was}, or use another --workdir')
      return {name: saved[name] for name in here if name in saved}
    objects.make_directory(self.workdir)
    if processes.is_first():
      for name, text in code_of(config):
        objects.replace(self.workdir / name, text)
      json_files.write(path, {'data': dataset.title, 'order': dataset.order, 'info': dataclasses.asdict(info), **here,
                              **described(config)})
    return here

  def save(self, step, state, still_held=lambda: None):
    """Saves a checkpoint, which goes with the records so far: see `Checkpoints.save`."""
    self.checkpoints.save(step, state, self._lines(), still_held)

  def restore(self, sharding, say):
    """The state of the newest checkpoint that is whole and goes with the records: see `Checkpoints.restore`."""
    return self.checkpoints.restore(sharding, say, self._lines())

  def record(self, record, still_held=lambda: None):
    """Adds one evaluation to metrics.jsonl. still_held: see `locks.lock`."""
    self.records.append(json_files.finite(record))
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
    result = json_files.finite(result)
    result |= {'checksums': {'metrics.jsonl': self._digest(), 'result.json': _checksum(result)}}
    if processes.is_first():
      objects.create(self.workdir / 'result.json', json_files.text(result))
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


def read_result(workdir):
  """What the result.json of a run holds, or None where there is none. Raises UserError where it is damaged."""
  path = epath.Path(workdir) / 'result.json'
  if not path.exists():
    return None
  result = json_files.checked(json_files.read(path, RESULT), path, IF_THERE)
  if result.get('checksums', {}).get('result.json', _checksum(result)) != _checksum(result):
    raise json_files.damaged(path, 'it is not as the run wrote it')
  if result['status'] == 'done':
    lacking = [name for name in OF_DONE if result.get(name) is None]
    if lacking:
      raise json_files.damaged(path, f'its status is done, and it lacks {", ".join(lacking)}')
  if result.get('last_quarter_cross_entropy') is not None and 'classes' not in result:
    raise json_files.damaged(path, 'it lacks classes')
  return earlier.result(result)


def load(workdir):
  """The network of a run and its variables, from the newest checkpoint.

  Returns:
    net: flax module; variables: {'params': ..., 'batch_stats': ...} for `net.apply`, as numpy arrays.

  Raises:
    UserError: workdir is not the directory of a run, or holds no checkpoint that can be read.

  Where the method, or the network, is a function of its user's, the copy of its file in the workdir is executed.
  """
  run = Run(workdir)
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
  saved = json_files.read(epath.Path(path))
  info = data.Info.from_json(saved['info'], path) if 'info' in saved else None
  try:
    config = base_config('none')  # a field of the method that an older version did not have is at its default
    fields = {name: value for name, value in saved.items() if name not in ('method', *BESIDE_CONFIG)}
    unknown = sorted(fields.keys() - config.keys())
    if unknown:
      raise ValueError(f'it has no field {", ".join(unknown)}')
    config.update(earlier.config_fields(fields))
    config.method.update(saved['method'])
    move(config, epath.Path(path).parent)
    if info:  # so that a network can be had without its data
      data.remember(config.dataset, config.data_dir, info)
    check(config)
  except (KeyError, TypeError, ValueError, OverflowError, AttributeError, UserError) as error:
    raise UserError(f'{path} is not the config of a run of this version: {first_line(error)}') from error
  return config


def _checksum(result):
  """sha256 of a result, whatever the order and layout of its fields."""
  fields = {name: value for name, value in result.items() if name != 'checksums'}
  return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


# What every record, every result, and every result of a run that has not diverged must hold.
RECORD = {'step': json_files.is_count, 'seconds': json_files.is_number}
RESULT = {'status': lambda status: status in ('done', 'diverged'), 'steps': json_files.is_count,
          'test_accuracy': lambda _: True}
OF_DONE = ('test_accuracy', 'train_loss')
# And those that may be missing, where an earlier version wrote it.
IF_THERE = {
    **dict.fromkeys(('test_accuracy', 'test_top5_accuracy', 'train_accuracy', 'best_test_accuracy'),
                    lambda value: value is None or json_files.is_share(value)),
    'classes': lambda value: json_files.is_count(value) and value > 1,
    **dict.fromkeys(('train_loss', 'test_cross_entropy', 'test_loss', 'last_quarter_cross_entropy', 'seconds'),
                    lambda value: value is None or json_files.is_number(value)),
    'settings': lambda value: isinstance(value, dict),
    **dict.fromkeys(('data', 'dataset', 'device', 'protocol', 'method'), json_files.is_text),
    **dict.fromkeys(('versions', 'checksums'),
                    lambda value: isinstance(value, dict) and all(map(json_files.is_text, value.values()))),
}


def _differences(there, here):
  for name in sorted(there.keys() | here.keys()):
    if there.get(name) != here.get(name):
      yield f'{name} {there.get(name)} -> {here.get(name)}'
