"""Data sets that are not ours: folders of images, what TFDS has prepared, and a function of one's own file."""

import dataclasses
import io
import json
import os
import shutil

import command
import numpy as np
import pytest
from other_copies import CLASSES, picture, write_folder, write_tfds
from PIL import Image

from zeroinit import data, own
from zeroinit.data import others
from zeroinit.probes import inputs
from zeroinit.report import findings, groups, header
from zeroinit.runs import run_directory
from zeroinit.runs.train import train
from zeroinit.studies import manifest, sweeps
from zeroinit.studies.cells import make_cell
from zeroinit.system.errors import UserError
from zeroinit.training.config import base_config, check
from zeroinit.training.recipe import make_recipe

FILE = """
import numpy as np
from zeroinit import data

def halves(data_dir):
  'The digits, dark ones against bright ones.'
  digits = data.load('digits')
  brighter = lambda images: (images.mean((1, 2, 3)) > 4.9).astype(np.int64)
  return (digits.train_images, brighter(digits.train_images), digits.test_images, brighter(digits.test_images))

def floats(data_dir):
  return [x / 16 if x.ndim == 4 else x for x in halves(data_dir)]

def returning(*arrays):
  return lambda data_dir: arrays

pixels, labels = np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 0, 1])
three = returning(pixels, labels, pixels)
wide = returning(pixels[:, :4], labels, pixels[:, :4], labels)
sixteen = returning(pixels.astype(np.uint16), labels, pixels, labels)
cut = returning(pixels, labels[:3], pixels, labels)
missing = returning(pixels, labels, pixels, labels + 1)
negative = returning(pixels, labels - 1, pixels, labels)
nan = returning(np.full((4, 8, 8, 1), np.nan), labels, pixels * 1.0, labels)
one = returning(pixels, labels * 0, pixels, labels * 0)
words = returning(pixels, labels.astype(str), pixels, labels)
nothing = returning()

def fails(data_dir):
  raise KeyError(data_dir)
"""


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('ZEROINIT_CACHE', str(tmp_path / 'cache'))
  data._looks.clear()
  data._loaded.clear()


def config_of(dataset, **fields):
  config = base_config('batch_norm')
  config.update(dataset=dataset, crop='none', depth=10, width=1, epochs=2.0, batch_size=12, learning_rate=0.25,
                evaluations=2, tensorboard=False)
  config.update(fields)
  return config


@pytest.fixture
def file(tmp_path):
  (tmp_path / 'mine.py').write_text(FILE)
  return tmp_path / 'mine.py'


# Folders.


@pytest.mark.parametrize('test_name', ['val', 'test'])
def test_a_folder_of_equal_images_is_whole_in_memory(tmp_path, test_name, capsys, monkeypatch):
  root = write_folder(tmp_path / 'animals', test_name=test_name)
  dataset, info = data.load(f'folder:{root}'), data.info(f'folder:{root}')
  assert isinstance(dataset, data.Dataset) and dataset.title == 'animals, 3 classes'
  assert dataset.train_labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
  np.testing.assert_array_equal(dataset.train_images[9], np.asarray(Image.open(io.BytesIO(picture(1, 1)))))
  assert (info.num_classes, info.train_examples, info.image_size, info.channels) == (3, 24, 12, 3)
  np.testing.assert_allclose(info.mean, dataset.train_images.mean((0, 1, 2)), rtol=1e-5)
  np.testing.assert_allclose(info.std, dataset.train_images.std((0, 1, 2)), rtol=1e-5)
  assert 'looking at the images' in capsys.readouterr().out
  monkeypatch.setattr(others, 'decoded', lambda *_: pytest.fail('decoded again'))
  again = data.load(f'folder:{root}')
  np.testing.assert_array_equal(again.train_images, dataset.train_images)
  assert data.info(f'folder:{root}') == info and again.order == dataset.order


def test_a_changed_folder_is_looked_at_again(tmp_path):
  root = write_folder(tmp_path / 'animals')
  assert data.load(f'folder:{root}').train_examples == 24
  before = data.info(f'folder:{root}').mean
  (root / 'train' / 'bee' / 'new.png').write_bytes(picture(1, 99))
  assert data.load(f'folder:{root}').train_examples == 25
  assert data.info(f'folder:{root}').mean != before


