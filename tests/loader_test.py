"""A batch depends on nothing but the seed and the step; every error reaches the caller and names its record."""

import itertools
import subprocess
import sys
import threading
import time

import imagenet_copies
import numpy as np
import pytest

from zeroinit.data import imagenet
from zeroinit.data.reading import images, loader
from zeroinit.system.errors import UserError


class Examples:
  """A split in memory, of pictures of several sizes."""

  def __init__(self, count):
    self.examples = [(content, label) for _, content, label in imagenet_copies.examples(0, count)]

  def __len__(self):
    return len(self.examples)

  def __getitem__(self, index):
    return self.examples[index]

  def name_of(self, index):
    return f'picture {index}'


SPLIT = Examples(45)


def training(split=SPLIT, steps=6, **settings):
  """The first batches, each a dict of arrays."""
  settings = {'seed': 0, 'batch_size': 8, 'size': 24, 'crop': 'random_resized', 'flip': True, 'num_classes': 1000,
              'workers': 2} | settings
  rows = settings.pop('rows', np.arange(settings['batch_size']))
  batches = loader.training_batches(split, rows=rows, **settings)
  taken = list(itertools.islice(batches, steps))
  batches.close()
  return taken


def evaluation(split=SPLIT, **settings):
  settings = {'batch_size': 8, 'size': 24, 'num_classes': 1000, 'workers': 2} | settings
  rows = settings.pop('rows', np.arange(settings['batch_size']))
  return list(loader.test_batches(split, rows=rows, **settings))


def assert_same(batches, others):
  assert len(batches) == len(others)
  for batch, other in zip(batches, others, strict=True):
    assert batch.keys() == other.keys() == {'image', 'label', 'example'}
    for name in batch:
      np.testing.assert_array_equal(batch[name], other[name])


def whole(parts):
  """The batches of which several hosts made a part each."""
  return [{name: np.concatenate([part[name] for part in batch]) for name in batch[0]}
          for batch in zip(*parts, strict=True)]


def test_a_batch():
  batch, = training(steps=1)
  assert {name: (array.shape, array.dtype) for name, array in batch.items()} == {
      'image': ((8, 24, 24, 3), np.uint8), 'label': ((8,), np.int32), 'example': ((8,), np.int32)}
  assert batch['label'].tolist() == [SPLIT[i][1] for i in batch['example']]


@pytest.mark.parametrize('workers', [1, 3, 16])
def test_the_number_of_workers_changes_nothing(workers):
  assert_same(training(workers=workers), training())
  assert_same(evaluation(workers=workers), evaluation())


@pytest.mark.parametrize('hosts', [2, 4])
def test_hosts_that_share_a_batch_make_the_same_one(hosts):
  rows = np.split(np.arange(8), hosts)
  assert_same(whole([training(rows=part) for part in rows]), training())
  assert_same(whole([evaluation(rows=part) for part in rows]), evaluation())
  scattered = np.array([0, 3, 6])
  assert_same(training(rows=scattered), [{name: array[scattered] for name, array in batch.items()}
                                         for batch in training()])


@pytest.mark.parametrize('begin', [1, 4, 5, 7])  # 5 steps an epoch
def test_what_begins_later_goes_on_as_if_it_had_not_stopped(begin):
  assert_same(training(begin=begin, steps=9 - begin), training(steps=9)[begin:])


def test_an_epoch_shows_an_example_at_most_once_and_each_in_its_own_order():
  batches = training(steps=15) + training(steps=5, seed=1)
  orders = [np.concatenate([batch['example'] for batch in batches[i : i + 5]]) for i in range(0, 20, 5)]
  for order in orders:
    assert len(set(order)) == 40 and order.min() >= 0 and order.max() < 45
  for one, other in itertools.combinations(orders, 2):
    assert (one != other).any()
  assert len({frozenset(order) for order in orders}) > 1  # nor are the same always left out


def test_augmentation_depends_on_the_seed_the_epoch_and_the_example_only():
  def pictures(batches):
    return {int(i): image for batch in batches for i, image in zip(batch['example'], batch['image'], strict=True)}
  eights, nines = pictures(training(steps=5)), pictures(training(steps=5, batch_size=9, workers=3))
  for i in eights.keys() & nines.keys():
    np.testing.assert_array_equal(eights[i], nines[i])
  later, other = pictures(training(begin=5, steps=5)), pictures(training(seed=1, steps=5))
  for different in (later, other):
    same = [np.array_equal(eights[i], different[i]) for i in eights.keys() & different.keys()]
    assert len(same) > 20 and not any(same)


def test_half_of_the_pictures_are_mirrored_and_flip_changes_nothing_else():
  flipped, straight = (training(flip=flip, steps=5) for flip in (True, False))
  mirrored = []
  for batch, other in zip(flipped, straight, strict=True):
    for image, original in zip(batch['image'], other['image'], strict=True):
      mirrored.append(not np.array_equal(image, original))
      np.testing.assert_array_equal(image, original[:, ::-1] if mirrored[-1] else original)
  assert 10 <= sum(mirrored) <= 30  # of 40


def test_without_a_random_crop_it_is_the_central_box():
  for batch in training(crop='none', flip=False):
    for i, image in zip(batch['example'], batch['image'], strict=True):
      original = images.decode(SPLIT[i][0])
      box = images.central_box(*original.shape[:2])
      np.testing.assert_array_equal(image, images.crop_and_resize(original, box, 24))


