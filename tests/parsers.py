"""Everything here that reads what comes from outside, each with what is promised of it, for `fuzz`.

A parser is a function of (input, an empty directory). It says in its docstring what holds for input that is accepted;
where that does not hold it raises AssertionError. Input that is not accepted ends in an error that
`command_line.mistake` knows: one line. Anything else is a traceback.
"""

import atexit
import contextlib
import dataclasses
import functools
import importlib
import io
import itertools
import json
import math
import os
import pathlib
import pickle
import re
import shutil
import tarfile
import tempfile
import types
from unittest import mock

import jax
import numpy as np
from absl import flags
from hypothesis import strategies as st
from ml_collections import ConfigDict, config_flags
from PIL import Image

from tests import cifar10_copies, ilsvrc_copies, imagenet_copies, other_copies, small_copies
from tests.mutations import (
  WORDS,
  byte_edits,
  byte_flips,
  edited,
  edited_json,
  json_edits,
  json_values,
  numbers,
  scalars,
  texts,
)
from zeroinit import command_line
from zeroinit import data as datasets
from zeroinit.data import cifar10, imagenet, info
from zeroinit.data.reading import images, loader
from zeroinit.methods import METHODS
from zeroinit.probes.page import write_page
from zeroinit.report import write_report
from zeroinit.runs import checkpoints, locks, run_directory
from zeroinit.studies import manifest, sweeps
from zeroinit.studies.cells import make_cell
from zeroinit.system import json_files, objects
from zeroinit.system.errors import UserError
from zeroinit.training.config import base_config, check, compared_fields
from zeroinit.training.recipe import make_recipe
from zeroinit.training.step import _state


def command(name):
  """The module of a command. Several define flags of the same name, which here are not parsed anyway."""
  for flag in {'workdir', 'keep_checkpoints', 'config', 'dry_run'} & set(flags.FLAGS):
    flags.FLAGS.remove_flag_values([flag])
  return importlib.import_module(name)


begin, slurm, worker = map(command, ('zeroinit.launch.begin', 'zeroinit.launch.slurm', 'zeroinit.studies.worker'))


@dataclasses.dataclass(frozen=True)
class Parser:
  """inputs: a hypothesis strategy; seconds: about how long one input takes, for those who have to choose."""

  name: str
  parse: types.FunctionType
  inputs: st.SearchStrategy
  seconds: float


@functools.cache
def templates():
  """A directory for what the mutated copies are made from; gone when Python exits."""
  folder = pathlib.Path(tempfile.mkdtemp(prefix='zeroinit-fuzz-'))
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  return folder


# Flags and configs.

CONFIG_FILES = ('configs/digits.py', 'configs/cifar10.py', 'configs/imagenet.py')
FIELDS = tuple(compared_fields(base_config('ghost_norm').to_dict())) + (
    'data_dir', 'data_workers', 'checkpoint_seconds', 'tensorboard', 'profile', 'method', 'lerning_rate', 'method.x')
VALUES = ('0', '1', '-1', '2', '16', '22', '50', '64', '0.5', '1.5', 'nan', 'inf', '-inf', '1e400', '1e-400', '1e39',
          '', ' ', 'True', 'false', 'None', '(1,2)', '[]', '{}', '9' * 400, '9' * 5000, '1_6', '0x10', '२',
          'imagenet', 'digits', 'cifar10', 'vgg', 'cifar_resnet', 'resnet50_v1', 'resnet50_v2', 'wide_resnet', '3x3',
          'lecun', 'xavier', 'bfloat16', 'all', 'all_but_norm', 'zero', 'none', 'reflect', 'random_resized', 'batch',
          'ghost', 'channel', 'scalar', 'inverse_sqrt_d', '2147483648', '4294967295', '4294967296', '1000000',
          '"a\nb"', '(' * 300, '../_cache')
FITTING = (('depth', '22'), ('epochs', '2.5'), ('learning_rate', '0.5'), ('seed', '3'), ('flip', 'true'),
           ('batch_size', '32'), ('method.alpha', '0.5'), ('method.dropout', '0.1'), ('weight_decay', '0'),
           ('momentum', '0.5'))
FLAGS = st.tuples(
    st.one_of(st.sampled_from(('configs/digits.py:fixup', 'configs/digits.py:ghost_norm', 'configs/cifar10.py:none')),
              st.builds('{}:{}'.format, st.sampled_from(CONFIG_FILES),
                        st.one_of(st.sampled_from(sorted(METHODS)), texts))),
    st.lists(st.one_of(st.sampled_from(FITTING), st.sampled_from(FITTING), st.tuples(
        st.sampled_from(FIELDS), st.one_of(st.sampled_from(VALUES), numbers.map(repr), texts))),
             min_size=1, max_size=2))


def flags_of_a_run(given, place):
  """Every field has the value that its flag says, read as its type is read, and the run can be begun."""
  file, values = given
  argv = ['main', f'--config={file}', *(f'--config.{field}={value}' for field, value in values)]
  config = _config_of(argv)
  check(config)
  for field, text in dict(values).items():
    value = functools.reduce(lambda group, name: group[name], field.split('.'), config)
    read = {int: int, float: float, str: str}.get(type(value))
    if read and field != 'method.alpha':
      assert value == read(text), (field, text, value)
    elif isinstance(value, bool):
      assert value == (text.lower() in ('true', 't', '1')), (field, text, value)
  assert_trainable(config)


def _config_of(argv):
  """The config that a command line gives, as `zeroinit.main` gets it."""
  fresh = flags.FlagValues()
  config_flags.DEFINE_config_file('config', None, flag_values=fresh)
  fresh['verbosity'] = flags.FLAGS['verbosity']
  with mock.patch.object(flags, 'FLAGS', fresh), mock.patch('sys.argv', argv):
    command_line._parse(argv)
    return fresh.config


