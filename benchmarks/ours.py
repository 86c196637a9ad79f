"""How fast our training is in one case, the counterpart of torch_wrn.py. Prints one JSON line.

  python -m benchmarks.ours --method=zeroinit --batch_size=64

The training loop is that of a run between two evaluations: many updates in a dispatch, on 50,000 random images that lie
on the device. The bare step is one compiled update, on one batch that is ready, dispatched again and again.
"""

import json
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from zeroinit import command_line
from zeroinit.data.cifar10 import INFO
from zeroinit.system import compiling
from zeroinit.training import batches
from zeroinit.training.config import base_config
from zeroinit.training.recipe import image_shape, make_recipe
from zeroinit.training.resident import train_steps
from zeroinit.training.step import init_state, train_step

METHOD = flags.DEFINE_string('method', 'zeroinit', 'Row of METHODS.')
DEPTH = flags.DEFINE_integer('depth', 16, 'Of the Wide-ResNet.')
WIDTH = flags.DEFINE_integer('width', 4, 'Of the Wide-ResNet.')
BATCH_SIZE = flags.DEFINE_integer('batch_size', 64, 'Images in an update.')
DTYPE = flags.DEFINE_string('dtype', 'float32', 'Of the computation, or bfloat16.')
REMAT = flags.DEFINE_bool('remat', False, 'Recompute blocks in the backward pass.')
DEVICES = flags.DEFINE_integer('devices', 1, 'Among which a batch is divided.', 1)
SECONDS = flags.DEFINE_float('seconds', 10.0, 'How long to measure, after warming up.')
MATRIX = 4096  # rows of the square matrices whose product stands for the peak of the device


def main(argv):
  del argv
  config = base_config(METHOD.value)
  config.update(depth=DEPTH.value, width=WIDTH.value, batch_size=BATCH_SIZE.value, dtype=DTYPE.value,
                remat=REMAT.value, learning_rate=1e-3)
  recipe = make_recipe(config, INFO.train_examples, jax.devices()[:DEVICES.value])
  data = jax.device_put(images(config), recipe.replicated)
  began = time.perf_counter()
  state = jax.block_until_ready(init_state(recipe, config.learning_rate, config.seed))
  initialized = time.perf_counter()
  lowered = train_steps.program().lower(recipe, state, *data, 0)
  traced = time.perf_counter()
  lowered.compile()
  compiled = time.perf_counter()
  loop = Loop(recipe, state, data)
  loop.run(1)
  first = time.perf_counter()
  loop_speed = speed(loop.run, recipe.batch_size)
  del loop, state
  memory = jax.devices()[0].memory_stats() or {}
  bare = Bare(recipe, init_state(recipe, config.learning_rate, config.seed), data)
  bare_speed = speed(bare.run, recipe.batch_size)
  flop = 6.0 * recipe.net.multiply_adds(recipe.image_shape)  # per image: forward, and twice that backward
  print(json.dumps({
      'framework': f'jax {jax.__version__}', 'platform': jax.devices()[0].platform,
      'device': jax.devices()[0].device_kind, 'devices': recipe.mesh.size,
      'images_per_second': loop_speed, 'bare_images_per_second': bare_speed,
      'initialize_seconds': initialized - began, 'trace_seconds': traced - initialized,
      'compile_seconds': compiled - traced, 'first_step_seconds': first - compiled,
      'share_of_matrix_product': flop * loop_speed / matrix_product(config.dtype),
      'peak_memory_mb': memory['peak_bytes_in_use'] / 1e6 if 'peak_bytes_in_use' in memory else None}))


def images(config):
  """Random ones, as many as of CIFAR-10, and their labels."""
  random = np.random.default_rng(0)
  return (random.integers(0, 256, (INFO.train_examples, *image_shape(config)), np.uint8),
          random.integers(0, 10, INFO.train_examples, np.int32))


class Loop:
  """Updates as `train` does them: up to the end of an epoch in one dispatch."""

  def __init__(self, recipe, state, data):
    self.recipe, self.state, self.data, self.step = recipe, state, data, 0

  def run(self, updates):
    while updates:
      per_epoch = self.recipe.schedule.steps_per_epoch
      until = min(self.step + updates, (self.step // per_epoch + 1) * per_epoch)
      self.state = train_steps(self.recipe, self.state, *self.data, until=until)
      updates, self.step = updates - (until - self.step), until
    jax.block_until_ready(self.state)


class Bare:
  """One update at a time, on a batch that is ready."""

  def __init__(self, recipe, state, data):
    examples = jnp.arange(recipe.batch_size)
    draw = jax.jit(lambda: batches.draw(*data, examples, jnp.uint32(0), 0, recipe.crop, recipe.flip))
    cut = lambda x: x.reshape(recipe.micro_batches, -1, *x.shape[1:])
    self.batch = jax.device_put(jax.tree.map(cut, draw()), recipe.divided(axis=1))
    self.update = compiling.jit(partial(train_step, recipe), donate_argnums=0)
    self.state = state
    self.run(1)

  def run(self, updates):
    for _ in range(updates):
      self.state = self.update(self.state, self.batch)
    jax.block_until_ready(self.state)


def speed(run, batch_size):
  """Images per second, median over five parts, after a sixth to warm up. run: does so many updates."""
  updates, part = 1, SECONDS.value / 5
  while True:
    began = time.perf_counter()
    run(updates)
    took = time.perf_counter() - began
    if took > part / 2:
      break
    updates = max(updates + 1, min(8 * updates, int(updates * part / took)))
  speeds = []
  for _ in range(5):
    began = time.perf_counter()
    run(updates)
    speeds.append(updates * batch_size / (time.perf_counter() - began))
  return statistics.median(speeds)


def matrix_product(dtype):
  """Operations per second of a large square product in that type, in one run of it: a peak that can be reached."""
  x = jnp.ones((MATRIX, MATRIX), dtype)
  product = jax.jit(lambda x: x @ x)
  product(x).block_until_ready()
  times = []
  for _ in range(5):
    began = time.perf_counter()
    product(x).block_until_ready()
    times.append(time.perf_counter() - began)
  return 2 * MATRIX**3 / min(times)


if __name__ == '__main__':
  command_line.run(main)
