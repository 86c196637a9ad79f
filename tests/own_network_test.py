"""A network of one's own, in a file of one's own: what is asked of it, and that the file goes where its runs go."""

import json
import re

import command
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_test import losses

from zeroinit.methods import METHODS, Method
from zeroinit.networks.own_network import OwnNetwork
from zeroinit.networks.resnet import ResNet
from zeroinit.probes import layers
from zeroinit.runs import run_directory
from zeroinit.runs.train import train
from zeroinit.studies import manifest, sweeps
from zeroinit.studies.cells import make_cell
from zeroinit.system.errors import UserError
from zeroinit.training.config import base_config, check
from zeroinit.training.recipe import image_shape, make_recipe, network
from zeroinit.training.step import init_state
from zeroinit.training.trial import try_functions

EXAMPLE = command.ROOT / 'examples' / 'plain_network.py'
FILE = """
import flax.linen as nn
import jax
import jax.numpy as jnp
from zeroinit import Method
from zeroinit.networks.blocks import basic
from zeroinit.networks.resnet import ResNet, WideResNet

class Small(nn.Module):
  num_classes: int
  width: int

  @nn.compact
  def __call__(self, images, train):
    x = nn.Conv(8 * self.width, (3, 3))(images)
    x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
    return nn.Dense(self.num_classes)(x.mean((1, 2)))

class Wide(nn.Module):
  'A Wide-ResNet inside of another module.'
  method: Method
  num_classes: int
  depth: int

  @nn.compact
  def __call__(self, images, train, example=None):
    return WideResNet(depth=self.depth, width=1, method=self.method, num_classes=self.num_classes)(
        images, train, example)

class Slim(ResNet, kw_only=True):
  'One of ours with other stages.'
  title = 'Slim'

  @property
  def stages(self):
    return (basic(8, 1),) * 2, (basic(16, 2), basic(16, 1))

def everything(**fields):
  return WideResNet(**{name: value for name, value in fields.items()})

class Uneven(Slim):
  @property
  def stages(self):
    return ((basic(16, 2),) * 2,)

class Flat(Small):
  def __call__(self, images, train):
    return super().__call__(images, train)[:, :-1]

class Swapped(nn.Module):
  def __call__(self, train, images):
    return images

class Cached(Small):
  @nn.compact
  def __call__(self, images, train):
    self.variable('cache', 'x', jnp.zeros, ())
    return super().__call__(images, train)

class Pair(Small):
  def __call__(self, images, train):
    return super().__call__(images, train), {}

class Blind(nn.Module):
  @nn.compact
  def __call__(self, images):
    return nn.Dense(10)(images.mean((1, 2)))

class KeywordOnly(Small):
  @nn.compact
  def __call__(self, images, *, train):
    return nn.Dropout(0.5, deterministic=not train)(super().__call__(images, train))

class Counts(Small):
  @nn.compact
  def __call__(self, images, train):
    count = self.variable('batch_stats', 'count', jnp.zeros, (), jnp.int32)
    if train:
      count.value += 1
    return super().__call__(images, train)

class Late(Small):
  @nn.compact
  def __call__(self, images, train):
    if train:
      self.variable('batch_stats', 'count', jnp.zeros, ())
    return super().__call__(images, train)

class Grows(Small):
  @nn.compact
  def __call__(self, images, train):
    seen = self.variable('batch_stats', 'seen', jnp.zeros, (1,))
    if train:
      seen.value = jnp.zeros(len(images))
    return super().__call__(images, train)

class Widens(Small):
  @nn.compact
  def __call__(self, images, train):
    mean = self.variable('batch_stats', 'mean', jnp.zeros, ())
    if train:
      mean.value = mean.value.astype(jnp.bfloat16)
    return super().__call__(images, train)

class Half(nn.Module):
  @nn.compact
  def __call__(self, images, train):
    return nn.Dense(10, param_dtype=jnp.bfloat16)(images.mean((1, 2)))

class Empty(nn.Module):
  def __call__(self, images, train):
    return jnp.zeros((len(images), 10)) + images.mean()

class OneWay(Small):
  @nn.compact
  def __call__(self, images, train):
    logits = super().__call__(images, train)
    return logits * jax.lax.while_loop(lambda x: x < 3, lambda x: x + x, jnp.abs(logits).mean() + 1)

class Writes(Small):
  @nn.compact
  def __call__(self, images, train):
    self.variable('batch_stats', 'count', jnp.zeros, ()).value += 1
    return super().__call__(images, train)

def number(num_classes):
  return num_classes

def fails(num_classes):
  raise KeyError(num_classes)
"""


