"""What it gains on CPUs to cut a batch into parts that fit the cache: the training loop with and without, by turns.

  taskset --cpu-list 0 python -m benchmarks.parts --seconds=3 --record=results/parts_cpu.json

with one thread, as a worker of a study has it; without taskset, with all.
"""

import dataclasses
import statistics

import jax
from absl import flags

from benchmarks import ours, record
from zeroinit import command_line
from zeroinit.data.cifar10 import INFO
from zeroinit.training.config import base_config
from zeroinit.training.recipe import make_recipe
from zeroinit.training.step import init_state

flags.adopt_module_key_flags(record)  # so that --help shows it
CASES = ((16, 1, 16), (16, 1, 64), (16, 1, 256), (16, 1, 1024), (100, 1, 64), (16, 4, 64))  # depth, width, batch size
TURNS = flags.DEFINE_integer('turns', 3, 'Each of both ways.', 1)


def main(argv):
  del argv
  path, rows = record.prepare(), []
  for depth, width, batch_size in CASES:
    config = base_config(ours.METHOD.value)
    config.update(depth=depth, width=width, batch_size=batch_size, learning_rate=1e-3)
    recipe = make_recipe(config, INFO.train_examples, jax.devices()[:1])
    data = jax.device_put(ours.images(config), recipe.replicated)
    ways = {recipe.micro_batches: [], 1: []}
    for _ in range(TURNS.value):
      for parts, speeds in ways.items():
        loop = ours.Loop(dataclasses.replace(recipe, micro_batches=parts), init_state(recipe, 1e-3, 0), data)
        speeds.append(ours.speed(loop.run, batch_size))
    parts = recipe.micro_batches
    rows.append({'network': f'WRN-{depth}-{width}', 'batch_size': batch_size, 'parts': parts,
                 'images_per_second': statistics.median(ways[parts]), 'whole': statistics.median(ways[1]),
                 'ratio': record.summary([cut / whole for cut, whole in zip(ways[parts], ways[1], strict=True)])})
    print('{network}, batch {batch_size} in {parts} parts: {images_per_second:.0f} images/s, whole {whole:.0f}: '
          '{ratio[median]:.2f} ({ratio[min]:.2f} to {ratio[max]:.2f})'.format(**rows[-1]), flush=True)
  record.write(path, {'method': ours.METHOD.value, 'networks': rows})


if __name__ == '__main__':
  command_line.run(main)
