"""Compiled programs: with the options that they need, kept on disk for the other workers of a study, and counted."""

import contextlib
import ctypes
import functools
import gc
import os
import pathlib
import re

import jax
import jaxlib.version

from zeroinit.system import environment

# Fused operations of small networks compile in two thirds of the time with the older emitters that jaxlib 0.10 still
# has, and run as fast.
EMITTERS = {'xla_cpu_use_fusion_emitters': False} if jaxlib.version.__version_info__ < (0, 11) else {}

# Of LLVM's four levels of optimization. A whole program compiles in 40 % less time than at the default, 3, with jaxlib
# 0.10, 25 % with 0.12, and runs as fast: the time goes into convolutions and sums, which are libraries'.
LEVEL = {'xla_backend_optimization_level': 1}

# From 0.10 on jax's compiler for CPUs gives convolutions to YNNPACK too, which runs most of those here in one thread.
# Without, Eigen has them; reductions stay with YNNPACK. Matrix products may not: without the convolutions, those in
# bfloat16 come out wrong with jax 0.12.
EIGEN_CONVOLUTIONS = {'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_REDUCE'}

# Where there is one thread, YNNPACK's are a fifth faster on the digits with jax 0.10, and slower with 0.11 and 0.12.
YNNPACK_CONVOLUTIONS = {'xla_cpu_experimental_ynn_fusion_type':
                        'LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION'}

# On GPUs sums are made in whatever order threads end, and kernels chosen by timing them; this forbids both.
DETERMINISTIC = {'xla_gpu_deterministic_ops': True}


def jit(function, is_deterministic=lambda *args, **kwargs: False, **kwargs):
  """`jax.jit` of a function, for the backend there is when it is first called: importing must not start one.

  Args:
    function: not to be called within another jitted function, where the `__wrapped__` of what this returns belongs.
    is_deterministic: function of the same arguments that says whether the program needs DETERMINISTIC.
    kwargs: of jax.jit.

  Returns:
    The compiled function; its `program()` is what jax.jit made.
  """
  programs = {}

  def program(deterministic=False):
    if deterministic not in programs:
      programs[deterministic] = jax.jit(function, compiler_options=_options(deterministic), **kwargs)
    return programs[deterministic]

  @functools.wraps(function)
  def call(*args, **kwargs):
    return program(is_deterministic(*args, **kwargs))(*args, **kwargs)

  call.program = program
  return call


@functools.cache
def _options(deterministic):
  """DETERMINISTIC on GPUs where it is asked for; on CPUs LEVEL, EMITTERS and who has the convolutions.

  None where the backend does not know them. What the user's XLA_FLAGS set stays as it is there.
  """
  if jax.default_backend() == 'gpu' and deterministic:
    return DETERMINISTIC
  if jax.default_backend() != 'cpu':
    return None
  one_thread = environment.threads() <= jax.local_device_count()  # at most, for each device, as in a study's worker
  ynnpack = one_thread and jaxlib.version.__version_info__ < (0, 11)
  options = LEVEL | EMITTERS | (YNNPACK_CONVOLUTIONS if ynnpack else EIGEN_CONVOLUTIONS)
  flags = os.environ.get('XLA_FLAGS', '')
  if flags and not flags.lstrip().startswith('-'):  # the name of a file of them
    with contextlib.suppress(OSError, UnicodeDecodeError):
      flags = pathlib.Path(flags.strip()).read_text()
  options = {name: value for name, value in options.items() if name not in flags}
  try:
    jax.jit(lambda: 0, compiler_options=options).lower().compile()
  except jax.errors.JaxRuntimeError:  # of another version
    return None
  return options


def keep_programs(directory):
  """From now on compiled programs are kept in a directory, and taken from there; unless the user has named another."""
  if jax.config.jax_compilation_cache_dir:
    return
  jax.config.update('jax_compilation_cache_dir', str(directory))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)  # by default 1 s: a small network's are shorter
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def forget():
  """Frees the compiled programs of this process, and gives the memory that compiling them took back to the system.

  The C library would keep it: 25 MB for each small program on CPUs, in pieces that are of little use to the next.
  """
  jax.clear_caches()
  gc.collect()
  with contextlib.suppress(OSError, AttributeError):  # glibc has it
    ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def counted(names, ready=lambda: None):
  """While open, counts how often jitted functions of these names are compiled, or their programs taken from disk.

  Yields {'compiled': int, 'from_disk': int}. ready: called each time, when the program is on disk.
  """
  counts = {'compiled': 0, 'from_disk': 0}
  hits = []

  def event(event, **_):
    if event == '/jax/compilation_cache/cache_hits':  # comes before the event below, which ends the same compilation
      hits.append(event)

  def duration(event, seconds, fun_name='', **_):
    if event == '/jax/core/compile/backend_compile_duration':
      if re.sub(r'^jit[(_]|\)$', '', fun_name) in names:
        counts['from_disk' if hits else 'compiled'] += 1
        ready()
      hits.clear()

  jax.monitoring.register_event_listener(event)
  jax.monitoring.register_event_duration_secs_listener(duration)
  try:
    yield counts
  finally:
    jax.monitoring.unregister_event_listener(event)
    jax.monitoring.unregister_event_duration_listener(duration)
