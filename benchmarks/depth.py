"""What depth costs: tracing, compiling, memory and time of one training step at depth 16, 100 and 1000.

  python -m benchmarks.depth --record=results/depth_cpu.json

Compares within one run, by turns: each depth with depth 16, and the scanned network with the same one unrolled. The
unrolled one is given its best case, a step outside any loop with XLA's own gradients of convolutions.
"""

import statistics
import time
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from jax import lax

from benchmarks import record
from zeroinit import command_line
from zeroinit.data import cifar10
from zeroinit.networks import layers
from zeroinit.networks.blocks import BlockV2
from zeroinit.networks.resnet import WideResNet
from zeroinit.system import compiling
from zeroinit.training.batches import standardize
from zeroinit.training.config import base_config
from zeroinit.training.optimizer import l2_penalty
from zeroinit.training.recipe import make_recipe
from zeroinit.training.resident import train_steps
from zeroinit.training.step import init_state

METHOD = flags.DEFINE_string('method', 'zeroinit', 'Row of METHODS.')
WIDTH = flags.DEFINE_integer('width', 2, 'Width of the networks.')
DEPTHS = flags.DEFINE_list('depths', ['16', '100', '1000'], 'Depths; the first is what the others are compared with.')
UNROLLED = flags.DEFINE_bool('unrolled', True, 'Also compare with the unrolled network, at the first depth.')
flags.adopt_module_key_flags(record)  # so that --help shows it

BATCH = 64
IMAGES = np.random.default_rng(0).integers(0, 256, (512, 32, 32, 3), np.uint8)
LABELS = np.arange(512, dtype=np.int32) % 10


class UnrolledWideResNet(WideResNet):
  """The same network, each block a part of the program of its own."""

  @nn.compact
  def __call__(self, images, train, example=None):
    x = layers.conv(self.method, self.stem, name='stem', dtype=self.dtype,
                    kernel_init=layers.kernel_initializer('he'))(images)
    for i, stage in enumerate(self.stages):
      for b, convs in enumerate(stage):
        x = BlockV2(convs, self.method, self.num_blocks, self.dtype, name=f'block{i}_{b}')(x, train)
    return layers.classify(self, layers.Activation(self.method, name='relu')(x, train), train, example)


def recipe_of(depth, remat=False):
  config = base_config(METHOD.value)
  config.update(depth=depth, width=WIDTH.value, batch_size=BATCH, remat=remat)
  return make_recipe(config, len(IMAGES), jax.devices()[:1])


def state_of(recipe):
  return init_state(recipe, 1e-3, 0)


def in_loop(recipe):
  """The program that training runs, as (compiled program, seconds to trace it, seconds to compile it)."""
  jax.clear_caches()
  state = jax.block_until_ready(state_of(recipe))
  began = time.perf_counter()
  lowered = train_steps.program().lower(recipe, state, IMAGES, LABELS, 0)
  traced = time.perf_counter()
  compiled = lowered.compile()
  return compiled, traced - began, time.perf_counter() - traced


def measure(depth, remat):
  recipe = recipe_of(depth, remat)
  began = time.perf_counter()
  state = jax.block_until_ready(state_of(recipe))
  initialized = time.perf_counter() - began
  first, ratios, attempts = recipe_of(int(DEPTHS.value[0]), remat), [], []
  for _ in range(3):
    _, *seconds_of_first = in_loop(first)
    attempts.append(in_loop(recipe))
    ratios.append(sum(attempts[-1][1:]) / sum(seconds_of_first))
  compiled = attempts[-1][0]
  trace, compile_ = (min(attempt[i] for attempt in attempts) for i in (1, 2))
  data = jax.device_put((IMAGES, LABELS))
  steps = []
  for step in range(1, 4 if depth < 500 else 2):
    began = time.perf_counter()
    state = jax.block_until_ready(compiled(state, *data, step))
    steps.append(time.perf_counter() - began)
  memory = compiled.memory_analysis()
  return {
      'depth': depth, 'remat': remat, 'initialize_seconds': initialized, 'trace_seconds': trace,
      'compile_seconds': compile_, 'trace_and_compile_over_first_depth': statistics.median(ratios),
      'step_seconds': min(steps), 'step_ms_per_block': 1e3 * min(steps) / recipe.net.num_blocks,
      'program_memory_mb': (memory.temp_size_in_bytes + memory.argument_size_in_bytes) / 1e6,
      'finite': bool(jnp.isfinite(state.sums['cross_entropy'])),
  }


