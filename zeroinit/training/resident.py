"""A data set that lies on the devices whole, as uint8: many updates in one dispatch, and no loader.

What does not fit there streams: see `stream`.
"""

from functools import partial

import jax
import numpy as np
from jax import lax

from zeroinit.system import compiling
from zeroinit.training import batches
from zeroinit.training.recipe import is_deterministic
from zeroinit.training.step import restart_sums, train_step


class Resident:
  """The `feed.Feed` of a `data.Dataset`."""

  waited = None

  def __init__(self, recipe, dataset, eval_batch_size):
    self._recipe = recipe
    self._train_set = jax.device_put((dataset.train_images, dataset.train_labels), recipe.replicated)
    self._test_set = in_batches(recipe, dataset.test_images, dataset.test_labels, eval_batch_size)

  def train(self, state, until):
    return train_steps(self._recipe, state, *self._train_set, jax.device_put(np.int32(until), self._recipe.replicated))

  def compile(self, state):
    return self.train(state, int(state.step))

  def test_batches(self):
    return self._test_set

  def close(self):
    pass


@partial(compiling.jit, is_deterministic=is_deterministic, static_argnums=0, donate_argnums=1)
def train_steps(recipe, state, images, labels, until):
  """Updates from state.step to `until`, which must not lie beyond the epoch's end; fewer where the run diverges.

  images: uint8 [n, height, width, channels], the whole training set; labels: int32 [n]. The state is given up.
  """
  epoch = state.step // recipe.schedule.steps_per_epoch
  first = epoch * recipe.schedule.steps_per_epoch
  order = batches.epoch_order(state.seed, epoch, len(images))
  state = restart_sums(recipe, state, until)

  def update(state):
    place = (state.step - first) * recipe.batch_size
    example = lax.dynamic_slice_in_dim(order, place, recipe.batch_size).reshape(recipe.micro_batches, -1)
    example = lax.with_sharding_constraint(example, recipe.divided(axis=1))
    draw = lambda example: batches.draw(images, labels, example, state.seed, epoch, recipe.crop, recipe.flip)
    return train_step(recipe, state, jax.vmap(draw)(example))

  state = lax.while_loop(lambda state: (state.step < until) & ~state.diverged, update, state)
  return lax.with_sharding_constraint(state, recipe.replicated)


def in_batches(recipe, images, labels, batch_size):
  """A test set cut into batches for `score`, on the devices; the last is filled up, so that each image counts once.

  Returns a list of (images, labels). A batch is rounded up to a multiple of the device count.
  """
  devices = recipe.mesh.size
  batch_size = -(-min(batch_size, len(images)) // devices) * devices
  missing = -len(images) % batch_size
  images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
  labels = np.concatenate([labels, np.full(missing, -1, labels.dtype)])
  starts = range(0, len(images), batch_size)
  return [jax.device_put((images[i : i + batch_size], labels[i : i + batch_size]), recipe.divided()) for i in starts]
