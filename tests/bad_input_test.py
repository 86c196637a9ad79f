"""A user's mistake is one clear line that names the thing, and a non-zero exit code: never a traceback."""

import json
import resource
import signal

import command
import pytest

from zeroinit.runs import run_directory
from zeroinit.system import json_files
from zeroinit.system.errors import UserError

MISTAKES = [
    # Flags.
    ('', 'config'),
    ('--config=configs/digits.py', 'workdir'),
    ('--config=configs/digits.py --workdir=', 'workdir is empty'),
    ('DIGITS extra', "unexpected argument 'extra'"),
    ('DIGITS --wrokdir=x', 'wrokdir'),
    ('DIGITS --config.lerning_rate=1', "no field lerning_rate; did you mean 'learning_rate'?"),
    ('DIGITS --config.method.dropuot=0.1', "no field dropuot; did you mean 'dropout'?"),
    ('DIGITS --config.learning_rate=fast', "learning_rate=fast"),
    ('DIGITS --config.depth=16.5', 'depth=16.5'),
    ('DIGITS --config.flip=maybe', 'flip=maybe'),
    ('DIGITS --config.epochs', 'epochs'),
    # The config file.
    ('--config=configs/nothing.py --workdir=W', 'configs/nothing.py'),
    ('--config=configs --workdir=W', "there is no config 'configs'; write the path of a file"),
    ('--config=. --workdir=W', "there is no config '.'"),
    ('--config=configs/digits.py:dropuot --workdir=W', "unknown method 'dropuot'; the rows of METHODS are: batch_norm"),
    ('--config=BROKEN/syntax.py --workdir=W', 'syntax.py:1'),
    ('--config=BROKEN/fails.py --workdir=W', 'fails.py:2: ZeroDivisionError'),
    ('--config=BROKEN/raises.py --workdir=W', 'raises.py:2: KeyError: no such thing'),
    ('--config=BROKEN/empty.py --workdir=W', 'no function get_config'),
    ('--config=BROKEN/elsewhere.py --workdir=W', "zeroinit.load_config('digits:METHOD')"),
    # Values.
    ('DIGITS --config.dataset=mnist',
     "unknown dataset 'mnist'; there are: cifar10, cifar100, digits, imagenet, svhn, tfds:NAME"),
    ('DIGITS --config.image_size=16', 'image_size is 16; the images of digits have 8 pixels'),
    ('DIGITS --config.network=resnet50_v3', "network is 'resnet50_v3'; it must be one of: wide_resnet"),
    ('DIGITS --config.network=resnet50_v2', 'depth is 16; a resnet50_v2 has 50 layers'),
    ('DIGITS --config.network=cifar_resnet --config.depth=21', 'depth is 21'),
    ('DIGITS --config.network=cifar_resnet --config.depth=20 --config.width=2', 'width is 2'),
    ('DIGITS --config.bottleneck_stride=3x3', 'a wide_resnet has no bottlenecks'),
    ('DIGITS --config.kernel_init=orthogonal', "kernel_init is 'orthogonal'"),
    ('DIGITS --config.classifier_init=zeros', "did you mean 'zero'?"),
    ('DIGITS --config.dampening=1.0', 'dampening is 1.0'),
    ('DIGITS --config.momentum=0.0', 'use dampening=0'),
    ('DIGITS --config.data_workers=-1', 'data_workers is -1'),
    ('--config=configs/imagenet.py:zeroinit,v3 --workdir=W', "the network is 'v3'; it must be v1 or v2"),
    ('--config=configs/imagenet.py:zeroinit --workdir=W --config.crop=reflect', "crop is 'reflect'"),
    ('--config=configs/imagenet.py:ghost_norm --workdir=W --config.batch_size=300', 'does not divide the micro-batch'),
    ('--config=configs/imagenet.py --workdir=W --config.data_dir=W', 'imagenet2012'),
    ('DIGITS --config.depth=18', 'depth is 18; a Wide-ResNet has 6n + 4 layers'),
    ('DIGITS --config.width=0', 'width is 0'),
    ('DIGITS --config.width=1000000000', 'width is 1000000000'),
    ('DIGITS --config.batch_size=0', 'batch_size is 0'),
    ('DIGITS --config.batch_size=2000', 'batch_size is 2000, more than the 1,437 training images'),
    ('DIGITS --config.micro_batches=0', 'micro_batches is 0'),
    ('DIGITS --config.micro_batches=5', 'micro_batches is 5, which does not divide batch_size 64'),
    ('DIGITS --config.learning_rate=-0.1', 'learning_rate is -0.1'),
    ('DIGITS --config.learning_rate=nan', 'learning_rate is nan'),
    ('DIGITS --config.learning_rate=1e39', 'learning_rate is 1e+39'),
    ('DIGITS --config.epochs=0', 'epochs is 0'),
    ('DIGITS --config.epochs=1e300', 'epochs is 1e+300'),
    ('DIGITS --config.momentum=1', 'momentum is 1'),
    ('DIGITS --config.weight_decay=-1', 'weight_decay is -1'),
    ('DIGITS --config.weight_decay_on=biases', 'weight_decay_on'),
    ('DIGITS --config.drop_every=0', 'drop_every is 0'),
    ('DIGITS --config.drop_every=1e-12', 'drop_every is 1e-12'),
    ('DIGITS --config.first_drop=2', 'first_drop is 2'),
    ('DIGITS --config.drop_by=0.5', 'drop_by is 0.5'),
    ('DIGITS --config.crop=mirror', "crop is 'mirror'"),
    ('DIGITS --config.dtype=float8', "dtype is 'float8'"),
    ('DIGITS --config.seed=-1', 'seed is -1'),
    ('DIGITS --config.evaluations=0', 'evaluations is 0'),
    ('DIGITS --config.eval_batch_size=0', 'eval_batch_size is 0'),
    ('DIGITS --config.checkpoint_seconds=-1', 'checkpoint_seconds is -1'),
    # Methods.
    ('DIGITS --config.method.dropout=1', 'method.dropout is 1'),
    ('DIGITS --config.method.alpha=half', "method.alpha is 'half'"),
    ('DIGITS --config.method.norm=batchnorm', "method.norm is 'batchnorm'"),
    ('DIGITS --config.method.kernels=standardized', 'choose a norm'),
    ('DIGITS --config.method.biases=all', "method.biases is 'all'"),
    ('DIGITS --config.method.scalar_rate=-1', 'method.scalar_rate is -1'),
    ('DIGITS --config.method.alpha=(1,2)', 'method.alpha is (1, 2)'),
    ('DIGITS --config.method.name=fixup', 'a method is chosen with its whole row: --config=CONFIG:fixup'),
    ('DIGITS --config.method=fixup', '--config=CONFIG:METHOD'),
    ('DIGITS --config.method.zero_init', 'dead'),
    ('GHOSTS --config.method.ghost_size=0', 'ghost_size is 0'),
    ('GHOSTS --config.method.ghost_size=48', 'ghost_size is 48, which does not divide batch_size 64'),
    ('GHOSTS --config.micro_batches=2', 'ghost_size is 64, which does not divide the micro-batch of 32'),
    ('--config=configs/digits.py:batch_norm --workdir=W --config.micro_batches=2', 'whole batch'),
    # Surroundings.
    ('--config=configs/cifar10.py --workdir=W --config.data_dir=/nowhere', 'no CIFAR-10 in /nowhere (which does not'),
    ('--config=configs/cifar10.py --workdir=W --config.data_dir=gs://bucket/cifar', 'local folder'),
    ('--config=configs/digits.py --workdir=BROKEN/syntax.py', 'syntax.py is a file'),
    ('--config=configs/digits.py --workdir=BROKEN/syntax.py/run', 'Not a directory'),
]


