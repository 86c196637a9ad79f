"""~ and $VARIABLE, which a shell leaves alone behind an =, mean what they mean there."""

import os

import pytest
from cifar10_copies import pictures, write

from zeroinit import data
from zeroinit.runs.run_directory import Run
from zeroinit.system import objects, paths, users_files
from zeroinit.system.errors import UserError
from zeroinit.training.config_files import load_config, located


@pytest.fixture
def home(tmp_path, monkeypatch):
  """A home that is empty, and the working directory another one."""
  (tmp_path / 'elsewhere').mkdir()
  (tmp_path / 'home').mkdir()
  monkeypatch.chdir(tmp_path / 'elsewhere')
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.setenv('SCRATCH', str(tmp_path / 'scratch'))
  yield tmp_path / 'home'
  assert not os.listdir(tmp_path / 'elsewhere')


def test_as_a_shell_reads_them(home):
  assert paths.expanded('~/runs/x') == f'{home}/runs/x' and paths.expanded('~') == str(home)
  assert paths.expanded('$SCRATCH/x') == paths.expanded('${SCRATCH}/x') == f'{home.parent}/scratch/x'
  for path in ('runs/x', 'a~b', './~', 'gs://bucket/~/$HOME', 'a$', '$(x)', '5$'):
    assert paths.expanded(path) == path


def test_a_variable_that_is_not_set_makes_no_directory_of_its_name(home):
  for path in ('$UNSET/x', '${UNSET}/x', '~/runs/$UNSET', 'a${UNSET}b'):
    with pytest.raises(UserError, match='the environment has no UNSET'):
      objects.absolute(path)


def test_of_a_workdir_a_data_set_a_config_and_a_method(home):
  assert str(objects.absolute('~/runs')) == str(Run('~/runs').workdir) == f'{home}/runs'
  images = pictures()
  write(home / 'data', 'py', images)
  dataset = data.load('cifar10', '~/data')
  assert (dataset.train_images == images[0]).all()
  (home / 'mine.py').write_text(
      'from zeroinit import base_config\n\n\ndef get_config(method):\n  return base_config(method)\n')
  assert located('~/mine.py:fixup') == f'{home}/mine.py:fixup'
  assert load_config('$HOME/mine.py:fixup').method.name == 'fixup'
  assert 'get_config' in users_files.read('~/mine.py')