@pytest.fixture
def file(tmp_path):
  (tmp_path / 'mine.py').write_text(FILE)
  return tmp_path / 'mine.py'


def config_of(named, method='none', **fields):
  config = base_config(method)
  config.update(dataset='digits', crop='none', flip=False, depth=10, width=1, epochs=1.0, learning_rate=0.5,
                evaluations=2, tensorboard=False, network=named)
  config.update(fields)
  return config


def test_a_network_gets_what_it_names_and_is_called_so(file):
  small = network(config_of(f'{file}:Small', width=2))
  assert isinstance(small, OwnNetwork) and small.title == 'Small-2' and small.taken == ('num_classes', 'width')
  assert small.module.num_classes == 10 and small.method == Method() and set(small.left) > {'depth', 'method'}
  wide = network(config_of(f'{file}:Wide', 'zeroinit'))
  assert wide.title == 'Wide-10' and wide.module.method == METHODS['zeroinit']
  assert wide.clone(method=Method()).module.method == Method()
  assert not hasattr(wide, 'block')
  assert hash(wide) == hash(network(config_of(f'{file}:Wide', 'zeroinit')))
  every = network(config_of(f'{file}:everything', width=3))
  assert every == network(config_of('wide_resnet', width=3))


def test_inside_another_module_it_is_the_same_network(file):
  mine, ours = network(config_of(f'{file}:Wide', 'zeroinit')), network(config_of('wide_resnet', 'zeroinit'))
  images, key = jax.random.normal(jax.random.key(1), (4, 8, 8, 1)), jax.random.key(0)
  inner = mine.init(key, images)['params']['WideResNet_0']
  expected, _ = ours.apply({'params': inner}, images, train=True, mutable=['batch_stats'], rngs={'dropout': key},
                           example=jnp.arange(4))
  assert expected.shape == (4, 10)
  got = mine.apply({'params': {'WideResNet_0': inner}}, images, train=False)
  np.testing.assert_array_equal(got, ours.apply({'params': inner}, images, train=False))


def test_work_is_counted_as_for_ours(file):
  mine, ours = network(config_of(f'{file}:Wide')), network(config_of('wide_resnet'))
  assert mine.multiply_adds((8, 8, 1)) == pytest.approx(ours.multiply_adds((8, 8, 1)), rel=0.2)
  assert mine.activations((8, 8, 1)) > ours.activations((8, 8, 1)) / 2


def test_one_with_other_stages_is_a_resnet(file):
  net = network(config_of(f'{file}:Slim', 'zeroinit'))
  assert isinstance(net, ResNet) and net.title == 'Slim' and net.num_blocks == 4
  assert len(list(layers.along_depth(net, (8, 8, 1)))) == 1 + 8 + 1


