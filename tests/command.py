"""Runs the project's commands as a user does, in a process of their own."""

import importlib.metadata
import json
import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def compile_little(directory):
  """From now on all processes that are started, and this one where it has not imported jax, compile each program once.

  Fast, too: most of a test's time is that of its compiler. Before jaxlib 0.11 that can leave out the emitters of fused
  operations, which take two thirds of it.
  """
  flags = ['--xla_backend_optimization_level=0', '--xla_llvm_disable_expensive_passes=true']
  if [int(part) for part in importlib.metadata.version('jaxlib').split('.')[:2]] < [0, 11]:
    flags.append('--xla_cpu_use_fusion_emitters=false')
  os.environ.update(XLA_FLAGS=' '.join([*flags, os.environ.get('XLA_FLAGS', '')]),
                    JAX_COMPILATION_CACHE_DIR=str(directory), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0',
                    JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES='-1')


def start(module, *flags, log=None, before=(), **environment):
  """Starts `python -m module flags` in the checkout.

  Args:
    log: opened file that gets all it says, in the place of pipes.
    before: words before the command, such as those of unshare.
  """
  environment = os.environ | {'PYTHONUNBUFFERED': '1'} | environment
  command = [*before, sys.executable, '-m', module, *map(str, flags)]
  return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=log or subprocess.PIPE,
                          stderr=subprocess.STDOUT if log else subprocess.PIPE)


def run(module, *flags, **options):
  """(exit code, standard output, standard error)"""
  process = start(module, *flags, **options)
  output, errors = process.communicate(timeout=600)
  return process.returncode, output, errors


def run_all(commands, **environment):
  """What came of many commands, [module, word, ...] each, that do little: [[exit code, all that it said], ...].

  Importing takes most of their time, so all are forked from one process that has imported everything.
  """
  ran = subprocess.run([sys.executable, ROOT / 'tests' / 'forked.py'], input=json.dumps(commands), text=True,
                       capture_output=True, cwd=ROOT, env=os.environ | {'PYTHONPATH': str(ROOT)} | environment,
                       timeout=600)
  assert not ran.returncode, ran.stderr
  return json.loads(ran.stdout)


def assert_one_line(code, errors, message):
  """A command ended with an exit code, and one line that says so."""
  assert code not in (0, None) and code > 0, errors
  assert 'Traceback' not in errors
  lines = [line for line in errors.splitlines() if line.strip()]
  assert len(lines) == 1 and lines[0].startswith('error: '), errors
  assert message in lines[0]


def start_together(count, module, *flags, **options):
  """Starts processes that work as one, as the hosts of a pod do."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  join = [f'--coordinator=localhost:{port}', f'--processes={count}']
  return [start(module, *flags, *join, f'--process={i}', **options) for i in range(count)]