def test_what_was_decoded_before_a_change_is_removed_and_of_others_is_not(tmp_path):
  root, other = write_folder(tmp_path / 'animals'), write_folder(tmp_path / 'others')
  kept = lambda: {file.name for file in (tmp_path / 'cache').iterdir() if not file.name.startswith('index')}
  data.load(f'folder:{other}')
  of_the_other = kept()
  data.load(f'folder:{root}')
  before = kept() - of_the_other
  (root / 'train' / 'bee' / 'new.png').write_bytes(picture(1, 99))
  data.load(f'folder:{root}')
  assert len(before) == len(of_the_other) == 2 and of_the_other < kept() and len(kept()) == 4 and not before & kept()


def test_a_start_looks_once_even_where_nothing_can_be_kept(tmp_path, monkeypatch, capsys):
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('ZEROINIT_CACHE', str(tmp_path / 'file' / 'cache'))
  config = config_of(f'folder:{write_folder(tmp_path / "animals")}')
  check(config)
  train(config, tmp_path / 'run')
  assert capsys.readouterr().out.count('looking at the images') == 1


def test_who_measures_reads_once_and_sees_what_was_loaded_last(tmp_path):
  root = write_folder(tmp_path / 'animals')
  config = config_of(f'folder:{root}')
  assert inputs.dataset_of(config) is inputs.dataset_of(config)
  (root / 'train' / 'bee' / 'new.png').write_bytes(picture(1, 99))
  assert inputs.dataset_of(config).train_examples == data.info(config.dataset).train_examples == 24
  data.load(config.dataset)
  assert inputs.dataset_of(config).train_examples == data.info(config.dataset).train_examples == 25


@pytest.mark.parametrize('odd', ['train/cat/7.png', 'val/ant/0.png'])
def test_a_folder_of_several_sizes_streams(tmp_path, odd):
  root = write_folder(tmp_path / 'animals')
  (root / odd).write_bytes(picture(0, 0, size=(20, 16)))
  dataset, info = data.load(f'folder:{root}'), data.info(f'folder:{root}')
  assert isinstance(dataset, data.StreamedDataset) and len(dataset.train) == 24 and info.image_size is None
  with pytest.raises(UserError, match=r'image_size is 0; it must be from 1 to 4096, to which.*folder:animals'):
    check(config_of(f'folder:{root}'))
  with pytest.raises(UserError, match=r"crop is 'reflect'; .* of several sizes: pass --config\.crop=random_res"):
    check(config_of(f'folder:{root}', crop='reflect'))


def test_images_too_small_for_a_mirror_image_of_four_pixels_are_not_continued_by_it(tmp_path):
  root = write_folder(tmp_path / 'dots', size=(4, 4))
  with pytest.raises(UserError, match=r"crop is 'reflect'; .*folder:dots, of 4 pixels, it must be one of: zero, none"):
    check(config_of(f'folder:{root}', crop='reflect'))
  check(config_of(f'folder:{root}', crop='zero'))
  check(config_of(f'folder:{write_folder(tmp_path / "spots", size=(5, 5))}', crop='reflect'))


def test_images_that_are_not_square_or_too_many_stream(tmp_path, monkeypatch):
  wide = write_folder(tmp_path / 'wide', size=(10, 12))
  assert data.info(f'folder:{wide}').image_size is None
  root = write_folder(tmp_path / 'animals')
  monkeypatch.setattr(others, 'SMALL', 36 * 12 * 12 * 3 - 1)
  info = data.info(f'folder:{root}')
  assert info.image_size is None
  monkeypatch.setattr(others, 'SAMPLE', 12)  # every second image
  data._looks.clear()
  os.utime(root / 'train' / 'ant' / '0.png', (0, 0))  # so that it is looked at again
  np.testing.assert_allclose(data.info(f'folder:{root}').mean, info.mean, rtol=0.05)


def test_a_folder_that_has_moved_is_found_below_data_dir(tmp_path):
  root = write_folder(tmp_path / 'animals')
  other = write_folder(tmp_path / 'new' / 'animals', train=9)
  assert data.load(f'folder:{root}', str(other.parent)).train_examples == 24  # it is there, as written
  shutil.rmtree(root)
  assert data.load(f'folder:{root}', str(other.parent)).train_examples == 27
  assert data.info('folder:animals', str(other.parent)).train_examples == 27
  with pytest.raises(UserError, match=r'there is no folder .*animals; if it has moved, give the folder around it as'):
    data.load(f'folder:{root}')


