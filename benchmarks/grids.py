"""Several runs at once on one device: what a grid gains from that, by images per second of all runs together.

  python -m benchmarks.grids --record=results/grids_cpu.json
  python -m benchmarks.grids --runs=1,2,4,8,16 --record=results/grids_gpu.json        # on a GPU

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
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import command, record
from zeroinit import command_line
from zeroinit.system import compiling
from zeroinit.system.errors import UserError
from zeroinit.training.config import base_config
from zeroinit.training.recipe import image_shape, make_recipe
from zeroinit.training.resident import train_steps
from zeroinit.training.step import init_state

FLAGS = flags.FLAGS
METHOD = flags.DEFINE_string('method', 'zeroinit', 'Row of METHODS.')
DEPTH = flags.DEFINE_integer('depth', 16, 'Of the Wide-ResNet.')
WIDTH = flags.DEFINE_integer('width', 4, 'Of the Wide-ResNet.')
BATCH_SIZE = flags.DEFINE_integer('batch_size', 64, 'Images in an update of one run.')
DTYPE = flags.DEFINE_string('dtype', 'float32', 'Of the computation, or bfloat16.')
RUNS = flags.DEFINE_list('runs', ['1', '2', '4'], 'How many at once.')
WAYS = flags.DEFINE_multi_enum('ways', ['processes', 'program'], ['processes', 'program'],
                               'Each run in a process, or all in one program; may be given twice.')
ROUNDS = flags.DEFINE_integer('rounds', 3, 'Turns of each way.', 1)
SECONDS = flags.DEFINE_float('seconds', 8.0, 'How long each is measured in a turn.')
TOGETHER = flags.DEFINE_integer('together', None, 'Only measure so many runs in one program, and print it as JSON.')
START = flags.DEFINE_float('start', 0.0, 'With --together: the time at which to begin, as other processes do.')
STARTING = flags.DEFINE_float('starting', 90.0, 'Seconds within which every process must have compiled.')
flags.adopt_module_key_flags(record)  # so that --help shows it
EXAMPLES = 4096


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
    state, train = states[0], partial(train_steps, recipe)
  else:
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    one = partial(train_steps.__wrapped__, recipe)
    train = compiling.jit(jax.vmap(one, in_axes=(0, None, None, None)), donate_argnums=0)
  step = 0

  def advance(updates):
    nonlocal state, step
    until = min(step + updates, (step // per_epoch + 1) * per_epoch)
    state = jax.block_until_ready(train(state, *data, jnp.int32(until)))
    done, step = until - step, until
    return done

  advance(1)
  late = time.time() - START.value
  if START.value and late > 0:
    raise UserError(f'it was ready {late:.1f} s too late, when the others measured without it: {STARTING.value:.0f} s '
                    'to start and compile do not suffice here; try more --starting, or leave the machine to this alone')
  while time.time() < START.value:
    time.sleep(0.01)
  began, done = time.perf_counter(), 0
  while time.perf_counter() - began < SECONDS.value:
    done += advance(4)
  return count * done * BATCH_SIZE.value / (time.perf_counter() - began)


def processes(count, in_each):
  """Images per second of `count` processes together, each with so many networks in one program.

  Raises UserError as soon as one fails, which ends the others.
  """
  flags_ = [f'--{name}={FLAGS[name].value}' for name in ('method', 'depth', 'width', 'batch_size', 'dtype', 'seconds')]
  command = [sys.executable, '-m', 'benchmarks.grids', *flags_, f'--together={in_each}',
             f'--starting={STARTING.value}', f'--start={time.time() + STARTING.value if count > 1 else 0}']
  share = {'XLA_PYTHON_CLIENT_MEM_FRACTION': f'{0.9 / count:.3f}'}
  started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=os.environ | share) for _ in range(count)]
  with ThreadPoolExecutor(count) as threads:
    try:
      return sum(future.result() for future in as_completed(threads.submit(_speed, process) for process in started))
    except UserError as error:
      raise UserError(f'one of {count} processes failed: {error}') from error
    finally:
      for process in started:
        process.kill()


def _speed(process):
  """What a process prints at its end."""
  output, errors = process.communicate()
  if process.returncode:
    raise UserError(command.reason(errors, process.returncode))
  return json.loads(output.strip().splitlines()[-1])


def main(argv):
  del argv
  if TOGETHER.value:
    print(json.dumps(together(TOGETHER.value)))
    return
  path = record.prepare()
  counts = [count for count in map(int, RUNS.value) if count > 1]
  alone, found = [], {}
  for _ in range(ROUNDS.value):
    alone.append(processes(1, 1))
    for count in counts:
      for way in WAYS.value:
        speed = processes(count, 1) if way == 'processes' else processes(1, count)
        found.setdefault((way, count), []).append(speed / alone[-1])
        print(f'{count} runs, by {way}: {speed:,.0f} images/s, {speed / alone[-1]:.2f} times one alone '
              f'({alone[-1]:,.0f})', flush=True)
  cases = [{'way': way, 'runs': count, 'ratio': statistics.median(ratios), 'ratio_min': min(ratios),
            'ratio_max': max(ratios)} for (way, count), ratios in found.items()]
  record.write(path, {
      'network': f'WRN-{DEPTH.value}-{WIDTH.value}', 'method': METHOD.value, 'batch_size': BATCH_SIZE.value,
      'dtype': DTYPE.value, 'alone_images_per_second': statistics.median(alone), 'cases': cases})


if __name__ == '__main__':
  command_line.run(main)
