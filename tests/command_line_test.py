"""What every command does alike: --help, --version, what was probably meant, and colours."""

import io
import re
import sys

import command
import jax
import pytest

import zeroinit
from zeroinit.__main__ import VERBS, probes
from zeroinit.runs.progress import Progress

PROBES = [*probes(), 'page']
COMMANDS = {module: f'zeroinit {verb}' for verb, (module, _) in VERBS.items() if module} \
    | {f'zeroinit.probes.{probe}': f'zeroinit probe {probe}' for probe in PROBES} \
    | {'benchmarks.depth': 'python -m benchmarks.depth'}
MEANT = {
    'zeroinit.main --config=configs/digits.py:zeroint --workdir=W': 'zeroinit',
    'zeroinit.main --config=configs/digits.py --workdir=W --config.lerning_rate=1': 'learning_rate',
    'zeroinit.main --config=configs/digits.py --workdir=W --config.method.ghost_sise=8': 'ghost_size',
    'zeroinit.main --config=configs/digits.py --workdir=W --config.methd.ghost_size=8': 'method',
    'zeroinit.main --config=configs/digits.py --workdir=W --config.dataset=cifar': 'cifar10',
    'zeroinit.main --config=configs/digits.py --workdir=W --config.network=wideresnet': 'wide_resnet',
    'zeroinit.main --config=configs/digits.py --workdir=W --depth=10': '--config.depth',
    'zeroinit.report --wrokdir=W': '--workdir',
    'zeroinit.probes.depth --config=configs/digits.py --methods=none,fixpu --workdir=W': 'fixup',
    'zeroinit.launch.local --study=tabel1 --workdir=W': 'table1',
    'zeroinit.launch.local --study=digits --methods=zeroint --workdir=W': 'zeroinit',
    'zeroinit.launch.local --study=digits --set=dpeth=10 --workdir=W': 'depth',
    'zeroinit.launch.local --study=digits --depth=10 --workdir=W': '--set=depth=VALUE',
    'zeroinit.launch.local --study=digits --config.data_dir=x --workdir=W': '--set=data_dir=VALUE',
    'zeroinit.launch.slurm --study=digit --list': 'digits',
    'zeroinit.launch.tpu --study=digit --list': 'digits',
}


@pytest.fixture(scope='module')
def answers():
  """{command line: (exit code, all that it said)}"""
  lines = [f'{name} {flag}' for name in COMMANDS for flag in ('--help', '--version')] + list(MEANT)
  return dict(zip(lines, command.run_all([line.split() for line in lines]), strict=True))


@pytest.mark.parametrize('name', COMMANDS)
def test_help_has_examples_and_explains_their_flags(name, answers):
  code, said = answers[f'{name} --help']
  assert code == 0
  examples = re.findall(rf'^  {re.escape(COMMANDS[name])} .*', said.replace('\\\n', ''), re.MULTILINE)
  assert examples and len(said.splitlines()) < 80 and max(map(len, said.splitlines())) <= 120
  explained = {flag.replace('[no]', '') for flag in re.findall(r'^  --(\S+)', said, re.MULTILINE)}
  assert set(re.findall(r' --(\w+)(?=[= ]|$)', '\n'.join(examples))) <= explained
  assert not any(flag.startswith(('jax_', 'log')) for flag in explained)
  assert said.splitlines()[-1].startswith('--version shows')


@pytest.mark.parametrize('name', COMMANDS)
def test_version(name, answers):
  assert answers[f'{name} --version'] == [0, f'zeroinit {zeroinit.__version__}, jax {jax.__version__}\n']


@pytest.mark.parametrize('line, meant', MEANT.items())
def test_what_was_probably_meant(line, meant, answers):
  code, said = answers[line]
  assert code == 2 and said.startswith('error: ') and said.endswith(f"; did you mean '{meant}'?\n"), said


def said_by_progress(monkeypatch, is_terminal, **environment):
  for name in ('NO_COLOR', 'FORCE_COLOR', 'TTY_COMPATIBLE'):
    monkeypatch.delenv(name, raising=False)
  for name, value in {'TERM': 'xterm', **environment}.items():
    monkeypatch.setenv(name, value)
  stream = io.StringIO()
  stream.isatty = lambda: is_terminal
  monkeypatch.setattr(sys, 'stdout', stream)
  with Progress(10, 1) as progress:
    progress.doing('compiling')
    progress.say('compiled')
  return stream.getvalue()


def test_colours_only_on_a_terminal_that_wants_them(monkeypatch):
  colour = r'\x1b\[(?:\d+;)*3\d'
  assert re.search(colour, said_by_progress(monkeypatch, is_terminal=True))
  plain = said_by_progress(monkeypatch, is_terminal=True, NO_COLOR='1')
  assert 'compiling' in plain and not re.search(colour, plain)
  assert said_by_progress(monkeypatch, is_terminal=False) == 'compiled\n'