@pytest.mark.parametrize('damage, message', [
    (lambda root: shutil.rmtree(root / 'val'), 'animals lacks test images: test or val'),
    (lambda root: shutil.rmtree(root / 'train'), 'animals lacks train'),
    (lambda root: shutil.rmtree(root), 'there is no folder .*animals'),
    (lambda root: (root / 'val' / 'dog').mkdir(), 'val/dog is none of the 3 classes'),
    (lambda root: [file.unlink() for file in (root / 'train' / 'bee').iterdir()], 'train/bee holds no images'),
    (lambda root: [shutil.rmtree(root / 'train' / name) for name in CLASSES[1:]], 'has 1 folders of classes'),
    (lambda root: (root / 'train' / 'ant' / '3.png').write_bytes(b'x'), r'train/ant/3\.png cannot be used: .* not an'),
    (lambda root: (root / 'val' / 'cat' / '0.png').write_bytes(picture(0, 0)[:90]), r'val/cat/0\.png cannot be used'),
])
def test_damaged_folders(tmp_path, damage, message):
  root = write_folder(tmp_path / 'animals')
  damage(root)
  with pytest.raises(UserError, match=message):
    data.load(f'folder:{root}')


@pytest.mark.parametrize('name, message', [
    ('folder:', 'a path must follow'), ('tfds:', 'a name must follow'), ('folder:gs://x/y', 'copy it there first'),
    ('tfds:/data/flowers', r'tfds:/data/flowers; what follows .*goes into --config\.data_dir'),
    ('tfds:**', 'is the name of a data set'), ('tfds:../flowers', 'is the name of'), ('tfds:a/*', 'is the name of'),
    ('tfds:gs://bucket/flowers', 'tfds:gs://bucket/flowers; what follows'),
    ('folder:$NOWHERE/x', 'the environment has no NOWHERE'),
    ('tfds:flowers', r'no flowers of TFDS in .*tfds\.data_source')])
def test_names_that_lead_nowhere(name, message):
  with pytest.raises(UserError, match=message):
    data.load(name)


def test_a_run_on_a_folder_learns_and_goes_on_where_the_folder_has_moved(tmp_path):
  root = write_folder(tmp_path / 'animals')
  result = train(config_of(f'folder:{root}', epochs=20.0), tmp_path / 'run')
  assert result['test_accuracy'] > 0.9 and result['dataset'] == 'folder:animals' and result['protocol'] == 'own'
  config = json.loads((tmp_path / 'run' / 'config.json').read_text())
  assert config['dataset'] == f'folder:{root}' and config['info']['num_classes'] == 3
  (tmp_path / 'elsewhere').mkdir()
  moved = tmp_path / 'elsewhere' / 'animals'
  shutil.move(root, moved)
  assert train(config_of(f'folder:{moved}', epochs=20.0), tmp_path / 'run') == result
  (moved / 'train' / 'ant' / '0.png').write_bytes(picture(2, 0))
  (tmp_path / 'run' / 'result.json').unlink()
  with pytest.raises(UserError, match='begun with other images than those of folder:animals now'):
    train(config_of(f'folder:{moved}', epochs=20.0), tmp_path / 'run')
  data._looks.clear()
  net, variables = run_directory.load(tmp_path / 'run')  # without its data
  assert net.num_classes == 3 and variables['params']


def test_a_streamed_folder_trains(tmp_path):
  root = write_folder(tmp_path / 'animals', size=(20, 24))
  config = config_of(f'folder:{root}', image_size=12, crop='random_resized', epochs=3.0)
  result = train(config, tmp_path / 'run')
  assert result['steps'] == 6 and result['classes'] == 3


def test_a_run_on_a_folder_whose_labels_have_changed_is_not_gone_on_with(tmp_path):
  root = write_folder(tmp_path / 'animals')
  run, config = run_directory.Run(tmp_path / 'run'), config_of(f'folder:{root}')
  dataset = data.load(config.dataset)
  run.begin(config, dataset)
  turned = dataclasses.replace(dataset, train_labels=dataset.train_labels[::-1])
  with pytest.raises(UserError, match='the images of folder:animals in another order, or with other labels; undo'):
    run.begin(config, turned)