@pytest.mark.parametrize('function, method, message', [
    ('Small', 'batch_norm', 'takes no method, so that it would be the same network with every one'),
    ('number', 'none', 'returns 10; it must return a flax module'),
    ('fails', 'none', r'mine\.py:fails fails: KeyError'),
    ('Swapped', 'none', 'has the parameters train, images; it must take images and train'),
    ('Flat', 'none', r'gives \[64, 9\] for images .*logits \[64, 10\]'),
    ('Cached', 'none', 'has variables in cache; a run keeps only those in batch_stats and params'),
    ('Pair', 'none', r'mine\.py:Pair gives a tuple; it must give one array, logits \[64, 10\]'),
    ('Blind', 'none', r'has the parameters images; it must take images and train, as in __call__\(self, images, train'),
    ('Counts', 'none', r'mine\.py:Counts has batch_stats/count int32\[\]: .* must be float32'),
    ('Late', 'none', r'mine\.py:Late has batch_stats/count absent at its start and float32\[\] in training'),
    ('Grows', 'none', r'has batch_stats/seen float32\[1\] at its start and float32\[64\] in training.* keep its shape'),
    ('Widens', 'none', r'has batch_stats/mean float32\[\] at its start and bfloat16\[\] in training'),
    ('Half', 'none', r'mine\.py:Half has params/Dense_0/bias bfloat16\[10\]: parameters .* must be float32'),
    ('Empty', 'none', r'mine\.py:Empty has no parameters, so that there is nothing to train'),
    ('OneWay', 'none', r'mine\.py:OneWay fails: ValueError: Reverse-mode'),
    ('Writes', 'none', r'mine\.py:Writes fails: ModifyScopeVariableError'),
    ('Uneven', 'none', r'mine\.py:Uneven fails: TypeError'), ('Smal', 'none', 'no function Smal.*Small')])
def test_networks_that_are_none(file, function, method, message):
  with pytest.raises(UserError, match=message):
    config = config_of(f'{file}:{function}', method)
    check(config)
    try_functions(config, make_recipe(config, 1437))


