"""What a number may depend on besides its config."""

import functools
import importlib.metadata
import os
import platform
import subprocess

import jax

# What users may set as they like, and what changes last bits, or more: the compiler's options, and jax's own at their
# defaults. The settings that would make another computation of a config are stated, in `settings`.
VARIABLES = ('XLA_FLAGS', 'LIBTPU_INIT_ARGS', 'NVIDIA_TF32_OVERRIDE')
SETTINGS = {'jax_disable_jit': False, 'jax_optimization_level': 'UNKNOWN', 'jax_memory_fitting_level': 'O2',
            'jax_compiler_enable_remat_pass': True, 'jax_exec_time_optimization_effort': 0.0,
            'jax_memory_fitting_effort': 0.0}


def of(devices):
  """What else a number may depend on: devices used, CPU threads, settings, versions, and the code's revision."""
  names = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
  versions = {'python': platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
  return {'device': f'{len(devices)} x {devices[0].device_kind}', **changing(), 'versions': versions,
          'git_revision': git_revision()}


def changing():
  """What may change while a run is stopped, and its last bits with it: {'threads', 'settings'}."""
  return {'threads': threads(), 'settings': settings()}


def settings():
  """{name: value} of what is set of VARIABLES, and of SETTINGS to another value than there."""
  found = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
  return found | {name: getattr(jax.config, name) for name, default in SETTINGS.items()
                  if getattr(jax.config, name, default) != default}


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
