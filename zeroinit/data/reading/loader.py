"""Batches of a data set that stays on disk, decoded by threads ahead of their use.

A batch is a pure function of (seed, step): the order of an epoch follows from (seed, epoch), the crop and flip of an
example from (seed, epoch, example). So nothing depends on the number of threads, on how the rows of a batch are divided
among hosts, or on the step at which it began, and there is no state to save.

Threads suffice: OpenCV decodes without holding Python's lock, so they scale as processes do, and start at once.
"""

import collections
import itertools
import random

import cv2
import numpy as np

from zeroinit.data.reading.images import central_box, crop_and_resize, decode, random_box
from zeroinit.data.reading.threads import Threads
from zeroinit.system.errors import UserError

BATCHES_AHEAD = 2  # being made while the caller works


def training_batches(split, *, seed, batch_size, rows, size, crop, flip, num_classes, workers, begin=0):
  """The batches of steps begin, begin + 1, ... without end; an incomplete one at an epoch's end is left out.

  Args:
    split: a `data.Split`, of at least one batch.
    seed: int, not negative.
    batch_size: of the global batch; rows: int [n], sorted, the positions in it that this host makes.
    size: height and width of the pictures.
    crop: 'random_resized', or 'none' for the central box of evaluation; flip: whether to mirror half of the pictures.
    num_classes: labels must be below.
    workers: number of threads that decode.
    begin: the step to begin with.

  Returns:
    A generator, whose close() ends the threads, of dicts: image, uint8 [n, size, size, 3]; label, int32 [n]; example,
    int32 [n], the index of each in the split. It raises UserError, naming the record, where one cannot be read or
    decoded, or its label is out of range.
  """
  def view(epoch, example, height, width):
    rng = random.Random(f'{seed} {epoch} {example}')  # NumPy's generators take several times as long to make
    mirrored = rng.random() < 0.5 and flip
    return (random_box(rng, height, width) if crop == 'random_resized' else central_box(height, width)), mirrored

  return _batches(split, _drawn(len(split), seed, batch_size, rows, begin), view, size, num_classes, workers)


def test_batches(split, *, batch_size, rows, size, num_classes, workers):
  """Every example once, in order, as its central box: a generator like that of `training_batches`, but finite.

  The last batch is filled up with black images whose label and example are -1.
  """
  places = np.concatenate([np.arange(len(split)), np.full(-len(split) % batch_size, -1)]).reshape(-1, batch_size)
  view = lambda epoch, example, height, width: (central_box(height, width), False)
  return _batches(split, ((0, batch[rows]) for batch in places), view, size, num_classes, workers)


def _drawn(examples, seed, batch_size, rows, begin):
  """(epoch, examples of this host) for each step from `begin` on."""
  steps, order_of = examples // batch_size, None
  for step in itertools.count(begin):
    epoch, place = divmod(step, steps)
    if order_of != epoch:
      order, order_of = np.random.default_rng((seed, epoch)).permutation(examples), epoch
    yield epoch, order[place * batch_size + rows]


def _batches(split, drawn, view, size, num_classes, workers):
  """The batches that `drawn` lists.

  view: gives, for an epoch, an example, and the height and width of its image, the box, and whether to mirror it.
  """
  threads = Threads(workers, 'decode')
  stopped = threads.stopped

  def make(batch, epoch, share):
    for row in share:
      if stopped.is_set():
        return
      example = int(batch['example'][row])
      if example < 0:
        batch['image'][row], batch['label'][row] = 0, -1
        continue
      try:
        content, label = split[example]
        if not 0 <= label < num_classes:
          raise ValueError(f'its label is {label}, not 0 to {num_classes - 1}')
        image = decode(content)
      except ValueError as error:
        raise UserError(f'{split.name_of(example)} cannot be used: {error}') from error
      box, mirrored = view(epoch, example, *image.shape[:2])
      picture = crop_and_resize(image, box, size)
      if mirrored:
        cv2.flip(picture, 1, dst=batch['image'][row])
      else:
        batch['image'][row] = picture
      batch['label'][row] = label

  def begin(epoch, examples):
    n = len(examples)
    batch = {'image': np.empty((n, size, size, 3), np.uint8), 'label': np.empty(n, np.int32),
             'example': examples.astype(np.int32)}
    return batch, [threads.submit(make, batch, epoch, range(i, n, workers)) for i in range(min(workers, n))]

  try:
    coming = collections.deque()
    for epoch, examples in drawn:
      coming.append(begin(epoch, examples))
      if len(coming) > BATCHES_AHEAD:
        yield _finished(coming.popleft())
    while coming:
      yield _finished(coming.popleft())
  finally:
    threads.stop()


def _finished(batch_and_shares):
  batch, shares = batch_and_shares
  for share in shares:
    share.result()
  return batch