def unrolled_step(net, params, velocity, images, labels):
  """One update of the unrolled network, with nothing in a loop."""
  def loss(params):
    logits, _ = net.apply({'params': params}, standardize(images, cifar10.INFO.mean, cifar10.INFO.std), train=True,
                          example=jnp.arange(BATCH), mutable=['batch_stats'], rngs={'dropout': jax.random.key(0)})
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return cross_entropy + l2_penalty(params, 5e-4, 'kernels')

  gradient = jax.grad(loss)(params)
  velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient)
  return jax.tree.map(lambda w, v: w - 1e-3 * v, params, velocity), velocity


def scanned_over_unrolled(depth, rounds=9):
  """Ratios of the time of a step, scanned and in the training loop, to the unrolled one; alternating A B A B."""
  recipe = recipe_of(depth)
  net = UnrolledWideResNet(depth=depth, width=WIDTH.value, method=recipe.net.method, num_classes=10)
  params = jax.jit(lambda: net.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))()['params']
  batch = jnp.array(IMAGES[:BATCH]), jnp.array(LABELS[:BATCH])

  ours, layers.conv_general_dilated = layers.conv_general_dilated, lax.conv_general_dilated
  lowered = compiling.jit(partial(unrolled_step, net)).program().lower(params, params, *batch)
  unrolled = lowered.compile()
  layers.conv_general_dilated = ours
  scanned, _, _ = in_loop(recipe)

  def seconds(call, *args):
    began = time.perf_counter()
    jax.block_until_ready(call(*args))
    return time.perf_counter() - began

  data = jax.device_put((IMAGES, LABELS))
  times = [(seconds(unrolled, params, params, *batch), seconds(scanned, state_of(recipe), *data, 1))
           for _ in range(rounds)][1:]
  ratios = [b / a for a, b in times]
  return {'depth': depth, 'unrolled_step_seconds': statistics.median(a for a, _ in times),
          'scanned_step_seconds': statistics.median(b for _, b in times),
          'ratio_median': statistics.median(ratios), 'ratio_min': min(ratios), 'ratio_max': max(ratios)}


def main(argv):
  del argv
  path, rows = record.prepare(), []
  for depth in map(int, DEPTHS.value):
    for remat in (False, True):
      rows.append(measure(depth, remat))
      row = rows[-1]
      print(f'depth {depth:5d}{", remat" if remat else "":7s}  initialize {row["initialize_seconds"]:5.1f} s  '
            f'trace {row["trace_seconds"]:.2f} s  compile {row["compile_seconds"]:5.1f} s '
            f'({row["trace_and_compile_over_first_depth"]:.2f}x)  '
            f'step {row["step_seconds"]:7.2f} s, {row["step_ms_per_block"]:6.1f} ms a block  '
            f'memory {row["program_memory_mb"]:7,.0f} MB', flush=True)
  measured = {'network': f'WRN-d-{WIDTH.value}', 'method': METHOD.value, 'batch_size': BATCH, 'depths': rows}
  if UNROLLED.value:
    row = measured['unrolled'] = scanned_over_unrolled(int(DEPTHS.value[0]))
    print(f'scanned / unrolled step at depth {row["depth"]}: {row["ratio_median"]:.2f} '
          f'({row["ratio_min"]:.2f} to {row["ratio_max"]:.2f})')
  record.write(path, measured)


if __name__ == '__main__':
  command_line.run(main)
