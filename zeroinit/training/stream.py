"""A data set that streams from disk: one dispatch for each update, while the next batches are decoded and sent.

Every process decodes only the rows that its devices hold. What a batch contains does not depend on that: see `loader`.
"""

import collections
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import numpy as np
from jax import lax

from zeroinit.data.reading import loader
from zeroinit.system import compiling, environment
from zeroinit.training.recipe import is_deterministic
from zeroinit.training.step import restart_sums, train_step

BATCHES_AHEAD = 2  # on the devices, besides the one that is trained on


class Stream:
  """The `feed.Feed` of a `data.StreamedDataset`."""

  def __init__(self, recipe, dataset, config, step):
    """step: the first update that will be asked for."""
    self._recipe, self._dataset = recipe, dataset
    self._settings = {'size': config.image_size, 'num_classes': recipe.net.num_classes,
                      'workers': config.data_workers or environment.threads()}
    self._eval_batch_size = -(-min(config.eval_batch_size, len(dataset.test)) // recipe.mesh.size) * recipe.mesh.size
    parts, sharding = (recipe.micro_batches, recipe.batch_size // recipe.micro_batches), recipe.divided(axis=1)
    here = _rows_here(sharding, parts, axis=1)
    rows = (np.arange(recipe.micro_batches)[:, None] * parts[1] + here).ravel()
    drawn = loader.training_batches(dataset.train, seed=config.seed, batch_size=recipe.batch_size, rows=rows,
                                    crop=config.crop, flip=config.flip, begin=step, **self._settings)
    split = lambda x: x.reshape(recipe.micro_batches, len(here), *x.shape[1:])
    self._batches = _Ahead(drawn, lambda batch: {
        name: _whole(split(x), sharding, parts[1], here, axis=1) for name, x in batch.items()})
    self.waited = 0.0

  def train(self, state, until):
    end = jax.device_put(np.int32(until), self._recipe.replicated)
    for _ in range(int(state.step), until):
      if not self._batches.ready():
        jax.block_until_ready(state)  # until then the devices have work
        began = time.monotonic()
        self._batches.wait()
        self.waited += time.monotonic() - began
      state = train_on(self._recipe, state, next(self._batches), end)
    return state

  def compile(self, state):
    return train_on(self._recipe, state, self._batches.first(),
                    jax.device_put(np.int32(state.step), self._recipe.replicated))

  def test_batches(self):
    sharding = self._recipe.divided()
    rows = _rows_here(sharding, (self._eval_batch_size,), axis=0)
    drawn = loader.test_batches(self._dataset.test, batch_size=self._eval_batch_size, rows=rows, **self._settings)
    place = lambda batch: [_whole(batch[name], sharding, self._eval_batch_size, rows, axis=0)
                           for name in ('image', 'label')]
    batches = _Ahead(drawn, place)
    try:
      yield from batches
    finally:
      batches.close()

  def close(self):
    self._batches.close()


@partial(compiling.jit, is_deterministic=is_deterministic, static_argnums=0, donate_argnums=1)
def train_on(recipe, state, batch, until):
  """One update on a batch, unless `until` is reached or the run has diverged. The state is given up."""
  state = restart_sums(recipe, state, until)
  update = lambda state: train_step(recipe, state, batch)
  state = lax.cond((state.step < until) & ~state.diverged, update, lambda state: state, state)
  return lax.with_sharding_constraint(state, recipe.replicated)


class _Ahead:
  """The items of an iterator, the next few already made and placed by a thread, which also overlaps their transfer."""

  def __init__(self, items, place):
    self._items, self._place = items, place
    self._thread = ThreadPoolExecutor(1, 'next batch')
    self._coming = collections.deque(self._thread.submit(self._make) for _ in range(BATCHES_AHEAD))

  def _make(self):
    return self._place(next(self._items))

  def ready(self):
    return self._coming[0].done()

  def first(self):
    """The next item, which stays the next."""
    return self._coming[0].result()

  def wait(self):
    self._coming[0].exception()

  def __iter__(self):
    return self

  def __next__(self):
    item = self._coming.popleft().result()
    self._coming.append(self._thread.submit(self._make))
    return item

  def close(self):
    self._thread.shutdown(cancel_futures=True)
    self._items.close()


def _rows_here(sharding, shape, axis):
  """Indices along `axis` of the parts of an array of that shape that this process's devices hold, sorted."""
  size = shape[axis]
  held = {range(*index[axis].indices(size)) for index in sharding.addressable_devices_indices_map(shape).values()}
  return np.array(sorted(row for rows in held for row in rows))


def _whole(here, sharding, size, rows, axis):
  """The array over all devices, `size` long along `axis`, of which `here` has the rows that this process holds."""
  shape = (*here.shape[:axis], size, *here.shape[axis + 1:])

  def part(index):
    start, stop, _ = index[axis].indices(size)
    place = int(np.searchsorted(rows, start))
    return here[(slice(None),) * axis + (slice(place, place + stop - start),)]

  return jax.make_array_from_callback(shape, sharding, part)
