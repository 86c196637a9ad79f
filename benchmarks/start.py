"""How long a run takes to begin: a whole run of one update on the digits, with an empty and with a warm program cache.

  python -m benchmarks.start --record=results/start_cpu.json

What is timed is the command from its start to its end, so it also has the evaluation and the checkpoint in it.
"""

import statistics
import sys
import tempfile
import time

from absl import flags

from benchmarks import command, record
from zeroinit import command_line

ROUNDS = flags.DEFINE_integer('rounds', 5, 'Runs with a warm cache.', 1)
flags.adopt_module_key_flags(record)  # so that --help shows it

ONE_UPDATE = ['--config=configs/digits.py', '--config.epochs=0.04', '--config.evaluations=1']


def seconds(cache):
  """Of one run, in a process of its own."""
  with tempfile.TemporaryDirectory() as workdir:
    began = time.perf_counter()
    command.run([sys.executable, '-m', 'zeroinit.main', *ONE_UPDATE, f'--workdir={workdir}/run'],
                JAX_COMPILATION_CACHE_DIR=cache, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0')
    return time.perf_counter() - began


def main(argv):
  del argv
  path = record.prepare()
  with tempfile.TemporaryDirectory() as cache:
    cold, *warm = [seconds(cache) for _ in range(ROUNDS.value + 1)]
  median = statistics.median(warm)
  print(f'one update, start to end: {cold:.1f} s; with a warm cache {median:.1f} s '
        f'({min(warm):.1f} to {max(warm):.1f})')
  record.write(path, {'cold_seconds': cold, 'warm_seconds': median, 'warm_seconds_min': min(warm),
                      'warm_seconds_max': max(warm)})


if __name__ == '__main__':
  command_line.run(main)
