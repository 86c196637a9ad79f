"""The convolutions of WRN-16-4 and their gradients on a CPU, inside a loop: as XLA has them, and as they are here.

  python -m benchmarks.convolutions --record=results/convolutions_cpu.json

They are the time of a training step. What `networks.convolution` and `compiling.EIGEN_CONVOLUTIONS` do about it is to
be judged here, operation by operation, and in the whole by benchmarks.speed.
"""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import lax
from rich.console import Console
from rich.table import Table

from benchmarks import record
from zeroinit import command_line
from zeroinit.networks.convolution import LAYOUT, convolve
from zeroinit.system import compiling

BATCH_SIZE = flags.DEFINE_integer('batch_size', 16, 'Images; few, for XLA takes seconds for some.')
ROUNDS = flags.DEFINE_integer('rounds', 3, 'Turns of each.', 1)
flags.adopt_module_key_flags(record)  # so that --help shows it

CASES = [(32, 16, 64, 1), (32, 64, 64, 1), (32, 64, 128, 2), (16, 128, 128, 1), (16, 128, 256, 2), (8, 256, 256, 1)]
PADDING = ((1, 1), (1, 1))
TURNS_OF_LOOP = 2


def plain(inputs, kernel, strides, padding):
  return lax.conv_general_dilated(inputs, kernel, strides, padding, dimension_numbers=LAYOUT)


def operations(convolution, stride):
  """{name: function of (inputs, kernel, output gradient)}."""
  run = lambda inputs, kernel: convolution(inputs, kernel, (stride, stride), PADDING)
  return {
      'forward': lambda x, k, g: run(x, k),
      'input gradient': lambda x, k, g: jax.vjp(lambda x: run(x, k), x)[1](g)[0],
      'kernel gradient': lambda x, k, g: jax.vjp(lambda k: run(x, k), k)[1](g)[0]}


def looped(operation):
  """The operation on one batch of a stack after the other, as the blocks of a stage and the updates of a run are."""
  return lambda inputs, kernel, gradients: lax.map(lambda one: operation(one[0], kernel, one[1]), (inputs, gradients))


def seconds(program, arguments):
  began = time.perf_counter()
  jax.block_until_ready(program(*arguments))
  return (time.perf_counter() - began) / TURNS_OF_LOOP


def main(argv):
  del argv
  path, random = record.prepare(), np.random.default_rng(0)
  table, records = Table('convolution', 'operation', 'XLA, GFLOP/s', 'here, GFLOP/s', 'ratio'), []
  for size, channels, wide, stride in CASES:
    draw = lambda *shape: jnp.asarray(random.standard_normal(shape, np.float32))
    out = size // stride
    arguments = (draw(TURNS_OF_LOOP, BATCH_SIZE.value, size, size, channels), draw(3, 3, channels, wide),
                 draw(TURNS_OF_LOOP, BATCH_SIZE.value, out, out, wide))
    flop = 2 * 9 * channels * wide * out**2 * BATCH_SIZE.value
    title = f'{size}x{size}, {channels} to {wide}' + (f', stride {stride}' if stride > 1 else '')
    for (name, theirs), ours in zip(operations(plain, stride).items(), operations(convolve, stride).values(),
                                    strict=True):
      programs = jax.jit(looped(theirs)), compiling.jit(looped(ours))
      for program in programs:
        seconds(program, arguments)  # compiles
      turns = [[seconds(program, arguments) for program in programs] for _ in range(ROUNDS.value)]
      before, after = (statistics.median(column) for column in zip(*turns, strict=True))
      ratios = [a / b for a, b in turns]
      records.append({'convolution': title, 'operation': name, 'xla_seconds': before, 'seconds': after,
                      'ratio': statistics.median(ratios), 'ratio_min': min(ratios), 'ratio_max': max(ratios)})
      table.add_row(title, name, f'{flop / before / 1e9:,.0f}', f'{flop / after / 1e9:,.0f}',
                    f'{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})')
  Console(width=120).print(table)
  record.write(path, {'batch_size': BATCH_SIZE.value, 'operations': records})


if __name__ == '__main__':
  command_line.run(main)