def assert_trainable(config):
  """A network of that config can be initialized, and its learning rate is a number at every step."""
  recipe = make_recipe(config, info(config.dataset, config.data_dir).train_examples, jax.devices()[:1])
  assert 0 < recipe.schedule.steps < 2**31
  for step in (0, recipe.schedule.steps - 1):
    assert 0 <= float(recipe.schedule.factor(step)) <= 1
  if config.depth <= 28 and config.width <= 4 and recipe.plateau is None:
    _shapes(json.dumps(config.to_dict(), sort_keys=True, default=str))


@functools.cache
def _shapes(config):
  config = ConfigDict(json.loads(config))
  recipe = make_recipe(config, info(config.dataset, config.data_dir).train_examples, jax.devices()[:1])
  return jax.eval_shape(lambda: _state(recipe, np.float32(config.learning_rate), np.uint32(config.seed)))


config_files = st.one_of(
    st.tuples(st.just('bytes'), byte_edits),
    st.tuples(st.just('raise'), st.sampled_from(('KeyError()', 'KeyError(3)', 'ValueError("")', 'Exception({1: 2})',
                                                 'OSError(2, "a\\nb")', 'AttributeError("x")', 'SyntaxError("x")',
                                                 'UnicodeDecodeError("utf-8", b"", 0, 1, "")', 'StopIteration()',
                                                 'RecursionError()', 'MemoryError()', 'Exception("Traceback")'))),
    st.tuples(st.just('return'), scalars.map(repr).filter(lambda text: 'inf' not in text and 'nan' not in text)),
    st.tuples(st.just('module'), texts))


def config_file(given, place):
  """The config is that of a run that can be begun."""
  how, what = given
  content = pathlib.Path('configs/digits.py').read_bytes()
  match how:
    case 'bytes':
      content = edited(content, what)
    case 'raise':
      content += f'\ndef get_config(method=None):\n  raise {what}\n'.encode()
    case 'return':
      content += f'\ndef get_config(method=None):\n  return {what}\n'.encode()
    case 'module':
      content = what.encode()
  (place / 'mine.py').write_bytes(content)
  config = _config_of(['main', f'--config={place}/mine.py'])
  check(config)
  assert_trainable(config)


# Studies.

overrides = st.one_of(
    st.dictionaries(st.one_of(st.sampled_from(FIELDS), texts), st.one_of(scalars, st.sampled_from(VALUES)), max_size=2),
    st.fixed_dictionaries({'seed': numbers, 'learning_rate': numbers}))
yielded = st.one_of(
    overrides, st.tuples(st.sampled_from((':none', ':zeroinit', 'configs/digits.py:fixup', ':', '', 'x.py')),
    overrides),
    json_values, st.tuples(texts, overrides), st.just(b'x'), st.just((1, 2, 3)))
yields = st.one_of(
    st.tuples(st.sampled_from(('generator', 'list', 'add')), st.lists(yielded, min_size=1, max_size=3)),
    st.tuples(st.just('value'), st.one_of(scalars, yielded).map(lambda value: [value])))


def study_file(given, place):
  """Every cell is of its own identity, and its config file and overrides lead to it again, also from its manifest."""
  form, what = given
  body = {'generator': '  yield from WHAT', 'list': '  return WHAT', 'value': '  return WHAT[0]',
          'add': '  for run in WHAT:\n    add(run)'}[form]
  # In the module and not as text in it, so that what is not finite, or not Python, need not be written down.
  file = place / 'mine.py'
  file.write_text('from configs.digits import get_config\nimport json, pickle\n'
                  f'WHAT = pickle.loads({pickle.dumps(what)!r})\n'
                  f'def sweep({"add" * (form == "add")}):\n  "Mine"\n{body}\n')
  swept, document = sweeps.own_study(str(file))
  _assert_study(sweeps.expand(swept), place, document)


def _assert_study(cells, place, document=''):
  for cell in cells:
    assert make_cell(cell.config, cell.overrides).identity == cell.identity
    cell.load_config()
  if cells:
    manifest.begin(place / 'study', 'mine', document, cells)
    there = manifest.load_study(place / 'study').cells
    assert [cell.identity for cell in there] == list(dict.fromkeys(cell.identity for cell in cells))
    for cell, read in zip(cells, there, strict=True):
      read.load_config()
      assert read.setting == cell.setting


axes = st.tuples(
    st.lists(st.one_of(
        st.tuples(st.sampled_from(FIELDS), st.lists(st.one_of(st.sampled_from((*VALUES, *WORDS, '2^-3', '2^4',
        '2^-999')),
                                                              numbers.map(repr)), min_size=1, max_size=2)
                  ).map(lambda axis: f'{axis[0]}={",".join(axis[1])}'), texts), min_size=1, max_size=2),
    st.one_of(st.none(), st.lists(st.one_of(st.sampled_from(sorted(METHODS)), texts), max_size=2)))


def flags_of_a_study(given, place):
  """Every cell has for its field one of the values that --set names."""
  settings, methods = given
  named = dict(begin._axis(text) for text in settings)
  swept = [('configs/digits.py:none', {'learning_rate': 0.25}), ('configs/digits.py:fixup', {})]
  cells = sweeps.expand(swept, named, methods)
  for cell in cells:
    fields = compared_fields(cell.load_config().to_dict())
    for field, values in named.items():
      allowed = [*values, *(float(value) for value in values if type(value) is int and abs(value) < 2**1000)]
      assert fields.get(field, values[0]) in allowed, (field, values, fields[field])
  _assert_study(cells, place)


