"""CIFAR-100 and SVHN: every form in which they are read gives the same images and labels."""

import contextlib
import os

import cifar10_copies
import numpy as np
import pytest
import scipy.io
from small_copies import CLASSES, FORMS, pictures, write

from zeroinit import data
from zeroinit.data import svhn
from zeroinit.system.errors import UserError


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('ZEROINIT_CACHE', str(tmp_path / 'cache'))


@pytest.mark.parametrize('name, form', FORMS)
def test_every_form_gives_the_same_images(tmp_path, name, form):
  images = pictures(CLASSES[name])
  data_dir = write(tmp_path / form, name, form, images)
  for _ in range(2):  # the second time from the cache
    dataset = data.load(name, str(data_dir))
    for got, expected in zip((dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels),
                             images, strict=True):
      assert got.dtype == expected.dtype
      np.testing.assert_array_equal(got, expected)
  title = {'cifar100': 'CIFAR-100, 30 of 50,000 train images', 'svhn': 'SVHN, 30 of 73,257 train images'}[name]
  assert dataset.title.startswith(title) and not dataset.complete


def test_a_label_of_100_is_none_of_cifar100(tmp_path):
  data_dir = write(tmp_path / 'copy', 'cifar100', 'binary', pictures(100))
  file = data_dir / 'cifar-100-binary' / 'test.bin'
  content = bytearray(file.read_bytes())
  content[1] = 100
  file.write_bytes(content)
  with pytest.raises(UserError, match=r'test labels in .* to 100, not from 0 to 99'):
    data.load('cifar100', str(data_dir))
  file.write_bytes(content[:-1])
  with pytest.raises(UserError, match=r'test\.bin is not a batch of CIFAR, or cut off'):
    data.load('cifar100', str(data_dir))


def test_damaged_files_of_svhn(tmp_path):
  data_dir = write(tmp_path / 'copy', 'svhn', 'matlab', pictures(10))
  file = data_dir / svhn.FILES[1]
  content = file.read_bytes()
  for damaged in (content[:-500], b'', content[:200] + bytes(100) + content[300:]):
    file.write_bytes(damaged)
    with pytest.raises(UserError, match=r'test_32x32\.mat is not a file of SVHN, or damaged'):
      data.load('svhn', str(data_dir))
  scipy.io.savemat(file, {'y': np.ones((3, 1))})
  with pytest.raises(UserError, match=r'test_32x32\.mat is not a file of SVHN'):
    data.load('svhn', str(data_dir))
  os.remove(file)
  with pytest.raises(UserError, match=r'is not whole: it lacks test_32x32\.mat'):
    data.load('svhn', str(data_dir))


AIRPLANES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']
DIGITS = [str(digit) for digit in range(10)]


@pytest.mark.parametrize('name, classes, message', [
    ('cifar10', AIRPLANES, None), ('cifar10', DIGITS, None), ('svhn', DIGITS, None),
    ('svhn', AIRPLANES, 'has 10 classes, airplane, automobile, bird and so on, which are not those of SVHN'),
    ('cifar10', DIGITS[:9] + ['shirt'], 'which are not those of CIFAR-10'),
    ('cifar100', AIRPLANES, 'has 10 classes, .* not those of CIFAR-100: it is another data set'),
    ('cifar100', None, 'no label in .* is above 9, and CIFAR-100 has 100 classes: it is another data set')])
def test_a_part_of_another_data_set_in_parquet_is_not_taken_for_this_one(tmp_path, name, classes, message):
  cifar10_copies.write_parquet(tmp_path / 'copy', cifar10_copies.pictures(), classes=classes)
  with pytest.raises(UserError, match=message) if message else contextlib.nullcontext():
    data.load(name, str(tmp_path / 'copy'))


def test_a_download_of_svhn_with_both_of_its_configurations(tmp_path):
  images, snapshot = pictures(10), tmp_path / 'datasets--somebody--svhn' / 'snapshots' / '0a1b'
  cifar10_copies.write_parquet(snapshot / 'cropped_digits', images, columns=('image', 'label'), classes=DIGITS)
  cifar10_copies.write_parquet(snapshot / 'full_numbers', images, columns=('image', 'digits'))
  np.testing.assert_array_equal(data.load('svhn', str(tmp_path)).train_images, images[0])
  with pytest.raises(UserError, match='name one of these folders'):
    data.load('cifar10', str(tmp_path))


@pytest.mark.parametrize('name, words', [('cifar100', 'cifar-100-python or cifar-100-binary'),
                                         ('svhn', 'train_32x32.mat and test_32x32.mat')])
def test_nothing_there_says_what_to_do(tmp_path, name, words):
  with pytest.raises(UserError, match=f'no .* in {tmp_path}: neither .*{words}.*--config.data_dir'):
    data.load(name, str(tmp_path))
