"""Ours beside PyTorch: images per second of Wide-ResNets, in alternating processes, and what else a run costs.

  python -m benchmarks.speed --record=results/speed_cpu.json                                 # pip install torch==2.13.0
  python -m benchmarks.speed --networks=16-4,16-1,100-1 --methods=zeroinit --record=results/speed_cpu_networks.json
  python -m benchmarks.speed --device=cuda --record=results/speed_gpu.json

Every case takes turns, ours, PyTorch, ours, PyTorch, each in a process of its own; what counts are the ratios within a
turn. The peer is torch_wrn.py, as written or, with --compile, compiled.
"""

import itertools
import json
import os
import pathlib
import re
import statistics
import sys
import tempfile

import jax
from absl import flags

from benchmarks import command, record
from zeroinit import command_line
from zeroinit.system.errors import UserError

DEVICE = flags.DEFINE_enum('device', 'cpu', ['cpu', 'cuda'], 'Where both run.')
NETWORKS = flags.DEFINE_list('networks', ['16-4'], 'Wide-ResNets, depth-width: 16-1 and 100-1 are the narrow ones.')
METHODS = flags.DEFINE_list('methods', ['batch_norm', 'ghost_norm', 'none', 'zeroinit'], 'Rows of METHODS.')
BATCHES = flags.DEFINE_list('batches', None, 'Batch sizes. Default: 64; on a GPU 64, 128, 1024.')
DTYPES = flags.DEFINE_list('dtypes', None, 'Default: float32; on a GPU also bfloat16.')
COMPILE = flags.DEFINE_bool('compile', None, 'Compile the peer. Default: on a GPU only.')
DEVICES = flags.DEFINE_integer('devices', 1, 'Parts of the CPU among which ours divides a batch.', 1)
ROUNDS = flags.DEFINE_integer('rounds', 3, 'Turns of each.', 1)
SECONDS = flags.DEFINE_float('seconds', 10.0, 'How long each is measured in a turn.')
flags.adopt_module_key_flags(record)  # so that --help shows it

PEER = pathlib.Path(__file__).with_name('torch_wrn.py')
PLATFORMS = {'cpu': 'cpu', 'cuda': 'gpu'}  # as jax names the devices


def measure(network, method, batch_size, dtype):
  """One case: a dict of medians and ratios."""
  depth, width = network.split('-')
  case = [f'--depth={depth}', f'--width={width}', f'--method={method}', f'--batch_size={batch_size}',
          f'--dtype={dtype}', f'--seconds={SECONDS.value}']
  peer = [sys.executable, str(PEER), *case, f'--device={DEVICE.value}', *(['--compile'] if _compiles() else [])]
  turns = []
  with tempfile.TemporaryDirectory() as cache:
    for _ in range(ROUNDS.value):
      turns.append((_ours(case, cache), _json(peer)))
  ours, theirs = zip(*turns, strict=True)
  ratios = [a['images_per_second'] / b['images_per_second'] for a, b in turns]
  median = lambda results, name: (
      statistics.median(result[name] for result in results) if results[0][name] is not None else None)
  return {
      'network': f'WRN-{network}', 'method': method, 'batch_size': batch_size, 'dtype': dtype,
      'ours': median(ours, 'images_per_second'), 'peer': median(theirs, 'images_per_second'),
      'ratio': statistics.median(ratios), 'ratio_min': min(ratios), 'ratio_max': max(ratios),
      'loop_over_bare': statistics.median(a['images_per_second'] / a['bare_images_per_second'] for a in ours),
      'share_of_matrix_product': median(ours, 'share_of_matrix_product'),
      'trace_seconds': median(ours, 'trace_seconds'), 'compile_seconds': ours[0]['compile_seconds'],
      'compile_seconds_from_disk': median(ours[1:], 'compile_seconds') if ours[1:] else None,
      'peer_first_step_seconds': median(theirs, 'first_step_seconds'),
      'peak_memory_mb': median(ours, 'peak_memory_mb'), 'peer_peak_memory_mb': median(theirs, 'peak_memory_mb'),
      'turns': [{'ours': a['images_per_second'], 'peer': b['images_per_second']} for a, b in turns],
      'frameworks': [ours[0]['framework'], theirs[0]['framework']], 'device': ours[0]['device']}