def cells_of_a_worker(given, place):
  """The indices are those between the bounds, and no more than the study has."""
  found = worker._indices(given)
  assert found and len(found) < 10**6 and all(index >= 0 for index in found)


indices = st.lists(st.one_of(st.from_regex(r'[0-9]{1,3}-?[0-9]{0,3}', fullmatch=True), texts,
                             st.sampled_from(('5-3', '-1', '0-999999999999', '9' * 400, '9' * 5000, '1-2-3', '-'))),
                   min_size=1, max_size=2)


# What a run or a study has written.


@functools.cache
def _study():
  """A small study with results in `templates()`, and what its files hold."""
  swept = [(f'configs/digits.py:{method}', {'learning_rate': 2.0**-rate, 'epochs': 1.0})
           for method in ('none', 'zeroinit') for rate in (2, 3)]
  study = manifest.begin(templates() / 'study', 'digits', 'A study\n\nof two methods.', sweeps.expand(swept))
  for i, cell in enumerate(study.cells):
    objects.make_directory(study.directory(cell))
    json_files.write(study.directory(cell) / 'result.json', _result(cell) | {'seconds': float(i)})
    lines = [json.dumps(record) + '\n' for record in RECORDS]
    (study.directory(cell) / 'metrics.jsonl').write_text(''.join(lines))
  return study


RECORDS = [{'step': 10 * i, 'epoch': i / 2, 'train_accuracy': 0.4, 'train_loss': 2.0 / i, 'test_accuracy': 0.5,
            'test_cross_entropy': 1.0, 'seconds': 1.0 * i, 'alpha': [0.1, 0.2]} for i in range(1, 4)]


def _result(cell):
  return {'status': 'done', 'method': cell.method, 'dataset': cell.dataset, 'data': 'scikit-learn digits',
          'network': cell.network, 'depth': 16, 'width': 1, 'batch_size': 64, 'learning_rate': cell.learning_rate,
          'test_accuracy': 0.9, 'test_cross_entropy': 0.3, 'train_accuracy': 0.8, 'train_loss': 0.2,
          'train_cross_entropy': 0.1, 'train_l2': 0.1, 'gradient_norm': 1.0, 'best_test_accuracy': 0.9, 'epochs': 1.0,
          'steps': 22, 'seconds': 1.0, 'seed': cell.seed, 'protocol': 'own', 'overrides': cell.overrides,
          'device': '1 x cpu', 'threads': 2, 'versions': {'jax': '0.10.2'}, 'git_revision': 'abc'}


def _copy_of_study(place):
  shutil.copytree(templates() / 'study', place / 'study')
  return place / 'study'


def manifest_file(edits, place):
  """Nothing lies outside the directory, no cell is there twice, and there is a report."""
  study = _study()
  workdir = _copy_of_study(place)
  content = edited_json(json.loads((study.workdir / 'manifest.json').read_text()), edits)
  (workdir / 'manifest.json').write_bytes(content)
  read = manifest.load_study(workdir)
  places = [os.path.realpath(read.directory(cell)) for cell in read.cells]
  assert all(os.path.dirname(directory) == os.path.realpath(workdir / 'cells') for directory in places)
  assert len(set(places)) == len(places)
  assert 'error' not in write_report(workdir)[:5]


def result_file(edits, place):
  """It is that of a run: done with an accuracy and losses that can be, or diverged; and there is a report."""
  study = _study()
  workdir = _copy_of_study(place)
  path = workdir / 'cells' / study.cells[0].identity / 'result.json'
  path.write_bytes(edited_json(_result(study.cells[0]), edits))
  result = run_directory.read_result(path.parent)
  number = lambda value: type(value) in (int, float) and math.isfinite(value)
  assert result['status'] in ('done', 'diverged')
  assert type(result['steps']) is int and result['steps'] >= 0
  if result['status'] == 'done':
    assert number(result['test_accuracy']) and 0 <= result['test_accuracy'] <= 1
    assert number(result['train_loss'])
  write_report(workdir)


def failure_file(edits, place):
  """Its message is shown in the report."""
  study = _study()
  workdir = _copy_of_study(place)
  directory = workdir / 'cells' / study.cells[0].identity
  (directory / 'result.json').unlink()
  (directory / 'failure.json').write_bytes(edited_json({'message': 'no chip'}, edits))
  message, = manifest.load_study(workdir).failures().values()
  assert isinstance(message, str)
  try:
    begin.raise_failures(manifest.load_study(workdir))
    raise AssertionError('not raised')
  except UserError as error:
    assert message.strip()[:100] in str(error)


def config_json(edits, place):
  """The config is one that can be trained, and it is the same run as before or the differences are shown."""
  before = base_config('fixup')
  before.update(dataset='digits', crop='none', width=1)
  saved = {'data': 'x', 'threads': 2, 'info': dataclasses.asdict(info('digits')), **before.to_dict()}
  (place / 'config.json').write_bytes(edited_json(saved, edits))
  config = run_directory.read_config(place / 'config.json')
  assert_trainable(config)
  run_directory.Run(place).begin(before, types.SimpleNamespace(title='x', order=''))
  with contextlib.suppress(UserError):
    run_directory.Run(place).compare(before)
    assert compared_fields(config.to_dict()) == compared_fields(before.to_dict())


