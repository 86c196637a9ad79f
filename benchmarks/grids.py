"""Several runs at once on one device: what a grid gains from that, by images per second of all runs together.

  python -m benchmarks.grids --record=results/grids_cpu.json
  python -m benchmarks.grids --runs=1,2,4,8,16 --record=results/grids_h200.json       # on a GPU

Compared with one run alone, in this order again and again: k processes, each with its share of the memory, and one
program that trains k networks of different rate and seed, by vmap over the state. On an NVIDIA GPU start its MPS daemon
first (nvidia-cuda-mps-control -d) to see processes share it at the same time instead of by turns.
"""

import json
import os
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from zeroinit import command_line, compiling, environment, json_files, objects
from zeroinit.config import base_config
from zeroinit.errors import UserError
from zeroinit.recipe import image_shape, make_recipe
from zeroinit.resident import train_steps
from zeroinit.step import init_state

FLAGS = flags.FLAGS
METHOD = flags.DEFINE_string('method', 'zeroinit', 'Row of METHODS.')
DEPTH = flags.DEFINE_integer('depth', 16, 'Of the Wide-ResNet.')
WIDTH = flags.DEFINE_integer('width', 4, 'Of the Wide-ResNet.')
BATCH_SIZE = flags.DEFINE_integer('batch_size', 64, 'Images in an update of one run.')
DTYPE = flags.DEFINE_string('dtype', 'float32', 'Of the computation, or bfloat16.')
RUNS = flags.DEFINE_list('runs', ['1', '2', '4'], 'How many at once.')
ROUNDS = flags.DEFINE_integer('rounds', 3, 'Turns of each way.', 1)
SECONDS = flags.DEFINE_float('seconds', 8.0, 'How long each is measured in a turn.')
TOGETHER = flags.DEFINE_integer('together', None, 'Only measure so many runs in one program, and print it as JSON.')
START = flags.DEFINE_float('start', 0.0, 'With --together: the time at which to begin, as other processes do.')
RECORD = flags.DEFINE_string('record', None, 'JSON file to write.')
EXAMPLES = 4096
STARTING = 90.0  # seconds within which every process has compiled


def together(count):
  """Images per second of `count` networks trained by one program."""
  config = base_config(METHOD.value)
  config.update(depth=DEPTH.value, width=WIDTH.value, batch_size=BATCH_SIZE.value, dtype=DTYPE.value)
  recipe = make_recipe(config, EXAMPLES, jax.devices()[:1])
  random = np.random.default_rng(0)
  data = jax.device_put((random.integers(0, 256, (EXAMPLES, *image_shape(config)), np.uint8),
                         random.integers(0, 10, EXAMPLES, np.int32)))
  states = [init_state(recipe, 1e-3 * 2.0**i, i) for i in range(count)]
  per_epoch = recipe.schedule.steps_per_epoch
  if count == 1:
    state, train = states[0], lambda state, until: train_steps(recipe, state, *data, until)
  else:
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    one = train_steps.__wrapped__
    train = compiling.jit(jax.vmap(lambda state, until: one(recipe, state, *data, until), (0, None)), donate_argnums=0)
  step = 0

  def advance(updates):
    nonlocal state, step
    until = min(step + updates, (step // per_epoch + 1) * per_epoch)
    state = jax.block_until_ready(train(state, jnp.int32(until)))
    done, step = until - step, until
    return done

  advance(1)
  while time.time() < START.value:
    time.sleep(0.01)
  began, done = time.perf_counter(), 0
  while time.perf_counter() - began < SECONDS.value:
    done += advance(4)
  return count * done * BATCH_SIZE.value / (time.perf_counter() - began)


def processes(count, in_each):
  """Images per second of `count` processes together, each with so many networks in one program."""
  flags_ = [f'--{name}={FLAGS[name].value}' for name in ('method', 'depth', 'width', 'batch_size', 'dtype', 'seconds')]
  command = [sys.executable, '-m', 'benchmarks.grids', *flags_, f'--together={in_each}',
             f'--start={time.time() + STARTING if count > 1 else 0}']
  share = {'XLA_PYTHON_CLIENT_MEM_FRACTION': f'{0.9 / count:.3f}'}
  started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=os.environ | share) for _ in range(count)]
  speeds = []
  for process in started:
    output, errors = process.communicate()
    if process.returncode:
      raise UserError(f'a process of {count} failed: {errors.strip().splitlines()[-1:]}')
    speeds.append(json.loads(output.strip().splitlines()[-1]))
  return sum(speeds)


def main(argv):
  del argv
  if TOGETHER.value:
    print(json.dumps(together(TOGETHER.value)))
    return
  counts = [count for count in map(int, RUNS.value) if count > 1]
  alone, found = [], {}
  for _ in range(ROUNDS.value):
    alone.append(processes(1, 1))
    for count in counts:
      for way, speed in (('processes', processes(count, 1)), ('one program', processes(1, count))):
        found.setdefault((way, count), []).append(speed / alone[-1])
        print(f'{count} runs, {way}: {speed:,.0f} images/s, {speed / alone[-1]:.2f} times one alone ({alone[-1]:,.0f})',
              flush=True)
  cases = [{'way': way, 'runs': count, 'ratio': statistics.median(ratios), 'ratio_min': min(ratios),
            'ratio_max': max(ratios)} for (way, count), ratios in found.items()]
  if RECORD.value:
    json_files.write(objects.absolute(RECORD.value), {
        'command': ' '.join(['python -m benchmarks.grids', *sys.argv[1:]]),
        'network': f'WRN-{DEPTH.value}-{WIDTH.value}', 'method': METHOD.value, 'batch_size': BATCH_SIZE.value,
        'dtype': DTYPE.value, 'alone_images_per_second': statistics.median(alone), 'cases': cases,
        **environment.of(jax.devices()[:1])})


if __name__ == '__main__':
  command_line.run(main)
