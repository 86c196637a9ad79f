"""The main job beside PyTorch: the 40 runs of `zeroinit study digits`, and the same 40 as a user would write them.

  python -m benchmarks.study --record=results/study_cpu.json                                 # pip install torch==2.13.0

Whole commands by turns, with nothing in a cache. The peer is torch_study.py: a loop over configs, as one writes it, and
that loop shared by hand among processes, one for each core.
"""

import csv
import json
import pathlib
import resource
import sys
import tempfile
import time

import jax
from absl import flags

from benchmarks import command, record
from zeroinit import command_line
from zeroinit.system import environment

ROUNDS = flags.DEFINE_integer('rounds', 3, 'Turns of each.', 1)
flags.adopt_module_key_flags(record)  # so that --help shows it

OURS, LOOP, SHARED = 'zeroinit study digits', 'PyTorch, a loop', 'PyTorch, a process for each core'
PEER = pathlib.Path(__file__).with_name('torch_study.py')


def ours():
  """{'runs', 'diverged', 'updates'} of the study."""
  with tempfile.TemporaryDirectory() as directory:
    command.run([sys.executable, '-m', 'zeroinit', 'study', 'digits', f'--workdir={directory}/study'],
                JAX_PLATFORMS='cpu', JAX_COMPILATION_CACHE_DIR='')
    with open(f'{directory}/study/results.csv', newline='') as file:
      rows = list(csv.DictReader(file))
  return {'runs': len(rows), 'diverged': sum(row['status'] == 'diverged' for row in rows),
          'updates': sum(int(row['steps']) for row in rows)}


def peer(processes):
  """The same of torch_study.py, and the best accuracy of each method and depth."""
  return json.loads(command.run([sys.executable, str(PEER), f'--processes={processes}']))


def timed(job):
  """What the job returns, and the 'seconds' and 'cpu_seconds' that it took."""
  spent = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])  # of user and system
  began, before = time.perf_counter(), spent()
  result = job()
  return result | {'seconds': time.perf_counter() - began, 'cpu_seconds': spent() - before}


def main(argv):
  del argv
  command.need_torch()
  jax.config.update('jax_platforms', 'cpu')  # of this process too, which writes into the record what it runs on
  path = record.prepare()
  jobs = {OURS: ours, LOOP: lambda: peer(1), SHARED: lambda: peer(environment.threads())}
  turns = []
  for _ in range(ROUNDS.value):
    turns.append({})
    for name, job in jobs.items():
      turns[-1][name] = result = timed(job)
      print(f'{name:33s} {result["seconds"]:6.1f} s, {result["cpu_seconds"]:6.1f} s of CPU, {result["runs"]} runs, '
            f'{result["diverged"]} diverged, {result["updates"]:,} updates', flush=True)
  ratios = {}
  for name in (LOOP, SHARED):
    over = [turn[name]['seconds'] / turn[OURS]['seconds'] for turn in turns]
    ratios[name] = record.summary(over)
    print(f'{name}, over ours: {ratios[name]["median"]:.2f} ({min(over):.2f} to {max(over):.2f})')
  record.write(path, {'seconds_over_ours': ratios, 'turns': turns}, packages=['torch'])


if __name__ == '__main__':
  command_line.run(main)