def metrics_file(edits, place):
  """Steps are whole numbers that grow, times are numbers, and cutting leaves what came before."""
  kind, what = edits
  if kind == 'nodes':
    records = json.loads(edited_json(RECORDS, edits))
    content = '\n'.join(map(json.dumps, records if isinstance(records, list) else [records])).encode()
  elif kind == 'bytes':
    content = edited(''.join(json.dumps(record) + '\n' for record in RECORDS).encode(), what)
  else:
    content = json.dumps(RECORDS[0]).encode() + b'\n' + what
  (place / 'metrics.jsonl').write_bytes(content)
  run = run_directory.Run(place)
  steps = [record['step'] for record in run.records]
  assert all(type(step) is int and step >= 0 for step in steps) and steps == sorted(set(steps))
  assert all(type(record['seconds']) in (int, float) and math.isfinite(record['seconds']) for record in run.records)
  run.cut(15)
  assert [record['step'] for record in run_directory.Run(place).records] == [step for step in steps if step <= 15]


def lock_file(edits, place):
  """It is known whose the run is, or it can be taken over."""
  sign = {'host': 'x', 'machine': locks._machine(), 'process': os.getpid(), 'started': locks._started(os.getpid()),
          'lock': 'abc', 'beat': 3}
  (place / 'locks').mkdir()
  (place / 'locks' / '0').write_bytes(edited_json(sign, edits))
  assert isinstance(locks.holder(place), str | None)
  assert locks.is_alive(place) in (True, False, None)
  with mock.patch.object(locks, 'PATIENCE', 0.0), locks.lock(place) as still_held:
    still_held()


def lock_names(names, place):
  """Only numbers are locks, and the highest holds."""
  (place / 'locks').mkdir()
  for name in names:
    if '/' not in name and name not in ('', '.', '..') and len(name.encode()) < 200:
      (place / 'locks' / name).write_text(json.dumps({'released': True}))
  with mock.patch.object(locks, 'PATIENCE', 0.0), locks.lock(place):
    mine = max((int(name) for name in names if re.fullmatch('0|[1-9][0-9]*', name)), default=-1) + 1
    assert json.loads((place / 'locks' / str(mine)).read_text())['process'] == os.getpid()


def slurm_jobs(edits, place):
  """The cells that wait are names."""
  (place / '7.json').write_bytes(edited_json({'7_0': ['a', 'b'], '7_1': ['c']}, edits))
  answer = types.SimpleNamespace(returncode=0, stdout='7_0\n7_1\n', stderr='')
  with mock.patch('subprocess.run', return_value=answer):
    assert all(isinstance(name, str) for name in slurm._queued(place))


RECORD = pathlib.Path(__file__).parents[1] / 'results/probes/10_depth_digits_slow/depth.json'
PROBE = json.loads(RECORD.read_text()) | {'figure': 'f.png'}


def probe_record(given, place):
  """The page shows it, and the figure is whole."""
  edits, figure_edits = given
  out = io.BytesIO()
  Image.fromarray(imagenet_copies.picture(0)).save(out, 'png')
  (place / 'f.png').write_bytes(edited(out.getvalue(), figure_edits))
  (place / 'spectra.json').write_bytes(edited_json(PROBE, edits))
  assert write_page(place).stat().st_size


@functools.cache
def _states():
  """{step: state} of the two checkpoints in `templates()`."""
  states = {step: {'params': {'kernel': np.arange(48, dtype=np.float32).reshape(6, 8) * step,
  'alpha': np.float32(step)},
                   'step': np.int32(step)} for step in (1, 2)}
  saved = checkpoints.Checkpoints(objects.absolute(templates() / 'checkpoints'))
  for step, state in states.items():
    saved.save(step, state)
  saved.close()
  return states


def _meaning(file, content):
  """What a file of a checkpoint says: a key twice, with the same value, says nothing else in its checksums."""
  if file.name == checkpoints.CHECKSUMS:
    with contextlib.suppress(ValueError):
      return json.loads(content)
  return content


def checkpoint(given, place):
  """The state is the newest of those whose files are as they were, bit by bit; what is passed over is said."""
  which, edits = given
  states = _states()
  shutil.copytree(templates() / 'checkpoints', place / 'checkpoints')
  files = sorted(path for path in (place / 'checkpoints').rglob('*') if path.is_file())
  file = files[which % len(files)]
  before, step = file.read_bytes(), int(file.relative_to(place / 'checkpoints').parts[0])
  if edits == 'gone':
    file.unlink()
  elif edits == 'directory':
    file.unlink()
    file.mkdir()
  else:
    file.write_bytes(edited(before, edits))
  said = []
  with contextlib.closing(checkpoints.Checkpoints(objects.absolute(place / 'checkpoints'))) as damaged:
    state = damaged.restore(say=said.append, records=())
    changed = not file.is_file() or _meaning(file, file.read_bytes()) != _meaning(file, before)
    expected = 1 if changed and step == 2 else 2
    jax.tree.map(np.testing.assert_array_equal, state, states[expected])
    assert len(said) == changed, (file, edits, said)
    damaged.save(3, states[2] | {'step': np.int32(3)})  # and the run goes on
    assert int(damaged.restore(say=said.append)['step']) == 3


damaged_checkpoints = st.tuples(st.integers(0, 999), st.one_of(byte_edits, st.sampled_from(('gone', 'directory'))))


# Data.


@functools.cache
def _cifar10(form):
  """Of a small CIFAR-10 in `templates()`: its directory, and its images and labels."""
  folder, arrays = templates() / form, cifar10_copies.pictures()
  cifar10_copies.write(folder, form, arrays)
  return folder, arrays