@pytest.mark.parametrize('examples, batch_size', [(45, 8), (40, 8), (5, 8), (3, 1)])
def test_every_test_example_comes_once_in_order(examples, batch_size):
  batches = evaluation(Examples(examples), batch_size=batch_size)
  assert len(batches) == -(-examples // batch_size)
  example, label, image = (np.concatenate([batch[name] for batch in batches]) for name in ('example', 'label', 'image'))
  assert example[:examples].tolist() == list(range(examples))
  assert label[:examples].tolist() == [SPLIT[i][1] for i in range(examples)]
  assert (example[examples:] == -1).all() and (label[examples:] == -1).all() and not image[examples:].any()
  assert image[:examples].any((1, 2, 3)).all()


@pytest.mark.parametrize('content, label, message', [
    (b'', 3, 'its 0 bytes are not an image'), (b'nonsense', 3, 'its 8 bytes are not an image'),
    (imagenet_copies.encode(imagenet_copies.picture(0))[:-50], 3, 'its image is damaged'),
    (SPLIT[3][0], 1000, 'its label is 1000, not 0 to 999'), (SPLIT[3][0], -1, 'its label is -1, not 0 to 999'),
])
@pytest.mark.parametrize('workers', [1, 3])
def test_a_record_that_cannot_be_used_is_named(content, label, message, workers):
  split = Examples(45)
  split.examples[17] = (content, label)
  for make in (training, evaluation):
    with pytest.raises(UserError, match=f'picture 17 cannot be used: {message}'):
      make(split, workers=workers)


def test_what_the_split_raises_arrives_as_it_is():
  class Broken(Examples):
    def __getitem__(self, index):
      if index == 17:
        raise UserError('record 17 cannot be read')
      return super().__getitem__(index)

  with pytest.raises(UserError, match=r'^record 17 cannot be read$'):
    evaluation(Broken(45))


def threads():
  return [thread for thread in threading.enumerate() if thread.name.startswith('decode')]


def wait_until(condition):
  until = time.monotonic() + 10
  while not condition():
    assert time.monotonic() < until
    time.sleep(0.01)


def test_it_works_ahead_only_a_few_batches():
  class Counting(Examples):
    read = 0

    def __getitem__(self, index):
      Counting.read += 1
      return super().__getitem__(index)

  batches = loader.training_batches(Counting(45), seed=0, batch_size=8, rows=np.arange(8), size=24, crop='none',
                                    flip=False, num_classes=1000, workers=2)
  next(batches)
  wait_until(lambda: Counting.read == 8 * (1 + loader.BATCHES_AHEAD))
  time.sleep(0.2)
  assert Counting.read == 8 * (1 + loader.BATCHES_AHEAD)
  batches.close()


@pytest.mark.parametrize('how', ['closed', 'dropped', 'broken', 'at its end'])
def test_its_threads_end_with_it(how):
  wait_until(lambda: not threads())
  if how == 'broken':
    split = Examples(45)
    split.examples[17] = (b'', 0)
    with pytest.raises(UserError):
      training(split)
  elif how == 'at its end':
    evaluation()
  else:
    batches = loader.training_batches(SPLIT, seed=0, batch_size=8, rows=np.arange(8), size=24, crop='none', flip=False,
                                      num_classes=1000, workers=3)
    next(batches)
    assert len(threads()) == 3
    if how == 'closed':
      batches.close()
      with pytest.raises(StopIteration):
        next(batches)
    else:
      del batches
  wait_until(lambda: not threads())


def test_a_loader_that_nobody_closes_does_not_keep_python_from_exiting():
  program = '''
import atexit, time
atexit.register(lambda: print(time.monotonic() - began, flush=True))  # the first, so that it runs last
import numpy as np
from zeroinit.data.reading import loader

class Slow:
  def __len__(self):
    return 10_000
  def __getitem__(self, index):
    time.sleep(0.01)
    return CONTENT, 3

import imagenet_copies
CONTENT = imagenet_copies.examples(0, 1)[0][1]
batches = loader.training_batches(Slow(), seed=0, batch_size=64, rows=np.arange(64), size=8, crop='none', flip=False,
                                  num_classes=10, workers=1)
next(batches)  # 128 more, for 1.3 s, are to come
began = time.monotonic()
'''
  result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, timeout=60, check=True,
                          env={'PYTHONPATH': ':'.join(sys.path)})
  assert float(result.stdout) < 1 and result.stderr == ''


def test_real_images(real_imagenet):
  split = imagenet.load(str(real_imagenet)).train
  batches = training(split, batch_size=16, size=64, steps=11)
  assert_same(batches[5:], training(split, batch_size=16, size=64, steps=6, begin=5, workers=1))
  assert len({int(i) for batch in batches[:10] for i in batch['example']}) == 160
  channels = np.concatenate([batch['image'] for batch in batches]).reshape(-1, 3)
  np.testing.assert_allclose(channels.mean(0), imagenet.INFO.mean, atol=12)
  np.testing.assert_allclose(channels.std(0), imagenet.INFO.std, rtol=0.25)  # of one crop of each image, scaled down
