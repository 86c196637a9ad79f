"""Convolutions of Wide-ResNets and their gradients on a CPU, inside a loop: as XLA has them, and as they are here.

  python -m benchmarks.convolutions --record=results/convolutions_cpu.json
  taskset -c 0 python -m benchmarks.convolutions --record=results/convolutions_one_thread.json

They are the time of a training step. What `networks.convolution` and `compiling`'s options do about it is to be judged
here, operation by operation, and in the whole by benchmarks.speed. The first six are those of WRN-16-4; then come those
of width 1, on CIFAR-10 and on the digits. `ordinary` is ours without the forms for few channels and small images. A
worker of a study has one thread.
"""

import statistics
import time
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import lax
from rich.console import Console
from rich.table import Table

from benchmarks import record
from zeroinit import command_line
from zeroinit.networks import convolution
from zeroinit.system import compiling, environment

BATCH_SIZE = flags.DEFINE_integer('batch_size', 32, 'Images; few, for XLA takes seconds for some.')
ROUNDS = flags.DEFINE_integer('rounds', 3, 'Turns of each.', 1)
flags.adopt_module_key_flags(record)  # so that --help shows it

CASES = [(32, 16, 64, 1), (32, 64, 64, 1), (32, 64, 128, 2), (16, 128, 128, 1), (16, 128, 256, 2), (8, 256, 256, 1),
         (32, 16, 16, 1), (16, 32, 32, 1), (8, 64, 64, 1), (8, 16, 16, 1), (4, 32, 32, 1), (2, 64, 64, 1)]
PADDING = ((1, 1), (1, 1))
TURNS_OF_LOOP = 2


def plain(inputs, kernel, strides, padding):
  return lax.conv_general_dilated(inputs, kernel, strides, padding, dimension_numbers=convolution.LAYOUT)


def ordinary(inputs, kernel, strides, padding):
  """Ours without the forms for few channels and small images; to be differentiated where `FEW` is 0, too."""
  return convolution._convolve(inputs, kernel, strides, padding)


def operations(convolve, stride):
  """{name: function of (inputs, kernel, output gradient)}."""
  run = lambda inputs, kernel: convolve(inputs, kernel, (stride, stride), PADDING)
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
  table = Table('convolution', 'operation', 'XLA, GFLOP/s', 'ordinary', 'here', 'over XLA', 'over ordinary')
  records = []
  for size, channels, wide, stride in CASES:
    draw = lambda *shape: jnp.asarray(random.standard_normal(shape, np.float32))
    out = size // stride
    arguments = (draw(TURNS_OF_LOOP, BATCH_SIZE.value, size, size, channels), draw(3, 3, channels, wide),
                 draw(TURNS_OF_LOOP, BATCH_SIZE.value, out, out, wide))
    flop = 2 * 9 * channels * wide * out**2 * BATCH_SIZE.value
    title = f'{size}x{size}, {channels} to {wide}' + (f', stride {stride}' if stride > 1 else '')
    for name in operations(plain, stride):
      kinds = {'xla': jax.jit(looped(operations(plain, stride)[name])),
               'ordinary': compiling.jit(looped(operations(ordinary, stride)[name])),
               'here': compiling.jit(looped(operations(convolution.convolve, stride)[name]))}
      for kind, program in kinds.items():
        with mock.patch.object(convolution, 'FEW', 0 if kind == 'ordinary' else convolution.FEW):
          seconds(program, arguments)  # compiles
      turns = [{kind: seconds(program, arguments) for kind, program in kinds.items()} for _ in range(ROUNDS.value)]
      row = {'convolution': title, 'operation': name}
      shown = []
      for kind in kinds:
        row[f'{kind}_seconds'] = statistics.median(turn[kind] for turn in turns)
        shown.append(f'{flop / row[f"{kind}_seconds"] / 1e9:,.0f}')
      for kind in ('xla', 'ordinary'):
        ratios = [turn[kind] / turn['here'] for turn in turns]
        row[f'over_{kind}'] = statistics.median(ratios)
        row[f'over_{kind}_min'], row[f'over_{kind}_max'] = min(ratios), max(ratios)
        shown.append(f'{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})')
      records.append(row)
      table.add_row(title, name, *shown)
  Console(width=120).print(table)
  record.write(path, {'batch_size': BATCH_SIZE.value, 'threads': environment.threads(), 'operations': records})


if __name__ == '__main__':
  command_line.run(main)