def _load_cifar10(data_dir):
  """The data set, which must be images and labels that fit each other; nothing is written beside the cache."""
  with mock.patch.dict(os.environ, {'ZEROINIT_CACHE': str(data_dir.parent / 'cache')}):
    dataset = cifar10.load(str(data_dir))
    again = cifar10.load(str(data_dir))  # from the cache
  for part in ('train', 'test'):
    pictures, labels = getattr(dataset, f'{part}_images'), getattr(dataset, f'{part}_labels')
    assert pictures.shape == (len(labels), 32, 32, 3) and pictures.dtype == np.uint8 and len(labels)
    assert labels.dtype == np.int32 and labels.ndim == 1 and labels.min() >= 0 and labels.max() < 10
    np.testing.assert_array_equal(pictures, getattr(again, f'{part}_images'))
  assert dataset.title == again.title and not dataset.complete
  return dataset


def _same(dataset, arrays):
  there = (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels)
  return all(np.array_equal(a, b) for a, b in zip(there, arrays, strict=True))


def cifar10_batch(given, place):
  """Images and labels that fit each other; of a batch of raw bytes no more can be known."""
  form, which, edits = given
  source_folder, _ = _cifar10(form)
  folder = shutil.copytree(source_folder, place / 'data')
  files = sorted(folder.rglob('*_batch*'))
  file = [file for file in files if file.is_file()][which % 6]
  file.write_bytes(edited(file.read_bytes(), edits))
  _load_cifar10(folder)


batches = st.tuples(st.sampled_from(('py', 'bin')), st.integers(0, 5), byte_edits)
labels = st.one_of(st.just([3, 4]), st.just([3, 4]), st.lists(scalars, max_size=3), st.just([[1]] * 2), st.just([1.5,
                   2]), st.just(['1', '2']),
                   st.just([True, False]), st.just([10**30, 1]), st.just([-1, 0]), scalars, st.just([]))
pixels = st.sampled_from((*[np.full((2, 3072), 7, np.uint8)] * 8, np.zeros((2, 3072), np.uint8), np.zeros((0, 3072),
                          np.uint8), np.zeros((2, 3072), np.int8),
                          np.zeros((2, 3072), np.float32), np.zeros((3072, 2), np.uint8), np.zeros(3072, np.uint8),
                          np.zeros((2, 3, 1024), np.uint8), np.full((2, 3072), None), np.zeros((2, 3071), np.uint8),
                          [[0] * 3072] * 2, None, 3))


def cifar10_arrays(given, place):
  """Images are uint8 [n, 3072], with n whole labels from 0 to 9."""
  batch, protocol = given
  folder = shutil.copytree(_cifar10('py')[0], place / 'data')
  (folder / 'cifar-10-batches-py' / 'data_batch_1').write_bytes(pickle.dumps(batch, protocol))
  dataset = _load_cifar10(folder)
  kept = batch[b'labels']
  assert all(isinstance(label, int | np.integer) and not isinstance(label, bool) for label in kept)
  assert dataset.train_labels[:len(kept)].tolist() == list(kept)


wrong_arrays = st.tuples(st.one_of(
    st.fixed_dictionaries({b'data': pixels, b'labels': labels}), st.fixed_dictionaries({b'data': pixels}),
    st.dictionaries(texts, scalars, max_size=2), scalars), st.sampled_from((0, 1, 2, 3)))


def cifar10_archive(given, place):
  """The very images that were packed: whatever was damaged is noticed, by gzip's checksum at the latest."""
  form, edits = given
  archive, arrays = _cifar10(f'{form}_archive')
  name, = os.listdir(archive)
  (place / 'data').mkdir()
  content = (archive / name).read_bytes()
  damaged = edited(content, edits)
  (place / 'data' / name).write_bytes(damaged)
  assert _same(_load_cifar10(place / 'data'), arrays)


members = st.lists(st.tuples(
    st.sampled_from(('../evil', '/evil', '../../data_batch_1', 'x/../../evil/data_batch_1', 'data_batch_1', '.', '',
                     'a/' * 200 + 'test_batch', '\x1b[2J', 'data_batch_1.bin')),
    st.sampled_from(('file', 'symlink', 'hardlink', 'device', 'directory', 'fifo', 'again'))), min_size=1, max_size=3)


def cifar10_members(given, place):
  """The images of the archive, whatever else is in it; nothing is written but the cache, and no link is followed."""
  archive, arrays = _cifar10('py_archive')
  inner = place / 'inner'
  (inner / 'data').mkdir(parents=True)
  secret = place / 'secret'
  secret.write_bytes(b'secret')
  with tarfile.open(archive / 'cifar-10-python.tar.gz') as old:
    packed = [(member, old.extractfile(member).read()) for member in old if member.isfile()]
  with tarfile.open(inner / 'data' / 'cifar-10-python.tar.gz', 'w:gz') as new:
    for name, kind in given:
      member = tarfile.TarInfo(name)
      member.type = {'file': tarfile.REGTYPE, 'again': tarfile.REGTYPE, 'symlink': tarfile.SYMTYPE,
                     'hardlink': tarfile.LNKTYPE, 'device': tarfile.CHRTYPE, 'directory': tarfile.DIRTYPE,
                     'fifo': tarfile.FIFOTYPE}[kind]
      member.linkname = str(secret)
      content = packed[0][1] if kind == 'again' else b'evil'
      member.size = len(content) if member.isreg() else 0
      new.addfile(member, io.BytesIO(content))
    for member, content in packed:
      new.addfile(member, io.BytesIO(content))
  before = {path for path in place.rglob('*') if 'cache' not in path.parts}
  dataset = _load_cifar10(inner / 'data')
  assert {path for path in place.rglob('*') if 'cache' not in path.parts} == before
  assert _same(dataset, arrays)