@pytest.mark.parametrize('damage, message', [
    (None, 'its info is not num_classes'), ([], 'its info is not num_classes'), ({'depth': 3}, 'its info is not num_'),
    ({'num_classes': 1}, 'its num_classes is 1'), ({'num_classes': True}, 'its num_classes is True'),
    ({'train_examples': -1}, 'its train_examples is -1'), ({'image_size': '12'}, "its image_size is '12'"),
    ({'channels': 1}, 'mean and std are not those of so many channels'), ({'mean': 3.0}, 'its mean is 3.0'),
    ({'mean': [1.0, None, 2.0]}, 'its mean is'), ({'std': [1.0, 0.0, 2.0]}, r'its std is \[1\.0, 0\.0')])
def test_what_a_run_has_written_of_its_data_is_checked(tmp_path, damage, message):
  root = write_folder(tmp_path / 'animals')
  run, config = run_directory.Run(tmp_path / 'run'), config_of(f'folder:{root}')
  run.begin(config, data.load(config.dataset))
  path = tmp_path / 'run' / 'config.json'
  saved = json.loads(path.read_text())
  assert data.Info.from_json(saved['info'], path) == data.info(config.dataset)
  path.write_text(json.dumps(saved | {'info': saved['info'] | damage if isinstance(damage, dict) else damage}))
  for read in (lambda: run.begin(config, data.load(config.dataset)), lambda: run_directory.read_config(path)):
    with pytest.raises(UserError, match=rf'config\.json is damaged: .*{message}'):
      read()


# TFDS.


@pytest.mark.parametrize('channels, test_name', [(3, 'test'), (1, 'validation')])
def test_a_data_set_of_tfds(tmp_path, channels, test_name, monkeypatch):
  write_tfds(tmp_path / 'tfds', channels=channels, test_name=test_name)
  for name, data_dir in (('tfds:shades', tmp_path / 'tfds'), ('tfds:shades:1.2.3', tmp_path / 'tfds')):
    dataset, info = data.load(name, str(data_dir)), data.info(name, str(data_dir))
    assert dataset.title == 'shades 1.2.3 of TFDS' and dataset.train_images.shape == (24, 12, 12, channels)
    np.testing.assert_array_equal(dataset.test_labels, [0] * 4 + [1] * 4 + [2] * 4)
    assert (info.num_classes, info.image_size, info.channels) == (3, 12, channels)
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
  recipe = make_recipe(config_of('tfds:shades'), 24)
  assert recipe.image_shape == (12, 12, channels) and recipe.net.num_classes == 3


def test_grey_images_that_stream_are_read_as_rgb(tmp_path, monkeypatch):
  root = str(write_tfds(tmp_path / 'tfds', channels=1))
  grey = data.info('tfds:shades', root)
  monkeypatch.setenv('ZEROINIT_CACHE', str(tmp_path / 'other'))
  monkeypatch.setattr(others, 'SMALL', 1)
  data._looks.clear()
  info = data.info('tfds:shades', root)
  assert (info.channels, info.image_size, info.mean) == (3, None, grey.mean * 3)
  config = config_of('tfds:shades', data_dir=root, image_size=8, crop='random_resized', epochs=1.0)
  assert train(config, tmp_path / 'run')['steps'] == 2


