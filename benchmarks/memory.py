"""How much memory an update of ResNet-50 V2 at 224 pixels needs, by the compiled program; nothing is run.

  python -m benchmarks.memory --record=results/memory_cpu.json
"""

import dataclasses

import jax
import jax.numpy as jnp
from absl import flags

from benchmarks import record
from zeroinit import command_line, load_config
from zeroinit.data.imagenet import INFO
from zeroinit.training import step, stream
from zeroinit.training.recipe import make_recipe

flags.adopt_module_key_flags(record)  # so that --help shows it

CASES = [('zeroinit', 256, False), ('zeroinit', 4096, False), ('ghost_norm', 4096, False), ('ghost_norm', 4096, True)]


def measure(method, batch_size, remat):
  """Bytes that the program keeps beside its arguments, and those of the arguments: state and batch."""
  config = load_config(f'imagenet:{method},v2')
  config.batch_size, config.remat = batch_size, remat
  # In the config's parts, also on a CPU, which would cut it further.
  recipe = dataclasses.replace(make_recipe(config, INFO.train_examples, jax.devices()[:1]),
                               micro_batches=config.micro_batches)
  state = step.init_state(recipe, 0.1, 0)
  parts = (config.micro_batches, batch_size // config.micro_batches)
  number = jax.ShapeDtypeStruct(parts, jnp.int32)
  batch = {'image': jax.ShapeDtypeStruct((*parts, *recipe.image_shape), jnp.uint8), 'label': number, 'example': number}
  memory = stream.train_on.program().lower(recipe, state, batch, 1).compile().memory_analysis()
  return {'method': method, 'batch_size': batch_size, 'micro_batches': config.micro_batches, 'remat': remat,
          'program_bytes': memory.temp_size_in_bytes, 'argument_bytes': memory.argument_size_in_bytes}


def main(argv):
  del argv
  path, cases = record.prepare(), []
  for case in CASES:
    cases.append(measure(*case))
    print('{method}, batch {batch_size} in {micro_batches} parts, remat {remat}: '.format(**cases[-1])
          + f'{cases[-1]["program_bytes"] / 1e9:.1f} GB and {cases[-1]["argument_bytes"] / 1e9:.1f} GB', flush=True)
  record.write(path, {'cases': cases})


if __name__ == '__main__':
  command_line.run(main)
