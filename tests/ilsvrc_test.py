"""ImageNet as folders and archives: the same images and labels as of TFDS; what is wrong is named in one line."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import ilsvrc_copies
import imagenet_copies
import numpy as np
import pytest

from zeroinit.data import imagenet
from zeroinit.data.reading import folders, ilsvrc, images
from zeroinit.system.errors import UserError

TRAIN = imagenet_copies.examples(0, 23)
VALIDATION = [(f'ILSVRC2012_val_{i:08d}.JPEG', content, label)
              for i, (_, content, label) in enumerate(imagenet_copies.examples(100, 9), 1)]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('ZEROINIT_CACHE', str(tmp_path / 'cache'))
  return tmp_path / 'cache'


@pytest.fixture(scope='module')
def copies(tmp_path_factory):
  """{form: data_dir}"""
  root = tmp_path_factory.mktemp('ilsvrc')
  return {form: ilsvrc_copies.write(root / form, form, TRAIN, VALIDATION) for form in ilsvrc_copies.FORMS}


@pytest.fixture
def copy(copies, tmp_path):
  """A function that copies the copy of that form, to be damaged."""
  return lambda form: shutil.copytree(copies[form], tmp_path / 'copy')


def examples(split):
  return [split[i] for i in range(len(split))]


@pytest.mark.parametrize('form', ilsvrc_copies.FORMS)
def test_every_form_gives_the_images_and_labels_of_tfds(copies, form):
  dataset = imagenet.load(str(copies[form]))
  for split, expected in ((dataset.train, TRAIN), (dataset.test, VALIDATION)):
    assert sorted(examples(split)) == sorted((content, label) for _, content, label in expected)
  assert [label for _, label in examples(dataset.train)] == sorted(label for _, _, label in TRAIN)
  assert dataset.title == 'ImageNet, 23 of 1,281,167 train images, 9 of 50,000 validation images'
  place = [label for _, label in examples(dataset.train)].index(TRAIN[5][2])
  assert TRAIN[5][0] in dataset.train.name_of(place)
  with ThreadPoolExecutor(8) as threads:
    order = [i * 7 % 23 for i in range(230)]
    assert list(threads.map(dataset.train.__getitem__, order)) == [dataset.train[i] for i in order]


def test_labels_are_the_places_of_the_1000_synsets_when_sorted():
  """As in torchvision and TFDS, whose label 0 is the tench; in the devkit the kit fox has number 1."""
  synsets = ilsvrc.synsets()
  assert len(set(synsets)) == 1000 and synsets == sorted(synsets)
  assert (synsets[0], synsets[999], synsets[278]) == ('n01440764', 'n15075141', 'n02119789')


@pytest.mark.parametrize('form', ['folders', 'archives'])
def test_the_index_is_made_once_and_again_after_a_change(copy, form, monkeypatch):
  data_dir = copy(form)
  first = examples(imagenet.load(str(data_dir)).train)
  for make in ('_walk', '_list'):
    monkeypatch.setattr(folders, make, lambda *_: pytest.fail('made again'))
  assert examples(imagenet.load(str(data_dir)).train) == first
  monkeypatch.undo()
  if form == 'folders':
    next((data_dir / 'train').glob('*/*')).unlink()
    (data_dir / 'train' / 'n01440764').mkdir(exist_ok=True)
    ilsvrc_copies.put(data_dir / 'train' / 'n01440764' / 'one_more.png', b'x')
    ilsvrc_copies.put(data_dir / 'train' / 'n01440764' / 'notes.txt', b'x')
    for folder in (data_dir / 'train').iterdir():
      if not os.listdir(folder):
        folder.rmdir()
  else:
    content = ilsvrc_copies.archive([('n01440764.tar', ilsvrc_copies.archive([('a.JPEG', b'x')]))])
    (data_dir / ilsvrc.TRAIN_ARCHIVE).write_bytes(content)
  changed = examples(imagenet.load(str(data_dir)).train)
  assert (b'x', 0) in changed and changed != first


def test_the_oddities_of_the_real_set_are_decoded(tmp_path):
  """It has a PNG called .JPEG, CMYK and grey JPEGs."""
  picture = imagenet_copies.picture(3)
  for i, options in enumerate(({'form': 'png'}, {'mode': 'CMYK'}, {'mode': 'L'}, {})):
    ilsvrc_copies.put(tmp_path / 'train' / 'n01440764' / f'{i}.JPEG', imagenet_copies.encode(picture, **options))
  ilsvrc_copies.put(tmp_path / 'val' / 'n01440764' / '0.JPEG', imagenet_copies.encode(picture))
  train = imagenet.load(str(tmp_path)).train
  decoded = [images.decode(train[i][0]).astype(int) for i in range(4)]
  assert all(np.abs(image - picture.astype(int)).mean() < 12 for i, image in enumerate(decoded) if i != 2)
  assert np.abs(decoded[2] - picture @ np.array([[0.299], [0.587], [0.114]])).mean() < 12


def test_what_is_missing_or_strange(copy, copies, tmp_path):
  def refused(message, of=None):
    with pytest.raises(UserError, match=message):
      imagenet.load(str(of or data_dir))

  data_dir = copy('folders')
  (data_dir / 'val' / 'cats').mkdir()
  refused('val/cats is none of the 1,000 classes')
  (data_dir / 'val' / 'cats').rmdir()
  (data_dir / 'train' / 'n15075141').mkdir()
  refused('train/n15075141 holds no images')
  (data_dir / 'train' / 'n15075141').rmdir()
  shutil.rmtree(data_dir / 'val')
  refused('no validation images: neither val nor validation')
  (data_dir / 'val').mkdir()
  refused('val holds no images')
  ilsvrc_copies.put(data_dir / 'val' / 'a.JPEG', b'x')
  refused('nothing says the labels of the images in .*put the devkit')
  ilsvrc_copies.put(data_dir / 'val.txt', b'b.JPEG 3\n')
  refused('val.txt has no label for a.JPEG')
  for line in (b'a.JPEG 1000', b'a.JPEG dog', b'a.JPEG'):
    ilsvrc_copies.put(data_dir / 'val.txt', b'b.JPEG 3\n' + line)
    refused('val.txt, line 2: .* is not the name of an image and its class')
  ilsvrc_copies.put(data_dir / 'val.txt', b'a.JPEG 3\n')
  dataset = imagenet.load(str(data_dir))
  os.remove(data_dir / 'val' / 'a.JPEG')
  with pytest.raises(UserError, match=r'val/a\.JPEG cannot be read'):
    dataset.test[0]


@pytest.mark.parametrize('damage, message', [
    (lambda folder: os.truncate(folder / ilsvrc.TRAIN_ARCHIVE, 5000), f'{ilsvrc.TRAIN_ARCHIVE} is not a tar archive'),
    (lambda folder: (folder / ilsvrc.TRAIN_ARCHIVE).write_bytes(b'x' * 5000), f'{ilsvrc.TRAIN_ARCHIVE} is not a tar'),
    (lambda folder: (folder / ilsvrc.TRAIN_ARCHIVE).write_bytes(ilsvrc_copies.archive(
        [('cats.tar', ilsvrc_copies.archive([('a.JPEG', b'x')]))])), 'has cats/a.JPEG in it, and not only'),
    (lambda folder: (folder / ilsvrc.TRAIN_ARCHIVE).write_bytes(ilsvrc_copies.archive([])), 'has nothing in it'),
    (lambda folder: (folder / f'{ilsvrc.DEVKIT}.tar.gz').write_bytes(b'x'), 'is not the devkit, or damaged'),
    (lambda folder: (folder / f'{ilsvrc.DEVKIT}.tar.gz').unlink(), 'nothing says the labels'),
    (lambda folder: (folder / ilsvrc.VALIDATION_ARCHIVE).unlink(), 'has no validation images'),
])
def test_damaged_archives(copy, damage, message):
  data_dir = copy('archives')
  damage(data_dir)
  with pytest.raises(UserError, match=message):
    imagenet.load(str(data_dir))


def test_a_member_that_is_cut_off_since(copy):
  data_dir = copy('archives')
  test = imagenet.load(str(data_dir)).test
  os.truncate(data_dir / ilsvrc.VALIDATION_ARCHIVE, 1000)
  with pytest.raises(UserError, match=r'val_00000009\.JPEG in .*val\.tar is cut off'):
    test[8]


def test_a_damage_that_looks_like_the_end_is_none(tmp_path):
  """tarfile takes a header that it cannot read for the end of the archive."""
  inner = ilsvrc_copies.archive([(f'{i}.JPEG', bytes(700)) for i in range(3)])
  whole = ilsvrc_copies.archive([('n01440764.tar', inner), ('n01443537.tar', inner)])
  second_inside = 512 + 512 + 1024  # after the outer header, the first inner one, and its content in whole blocks
  second_outside = 512 + len(inner)
  damaged = lambda place: whole[:place] + b'x' * 512 + whole[place + 512:]
  nothing = ilsvrc_copies.archive([('n01440764.tar', b'x' * 2048), ('n01443537.tar', inner)])
  for content in (damaged(second_inside), damaged(second_outside), whole[:second_outside], whole[:second_inside],
                  whole[:second_outside + 100], nothing):
    (tmp_path / ilsvrc.TRAIN_ARCHIVE).write_bytes(content)
    with pytest.raises(UserError, match='is not a tar archive that can be read in place, or cut off'):
      imagenet.load(str(tmp_path))
  (tmp_path / ilsvrc.TRAIN_ARCHIVE).write_bytes(whole)
  train = ilsvrc._train(tmp_path, {'n01440764': 0, 'n01443537': 1})
  assert [label for _, label in examples(train)] == [0] * 3 + [1] * 3


def test_label_files_as_windows_writes_them(copy):
  data_dir = copy('flat and val.txt')
  text = (data_dir / 'val.txt').read_text()
  (data_dir / 'val.txt').write_bytes(b'\xef\xbb\xbf' + text.replace('\n', '\r\n').encode())
  assert len(imagenet.load(str(data_dir)).test) == len(VALIDATION)
  (data_dir / 'val.txt').write_text('image label\n' + text)
  assert len(imagenet.load(str(data_dir)).test) == len(VALIDATION)
  (data_dir / 'val.txt').write_text('ILSVRC2012_val_00000001.JPEG\n' + text)
  with pytest.raises(UserError, match='line 1: '):
    imagenet.load(str(data_dir))
