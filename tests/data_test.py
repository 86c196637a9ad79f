"""Every form of CIFAR-10 gives the same images; a damaged one gives a line that names the file."""

import dataclasses
import json
import os
import pathlib
import pickle
import shutil

import cifar10_copies
import cv2
import numpy as np
import pytest

from zeroinit import data
from zeroinit.data import cifar10, digits
from zeroinit.data.reading.cifar import Batches
from zeroinit.runs.train import train
from zeroinit.system.errors import UserError
from zeroinit.training.config import base_config


@pytest.fixture(scope='session')
def images():
  """(train images, train labels, test images, test labels), in five training batches and one of test images."""
  return cifar10_copies.pictures()


@pytest.fixture(scope='session')
def copies(tmp_path_factory, images):
  """{form: data_dir}"""
  root = tmp_path_factory.mktemp('cifar10')
  for form in cifar10_copies.FORMS:
    cifar10_copies.write(root / form, form, images)
  return {form: root / form for form in cifar10_copies.FORMS}


def assert_same(dataset, images):
  got = (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels)
  for array, expected in zip(got, images, strict=True):
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('ZEROINIT_CACHE', str(tmp_path / 'cache'))
  return tmp_path / 'cache'


@pytest.mark.parametrize('form', cifar10_copies.FORMS)
def test_every_form_gives_the_same_images(copies, images, form):
  dataset = cifar10.load(str(copies[form]))
  assert_same(dataset, images)
  assert dataset.title == 'CIFAR-10, 50 of 50,000 train images, 10 of 10,000 test images'


@pytest.mark.slow
def test_every_form_gives_the_same_numbers(copies, tmp_path):
  """To the last bit, where the images are in the same order; but for those that say how long it took."""
  written = set()
  for form in ('py', 'bin_archive', 'array_record', 'tfrecord', 'parquet_shards'):
    config = base_config('zeroinit')
    config.update(data_dir=str(copies[form]), depth=10, width=1, batch_size=10, epochs=4.0, evaluations=4,
                  tensorboard=False)
    train(config, tmp_path / form)
    lines = [json.loads(line) for line in (tmp_path / form / 'metrics.jsonl').read_text().splitlines()]
    written.add(json.dumps([{name: value for name, value in line.items() if name not in (
        'seconds', 'images_per_second')} for line in lines]))
  assert len(written) == 1 and len(json.loads(written.pop())) == 4


def test_the_folder_itself_the_archive_itself_and_the_environment(copies, images, monkeypatch):
  assert_same(cifar10.load(str(copies['py'] / 'cifar-10-batches-py')), images)
  assert_same(cifar10.load(str(copies['bin_archive'] / 'cifar-10-binary.tar.gz')), images)
  assert_same(cifar10.load(str(copies['array_record'] / 'cifar10' / '3.0.2')), images)
  monkeypatch.setenv('TFDS_DATA_DIR', str(copies['tfrecord']))
  assert_same(cifar10.load(), images)


def test_the_second_start_does_not_decode(copies, images, monkeypatch):
  cifar10.load(str(copies['py']))
  monkeypatch.setattr(Batches, 'read', lambda *_: pytest.fail('decoded again'))
  assert_same(cifar10.load(str(copies['py'])), images)


def test_a_changed_source_or_a_damaged_cache_is_decoded_again(tmp_path, images, empty_cache):
  cifar10_copies.write_bin(tmp_path / 'bin', images)
  cifar10.load(str(tmp_path / 'bin'))
  flipped = tuple(array[::-1] for array in images)
  shutil.rmtree(tmp_path / 'bin')
  cifar10_copies.write_bin(tmp_path / 'bin', flipped)
  assert_same(cifar10.load(str(tmp_path / 'bin')), flipped)
  for file in empty_cache.iterdir():
    file.write_bytes(file.read_bytes()[:5000])
  assert_same(cifar10.load(str(tmp_path / 'bin')), flipped)


def test_a_cache_that_cannot_be_written_costs_only_time(copies, images, tmp_path, monkeypatch, capsys):
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('ZEROINIT_CACHE', str(tmp_path / 'file' / 'cache'))
  assert_same(cifar10.load(str(copies['py'])), images)
  assert 'not kept' in capsys.readouterr().out