CALLS = ('os.system', 'posix.system', 'builtins.eval', 'builtins.exec', 'builtins.getattr', 'builtins.open',
         'subprocess.Popen', 'numpy.load', 'numpy.core.multiarray.fromfile', 'numpy.lib._npyio_impl.load',
         'numpy.dtype',
         'numpy.ndarray', 'numpy.core.multiarray._reconstruct', '_codecs.encode', '_codecs.decode', 'codecs.encode',
         'importlib.import_module', 'operator.attrgetter', 'functools.partial', 'copyreg._reconstructor',
         'numpy._core.multiarray.scalar', 'numpy.core.numeric._frombuffer', 'zeroinit.system.json_files.write',
         'numpy.ndarray.tofile', 'numpy.dtype.mro', 'pickle.loads', 'antigravity.geohash')
ARGUMENTS = (b')r\xff\xff\xff\xff', b')', b'V{touch}\n\x85', b'K\x01\x85', b'VO\n\x85', b'(VO\nI0\nI1\nt',
             b'(Vrot13\nVx\nt', b'(J\xff\xff\xff\x7f\x85t',
             b'(c{module}\n{name}\n(I0\ntVb\nt', b'(I999999999\nI999999999\nt\x85')
programs = st.lists(st.one_of(
    st.tuples(st.sampled_from(CALLS), st.sampled_from(ARGUMENTS), st.sampled_from((b'R', b'\x81', b'o', b'i'))),
    st.binary(max_size=6)), min_size=1, max_size=4)


def cifar10_pickle(program, place):
  """It never comes to that: a pickle that is not a batch is refused, and none of its calls has been made."""
  touched = place / 'touched'
  content = b'\x80\x02'
  for step in program:
    if isinstance(step, bytes):
      content += step
      continue
    call, arguments, opcode = step
    module, _, name = call.rpartition('.')
    arguments = arguments.replace(b'{touch}', f'touch {touched}'.encode()).replace(b'{module}', module.encode())
    content += f'c{module}\n{name}\n'.encode() + arguments.replace(b'{name}', name.encode()) + opcode
    content += b'}b' if opcode == b'R' else b''
  content += b'.'
  folder = shutil.copytree(_cifar10('py')[0], place / 'data')
  (folder / 'cifar-10-batches-py' / 'data_batch_2').write_bytes(content)
  try:
    _load_cifar10(folder)
    raise AssertionError('accepted')
  finally:
    assert not touched.exists()


def _with_a_damaged_file(source, folder, pattern, which, edits):
  """A copy of a data set in which one of the files of that pattern is edited."""
  shutil.copytree(source, folder)
  files = sorted(folder.rglob(pattern))
  file = files[which % len(files)]
  file.write_bytes(edited(file.read_bytes(), edits))
  return folder


def tfds_records(given, place):
  """The very images that were written: whatever was damaged is noticed, by the checksums of the format."""
  form, which, edits = given
  source_folder, arrays = _cifar10(form)
  folder = _with_a_damaged_file(source_folder, place / 'data', f'*{form}-*', which, edits)
  assert _same(_load_cifar10(folder), arrays)


def tfds_metadata(given, place):
  """The very images that were written, or a part that says so."""
  form, name, edits = given
  source_folder, arrays = _cifar10(form)
  folder = shutil.copytree(source_folder, place / 'data')
  file = next(folder.rglob(name))
  file.write_bytes(edited_json(json.loads(file.read_text()), edits))
  dataset = _load_cifar10(folder)
  assert not dataset.complete
  for part, whole in ((dataset.train_images, arrays[0]), (dataset.test_images, arrays[2])):
    assert len(part) <= len(whole) and {image.tobytes() for image in part} <= {image.tobytes() for image in whole}


record_edits = st.tuples(st.sampled_from(('array_record', 'tfrecord')), st.integers(0, 5), st.one_of(byte_flips,
                         byte_edits))
metadata_edits = st.tuples(st.sampled_from(('array_record', 'tfrecord')),
                           st.sampled_from(('dataset_info.json', 'features.json')), json_edits)


@functools.cache
def _imagenet(form):
  """Of a tiny ImageNet in `templates()`: its directory, and {split: [(content, label)]}."""
  parts = {'train': imagenet_copies.examples(0, 7), 'validation': imagenet_copies.examples(100, 3)}
  if not (templates() / 'builder').exists():
    imagenet_copies.write(templates() / 'builder', parts)
  folder = imagenet_copies.rewrite(templates() / 'builder', templates() / f'imagenet_{form}', form, shards=2)
  return folder, {name: [(content, label) for _, content, label in examples] for name, examples in parts.items()}


def _assert_imagenet(folder, parts):
  with mock.patch.dict(os.environ, {'ZEROINIT_CACHE': str(folder.parent / 'cache')}):
    dataset = imagenet.load(str(folder))
  assert not dataset.complete
  for name, split in (('train', dataset.train), ('validation', dataset.test)):
    assert f'{len(split):,} of {imagenet.SPLITS[name]:,} {name} images' in dataset.title
    there = [split[i] for i in range(len(split))]
    assert all(example in parts[name] for example in there), name
    assert len(there) <= len(parts[name])
    split.name_of(0)


def imagenet_records(given, place):
  """The very records that were written: whatever was damaged is noticed when it is read."""
  form, which, edits = given
  source_folder, parts = _imagenet(form)
  folder = _with_a_damaged_file(source_folder, place / 'data', f'*{form}-*', which, edits)
  _assert_imagenet(folder, parts)


def imagenet_metadata(given, place):
  """Records that were written, as many as the title says."""
  form, name, edits = given
  source_folder, parts = _imagenet(form)
  folder = shutil.copytree(source_folder, place / 'data')
  file = next(folder.rglob(name))
  file.write_bytes(edited_json(json.loads(file.read_text()), edits))
  _assert_imagenet(folder, parts)


