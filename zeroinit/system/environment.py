"""What a number may depend on besides its config."""

import functools
import importlib.metadata
import os
import platform
import subprocess


def of(devices):
  """What else a number may depend on: the devices used, CPU threads, versions, and the code's revision."""
  names = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
  versions = {'python': platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
  return {'device': f'{len(devices)} x {devices[0].device_kind}', 'threads': threads(),
          'versions': versions, 'git_revision': git_revision()}


def threads():
  """CPU threads that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()  # macOS has none


@functools.cache
def git_revision():
  """The revision of this code, with '-dirty' where files have changed since; None outside a git checkout of it.

  A package that is installed below somebody's own repository is not part of that.
  """
  def git(*words):
    command = ['git', '-C', os.path.dirname(__file__), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

  try:
    git('ls-files', '--error-unmatch', os.path.basename(__file__))
    return git('describe', '--always', '--dirty', '--exclude=*', '--abbrev=40')
  except (OSError, subprocess.SubprocessError):
    return None