@pytest.mark.parametrize('damage, message', [
    (lambda folder: (folder / 'data_batch_3').unlink(), 'lacks data_batch_3'),
    (lambda folder: (folder / 'test_batch').write_bytes(b'nonsense'), 'test_batch'),
    (lambda folder: os.truncate(folder / 'data_batch_2', 999), 'data_batch_2'),
    (lambda folder: (folder / 'data_batch_1').write_bytes(pickle.dumps({b'data': 3, b'labels': []})), 'data_batch_1'),
    (lambda folder: (folder / 'data_batch_4').write_bytes(pickle.dumps(print)), 'builtins.print'),
    (lambda folder: (folder / 'data_batch_4').write_bytes(pickle.dumps(pathlib.Path('x'))), 'pathlib'),
])
def test_damaged_batches(tmp_path, images, damage, message):
  cifar10_copies.write_py(tmp_path / 'py', images)
  damage(tmp_path / 'py')
  with pytest.raises(UserError, match=message):
    cifar10.load(str(tmp_path / 'py'))


def test_damaged_binary_label_and_archive(tmp_path, images):
  cifar10_copies.write_bin(tmp_path / 'cut', images)
  file = tmp_path / 'cut' / 'data_batch_5.bin'
  whole = file.read_bytes()
  file.write_bytes(whole[:-1])
  with pytest.raises(UserError, match=r'data_batch_5\.bin.*3073'):
    cifar10.load(str(tmp_path / 'cut'))
  file.write_bytes(b'\x0b' + whole[1:])
  with pytest.raises(UserError, match='not from 0 to 9'):
    cifar10.load(str(tmp_path / 'cut'))
  archive = tmp_path / 'cifar-10-python.tar.gz'
  archive.write_bytes(b'not an archive')
  with pytest.raises(UserError, match=r'cifar-10-python\.tar\.gz'):
    cifar10.load(str(archive))


def test_damaged_tfds(copies, tmp_path):
  shutil.copytree(copies['array_record'], tmp_path / 'tfds')
  version = tmp_path / 'tfds' / 'cifar10' / '3.0.2'
  shard = next(version.glob('cifar10-train*'))
  content = shard.read_bytes()
  shard.unlink()
  with pytest.raises(UserError, match=r'is not whole: it lacks cifar10-train'):
    cifar10.load(str(tmp_path / 'tfds'))
  shard.write_bytes(content[:2000])
  with pytest.raises(UserError, match='cannot be read'):
    cifar10.load(str(tmp_path / 'tfds'))
  (version / 'dataset_info.json').write_text('{')
  with pytest.raises(UserError, match='cannot be read'):
    cifar10.load(str(tmp_path / 'tfds'))


def test_nothing_there_says_where_it_looked_and_what_to_do(tmp_path):
  with pytest.raises(UserError, match=rf'{tmp_path}/nowhere \(which does not exist\).*tar\.gz.*data_dir'):
    cifar10.load(str(tmp_path / 'nowhere'))


def test_unknown_dataset():
  with pytest.raises(UserError, match='cifar10, cifar100, digits, imagenet, svhn, tfds:NAME'):
    data.info('mnist')


@pytest.mark.slow
def test_digits_are_those_of_scikit_learn():
  from sklearn.datasets import load_digits

  pixels, labels = load_digits(return_X_y=True)
  found_pixels, found_labels = digits._all()
  np.testing.assert_array_equal(found_pixels, pixels)
  np.testing.assert_array_equal(found_labels, labels)


def test_digits_are_split_the_same_way_always():
  dataset = digits.load()
  assert dataset.train_images.shape == (1437, 8, 8, 1) and dataset.test_images.shape == (360, 8, 8, 1)
  assert dataset.train_images.max() == 16
  assert np.bincount(dataset.test_labels).tolist() == [39, 37, 47, 28, 42, 32, 37, 27, 30, 41]
  np.testing.assert_allclose(dataset.train_images.mean(), digits.INFO.mean, atol=0.01)
  np.testing.assert_allclose(dataset.train_images.std(), digits.INFO.std, atol=0.01)


@pytest.mark.slow
def test_real_cifar10(real_cifar10):
  dataset = cifar10.load(str(real_cifar10))
  assert dataset.title == 'CIFAR-10, JPEG q75 copy'
  assert np.bincount(dataset.train_labels).tolist() == [5000] * 10
  assert np.bincount(dataset.test_labels).tolist() == [1000] * 10
  np.testing.assert_allclose(dataset.train_images.mean((0, 1, 2)), cifar10.INFO.mean, atol=0.2)
  sample = dataset.train_images[::10].reshape(-1, 3)
  np.testing.assert_allclose(sample.std(0), cifar10.INFO.std, rtol=0.02)


