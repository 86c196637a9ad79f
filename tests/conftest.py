"""What all tests share: 8 virtual CPU devices."""

import os
import pathlib

os.environ['JAX_PLATFORMS'] = 'cpu'  # before jax is imported

import jax
import pytest

jax.config.update('jax_num_cpu_devices', 8)

SHARED = pathlib.Path(__file__).parents[2] / 'shared'


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
  """Decoded data sets of tests never land in the user's cache."""
  monkeypatch.setenv('ZEROINIT_CACHE', str(tmp_path_factory.getbasetemp() / 'cache'))


@pytest.fixture
def one_device():
  return jax.devices()[:1]


@pytest.fixture
def real_cifar10():
  """The directory of a TFDS copy of CIFAR-10."""
  path = SHARED / 'data' / 'tfds'
  if not (path / 'cifar10').exists():
    pytest.skip(f'needs a TFDS copy of CIFAR-10 in {path}')
  return path