def caches(given, place):
  """A cache that is damaged is made anew: the same images and records come out as without it."""
  which, edits = given
  folder, parts = _imagenet('tfrecord')
  data, arrays = _cifar10('py')
  (place / 'cache').mkdir()
  with mock.patch.dict(os.environ, {'ZEROINIT_CACHE': str(place / 'cache')}):
    imagenet.load(str(folder))
    cifar10.load(str(data))
    files = sorted((place / 'cache').iterdir())
    file = files[which % len(files)]
    file.write_bytes(edited(file.read_bytes(), edits))
    split = imagenet.load(str(folder)).train
    assert [split[i] for i in range(len(split))] == parts['train']
    assert _same(cifar10.load(str(data)), arrays)


def cifar10_parquet(given, place):
  """Images and labels that fit each other; the PNGs have checksums, the labels have not."""
  which, edits = given
  folder = shutil.copytree(_cifar10('parquet')[0], place / 'data')
  file = sorted(folder.rglob('*.parquet'))[which]
  file.write_bytes(edited(file.read_bytes(), edits))
  _load_cifar10(folder)


@functools.cache
def _ilsvrc(form):
  """The directory of a small ImageNet as image-net.org has it, in `templates()`."""
  train = imagenet_copies.examples(0, 5)
  validation = [(f'ILSVRC2012_val_{i:08d}.JPEG', content, label)
                for i, (_, content, label) in enumerate(imagenet_copies.examples(10, 4), 1)]
  return ilsvrc_copies.write(templates() / form.replace(' ', '_'), form, train, validation)


def imagenet_files(given, place):
  """Every example has bytes and one of the 1000 labels, whatever was damaged of what says where and what they are."""
  (form, name), edits = given
  folder = shutil.copytree(_ilsvrc(form), place / 'data')
  file, = folder.rglob(name)
  file.write_bytes(edited(file.read_bytes(), edits))
  with mock.patch.dict(os.environ, {'ZEROINIT_CACHE': str(place / 'cache')}):
    dataset = imagenet.load(str(folder))
    for split in (dataset.train, dataset.test):
      for content, label in (split[i] for i in range(len(split))):
        assert isinstance(content, bytes) and 0 <= label < 1000


places = st.sampled_from((('flat and val.txt', 'val.txt'), ('Kaggle', 'LOC_val_solution.csv'),
                          ('flat and devkit', 'meta.mat'), ('flat and devkit', '*_ground_truth.txt'),
                          ('archives', 'ILSVRC2012_img_train.tar'), ('archives', 'ILSVRC2012_img_val.tar'),
                          ('archives', '*.tar.gz')))


@functools.cache
def _small_data(name, form):
  pictures = small_copies.pictures(small_copies.CLASSES[name])
  return small_copies.write(templates() / f'{name}_{form}', name, form, pictures)


def small_data(given, place):
  """Images and labels that fit each other, of the classes that there are."""
  (name, form), which, edits = given
  folder = shutil.copytree(_small_data(name, form), place / 'data')
  files = sorted(file for file in folder.rglob('*') if file.is_file())
  file = files[which % len(files)]
  file.write_bytes(edited(file.read_bytes(), edits))
  with mock.patch.dict(os.environ, {'ZEROINIT_CACHE': str(place / 'cache')}):
    _assert_fits(datasets.load(name, str(folder)), small_copies.CLASSES[name])


def _assert_fits(dataset, classes):
  for part in ('train', 'test'):
    pictures, labels = getattr(dataset, f'{part}_images'), getattr(dataset, f'{part}_labels')
    assert pictures.dtype in (np.uint8, np.float32) and pictures.ndim == 4 and len(pictures) == len(labels) > 0
    assert labels.dtype == np.int32 and labels.min() >= 0 and labels.max() < classes


@functools.cache
def _folder():
  return other_copies.write_folder(templates() / 'folder', train=2, test=1)


def folder_of_images(given, place):
  """Images that can be drawn from, of the classes that there are; what is kept of them may be damaged too."""
  which, edits = given
  folder = shutil.copytree(_folder(), place / 'data')
  with mock.patch.dict(os.environ, {'ZEROINIT_CACHE': str(place / 'cache')}):
    datasets.load(f'folder:{folder}')
    files = [file for above in (folder, place / 'cache') for file in sorted(above.rglob('*')) if file.is_file()]
    file = files[which % len(files)]
    file.write_bytes(edited(file.read_bytes(), edits))
    dataset = datasets.load(f'folder:{folder}')
    known = datasets.info(f'folder:{folder}')
  assert known.num_classes == 3 and known.train_examples == 6 and all(np.isfinite(known.mean)) and min(known.std) > 0
  if isinstance(dataset, datasets.Dataset):
    _assert_fits(dataset, 3)


arrays_of_ones_own = st.one_of(
    st.tuples(st.sampled_from(('uint8', 'float32', 'float64', 'int64', 'uint16', 'bool', 'complex64', 'U1', 'O')),
              st.sampled_from(((4, 8, 8, 1), (4, 8, 8, 3), (3, 8, 8, 1), (4, 8, 4, 1), (0, 8, 8, 1), (4,), (),
                               (4, 0, 0, 1))),
              st.sampled_from((0, 1, -1, 255, 1e30, float('nan')))),
    scalars)