def test_parquet_that_is_not_what_it_should_be(tmp_path, images):
  import pyarrow
  import pyarrow.parquet

  def written(name, table=None, content=None):
    """A folder of good files, in the place of whose first training file stands this."""
    cifar10_copies.write_parquet(tmp_path / name, images, shards=2)
    file = tmp_path / name / 'train-00000-of-00002.parquet'
    if table:
      pyarrow.parquet.write_table(pyarrow.table(table), file)
    else:
      file.write_bytes(content(file.read_bytes()))
    return str(tmp_path / name)

  png = cifar10_copies.png
  wide = png(np.zeros((32, 33, 3), np.uint8))
  for folder, message in (
      (written('cut', content=lambda whole: whole[:-100]), 'train-00000-of-00002.parquet is not a Parquet file'),
      (written('empty', content=lambda _: b''), 'train-00000-of-00002.parquet is not a Parquet file'),
      (written('column', {'picture': [b''], 'label': [1]}), 'none of the columns image, img.*it has: picture, label'),
      (written('labels', {'img': [png(images[0][0])], 'label': ['cat']}), 'string for label'),
      (written('pixels', {'img': [[1, 2, 3]], 'label': [1]}), 'for img.*encoded images'),
      (written('absent', {'img': [None, png(images[0][0])], 'label': [1, 2]}), 'rows without img or label'),
      (written('image', {'img': [png(images[0][0]), b'x'], 'label': [1, 2]}), 'image 1 of the split.*not an image'),
      (written('size', {'img': [png(images[0][0]), wide], 'label': [1, 2]}), 'it is 33x32 and the first is 32x32'),
      (written('class', {'img': [png(images[0][0])], 'label': [10]}), 'not from 0 to 9')):
    with pytest.raises(UserError, match=message):
      cifar10.load(folder)
  os.remove(tmp_path / 'cut' / 'test-00000-of-00002.parquet')
  os.remove(tmp_path / 'cut' / 'test-00001-of-00002.parquet')
  with pytest.raises(UserError, match='nor Parquet files of train and test'):
    cifar10.load(str(tmp_path / 'cut'))


def test_parquet_of_jpegs_is_said_to_be_a_copy(tmp_path, images, monkeypatch):
  monkeypatch.setattr(cifar10_copies, 'png', lambda image: cv2.imencode('.jpg', image)[1].tobytes())
  cifar10_copies.write_parquet(tmp_path / 'copy', images)
  assert cifar10.load(str(tmp_path / 'copy')).title.startswith('CIFAR-10, JPEG copy')


def test_which_parquet_files_are_meant(tmp_path):
  images = cifar10_copies.pictures(test=24)
  folder = tmp_path / 'hub' / 'one'
  cifar10_copies.write_parquet(folder, images, shards=12)
  for file in list(folder.iterdir()):  # as some name them: 10 comes after 2
    split, number = file.name.split('-')[:2]
    file.rename(folder / f'{split}-{int(number)}.parquet')
  (folder / '._train-0.parquet').write_bytes(b'of a Mac')
  (folder / 'train-99.parquet').mkdir()
  shutil.copy(folder / 'train-0.parquet', folder / 'validation-0.parquet')  # of two that could be the test set, test is
  assert_same(cifar10.load(str(tmp_path / 'hub')), images)
  for file in [file for file in folder.glob('t*-*.parquet') if file.is_file()]:
    split, number = file.name.split('-')
    (folder / split).mkdir(exist_ok=True)
    file.rename(folder / split / number)
  assert_same(cifar10.load(str(tmp_path / 'hub')), images)
  for name in ('two', 'three'):
    cifar10_copies.write_parquet(tmp_path / 'other' / name, images)
  with pytest.raises(UserError, match=r'Parquet files of train and of test in .*name one of these folders'):
    cifar10.load(str(tmp_path / 'other'))


def test_parquet_of_another_kind_of_bytes_and_labels_too_large(tmp_path, images):
  import pyarrow
  import pyarrow.parquet

  cifar10_copies.write_parquet(tmp_path / 'copy', images)
  file = tmp_path / 'copy' / 'train-00000-of-00001.parquet'
  encoded = [cifar10_copies.png(image) for image in images[0]]
  table = pyarrow.table({'image': pyarrow.array(encoded, pyarrow.large_binary()), 'label': images[1].tolist()})
  pyarrow.parquet.write_table(table, file)
  assert_same(cifar10.load(str(tmp_path / 'copy')), images)
  pyarrow.parquet.write_table(pyarrow.table({'image': encoded[:1], 'label': [2**40]}), file)
  with pytest.raises(UserError, match='its label is 1099511627776'):
    cifar10.load(str(tmp_path / 'copy'))


def test_more_images_than_cifar10_has_are_another_data_set(copies):
  known = dataclasses.replace(cifar10.load.__self__, info=dataclasses.replace(cifar10.INFO, train_examples=49))
  with pytest.raises(UserError, match='has 50 train images, and CIFAR-10 49: it is another data set'):
    known.load(str(copies['py']))
