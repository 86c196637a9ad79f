"""The commands that a benchmark starts, and why one has failed."""

import importlib.util
import os
import subprocess

from zeroinit.system.errors import UserError


def reason(output, code):
  """The last line that it wrote, without the 'error: ' of the command line; its exit code where it wrote none."""
  lines = output.strip().splitlines() or [f'exit code {code}']
  return lines[-1].removeprefix('error: ')


def run(command, **variables):
  """What a command prints. variables: of its environment, besides our own. Raises UserError where it fails."""
  done = subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, check=False)
  if done.returncode:
    raise UserError(f'{" ".join(command)} failed: {reason(done.stderr, done.returncode)}')
  return done.stdout


def need_torch():
  """Raises UserError where there is no peer."""
  if importlib.util.find_spec('torch') is None:
    raise UserError('PyTorch, the peer, is not installed: pip install torch==2.13.0')
