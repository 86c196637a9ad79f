"""In the shells and interpreters that people have a run ends with the same numbers, or with one line."""

import json
import os
import subprocess
import sys

import command
import pytest

WORDS = ('-m', 'zeroinit', 'train', 'digits:zeroinit', '--config.depth=10', '--config.batch_size=32',
         '--config.epochs=0.1', '--config.evaluations=1', '--config.tensorboard=false')
HERE = {name: value for name, value in os.environ.items() if name not in ('PYTHONPATH', 'LC_ALL', 'LANG')} | {
    'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(command.ROOT)}


def run(place, *words, without=(), options=(), **variables):
  """(exit code, what it said, the records without times) of a run in another shell than this."""
  place.mkdir()
  there = {name: value for name, value in (HERE | variables).items() if name not in without}
  ran = subprocess.run([sys.executable, *options, *WORDS, '--workdir=run', *words], cwd=place, env=there,
                       capture_output=True, text=True, encoding='utf-8', errors='replace')
  file = place / 'run' / 'metrics.jsonl'
  records = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
  return ran.returncode, ran.stderr, [{name: value for name, value in record.items() if 'second' not in name}
                                      for record in records]


@pytest.mark.slow
def test_the_same_numbers_in_every_shell(tmp_path):
  code, said, usual = run(tmp_path / 'usual')
  assert code == 0 and usual, said
  for name, how in (
      ('no home', {'without': ('HOME',)}),
      ('C', {'LC_ALL': 'C'}), ('POSIX', {'LANG': 'POSIX', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}),
      ('optimized', {'options': ('-O',)}), ('without docstrings', {'options': ('-OO',)}),
      ('isolated', {'options': ('-W', 'error::SyntaxWarning')}),
      ('of dumb terminals', {'TERM': 'dumb', 'COLUMNS': '1'})):
    code, said, records = run(tmp_path / name, **how)
    assert (code, records) == (0, usual), f'{name}: {said}'


@pytest.mark.slow
def test_numbers_as_people_write_them(tmp_path):
  for text, value in (('1', 1.0), ('1e-3', 1e-3), ('.5', 0.5)):
    code, said, _ = run(tmp_path / text, f'--config.learning_rate={text}')
    assert code == 0, said
    assert json.loads((tmp_path / text / 'run' / 'result.json').read_text())['learning_rate'] == value


@pytest.mark.slow
def test_without_jit_it_trains(tmp_path):
  code, said, records = run(tmp_path / 'run', '--config.epochs=0.03', JAX_DISABLE_JIT='1')
  assert code == 0 and records[-1]['train_loss'] > 0, said


@pytest.mark.slow
def test_a_platform_that_is_not_there_is_one_line(tmp_path):
  code, said, records = run(tmp_path / 'run', JAX_PLATFORMS='cuda')
  command.assert_one_line(code, said, 'cuda')
  assert not records
