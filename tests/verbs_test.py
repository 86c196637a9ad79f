"""The command `zeroinit` and its verbs, the public names, and the scripts of launch/."""

import os
import signal
import subprocess
import sys

import command
import pytest

import zeroinit
from zeroinit.__main__ import LISTS, VERBS, parsed, probes
from zeroinit.methods import METHODS


def said(*words, directory=None):
  """(exit code, standard output, standard error) of `zeroinit words`, and whether jax was imported for it."""
  code = ("import sys; from zeroinit.__main__ import main; sys.argv = ['zeroinit', *sys.argv[1:]]\n"
          "try:\n  main()\nfinally:\n  print('jax' in sys.modules)")
  ran = subprocess.run([sys.executable, '-c', code, *words], capture_output=True, text=True, cwd=directory,
                       env=os.environ | {'PYTHONPATH': str(command.ROOT)})
  *output, imported = ran.stdout.splitlines()
  return ran.returncode, output, ran.stderr, imported == 'True'


@pytest.mark.parametrize('words', [[], ['--help'], ['help']])
def test_help_is_one_screen_and_needs_no_jax(words):
  code, output, errors, imported_jax = said(*words)
  assert (code, errors, imported_jax) == (0, '', False)
  assert len(output) <= 24 and max(map(len, output)) <= 150
  for name in (*VERBS, *LISTS, *probes()):
    assert any(name in line for line in output), name


def test_lists_name_everything():
  listed = {'methods': METHODS, 'configs': ('digits', 'cifar10', 'imagenet'), 'studies': ('table1', 'rates')}
  for verb, names in listed.items():
    code, output, errors, imported_jax = said(verb)
    assert (code, errors, imported_jax) == (0, '', False)
    assert {line.split()[0] for line in output} >= set(names)
    assert all(len(line.split()) > 1 for line in output)


def test_a_reader_that_has_seen_enough_is_no_mistake():
  """As in `zeroinit studies | head -1`."""
  reading, writing = os.pipe()
  os.close(reading)
  for words in (['studies'], ['study', 'digits', '--list'], ['train', '--help']):
    ran = subprocess.run([sys.executable, '-m', 'zeroinit', *words], stdout=writing, stderr=subprocess.PIPE,
                         cwd=command.ROOT, env=os.environ | {'PYTHONUNBUFFERED': ''})
    assert (ran.returncode, ran.stderr) == (128 + signal.SIGPIPE, b''), words
  os.close(writing)


@pytest.mark.parametrize('words, expected', [
    (['train', 'digits:fixup', '--workdir=W'], ('zeroinit.main', ['--config=digits:fixup', '--workdir=W'])),
    (['train', '--workdir=W', '--config=x.py'], ('zeroinit.main', ['--workdir=W', '--config=x.py'])),
    (['study', 'table1', '--list'], ('zeroinit.launch.local', ['--study=table1', '--list'])),
    (['study', '../mine/my_method.py:mine'], ('zeroinit.launch.local', ['--config=../mine/my_method.py:mine'])),
    (['slurm', 'figure1'], ('zeroinit.launch.slurm', ['--study=figure1'])),
    (['report', 'runs/x', '--watch'], ('zeroinit.report', ['--workdir=runs/x', '--watch'])),
    (['work', 'runs/x'], ('zeroinit.studies.worker', ['--workdir=runs/x'])),
    (['probe', 'variance', 'digits:none'], ('zeroinit.probes.variance', ['--config=digits:none'])),
    (['probe', 'page', '--workdir=W'], ('zeroinit.probes.page', ['--workdir=W'])),
])
def test_what_a_verb_stands_for(words, expected):
  assert parsed(words) == expected


@pytest.mark.parametrize('words, message', [
    (['tarin'], "there is no command 'tarin'; did you mean 'train'?"), (['probe'], 'say which probe: bound'),
    (['probe', 'varience'], "did you mean 'variance'?"), (['methods', 'x'], "unexpected argument 'x'"),
    (['train', 'digts', '--workdir=W'], "there is no config 'digts'"),
    (['train', 'digits:fixpu', '--workdir=W'], "did you mean 'fixup'?"),
    (['study', 'tabel1', '--workdir=W'], "did you mean 'table1'?")])
def test_a_mistake_is_one_line(words, message, tmp_path):
  code, _, errors, _ = said(*words, directory=tmp_path)
  command.assert_one_line(code, errors, message)
  assert not list(tmp_path.iterdir())


def test_public_names_are_loaded_when_they_are_used():
  code = ("import sys, zeroinit\nassert not [name for name in sys.modules if name in ('jax', 'flax', 'numpy')]\n"
          "for name in zeroinit.__all__:\n  assert name in dir(zeroinit) and getattr(zeroinit, name)")
  subprocess.run([sys.executable, '-c', code], check=True, cwd=command.ROOT)
  with pytest.raises(AttributeError, match='WideResnet'):
    zeroinit.WideResnet  # noqa: B018


def test_a_config_by_name_is_the_file_of_that_name(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  by_name = zeroinit.load_config('digits:fixup', {'seed': 3})
  assert by_name == zeroinit.load_config(f'{command.ROOT}/configs/digits.py:fixup', {'seed': 3})
  assert by_name.method.name == 'fixup' and by_name.seed == 3


@pytest.mark.slow
@pytest.mark.parametrize('script', sorted((command.ROOT / 'launch').glob('*.sh')), ids=lambda path: path.stem)
def test_scripts_say_what_they_would_do(script, tmp_path):
  (tmp_path / 'zeroinit').write_text(f'#!/bin/sh\nexec {sys.executable} -m zeroinit "$@"\n')
  (tmp_path / 'zeroinit').chmod(0o755)
  surroundings = os.environ | {'PYTHONPATH': str(command.ROOT), 'PATH': f'{tmp_path}:{os.environ["PATH"]}'}
  with_data = surroundings | {'DATA': '/data', 'RUNS': 'gs://bucket/runs', 'SLICES': 'slice-a'}
  ran = subprocess.run([script, '--list'], capture_output=True, text=True, cwd=tmp_path, env=with_data)
  assert ran.returncode == 0 and 'compiled programs' in ran.stdout, ran.stderr
  ran = subprocess.run([script], capture_output=True, text=True, cwd=tmp_path, env=surroundings)
  assert ran.returncode and 'say where' in ran.stderr