def test_a_data_set_of_tfds_that_is_not_whole(tmp_path):
  root = write_tfds(tmp_path / 'tfds')
  shard = next((root / 'shades' / '1.2.3').glob('*train*'))
  content = shard.read_bytes()
  shard.write_bytes(content[:len(content) // 2])
  with pytest.raises(UserError, match='record 0 of shades train'):
    data.load('tfds:shades', str(root))
  shard.unlink()
  with pytest.raises(UserError, match='is not whole: it lacks shades-train'):
    data.load('tfds:shades', str(root))


def test_a_data_set_of_tfds_in_a_bucket_is_to_be_copied():
  with pytest.raises(UserError, match='data_dir is gs://bucket; tfds:shades is read from a local folder, so copy it'):
    data.load('tfds:shades', 'gs://bucket')


def test_splits_that_are_not_wanted_need_not_be_whole(tmp_path):
  root = write_tfds(tmp_path / 'tfds', also=('validation', 'extra'))
  version = root / 'shades' / '1.2.3'
  for split in ('validation', 'extra'):
    next(version.glob(f'shades-{split}*')).unlink()
  assert data.load('tfds:shades', str(root)).test_examples == 12
  next(version.glob('shades-test*')).unlink()
  with pytest.raises(UserError, match='is not whole: it lacks shades-test'):
    data.load('tfds:shades', str(root))


# A function of one's own.


def test_a_function_gives_a_data_set(file):
  dataset, info = data.load(f'{file}:halves'), data.info(f'{file}:halves')
  assert dataset.title == 'mine.py:halves' and dataset.train_images.shape == (1437, 8, 8, 1)
  assert info == data.Info(2, 1437, 8, 1, info.mean, info.std)
  np.testing.assert_allclose(info.mean, dataset.train_images.mean(), rtol=1e-5)
  scaled = data.load(f'{file}:floats')
  assert scaled.train_images.dtype == np.float32
  np.testing.assert_allclose(scaled.train_images * 16, dataset.train_images)


@pytest.mark.parametrize('function, message', [
    ('three', 'must return four arrays'), ('nothing', 'must return four arrays'),
    ('wide', r'images of \[4, 8, 1\]; all must'), ('sixteen', 'returns uint16'),
    ('cut', '4 train images and 3 labels'), ('missing', 'test labels from 1 to 2'),
    ('negative', 'train labels from -1 to 0'), ('nan', 'not finite'), ('one', 'returns one class'),
    ('words', r'as train labels; there must be \[n\] of whole'), ('fails', r'mine\.py:fails fails: KeyError'),
    ('halfs', r'no function halfs.*halves'), ('labels', 'no function labels')])
def test_functions_that_return_something_else(file, function, message):
  with pytest.raises(UserError, match=message):
    data.load(f'{file}:{function}')


def test_a_run_keeps_the_file_and_does_not_go_on_with_another_version(file, tmp_path):
  config = config_of(f'{file}:halves', epochs=1.0, batch_size=64)
  result = train(config, tmp_path / 'run')
  assert result['dataset'] == 'mine.py:halves' and result['test_accuracy'] > 0.6
  assert (tmp_path / 'run' / 'mine.py').read_text() == FILE
  assert train(config, tmp_path / 'run') == result
  file.write_text(FILE.replace('4.9', '5.0'))
  with pytest.raises(UserError, match=r'mine\.py has changed since'):
    train(config, tmp_path / 'run')
  net, _ = run_directory.load(tmp_path / 'run')
  assert net.num_classes == 2


def test_a_cell_knows_the_version_of_the_file_and_workers_take_the_copy(file, tmp_path):
  (tmp_path / 'config.py').write_text('from zeroinit import load_config\nfrom zeroinit.training.config import *\n'
                                      'def get_config(method="none"):\n  return load_config(f"digits:{method}")\n')
  cell = lambda: make_cell(f'{tmp_path}/config.py', {'dataset': f'{file}:halves', 'depth': 10})
  before = cell()
  assert before.dataset == 'mine.py:halves' and before.classes == 2
  study = manifest.begin(tmp_path / 'study', 'mine', '', [before])
  file.write_text(FILE.replace('4.9', '5.0'))
  assert cell().identity != before.identity
  loaded, = study.cells
  config = loaded.load_config(study.files)
  assert config.dataset == f'{study.files}/mine.py:halves'
  assert own.substance((study.files / 'mine.py').read_text()) == own.substance(FILE)


def test_a_study_of_a_paper_on_other_data_is_called_so_and_its_claims_are_not_judged(tmp_path):
  root = write_folder(tmp_path / 'animals', train=30)
  swept, document = sweeps.named_study('digits')
  cells = [make_cell(config, overrides | {'dataset': f'folder:{root}', 'depth': 10})
           for config, overrides in list(swept)[:2]]
  study = manifest.begin(tmp_path / 'study', 'digits', document, cells)
  gathered = groups.gather(study)
  assert 'on folder:animals' in header.title(gathered)
  assert all(row[1] == 'too few runs' for row in findings.table('digits', gathered.groups).rows)


def cells_on(*datasets, **fields):
  """Cells of two rates on each data set."""
  return sweeps.expand([('digits:none', {'dataset': dataset, 'depth': 10, 'batch_size': 12, 'learning_rate': rate,
                                         **fields}) for dataset in datasets for rate in (0.1, 0.2)])


def test_a_study_on_a_folder_is_found_from_other_directories(tmp_path, monkeypatch):
  write_folder(tmp_path / 'animals')
  monkeypatch.chdir(tmp_path)
  study = manifest.begin(tmp_path / 'study', 'digits', '', cells_on('folder:animals', data_dir='.'))
  (tmp_path / 'elsewhere').mkdir()
  monkeypatch.chdir('elsewhere')
  for cell in manifest.load_study(study.workdir).cells:
    config = cell.load_config(study.files)
    assert (config.dataset, config.data_dir) == (f'folder:{tmp_path}/animals', str(tmp_path))
    assert cell.dataset == cell.fields['dataset'] == 'folder:animals'
  at_home, = {cell.overrides['data_dir'] for cell in cells_on('digits', data_dir='~/$DATA')}
  assert at_home == '~/$DATA'  # which each machine has its own


def test_two_folders_of_one_name_are_not_one_cell(tmp_path):
  for place, train_images in (('one', 8), ('other', 9)):
    write_folder(tmp_path / place / 'animals', train=train_images)
  shutil.copytree(tmp_path / 'one', tmp_path / 'copy')
  one, other, copy = (f'folder:{tmp_path}/{place}/animals' for place in ('one', 'other', 'copy'))
  with pytest.raises(UserError, match=f'{one} and {other} are different data under one name.*give one another name'):
    cells_on(one, other)
  with pytest.raises(UserError, match=r'animals in .*one and .*animals in .*other are different data'):
    sweeps.expand([('digits:none', {'dataset': 'folder:animals', 'batch_size': 12, 'data_dir': f'{tmp_path}/{place}'})
                   for place in ('one', 'other')])
  os.symlink(tmp_path / 'other' / 'animals', tmp_path / 'beasts')
  assert len(cells_on(one, f'folder:{tmp_path}/beasts')) == 4
  assert len(cells_on(one, copy)) == 2  # the same images are the same cells


@pytest.mark.parametrize('left', ['nothing', 'a copy'])
def test_a_study_goes_on_where_its_data_has_moved(tmp_path, left):
  root = write_folder(tmp_path / 'animals')
  begin = lambda *datasets, **fields: manifest.begin(tmp_path / 'study', 'digits', '', cells_on(*datasets, **fields))
  before = begin(f'folder:{root}')
  shutil.copytree(root, tmp_path / 'new' / 'animals')
  write_folder(tmp_path / 'other' / 'animals', train=9)
  if left == 'nothing':
    shutil.rmtree(root)
  else:
    with pytest.raises(UserError, match=f'study is a study on folder:{root}, and .*other/animals is other data'):
      begin(f'folder:{tmp_path}/other/animals')
  moved = begin(f'folder:{tmp_path}/new/animals')
  assert [cell.identity for cell in moved.cells] == [cell.identity for cell in before.cells]
  for study in (moved, manifest.load_study(moved.workdir), begin(f'folder:{root}', data_dir=f'{tmp_path}/new')):
    for cell in study.cells:
      config = cell.load_config(study.files)
      assert data.load(config.dataset, config.data_dir).train_examples == 24


def test_where_data_lies_is_as_last_said_unless_somebody_works(tmp_path, monkeypatch):
  begin = lambda data_dir: manifest.begin(tmp_path / 'study', 'digits', '', cells_on('cifar10', data_dir=data_dir))
  place = lambda study: {cell.overrides['data_dir'] for cell in study.cells}
  begin('/first')
  assert place(begin('/then')) == place(manifest.load_study(tmp_path / 'study')) == {'/then'}
  monkeypatch.setattr(manifest.Study, 'running', lambda study: {study.cells[0].identity})
  assert place(begin('/last')) == {'/then'}


@pytest.mark.slow
def test_the_example_is_a_study(tmp_path):
  swept, _ = sweeps.own_study(str(command.ROOT / 'examples' / 'random_labels.py'))
  cells = sweeps.expand(swept)
  assert {cell.dataset for cell in cells} == {'random_labels.py:random_labels'} and len(cells) == 9
  study = manifest.begin(tmp_path / 'study', 'mine', '', cells)
  config = cells[4].load_config(study.files)
  config.update(epochs=1.0, evaluations=1, tensorboard=False)
  assert train(config, tmp_path / 'run')['status'] == 'done'