def _ours(case, cache):
  """What benchmarks.ours prints. Raises UserError where that has not run on --device."""
  result = _json([sys.executable, '-m', 'benchmarks.ours', *case, f'--devices={DEVICES.value}'],
                 JAX_PLATFORMS=DEVICE.value, JAX_NUM_CPU_DEVICES=str(DEVICES.value),
                 JAX_COMPILATION_CACHE_DIR=os.environ.get('JAX_COMPILATION_CACHE_DIR', cache),
                 JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0')
  if result['devices'] != DEVICES.value:
    raise UserError(f'ours ran on {result["devices"]} devices and not on {DEVICES.value}: they must divide the batch, '
                    'and XLA_FLAGS must not set their number')
  if result['platform'] != PLATFORMS[DEVICE.value]:
    raise UserError(f'ours ran on {result["platform"]} ({result["device"]}) and not on {DEVICE.value}: something there '
                    'overrides JAX_PLATFORMS; unset it')
  return result


def _compiles():
  return COMPILE.value if COMPILE.value is not None else DEVICE.value == 'cuda'


def _json(words, **variables):
  """What a process prints as its last line."""
  return json.loads(command.run(words, **variables).strip().splitlines()[-1])


def main(argv):
  del argv
  command.need_torch()
  jax.config.update('jax_platforms', DEVICE.value)  # of this process too, which writes into the record what it runs on
  for network in NETWORKS.value:
    if not re.fullmatch(r'\d+-\d+', network):
      raise UserError(f'--networks has {network!r}; write depth-width, such as 16-4')
  path = record.prepare()
  on_gpu = DEVICE.value == 'cuda'
  if on_gpu and DEVICES.value > 1:
    raise UserError('--devices is for CPUs: the peer runs on one GPU')
  batches = BATCHES.value or (['64', '128', '1024'] if on_gpu else ['64'])
  dtypes = DTYPES.value or (['float32', 'bfloat16'] if on_gpu else ['float32'])
  cases = []
  for network, dtype, batch_size, method in itertools.product(NETWORKS.value, dtypes, map(int, batches), METHODS.value):
    cases.append(measure(network, method, batch_size, dtype))
    row = cases[-1]
    print(f'{row["network"]:9s} {method:10s} batch {batch_size:4d} {dtype:8s}  ours {row["ours"]:8,.0f}  '
          f'PyTorch {row["peer"]:8,.0f} images/s  '
          f'ratio {row["ratio"]:.2f} ({row["ratio_min"]:.2f} to {row["ratio_max"]:.2f})'
          f'  loop / bare step {row["loop_over_bare"]:.3f}  {row["share_of_matrix_product"]:.0%} of a matrix product'
          f'  trace {row["trace_seconds"]:.1f} s, compile {row["compile_seconds"]:.1f} s', flush=True)
  costs = {}
  setting = lambda row: f'{row["network"]}, batch {row["batch_size"]}, {row["dtype"]}'
  for row in cases:
    for other in cases:
      pair = (row['method'], other['method'])
      if pair in (('batch_norm', 'zeroinit'), ('ghost_norm', 'zeroinit')) and setting(row) == setting(other):
        costs[f'{row["method"]}, {setting(row)}'] = other['ours'] / row['ours']
  for what, cost in costs.items():
    print(f'a step of {what}, over one of zeroinit: {cost:.2f}')
  record.write(path, {'peer_is_compiled': _compiles(), 'devices': DEVICES.value,
                      'xla_flags': os.environ.get('XLA_FLAGS', ''), 'cases': cases,
                      'step_time_over_zeroinit': costs})


if __name__ == '__main__':
  command_line.run(main)
