"""A method of one's own, in a file of one's own: what its functions do, and that the file goes where its runs go."""

import json
import re
import shutil
import subprocess
import sys
import types
from functools import partial

import command
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables
from step_test import DATA, config_of, losses, start

from zeroinit.__main__ import parsed
from zeroinit.data import digits
from zeroinit.methods import METHODS, Method
from zeroinit.networks import own_functions
from zeroinit.networks.blocks import BlockV1, BlockV2, Stage, basic
from zeroinit.networks.norms import normalize
from zeroinit.networks.resnet import CifarResNet, WideResNet, alphas
from zeroinit.networks.vgg import VGG
from zeroinit.probes import gradients, variance
from zeroinit.probes.variance import laws
from zeroinit.runs import run_directory
from zeroinit.runs.train import train
from zeroinit.studies import manifest, sweeps
from zeroinit.studies.cells import make_cell
from zeroinit.system.errors import UserError
from zeroinit.training import config_files
from zeroinit.training.batches import standardize
from zeroinit.training.config import check, code_of, method_label, method_of
from zeroinit.training.optimizer import WEIGHT_DECAY_ON, chosen
from zeroinit.training.recipe import make_recipe
from zeroinit.training.trial import try_functions

EXAMPLES = command.ROOT / 'examples'
PAGE = (command.ROOT / 'docs' / 'own_method.md').read_text()
FILE = """
import flax.linen as nn
import jax.numpy as jnp
from zeroinit.training.config import base_config
from zeroinit.methods import METHODS, Method

def zeros(module, branch, train):
  return module.param('alpha', nn.initializers.zeros, branch.shape[-1:])

def halves(module, branch, train):
  return module.param('alpha', nn.initializers.constant(0.5), branch.shape[-1:])

def group_norm(module, x, train):
  return nn.GroupNorm(num_groups=4)(x)

def fails(module, x, train):
  return x + undefined

def sums(module, x, train):
  return x.sum(-1)

def counts(module, x, train):
  module.variable('batch_stats', 'count', lambda: jnp.int32(0))
  return x

def nothing(module, x, train):
  pass

METHODS['mine'] = Method(norm=group_norm, alpha=halves)

def get_config(method='mine'):
  config = base_config(method)
  config.update(dataset='digits', crop='none', flip=False, depth=10, width=1, epochs=0.5, learning_rate=2.0**-4,
                evaluations=2, tensorboard=False)
  return config

def sweep():
  for rate in (0.1, 0.2):
    yield {'learning_rate': rate}
"""


@pytest.fixture(autouse=True)
def rows():
  """What files add to METHODS is gone afterwards."""
  before = dict(METHODS)
  yield
  METHODS.clear()
  METHODS.update(before)


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(FILE)
  return path


def method(file, **fields):
  """A Method whose functions are of the file."""
  return own_functions.complete(Method(**{field: f'{file}:{value}' if field in ('norm', 'alpha') else value
                                for field, value in fields.items()}))


def some_images(batch=4, size=8, channels=3):
  return jax.random.normal(jax.random.key(7), (batch, size, size, channels))


def wide(method):
  return WideResNet(depth=10, width=1, method=method, num_classes=10)


def cifar(method):
  return CifarResNet(depth=8, method=method)


# What the functions do.


def one_alpha(params):
  """The parameters with one number for each block in the place of one per channel."""
  def first(path, leaf):
    return leaf[..., 0] if path[-1].key == 'alpha' else leaf

  return jax.tree_util.tree_map_with_path(first, params)


@pytest.mark.parametrize('network, function, alpha', [(wide, 'halves', 0.5), (cifar, 'zeros', 0.0)])
def test_multipliers_per_channel_that_are_equal_are_one_multiplier(network, function, alpha, file):
  mine, images = network(method(file, alpha=function)), some_images()
  variables = jax.jit(lambda key: mine.init(key, images, train=False))(jax.random.key(0))
  assert alphas(variables['params']) == [alpha] * 3
  logits = [jax.jit(partial(net.apply, train=False))({'params': params}, images) for net, params in (
      (mine, variables['params']), (network(Method(alpha=alpha)), one_alpha(variables['params'])))]
  np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize('kind', [BlockV1, BlockV2])
