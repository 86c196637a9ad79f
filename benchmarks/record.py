"""--record of every benchmark: what it measured as JSON, with the command that did it and what else it depends on."""

import importlib.metadata
import pathlib
import statistics
import sys

import jax
from absl import flags

from zeroinit.system import environment, json_files, objects
from zeroinit.system.errors import UserError

_RECORD = flags.DEFINE_string('record', None, 'JSON file to write.')


def prepare():
  """The path of the record, None without --record. To be called before what takes long.

  Makes its directory. Raises UserError where it cannot be made, or the path is one itself.
  """
  if not _RECORD.value:
    return None
  path = objects.absolute(_RECORD.value)
  if path.is_dir():
    raise UserError(f'--record={_RECORD.value} is a directory: name a file in it')
  objects.make_directory(path.parent)
  return path


def write(path, measured, packages=()):
  """Writes the record, if there is a path for it.

  measured: dict; packages: names of those whose versions matter here, besides what always does.
  """
  if not path:
    return
  surroundings = environment.of(jax.devices()[:1])
  surroundings['versions'] |= {name: importlib.metadata.version(name) for name in packages}
  command = ' '.join([f'python -m benchmarks.{pathlib.Path(sys.argv[0]).stem}', *sys.argv[1:]])
  json_files.write(path, {'command': command, **measured, **surroundings})


def summary(values):
  return {'median': statistics.median(values), 'min': min(values), 'max': max(values)}
