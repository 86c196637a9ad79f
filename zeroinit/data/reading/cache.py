"""What was worked out from a data set once is kept on disk for the next start."""

import contextlib
import os
import pathlib

from zeroinit.system import paths


def directory():
  """$ZEROINIT_CACHE, else a folder in the user's cache directory."""
  cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return pathlib.Path(paths.expanded(os.environ.get('ZEROINIT_CACHE') or f'{cache}/zeroinit'))


def keep(path, what, write):
  """Writes a file of the cache, and returns whether it did. One that cannot be written costs only time: that is said.

  what: the content, in words; write: is given the opened file.
  """
  beside = path.with_name(f'{path.name}.{os.getpid()}')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(beside, 'wb') as file:
      write(file)
    os.replace(beside, path)
    return True
  except OSError as error:
    with contextlib.suppress(OSError):
      beside.unlink()
    print(f'{what} are not kept for the next start: {error.strerror}: {path}', flush=True)
    return False


def discard(files):
  """Removes files of the cache, where that can be."""
  for file in files:
    with contextlib.suppress(OSError):
      file.unlink()