def test_a_multiplier_of_zeros_is_the_identity_at_init(kind, file):
  x = some_images(channels=8)
  block = kind(basic(8, 1), method(file, alpha='zeros'), num_blocks=6)
  y = block.apply(block.init(jax.random.key(0), x, train=False), x, train=False)
  np.testing.assert_array_equal(y, nn.relu(x) if kind is BlockV1 else x)


@pytest.mark.parametrize('kind', [BlockV1, BlockV2])
def test_each_channel_has_its_own_multiplier(kind, file):
  """Where all but one are zero, that channel of the branch arrives, and the others do not."""
  x = some_images(channels=8)
  block = kind(basic(8, 1), method(file, alpha='zeros'), num_blocks=6)
  variables = random_variables(block, x, train=False)
  twin = kind(basic(8, 1), Method(alpha=0.5), num_blocks=6)
  params = variables['params']
  only = {'params': params | {'alpha': 0.5 * jax.nn.one_hot(3, 8)}}
  whole = twin.apply({'params': params | {'alpha': jnp.float32(0.5)}}, x, train=False)
  got = block.apply(only, x, train=False)
  np.testing.assert_allclose(got[..., 3], whole[..., 3], rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(np.delete(got, 3, -1), np.delete(nn.relu(x) if kind is BlockV1 else x, 3, -1))


def test_group_norm_is_that_of_flax_under_the_name_of_a_norm(file):
  class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
      return normalize(method(file, norm='group_norm'), x, True, name='norm')

  x = 3 * some_images(channels=8) + 1
  variables = random_variables(Net(), x)
  inside = {'params': variables['params']['norm']['GroupNorm_0']}
  np.testing.assert_array_equal(Net().apply(variables, x), nn.GroupNorm(num_groups=4).apply(inside, x))
  assert Net().apply(variables, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
  decayed = chosen(variables['params'], WEIGHT_DECAY_ON['all_but_norm'])
  assert not any(jax.tree.leaves(decayed))


def test_scanned_blocks_compute_as_one_after_another(file):
  mine, x = method(file, norm='group_norm', alpha='halves'), some_images(channels=8)
  stage = Stage(BlockV2, (basic(8, 1),) * 4, mine, num_blocks=4)
  variables = random_variables(stage, x, train=False)
  params = variables['params']
  assert params['rest']['alpha'].shape == (3, 8)
  want = x
  for block in (params['first'], *(jax.tree.map(lambda leaf, i=i: leaf[i], params['rest']) for i in range(3))):
    want = BlockV2(basic(8, 1), mine, num_blocks=4).apply({'params': block}, want, train=False)
  np.testing.assert_allclose(stage.apply(variables, x, train=False), want, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(alphas({'stage1': params}), [
      params['first']['alpha'].mean(), *params['rest']['alpha'].mean(1)], rtol=1e-6)


@pytest.mark.slow
def test_one_device_computes_as_eight(file):
  config = config_of('none', depth=10)
  config.method.update(norm=f'{file}:group_norm', alpha=f'{file}:halves')
  alone, _ = losses(*start(config), 5)
  together, _ = losses(*start(config, devices=8), 5)
  np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_a_vgg_takes_a_norm_and_no_multiplier(file):
  net = VGG(method=method(file, norm='group_norm', biases='channel'), num_classes=10)
  shapes = jax.eval_shape(lambda key: net.init(key, some_images(), train=False), jax.random.key(0))
  assert shapes['params']['relu13']['norm']['GroupNorm_0']['scale'].shape == (512,)
  with pytest.raises(UserError, match='no residual branches'):
    VGG(method=method(file, alpha='halves'), num_classes=10)


# What the probes make of them.


def test_the_branch_is_measured_after_the_multiplier(file):
  images = some_images()
  mine, scalar = wide(method(file, alpha='halves')), wide(Method(alpha=0.5))
  variables = random_variables(mine, images, train=False)
  variables['params'] = jax.tree_util.tree_map_with_path(
      lambda path, leaf: jnp.full_like(leaf, 0.5) if path[-1].key == 'alpha' else leaf, variables['params'])
  want = variance.measure(scalar, {'params': one_alpha(variables['params'])}, images)
  got = variance.measure(mine, variables, images)
  assert got == [pytest.approx(record, rel=1e-5) for record in want] and want[0]['share'] > 0.1


@pytest.mark.slow
def test_no_law_is_claimed_for_a_function(file):
  net = wide(method(file, norm='group_norm'))
  assert laws.expected(net, 1.0) is None and laws.formula(net) == ''
  last_only = wide(method(file, norm='group_norm', last_norm_only=True))
  assert laws.formula(last_only) == laws.formula(wide(Method()))
  images = some_images()
  variables = random_variables(net, images, train=False)
  records = variance.measure(net, variables, images)
  assert len(records) == 3 and not any(name.startswith('norm') for name in records[0])
  assert -1 <= gradients.measure(net, variables, images, jnp.arange(4))['mean_cosine'] <= 1


# The file goes where its runs go.


@pytest.mark.slow
def test_a_run_is_loaded_where_its_file_is_gone(file, tmp_path):
  config = config_files.load_config(str(file), {'method.dropout': 0.2})
  result = train(config, tmp_path / 'run')
  assert result['method'] == 'mine(dropout=0.2)' and result['status'] == 'done'
  saved = json.loads((tmp_path / 'run' / 'config.json').read_text())
  assert (saved['method']['norm'], saved['method']['alpha']) == ('mine.py:group_norm', 'mine.py:halves')
  records = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
  assert len(records[-1]['alpha']) == 3

  net, variables = run_directory.load(tmp_path / 'run')
  assert net.method == method_of(config)
  file.unlink()
  del METHODS['mine']
  shutil.move(tmp_path / 'run', tmp_path / 'elsewhere')
  assert (tmp_path / 'elsewhere' / 'mine.py').read_bytes() == FILE.encode()
  again, same = run_directory.load(tmp_path / 'elsewhere')
  assert again == net and hash(again) == hash(net) and 'mine' not in METHODS
  jax.tree.map(np.testing.assert_array_equal, same, variables)
  images = standardize(DATA.test_images, digits.INFO.mean, digits.INFO.std)
  classes = jax.jit(partial(again.apply, train=False))(same, images).argmax(-1)
  assert (classes == DATA.test_labels).mean() == pytest.approx(result['test_accuracy'])
  assert method_label(run_directory.read_config(tmp_path / 'elsewhere' / 'config.json')) == 'mine'


def test_a_run_does_not_go_on_with_another_version(file, tmp_path):
  config = config_files.load_config(str(file), {})
  run = run_directory.Run(tmp_path / 'run')
  run.begin(config, types.SimpleNamespace(title='data', order=''))
  run.compare(config)
  file.write_text(FILE.replace('num_groups=4', 'num_groups=8'))
  with pytest.raises(UserError, match=r'mine.py has changed since .*run/mine.py was copied from it'):
    run.compare(config)
  file.write_text('"""Mine."""\n# A comment.\n' + FILE.replace('(0.1, 0.2)', '(0.1, 0.2, 0.4)') +
                  "\nMETHODS['more'] = Method(norm=group_norm, biases='channel')\n")
  run.compare(config)  # no number depends on that


def test_a_study_keeps_its_files_and_grows_but_does_not_change(file, tmp_path):
  def begin():
    return manifest.begin(tmp_path / 'study', 'mine', '', sweeps.expand(sweeps.own_study(str(file))[0]))

  study = begin()
  assert (study.files / 'mine.py').read_text() == FILE
  file.write_text(FILE.replace('(0.1, 0.2)', '(0.1, 0.2, 0.4)'))
  study = begin()
  assert len(study.cells) == 3 and '0.4' in (study.files / 'mine.py').read_text()
  program = study.cells[0].program
  assert {cell.program for cell in study.cells} == {program}

  file.write_text(FILE.replace('constant(0.5)', 'constant(0.25)'))
  with pytest.raises(UserError, match=r'mine.py has changed since .*study/files/mine.py'):
    begin()
  assert make_cell(str(file), {}).program != program  # what is compiled is not mixed either
  with pytest.raises(UserError, match='now describes another run'):
    manifest.load_study(study.workdir).cells[0].load_config()

  file.unlink()
  METHODS.pop('mine')
  config = manifest.load_study(study.workdir).cells[0].load_config(study.files)
  assert method_of(config).alpha == 'mine.py:halves' and config.learning_rate == 0.1


def test_files_that_a_row_names_by_path_go_with_a_study(file, tmp_path):
  (tmp_path / 'config.py').write_text(FILE.split('def zeros')[0] +
                                      f"METHODS['mine'] = Method(alpha='{file}:halves')\ndef get_config"
                                      + FILE.split('def get_config')[1])
  cells = sweeps.expand(sweeps.own_study(str(tmp_path / 'config.py'))[0])
  study = manifest.begin(tmp_path / 'study', 'mine', '', cells)
  file.unlink()
  config = study.cells[0].load_config(study.files)
  assert config.method.alpha == f'{study.files}/mine.py:halves'
  check(config)


IN_A_BUCKET = """
import os, sys, types
from zeroinit.runs import run_directory
from zeroinit.studies import cells, manifest, sweeps
from zeroinit.training import config_files
from zeroinit.training.config import method_of
file = sys.argv[1]
study = manifest.begin('gs://bucket/study', 'mine', '', sweeps.expand(sweeps.own_study(file)[0]))
config = study.cells[0].load_config()
mine = method_of(config)
run_directory.Run('gs://bucket/run').begin(config, types.SimpleNamespace(title='data', order=''))
os.remove(file)
there = manifest.load_study('gs://bucket/study')
assert method_of(there.cells[0].load_config(there.files)) == mine
assert method_of(run_directory.read_config('gs://bucket/run/config.json')) == mine
print(config.method.alpha, there.cells[0].load_config(there.files).method.alpha)
"""


def test_in_a_bucket(file):
  pytest.importorskip('gcsfs')
  import fake_gcs

  with fake_gcs.serve('bucket') as server:
    process = subprocess.run([sys.executable, '-c', IN_A_BUCKET, str(file)], text=True, capture_output=True,
                             env={**command.os.environ, **server.environment})
    assert process.returncode == 0, process.stderr
    assert process.stdout == f'{file}:halves gs://bucket/study/files/mine.py:halves\n'
    assert server.objects['study/files/mine.py'].content == server.objects['run/mine.py'].content == FILE.encode()


# Mistakes.


MISTAKES = {
    'gone.py:f': r'there is no file gone.py in ',
    'DIR/gone.py:f': r'there is no file .*/gone.py$',
    'DIR:f': r'must be one of: batch, .*, none, .*, or FILE.py:FUNCTION$',
    'mine:f': r'must be one of: batch, .*, none, .*, or FILE.py:FUNCTION$',
    'DIR/mine.py': r'must be one of: batch, .*, none, .*, or FILE.py:FUNCTION$',
    'DIR/mine.py:groupnorm': r"mine.py has no function groupnorm; did you mean 'group_norm'\?",
    'DIR/broken.py:f': r'broken.py fails: SyntaxError: ',
    'DIR/bytes.py:f': r'bytes.py cannot be read: ',
    'DIR/mine.py:fails': r"^mine.py:fails fails: NameError: name 'undefined' is not defined$",
    'DIR/mine.py:nothing': r'^mine.py:nothing returns None; it must return an array$',
    'DIR/mine.py:sums': r'^mine.py:sums makes the shape \(1, 8, 8\) of \(1, 8, 8, 16\), .*; a norm must keep it$',
    'DIR/mine.py:zeros': r'^mine.py:zeros makes the shape \(16,\) of ',
}


@pytest.mark.parametrize('reference, message', MISTAKES.items(), ids=MISTAKES.keys())
def test_mistakes_name_the_file_and_the_function(reference, message, file, tmp_path):
  (tmp_path / 'broken.py').write_text('def f(:\n')
  (tmp_path / 'bytes.py').write_bytes(b'\xff\xfe')
  norm = reference.replace('DIR', str(tmp_path))
  config = config_files.load_config(str(file), {'method.norm': norm, 'batch_size': 64})
  config.method.alpha = None
  with pytest.raises(UserError) as caught:
    train(config, tmp_path / 'run')
  assert re.search(message, str(caught.value)) and '\n' not in str(caught.value)
  assert not (tmp_path / 'run').exists()  # so that the mended file finds nothing in its way


def test_a_multiplier_of_a_wrong_shape(file, tmp_path):
  config = config_files.load_config(str(file), {'method.alpha': f'{file}:sums'})
  with pytest.raises(UserError, match=r'mine.py:sums makes the shape \(1, 8, 8\) of .*; a multiplier must be'):
    train(config, tmp_path / 'run')


def test_a_counter_of_whole_numbers(file, tmp_path):
  config = config_files.load_config(str(file), {'method.norm': f'{file}:counts'})
  with pytest.raises(UserError, match=r'mine.py:counts.* has batch_stats/.*/count int32.*must be float32'):
    train(config, tmp_path / 'run')


def test_what_is_no_function_of_a_file(file, tmp_path):
  for made in (lambda module, x, train: x, nn.GroupNorm, nn.GroupNorm(num_groups=2)):
    with pytest.raises(UserError, match=r'method.norm is .*; it must be a function at the top level of a file'):
      Method(norm=made)
  with pytest.raises(UserError, match='noisy_norm'):
    method(file, norm='group_norm', noisy_norm=True)
  (tmp_path / 'other').mkdir()
  (tmp_path / 'other' / 'mine.py').write_text(FILE + '\n# Another.\n')
  other = tmp_path / 'other' / 'mine.py'
  message = f'two files called mine.py would travel together, {file} and {other}: give one another name'
  with pytest.raises(UserError, match=message):
    own_functions.complete(Method(norm=f'{file}:group_norm', alpha=f'{other}:halves'))
  overrides = {'method.norm': f'{file}:group_norm', 'network': f'{other}:Net'}
  with pytest.raises(UserError, match=message.partition(',')[0]):
    code_of(config_files.load_config('digits:none', overrides))
  with pytest.raises(UserError, match=message.partition(',')[0]):
    manifest.begin(tmp_path / 'study', 'mine', '', [make_cell('digits:none', {'method.norm': f'{path}:group_norm'})
                                                    for path in (file, other)])


def test_on_the_command_line_it_is_one_line(file, tmp_path):
  file.write_text(FILE.replace('num_groups=4', 'num_groups=5'))
  code, _, errors = command.run('zeroinit.main', f'--config={file}', f'--workdir={tmp_path}/run')
  assert code == 2 and re.fullmatch(r'error: mine.py:group_norm fails: ValueError: .*\n', errors), errors


# As docs/own_method.md does it.


@pytest.fixture(scope='module')
def walked(tmp_path_factory):
  """A directory in which all commands of the page have been run, shortened, and {module: what they printed}."""
  folder, said = tmp_path_factory.mktemp('own'), {}
  shutil.copy(EXAMPLES / 'bounded_alpha.py', folder / 'my_method.py')
  shorter = {'zeroinit.main': ['--config.depth=10', '--config.epochs=0.5'],
             'zeroinit.launch.local': ['--set=depth=10', '--set=epochs=0.5', '--set=learning_rate=2^-4', '--slots=2',
                              '--methods=bounded_alpha,batch_norm'],
             'zeroinit.probes.variance': []}
  for line in re.findall(r'^zeroinit ((?:.*\\\n)*.*)', PAGE, re.MULTILINE):
    words = line.replace('\\\n', '').split('#')[0]
    module, flags = parsed(re.sub(r'(?<=[ =])(my_method\.py|runs/|probes/)', rf'{folder}/\1', words).split())
    code, output, errors = command.run(module, *flags, *shorter.get(module, []))
    assert code == 0, (module, errors)
    said.setdefault(module, []).append(output)
  return folder, said


def test_the_page_shows_the_example():
  shown = re.search(r'```python[^\n]*\n(import flax.*?)```', PAGE, re.DOTALL)[1]
  assert (EXAMPLES / 'bounded_alpha.py').read_text().endswith(shown)
  shown = re.search(r'```python[^\n]*\n(def rms_norm.*?)```', PAGE, re.DOTALL)[1]
  assert shown in (EXAMPLES / 'rms_norm.py').read_text()


@pytest.mark.slow
def test_every_command_of_the_page_works(walked):
  folder, said = walked
  assert said.keys() == {'zeroinit.main', 'zeroinit.launch.local', 'zeroinit.report', 'zeroinit.probes.variance',
                         'zeroinit.launch.tpu'}
  study = manifest.load_study(folder / 'runs' / 'my_study')
  results = study.results().values()
  assert sorted(result['method'] for result in results) == ['batch_norm', 'bounded_alpha']
  assert '2 workers' in said['zeroinit.launch.local'][0] and 'bounded_alpha' in said['zeroinit.report'][0]
  methods = [[record['method'] for record in json.loads(path.read_text())['records']]
             for path in sorted(folder.glob('probes/*/variance.json'))]
  assert [list(dict.fromkeys(of)) for of in methods] == [['bounded_alpha', 'batch_norm'], ['bounded_alpha in my_run']]
  assert '--workdir=gs://BUCKET/mine' in said['zeroinit.launch.tpu'][0]


@pytest.mark.slow
def test_the_run_of_the_page_is_loaded_as_it_says(walked):
  folder, _ = walked
  shown = re.search(r'```python[^\n]*\n(from zeroinit import load\n.*?)```', PAGE, re.DOTALL)[1]
  process = subprocess.run([sys.executable, '-c', shown], text=True, capture_output=True, cwd=folder)
  assert process.returncode == 0 and '(16,)' in process.stdout, process.stderr


@pytest.mark.parametrize('a, alpha', [(0.0, 0.0), (100.0, 1.0), (-100.0, -1.0)])
def test_the_bounded_multiplier_begins_at_zero_and_ends_at_one(a, alpha):
  mine, x = method(EXAMPLES / 'bounded_alpha.py', alpha='bounded_alpha'), some_images(channels=8)
  block, twin = (BlockV2(basic(8, 1), of, num_blocks=6) for of in (mine, Method(alpha=0.0)))
  params = block.init(jax.random.key(0), x, train=False)['params']
  np.testing.assert_array_equal(params['alpha'], jnp.zeros(8))
  got = block.apply({'params': params | {'alpha': jnp.full(8, a)}}, x, train=False)
  np.testing.assert_array_equal(got, twin.apply({'params': params | {'alpha': jnp.float32(alpha)}}, x, train=False))


def test_rms_norm_makes_the_mean_square_of_each_position_one():
  class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
      return normalize(method(EXAMPLES / 'rms_norm.py', norm='rms_norm'), x, True, name='norm')

  x = 3 * some_images(channels=8) + 1
  y = Net().apply(Net().init(jax.random.key(0), x), x)
  np.testing.assert_allclose(jnp.square(y).mean(-1), jnp.ones(x.shape[:-1]), rtol=1e-4)
  np.testing.assert_allclose(y / y[..., :1], x / x[..., :1], rtol=1e-4)  # no mean is taken off


@pytest.mark.parametrize('name', ['bounded_alpha', 'rms_norm'])
def test_the_examples_can_be_trained(name):
  config = config_files.load_config(str(EXAMPLES / f'{name}.py'), {})
  check(config)
  try_functions(config, make_recipe(config, 1437))
  assert method_label(config) == name
