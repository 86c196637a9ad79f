"""Compiled programs: kept on disk for the other workers of a study, and counted."""

import contextlib
import re

import jax


def keep_programs(directory):
  """From now on compiled programs are kept in a directory, and taken from there; unless the user has named another."""
  if jax.config.jax_compilation_cache_dir:
    return
  jax.config.update('jax_compilation_cache_dir', str(directory))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)  # by default 1 s: a small network's are shorter
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


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
