"""What all tests share: 8 virtual CPU devices, and the programs that were compiled before."""

# ruff: noqa: E402  (jax looks at the environment when it is imported)

import os
import pathlib
import signal

import command

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_NUMPY_RANK_PROMOTION'] = 'raise'  # under which all of it must run
command.compile_little(command.ROOT / '.pytest_cache' / 'compiled')  # between runs of the tests as well

import jax
import pytest

from zeroinit.system import compiling

# A shell that starts pytest in the background has it ignore Ctrl-C, and all commands that it starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
jax.config.update('jax_num_cpu_devices', 8)

SHARED = pathlib.Path(__file__).parents[2] / 'shared'


@pytest.fixture(autouse=True, scope='module')
def forgetting():
  """Each program is some ten mappings of memory, and a process with 65,530 of them crashes in its next compilation."""
  yield
  compiling.forget()


@pytest.fixture(scope='module')
def programs_apart(tmp_path_factory):
  """For tests that kill processes, which may be writing a program down: others would find half of it."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('JAX_COMPILATION_CACHE_DIR', str(tmp_path_factory.mktemp('compiled')))
    yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
  """Decoded data sets of tests never land in the user's cache."""
  monkeypatch.setenv('ZEROINIT_CACHE', str(tmp_path_factory.getbasetemp() / 'cache'))


@pytest.fixture
def real_cifar10():
  """The directory of a TFDS copy of CIFAR-10."""
  path = SHARED / 'data' / 'tfds'
  if not (path / 'cifar10').exists():
    pytest.skip(f'needs a TFDS copy of CIFAR-10 in {path}')
  return path


@pytest.fixture
def real_imagenet():
  """The directory of a TFDS copy of ImageNet, or of a part of it."""
  path = SHARED / 'data' / 'tfds'
  if not (path / 'imagenet2012').exists():
    pytest.skip(f'needs a TFDS copy of ImageNet, or of a part, in {path}')
  return path
