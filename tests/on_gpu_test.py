"""benchmarks/on_gpu.sh on toy sizes of the CPU: every part leaves its record, and a second call has nothing to do."""

import json
import os
import subprocess

import pytest
from cifar10_copies import pictures, write
from command import ROOT

pytest.importorskip('torch', reason="needs PyTorch: pip install -e '.[test,parity]'")
SPEEDS = [f'speed_{method}_8.json' for method in ('zeroinit', 'batch_norm')]
RUNS = [f'full_{method}' for method in ('zeroinit', 'ghost_norm', 'none')]


def on_gpu(directory, *flags, **variables):
  """(exit code, what it says)"""
  places = {'OUT': directory / 'out', 'DATA': directory / 'data', 'CACHES': directory / 'caches'}
  done = subprocess.run([ROOT / 'benchmarks' / 'on_gpu.sh', *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                        text=True, env=os.environ | {name: str(path) for name, path in places.items()} | variables,
                        check=False)
  return done.returncode, done.stdout


@pytest.mark.slow
def test_every_part_leaves_a_record_and_is_done_once(tmp_path):
  write(tmp_path / 'data', 'py', pictures())
  code, said = on_gpu(tmp_path, '--device=cpu', LIMIT='1')
  assert code == 75 and 'the same command goes on' in said  # in no time nothing is begun
  assert not list((tmp_path / 'out').glob('*.json'))
  code, said = on_gpu(tmp_path, '--device=cpu', LIMIT='3000')
  assert code == 0, said
  for name in SPEEDS:
    case, = json.loads((tmp_path / 'out' / name).read_text())['cases']
    assert case['ours'] > 0 and case['peer'] > 0
  case, = json.loads((tmp_path / 'out' / 'processes.json').read_text())['cases']
  assert case['way'] == 'processes' and case['ratio'] > 0
  for name in RUNS:
    assert json.loads((tmp_path / 'out' / name / 'result.json').read_text())['status'] == 'done'
  code, said = on_gpu(tmp_path, '--device=cpu', LIMIT='3000')
  assert code == 0 and said.count('there already') == len(SPEEDS) + 1 + len(RUNS)


def test_without_data_or_with_another_device_it_says_so(tmp_path):
  code, said = on_gpu(tmp_path)
  assert code == 2 and str(tmp_path / 'data') in said
  (tmp_path / 'data').mkdir()
  assert on_gpu(tmp_path, '--device=tpu') == (2, 'error: --device=tpu is neither --device=cuda nor --device=cpu\n')