def test_nothing_is_written_with_a_network_that_cannot_be_trained(file, tmp_path):
  with pytest.raises(UserError, match='must be float32'):
    train(config_of(f'{file}:Counts'), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_dropout_of_flax_drops_where_random_numbers_are_given(file):
  net = network(config_of(f'{file}:KeywordOnly'))
  images, key = jax.random.normal(jax.random.key(1), (4, 8, 8, 1)), jax.random.key(0)
  variables = net.init(key, images)
  logits = lambda **options: net.apply(variables, images, train=True, mutable=['batch_stats'], **options)[0]
  everything = logits()
  assert (everything != 0).all()
  np.testing.assert_allclose(logits(rngs={'dropout': key}), jnp.where(logits(rngs={'dropout': key}) == 0, 0,
                                                                      2 * everything), rtol=1e-6)
  assert (logits(rngs={'dropout': key}) == 0).any()


def test_a_probe_leaves_out_what_is_not_taken(file, tmp_path):
  (tmp_path / 'config.py').write_text(f'from zeroinit import load_config\ndef get_config(method="none"):\n  config = '
                                      f'load_config(f"digits:{{method}}")\n  config.network = "{file}:KeywordOnly"\n'
                                      '  return config\n')
  words = f'--config={tmp_path}/config.py', '--batch_size=16', f'--workdir={tmp_path}/made'
  code, _, errors = command.run('zeroinit.probes.gradients', *words)
  assert code == 0, errors
  made = json.loads((tmp_path / 'made' / 'gradients.json').read_text())
  assert not {'kernel_init', 'classifier_init', 'dtype'} & made.keys() and made['batch_size'] == 16
  record, = made['records']
  assert record['depth'] == 2 and abs(record['mean_cosine']) < 1  # layers, as they are counted
  code, _, errors = command.run('zeroinit.probes.gradients', *words, '--depths=10,16')
  assert code == 2 and errors.startswith('error: mine.py:KeywordOnly takes no depth: leave out --depths'), errors


def test_a_missing_file_and_an_unknown_network(tmp_path):
  with pytest.raises(UserError, match=r'there is no file nowhere\.py'):
    network(config_of('nowhere.py:Net'))
  with pytest.raises(UserError, match=r'it must be one of: wide_resnet.*FILE\.py:FUNCTION'):
    check(config_of('wide'))


def test_a_run_keeps_the_file_and_its_network_can_be_loaded(file, tmp_path, capsys):
  config = config_of(f'{file}:Small', epochs=8.0, learning_rate=2.0)
  result = train(config, tmp_path / 'run')
  said = capsys.readouterr().out
  assert 'mine.py:Small takes num_classes, width; ' in said and 'depth' in said.split('takes num_classes, width;')[1]
  assert result['network'] == 'Small-1' and result['test_accuracy'] > 0.3 and result['protocol'] == 'own'
  assert json.loads((tmp_path / 'run' / 'config.json').read_text())['network'] == 'mine.py:Small'
  before = file.read_text()
  file.write_text(before.replace('8 * self.width', '9 * self.width'))
  with pytest.raises(UserError, match=r'mine\.py has changed since'):
    train(config, tmp_path / 'run')
  file.unlink()
  net, variables = run_directory.load(tmp_path / 'run')
  assert net.apply(variables, jnp.zeros((2, 8, 8, 1)), train=False).shape == (2, 10)
  assert variables['batch_stats']['BatchNorm_0']['mean'].shape == (8,)


def test_on_8_devices_as_on_1(file):
  recipes = [make_recipe(config_of(f'{file}:Wide', 'batch_norm'), 1437, jax.devices()[:n]) for n in (1, 8)]
  one, eight = (losses(recipe, init_state(recipe, 0.5, 0), 3)[0] for recipe in recipes)
  np.testing.assert_allclose(one, eight, rtol=1e-4)


def test_a_study_of_it_has_cells_of_their_own(file, tmp_path):
  (tmp_path / 'config.py').write_text('from zeroinit import load_config\n'
                                      'def get_config(method="none"):\n  return load_config(f"digits:{method}")\n')
  cell = lambda **more: make_cell(f'{tmp_path}/config.py', {'network': f'{file}:Small', **more})
  cells = [cell(), cell(width=2)]
  assert [cell.network for cell in cells] == ['Small-1', 'Small-2'] and cells[0].flop > 0
  study = manifest.begin(tmp_path / 'study', 'mine', '', cells)
  config = study.cells[0].load_config(study.files)
  assert config.network == f'{study.files}/mine.py:Small'
  assert image_shape(config) == (8, 8, 1)


def test_the_page_shows_the_example():
  page = (command.ROOT / 'docs' / 'own_network.md').read_text()
  shown = re.search(r'```python[^\n]*\n(from typing.*?)```', page, re.DOTALL)[1]
  assert EXAMPLE.read_text().endswith(shown)


def test_the_example_starts_and_computes_as_the_config_says():
  images, key = jax.random.normal(jax.random.key(1), (4, 8, 8, 1)), jax.random.key(0)
  config = config_of(f'{EXAMPLE}:Plain', 'batch_norm')
  assert network(config).left == ('remat',)
  kernels = {}
  for name in ('zero', 'lecun'):
    config.classifier_init = name
    kernels[name] = network(config).init(key, images)['params']['classifier']['kernel']
  assert not kernels['zero'].any() and kernels['lecun'].std() == pytest.approx(64**-0.5, rel=0.1)
  config.dtype = 'bfloat16'
  half = network(config)
  _, between = half.module.apply(half.init(key, images), images, train=False, capture_intermediates=True)
  assert between['intermediates']['conv1']['__call__'][0].dtype == jnp.bfloat16


@pytest.mark.slow
def test_the_example_is_a_study(tmp_path):
  swept, _ = sweeps.own_study(str(EXAMPLE))
  cells = sweeps.expand(swept)
  assert {cell.network for cell in cells} == {'Plain-10-1', 'Plain-28-1'} and len(cells) == 16
  config = cells[0].load_config()
  config.update(epochs=1.0, evaluations=1, tensorboard=False)
  assert train(config, tmp_path / 'run')['status'] == 'done'
