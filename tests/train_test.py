"""Whole runs: what they leave behind, and that stopping them changes nothing."""

import dataclasses
import json
import signal
import time

import command
import jax
import numpy as np
import pytest

from zeroinit.data import digits
from zeroinit.runs import ending, run_directory, train
from zeroinit.system.errors import UserError
from zeroinit.training.batches import standardize
from zeroinit.training.config import base_config

TIMINGS = ('seconds', 'images_per_second')
# All kinds of state at once: running statistics, multipliers and dropout, in scanned and single blocks.
FLAGS = ('--config=configs/digits.py:ghost_norm', '--config.method.alpha=0', '--config.method.dropout=0.2',
         '--config.epochs=6', '--config.seed=7')


@pytest.fixture(scope='session')
def uninterrupted(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('uninterrupted') / 'run'
  code, output, errors = command.run('zeroinit.main', *FLAGS, f'--workdir={workdir}')
  assert code == 0, errors
  return workdir, output


def metrics(workdir):
  """metrics.jsonl as text, timings taken out: equal text is equal to the last bit."""
  path = workdir / 'metrics.jsonl'
  records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
  return [json.dumps({name: value for name, value in record.items() if name not in TIMINGS}) for record in records]


def test_what_a_run_leaves_behind(uninterrupted):
  workdir, output = uninterrupted
  result = json.loads((workdir / 'result.json').read_text())
  expected = {'status': 'done', 'method': 'ghost_norm(alpha=0.0, dropout=0.2)', 'depth': 16, 'batch_size': 64,
              'learning_rate': 1.0, 'momentum': 0.9, 'dampening': 0.9, 'epochs': 6.0, 'steps': 132, 'seed': 7,
              'protocol': 'own', 'data': 'scikit-learn digits',
              'overrides': {'method.alpha': 0, 'method.dropout': 0.2, 'epochs': 6.0, 'seed': 7},
              'device': '1 x cpu'}
  assert expected == {name: result[name] for name in expected}
  for name in ('test_accuracy', 'test_cross_entropy', 'train_loss', 'train_cross_entropy', 'train_l2', 'seconds'):
    assert isinstance(result[name], float), name
  assert result['train_loss'] == pytest.approx(result['train_cross_entropy'] + result['train_l2'])
  assert {'threads', 'versions', 'git_revision'} <= result.keys()
  assert result['test_accuracy'] > 0.8

  records = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  assert [record['step'] for record in records] == [round(132 * i / 20) for i in range(1, 21)]
  assert {'step', 'epoch', 'train_loss', 'train_cross_entropy', 'train_l2', 'test_accuracy', 'test_cross_entropy',
          'learning_rate', 'images_per_second', 'gradient_norm', 'alpha'} <= records[-1].keys()
  assert len(records[-1]['alpha']) == 6
  assert records[-1]['learning_rate'] == 1 / 1024
  assert json.loads((workdir / 'config.json').read_text())['depth'] == 16
  assert b'final/test_accuracy' in next(workdir.glob('events*')).read_bytes()

  assert len([line for line in output.splitlines() if line.startswith('epoch')]) == 20
  assert 'left' in output and '\r' not in output and '\x1b' not in output


def test_the_result_is_what_the_checkpoint_computes(uninterrupted):
  net, variables = run_directory.load(uninterrupted[0])
  assert {type(leaf) for leaf in jax.tree.leaves(variables)} == {np.ndarray}
  dataset = digits.load()
  images = standardize(dataset.test_images, digits.INFO.mean, digits.INFO.std)
  logits = jax.jit(lambda variables, images: net.apply(variables, images, train=False))(variables, images)
  result = json.loads((uninterrupted[0] / 'result.json').read_text())
  assert float((logits.argmax(-1) == dataset.test_labels).mean()) == pytest.approx(result['test_accuracy'])


def test_a_finished_run_says_so_at_once(uninterrupted):
  workdir, _ = uninterrupted
  before = (workdir / 'result.json').read_bytes()
  code, output, errors = command.run('zeroinit.main', *FLAGS, f'--workdir={workdir}')
  assert code == 0 and 'is finished' in output and 'compiled' not in output, errors
  assert (workdir / 'result.json').read_bytes() == before


def test_another_config_is_refused_and_shown(uninterrupted):
  workdir, _ = uninterrupted
  code, _, errors = command.run('zeroinit.main', *FLAGS, f'--workdir={workdir}', '--config.seed=8', '--config.width=2',
                                '--config.data_dir=/elsewhere')
  assert code == 2 and 'seed 7 -> 8; width 1 -> 2' in errors and 'data_dir' not in errors
  assert 'Traceback' not in errors


@pytest.mark.slow
@pytest.mark.parametrize('number, code', [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_run_ends_the_same(uninterrupted, tmp_path, number, code):
  workdir = tmp_path / 'run'
  process = command.start('zeroinit.main', *FLAGS, f'--workdir={workdir}')
  while len(metrics(workdir)) < 3 and process.poll() is None:
    time.sleep(0.01)
  process.send_signal(number)
  output, errors = process.communicate(timeout=60)
  assert process.returncode == code, errors
  assert 'goes on from there' in output and 'Traceback' not in errors
  assert len(list((workdir / 'checkpoints').iterdir())) == 1 and not (workdir / 'result.json').exists()
  code, output, errors = command.run('zeroinit.main', *FLAGS, f'--workdir={workdir}')
  assert code == 0 and 'going on from step' in output, errors
  assert metrics(workdir) == metrics(uninterrupted[0])


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(uninterrupted, tmp_path):
  workdir = tmp_path / 'run'
  flags = (*FLAGS, f'--workdir={workdir}', '--config.checkpoint_seconds=0')
  process = command.start('zeroinit.main', *flags)
  while len(metrics(workdir)) < 5 and process.poll() is None:
    time.sleep(0.01)
  process.terminate()
  process.communicate()
  steps = sorted(int(path.name) for path in (workdir / 'checkpoints').iterdir())
  assert len(steps) == 2
  for path in (workdir / 'checkpoints' / str(steps[-1])).rglob('*'):
    if path.is_file() and path.parent.name == 'd':
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  code, output, errors = command.run('zeroinit.main', *flags)
  assert code == 0, errors
  assert f'{steps[-1]} is damaged' in output and not errors and f'going on from step {steps[0]:,} ' in output
  assert metrics(workdir) == metrics(uninterrupted[0])


@pytest.mark.slow
def test_divergence_is_a_result(tmp_path):
  workdir = tmp_path / 'run'
  code, output, errors = command.run('zeroinit.main', '--config=configs/digits.py:none', '--config.depth=10',
                                     '--config.learning_rate=10000', f'--workdir={workdir}')
  assert code == 0 and 'diverged after' in output, errors
  result = json.loads((workdir / 'result.json').read_text())
  assert result['status'] == 'diverged' and 0 < result['steps'] < 110
  assert result['test_accuracy'] is None and result['train_loss'] is None
  code, output, _ = command.run('zeroinit.main', '--config=configs/digits.py:none', '--config.depth=10',
                                '--config.learning_rate=10000', f'--workdir={workdir}')
  assert code == 0 and 'is finished: diverged' in output


def small_config(method='none', **fields):
  config = base_config(method)
  config.update({'dataset': 'digits', 'crop': 'none', 'flip': False, 'depth': 10, 'width': 1,
                 'epochs': 1.0, 'tensorboard': False, **fields})
  return config


@pytest.mark.slow
def test_a_signal_in_the_last_dispatch_or_evaluation_waits_for_its_record(tmp_path, monkeypatch):
  """The result is of the last step, never of an evaluation before."""
  config = small_config(evaluations=2)
  whole = train.train(config, tmp_path / 'whole')
  advance = train._Training._advance

  def advance_and_stop(training):
    advance(training)
    if training.step == training.schedule.steps:
      training.stop_signals.append(signal.SIGTERM)

  monkeypatch.setattr(train._Training, '_advance', advance_and_stop)
  with pytest.raises(train.Stopped):
    train.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'result.json').exists()
  monkeypatch.undo()
  result = train.train(config, tmp_path / 'run')
  untimed = lambda result: {name: result[name] for name in result if name not in (*TIMINGS, 'checksums')}
  assert untimed(result) == untimed(whole)


@pytest.mark.slow
def test_a_signal_at_any_line_of_the_loop_stops_only_with_a_checkpoint(tmp_path, monkeypatch):
  """The signal comes while the loop asks whether a checkpoint is due, the moment before it asks about signals."""
  began = train._Training._start

  class Clock:
    signals = None

    def monotonic(self):
      if self.signals is not None and not self.signals:
        self.signals.append(signal.SIGTERM)
      return time.monotonic()

  clock = Clock()

  def start(training):
    began(training)
    clock.signals = training.stop_signals

  monkeypatch.setattr(train, 'time', clock)
  monkeypatch.setattr(train._Training, '_start', start)
  with pytest.raises(train.Stopped):
    train.train(small_config(), tmp_path / 'run')
  assert list((tmp_path / 'run' / 'checkpoints').iterdir())


@pytest.mark.slow
@pytest.mark.parametrize('first, then', [(8, 1), (1, 8)])
def test_a_run_goes_on_with_another_number_of_devices(tmp_path, monkeypatch, first, then):
  devices = jax.devices()
  config = small_config('ghost_norm', batch_size=32, evaluations=4)
  config.method.ghost_size = 8
  make_recipe = train.make_recipe
  on = lambda n: monkeypatch.setattr(train, 'make_recipe', lambda *args: make_recipe(*args, devices[:n]))
  on(first)
  with monkeypatch.context() as patch:
    patch.setattr(train._Training, '_evaluate', lambda training: training.stop_signals.append(signal.SIGTERM))
    with pytest.raises(train.Stopped):
      train.train(config, tmp_path / 'run')
  _, before = run_directory.load(tmp_path / 'run')
  on(then)
  result = train.train(config, tmp_path / 'run')
  assert result['status'] == 'done' and result['device'] == f'{then} x cpu'
  assert [record['step'] for record in run_directory.Run(tmp_path / 'run').records] == [11, 22, 33, 44]
  _, after = run_directory.load(tmp_path / 'run')
  assert jax.tree.map(np.shape, before) == jax.tree.map(np.shape, after)


@pytest.mark.slow
def test_a_dead_network_has_not_diverged_and_has_not_learnt(tmp_path, capsys):
  """Its features are 0, whatever the image: each of three blocks makes them 1e-30 times as large."""
  dead = small_config(epochs=2.0, weight_decay=0.0)
  dead.method.merge_scale = 1e-30
  result = train.train(dead, tmp_path / 'dead')
  assert result['status'] == 'done' and result['classes'] == 10
  assert result['last_quarter_cross_entropy'] == pytest.approx(np.log(10), rel=1e-6)
  assert ending.status(result) == 'at chance'
  assert 'at chance after 44 steps' in capsys.readouterr().out
  alive = train.train(small_config('zeroinit_no_dropout', epochs=6.0, learning_rate=1.0), tmp_path / 'alive')
  assert ending.status(alive) == 'done'
  records = [json.loads(line) for line in (tmp_path / 'alive' / 'metrics.jsonl').read_text().splitlines()]
  late = [record['train_cross_entropy'] for record in records if record['epoch'] > 4.5]
  assert min(late) < alive['last_quarter_cross_entropy'] < max(late)


@pytest.mark.slow
def test_weights_that_overflow_in_the_last_update_are_divergence(tmp_path):
  config = small_config('multiplier', learning_rate=1e38, evaluations=1000, tensorboard=True)
  assert train.train(config, tmp_path / 'run')['status'] == 'diverged'


def test_other_data_or_a_lost_config_is_refused(tmp_path, monkeypatch):
  config = small_config(epochs=0.1)
  train.train(config, tmp_path / 'run')
  (tmp_path / 'run' / 'result.json').unlink()
  load = digits.load
  monkeypatch.setattr(digits, 'load', lambda data_dir: dataclasses.replace(load(), title='other digits'))
  with pytest.raises(UserError, match='begun with scikit-learn digits, and this is other digits'):
    train.train(config, tmp_path / 'run')
  (tmp_path / 'run' / 'config.json').unlink()
  with pytest.raises(UserError, match=r'config\.json is gone'):
    train.train(config, tmp_path / 'run')


@pytest.mark.slow
def test_train_from_python_on_all_devices(tmp_path):
  """A notebook calls train(config, workdir): no flags, here with a profile, in bfloat16, on eight devices."""
  config = small_config('ghost_norm', dtype='bfloat16', evaluations=2, profile=True)
  result = train.train(config, tmp_path / 'run')
  assert result['status'] == 'done' and result['device'].startswith('8 x') and result['overrides'] == {}
  assert list((tmp_path / 'run' / 'profile').rglob('*.xplane.pb'))
  assert not list((tmp_path / 'run').glob('events*'))
  assert train.train(config, tmp_path / 'run') == json.loads((tmp_path / 'run' / 'result.json').read_text())


def result_of(workdir, *flags, **environment):
  code, _, errors = command.run('zeroinit.main', *flags, f'--workdir={workdir}', '--config.evaluations=4',
                                **environment)
  assert code == 0, errors
  return json.loads((workdir / 'result.json').read_text())


@pytest.mark.slow
def test_real_cifar10_is_learned(real_cifar10, tmp_path):
  flags = ('--config=configs/cifar10.py:ghost_norm', f'--config.data_dir={real_cifar10}', '--config.depth=10',
           '--config.width=1', '--config.epochs=0.4', '--config.learning_rate=0.25')
  result = result_of(tmp_path / 'run', *flags, XLA_FLAGS='')  # it computes more than it compiles
  losses = [record['train_cross_entropy'] for record in run_directory.Run(tmp_path / 'run').records]
  assert result['steps'] == 312 and result['data'] == 'CIFAR-10, JPEG q75 copy' and result['protocol'] == 'shortened'
  assert result['test_accuracy'] > 0.35 and losses == sorted(losses, reverse=True), (result['test_accuracy'], losses)
