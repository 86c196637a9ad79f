"""Training and scoring on a data set that streams."""

import io
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from zeroinit.data import StreamedDataset
from zeroinit.data.reading import loader
from zeroinit.system.errors import UserError
from zeroinit.training import step, stream
from zeroinit.training.config import base_config
from zeroinit.training.recipe import make_recipe


class Pictures:
  """A split of noise, each picture of its own size."""

  def __init__(self, examples):
    self._examples = []
    for i in range(examples):
      pixels = np.random.default_rng(i).integers(0, 256, (20 + i % 7, 24, 3), np.uint8)
      file = io.BytesIO()
      Image.fromarray(pixels).save(file, 'jpeg')
      self._examples.append((file.getvalue(), i * 7 % 1000))

  def __len__(self):
    return len(self._examples)

  def __getitem__(self, index):
    return self._examples[index]

  def name_of(self, index):
    return f'picture {index}'


DATA = StreamedDataset('pictures', Pictures(40), Pictures(21), complete=False)


def config_of(method='zeroinit', **fields):
  config = base_config(method)
  config.update(dataset='imagenet', depth=10, width=1, image_size=16, batch_size=16, crop='random_resized',
                learning_rate=1e-4, classifier_init='lecun', eval_batch_size=6, data_workers=2)
  config.method.ghost_size = 4
  config.update(fields)
  return config


def start(config, devices=1):
  recipe = make_recipe(config, len(DATA.train), jax.devices()[:devices])
  return recipe, step.init_state(recipe, config.learning_rate, config.seed)


def losses(config, devices=1, steps=5, data=DATA):
  recipe, state = start(config, devices)
  feed = stream.Stream(recipe, data, config, 0)
  values = []
  try:
    state = feed.compile(state)
    assert int(state.step) == 0
    for until in range(1, steps + 1):
      state = feed.train(state.replace(sums=jax.tree.map(jnp.zeros_like, state.sums)), until)
      values.append(float(step.means(state)['cross_entropy']))
  finally:
    feed.close()
  return np.array(values), state


@pytest.mark.slow
def test_it_trains_on_what_the_loader_draws():
  config = config_of()
  recipe, state = start(config)
  drawn = loader.training_batches(DATA.train, seed=0, batch_size=16, rows=np.arange(16), size=16, crop='random_resized',
                                  flip=True, num_classes=1000, workers=1)
  want = []
  for _ in range(5):
    state = state.replace(sums=jax.tree.map(jnp.zeros_like, state.sums))
    state = jax.jit(step.train_step, static_argnums=0)(recipe, state, jax.tree.map(lambda x: x[None], next(drawn)))
    want.append(float(step.means(state)['cross_entropy']))
  drawn.close()
  np.testing.assert_allclose(losses(config)[0], want, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('devices, micro_batches', [(8, 1), (1, 2), (4, 2)])
def test_devices_and_micro_batches_change_nothing(devices, micro_batches):
  one = losses(config_of('ghost_norm'))[0]
  got = losses(config_of('ghost_norm', micro_batches=micro_batches), devices)[0]
  np.testing.assert_allclose(got, one, rtol=1e-5)


def test_the_sums_are_those_of_the_epoch():
  config = config_of()
  recipe, state = start(config)
  feed = stream.Stream(recipe, DATA, config, 0)
  state = feed.train(state, 5)  # two steps an epoch
  feed.close()
  assert int(state.step) == 5 and float(state.sums['steps']) == 1


def test_a_diverged_run_stands_still():
  config = config_of('none')
  recipe, state = start(config)
  feed = stream.Stream(recipe, DATA, config, 0)
  state = feed.train(state.replace(diverged=jnp.bool_(True)), 3)
  feed.close()
  assert int(state.step) == 0


@pytest.mark.parametrize('devices', [1, 8])
def test_every_test_image_is_scored_once(devices):
  config = config_of()
  recipe, _ = start(config, devices)
  feed = stream.Stream(recipe, DATA, config, 0)
  labels = np.concatenate([np.array(labels) for _, labels in feed.test_batches()])
  feed.close()
  assert labels[labels >= 0].tolist() == [DATA.test[i][1] for i in range(21)]


@pytest.mark.slow
def test_the_time_without_data_is_measured(monkeypatch):
  original = loader.training_batches

  def slow(*args, **settings):
    for batch in original(*args, **settings):
      time.sleep(0.3)
      yield batch

  monkeypatch.setattr(loader, 'training_batches', slow)
  config = config_of()
  recipe, state = start(config)
  feed = stream.Stream(recipe, DATA, config, 0)
  state = jax.block_until_ready(feed.compile(state))
  feed.waited, began = 0.0, time.monotonic()
  jax.block_until_ready(feed.train(state, 8))
  took = time.monotonic() - began
  feed.close()
  assert 0.5 < feed.waited < took


def test_an_image_that_cannot_be_read_is_named():
  broken = Pictures(40)
  broken._examples[17] = (b'no image', 3)
  with pytest.raises(UserError, match='picture 17'):
    losses(config_of(), data=StreamedDataset('pictures', broken, DATA.test, complete=False))
