"""What a probe begins with: the recipe of a config, its data set, and the batches that a run of it draws."""

import contextlib

import jax
import numpy as np

from zeroinit import data
from zeroinit.data.reading import loader
from zeroinit.system import environment
from zeroinit.training import batches
from zeroinit.training.recipe import make_recipe
from zeroinit.training.trial import try_functions


def recipe_of(config):
  """The recipe of a config on one device.

  Raises:
    UserError: the data set is missing, or smaller than a batch, or a function of one's own cannot be trained with.
  """
  recipe = make_recipe(config, dataset_of(config).train_examples, jax.devices()[:1])
  try_functions(config, recipe)
  return recipe


def dataset_of(config):
  """The data set of a config, read once."""
  return data.loaded(config.dataset, config.data_dir)


def first_batch(config):
  """The first batch of a run of that config, see `batch_at`."""
  return batch_at(config, 0)


def batch_at(config, step):
  """The batch of an update of a run of that config, counted from 0, as the run draws it.

  Returns:
    images, float32 [batch, ...], standardized, and labels, int32 [batch].
  """
  info, dataset = data.info(config.dataset, config.data_dir), dataset_of(config)
  if isinstance(dataset, data.StreamedDataset):
    drawn = loader.training_batches(
        dataset.train, seed=config.seed, batch_size=config.batch_size, rows=np.arange(config.batch_size),
        size=config.image_size, crop=config.crop, flip=config.flip, num_classes=info.num_classes,
        workers=config.data_workers or environment.threads(), begin=step)
    with contextlib.closing(drawn):
      batch = next(drawn)
  else:
    seed, (epoch, place) = np.uint32(config.seed), divmod(step, dataset.train_examples // config.batch_size)
    order = batches.epoch_order(seed, epoch, dataset.train_examples)
    example = order[place * config.batch_size : (place + 1) * config.batch_size]
    batch = batches.draw(*jax.device_put((dataset.train_images, dataset.train_labels)), example, seed, epoch,
                         config.crop, config.flip)
  return batches.standardize(batch['image'], info.mean, info.std), batch['label']