def own_data(given, place):
  """Images and labels that fit each other, finite."""
  def array(made):
    if not isinstance(made, tuple):
      return made
    kind, shape, value = made
    with np.errstate(all='ignore'):
      return np.full(shape, value).astype(kind)

  images, labels = map(array, given)
  source = ('import pickle\n'
            f'IMAGES, LABELS = pickle.loads({pickle.dumps((images, labels))!r})\n'
            'def mine(data_dir):\n  import numpy as np\n'
            '  labels = LABELS if not isinstance(LABELS, np.ndarray) or LABELS.ndim else np.arange(4) % 2\n'
            '  return IMAGES, labels, IMAGES, labels\n')
  (place / 'mine.py').write_text(source)
  dataset, known = datasets.load(f'{place}/mine.py:mine'), datasets.info(f'{place}/mine.py:mine')
  _assert_fits(dataset, known.num_classes)
  assert np.isfinite(dataset.train_images).all() and all(np.isfinite((*known.mean, *known.std))) and min(known.std) > 0


FORMS = (('jpeg', 'RGB'), ('jpeg', 'L'), ('jpeg', 'CMYK'), ('png', 'RGB'), ('png', 'RGBA'), ('png', 'P'), ('png', '1'),
         ('png', 'I;16'), ('gif', 'P'), ('bmp', 'RGB'), ('tiff', 'RGB'), ('webp', 'RGB'), ('ppm', 'RGB'), ('png', 'LA'))
SIZES = st.one_of(st.sampled_from(((1, 1), (1, 300), (300, 1), (2, 2), (40, 50), (1, 5000))),
                  st.tuples(st.integers(1, 64), st.integers(1, 64)))
encoded = st.tuples(st.sampled_from(FORMS), SIZES, st.one_of(st.just(()), byte_edits))


def image(given, place):
  """A picture of the size that was asked for, whichever part of the image it shows."""
  (form, mode), (height, width), edits = given
  file = io.BytesIO()
  picture = Image.fromarray(imagenet_copies.picture(height, height, width))
  (picture.convert('L').convert('I;16') if mode == 'I;16' else picture.convert(mode)).save(file, form)
  content = edited(file.getvalue(), edits)
  if content == file.getvalue():
    assert images.decode(content).shape == (height, width, 3)
  split = _Split([(content, 3)] * 3)
  whole = {'batch_size': 2, 'rows': np.arange(2), 'size': 16, 'num_classes': 10, 'workers': 1}
  tested = list(loader.test_batches(split, **whole))
  assert [batch['image'].shape for batch in tested] == [(2, 16, 16, 3)] * 2
  assert tested[1]['label'].tolist() == [3, -1]
  drawn = loader.training_batches(split, seed=0, crop='random_resized', flip=True, **whole)
  for batch in itertools.islice(drawn, 2):
    assert batch['image'].dtype == np.uint8 and batch['label'].tolist() == [3, 3]
  drawn.close()


class _Split(list):

  def name_of(self, index):
    return f'record {index}'


PARSERS = (
    Parser('flags of a run', flags_of_a_run, FLAGS, 0.04),
    Parser('config files', config_file, config_files, 0.03),
    Parser('study files', study_file, yields, 0.02),
    Parser('flags of a study', flags_of_a_study, axes, 0.02),
    Parser('--cells', cells_of_a_worker, indices, 0.001),
    Parser('manifest.json', manifest_file, json_edits, 0.5),
    Parser('result.json', result_file, json_edits, 0.5),
    Parser('failure.json', failure_file, json_edits, 0.02),
    Parser('config.json', config_json, json_edits, 0.02),
    Parser('metrics.jsonl', metrics_file, json_edits, 0.01),
    Parser('locks, content', lock_file, json_edits, 0.01),
    Parser('locks, names', lock_names, st.lists(st.one_of(texts, st.sampled_from(('0', '00', '1', '١'))),
    max_size=4), 0.01),
    Parser('jobs of Slurm', slurm_jobs, json_edits, 0.01),
    Parser('records of probes', probe_record, st.one_of(
        st.tuples(json_edits, st.just(())), st.tuples(st.just(('nodes', ())), byte_edits)), 0.01),
    Parser('checkpoints', checkpoint, damaged_checkpoints, 0.2),
    Parser('CIFAR-10 batches', cifar10_batch, batches, 0.02),
    Parser('CIFAR-10 arrays', cifar10_arrays, wrong_arrays, 0.02),
    Parser('CIFAR-10 archives', cifar10_archive, st.tuples(st.sampled_from(('py', 'bin')), byte_edits), 0.02),
    Parser('CIFAR-10 members', cifar10_members, members, 0.03),
    Parser('CIFAR-10 pickles', cifar10_pickle, programs, 0.02),
    Parser('CIFAR-10 of TFDS, records', tfds_records, record_edits, 0.05),
    Parser('CIFAR-10 of TFDS, metadata', tfds_metadata, metadata_edits, 0.05),
    Parser('CIFAR-10 Parquet', cifar10_parquet, st.tuples(st.integers(0, 1), byte_edits), 0.05),
    Parser('ImageNet files', imagenet_files, st.tuples(places, byte_edits), 0.05),
    Parser('ImageNet records', imagenet_records, record_edits, 0.02),
    Parser('ImageNet metadata', imagenet_metadata, metadata_edits, 0.02),
    Parser('caches of data', caches, st.tuples(st.integers(0, 3), byte_edits), 0.05),
    Parser('CIFAR-100 and SVHN', small_data,
           st.tuples(st.sampled_from(small_copies.FORMS), st.integers(0, 9), byte_edits), 0.2),
    Parser('folders of images', folder_of_images, st.tuples(st.integers(0, 9), byte_edits), 0.05),
    Parser('functions that return data', own_data, st.tuples(arrays_of_ones_own, arrays_of_ones_own), 0.02),
    Parser('images', image, encoded, 0.01),
)