@pytest.fixture(scope='session')
def broken(tmp_path_factory):
  folder = tmp_path_factory.mktemp('broken')
  (folder / 'syntax.py').write_text('def get_config(:\n')
  (folder / 'fails.py').write_text('def get_config(method=None):\n  return 1 / 0\n')
  (folder / 'raises.py').write_text('def get_config(method=None):\n  raise KeyError("no such thing")\n')
  (folder / 'elsewhere.py').write_text('import sys\nsys.modules["configs"] = None\nfrom configs import digits\n')
  (folder / 'empty.py').write_text('x = 1\n')
  return folder


@pytest.fixture(scope='module')
def answers(broken, tmp_path_factory):
  """{flags: (exit code, what it said, workdir)}"""
  commands, places = {}, {}
  for flags, _ in MISTAKES:
    places[flags] = tmp_path_factory.mktemp('mistake') / 'run'
    words = flags.replace('DIGITS', '--config=configs/digits.py --workdir=W')
    words = words.replace('GHOSTS', '--config=configs/digits.py:ghost_norm --workdir=W')
    words = words.replace('=W', f'={places[flags]}').replace('BROKEN', str(broken))
    commands[flags] = ['zeroinit.main', *words.split()]
  ran = command.run_all(list(commands.values()))
  return {flags: (*answer, places[flags]) for flags, answer in zip(commands, ran, strict=True)}


@pytest.mark.parametrize('flags, message', MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistake(flags, message, answers):
  code, said, place = answers[flags]
  command.assert_one_line(code, said, message)
  assert not place.exists()  # so that the mended command finds nothing in its way


def test_unknown_device(tmp_path):
  code, _, errors = command.run('zeroinit.main', '--config=configs/digits.py', f'--workdir={tmp_path / "run"}',
                                JAX_PLATFORMS='abacus')
  command.assert_one_line(code, errors, 'abacus')


@pytest.mark.parametrize('name', ['config.json', 'result.json', 'metrics.jsonl'])
@pytest.mark.parametrize('content', [
    '{"depth": ', '[1]', '\x00\x01', f'{{"learning_rate": {10**400}, "method": {{}}}}'])
def test_damaged_file_of_a_run(name, content, tmp_path):
  workdir = tmp_path / 'run'
  workdir.mkdir()
  (workdir / name).write_text(content)
  with pytest.raises(UserError, match=name.replace('.', r'\.')):
    run = run_directory.Run(workdir)
    from zeroinit.training.config import base_config
    run.compare(base_config('none'))
    print(run.result)


def test_load_of_what_is_no_run(tmp_path):
  with pytest.raises(UserError, match='not the directory of a run'):
    run_directory.load(tmp_path)
  (tmp_path / 'config.json').write_text(json.dumps({'method': {'name': 'unheard'}}))
  with pytest.raises(UserError, match='no checkpoint'):
    run_directory.load(tmp_path)


def test_a_full_disk_loses_nothing(tmp_path):
  """A file-size limit stands for a full disk: the write fails, what was there stays."""
  path = tmp_path / 'result.json'
  json_files.write(path, {'kept': 1})
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    with pytest.raises(UserError, match='cannot write'):
      json_files.write(path, {'lost': 'x' * 100})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)
  assert json.loads(path.read_text()) == {'kept': 1}
  assert [file.name for file in tmp_path.iterdir()] == ['result.json']
