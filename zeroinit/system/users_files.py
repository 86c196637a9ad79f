"""Python files of the user's: read as text, executed, and what goes wrong in them as one line."""

import contextlib
import hashlib
import os
import sys
import types

from etils import epath

from zeroinit.system import paths
from zeroinit.system.errors import UserError, first_line


def read(file):
  """The text of a Python file, which may be an address such as gs://bucket/mine.py. Raises UserError."""
  file = paths.expanded(file)
  try:
    return epath.Path(file).read_bytes().decode()
  except (FileNotFoundError, NotADirectoryError) as error:
    where = '' if os.path.isabs(file) or '://' in str(file) else f' in {os.getcwd()}'
    raise UserError(f'there is no file {file}{where}') from error
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f'{file} cannot be read: {getattr(error, "strerror", None) or first_line(error)}') from error


def texts(files):
  """{name without directories: text} of files, as they travel together. Raises UserError where two have one name."""
  found, first = {}, {}
  for file in files:
    name, text = os.path.basename(file), read(file)
    if found.setdefault(name, text) != text:
      raise UserError(f'two files called {name} would travel together, {first[name]} and {file}: give one another name')
    first.setdefault(name, file)
  return found


def execute(text, file):
  """The module that a file with this text makes. Raises UserError where it fails."""
  # Where dataclasses look for it, under a name that nothing can import.
  name = f'{file} {hashlib.sha256(text.encode()).hexdigest()}'
  sys.modules[name] = module = types.ModuleType(name)
  module.__file__ = str(file)
  with users_code(file):
    exec(compile(text, str(file), 'exec', dont_inherit=True), vars(module))
  return module


@contextlib.contextmanager
def users_code(what):
  """A user's file is Python, so anything can come out of it: as one line that names the file, or its function."""
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    raise UserError(f'{what} fails: {type(error).__name__}: {first_line(error)}{about_configs(error)}') from error


def about_configs(error):
  """What to say where a file imports configs/ of a checkout, as it had to with 0.1.0."""
  return ("; the configs that come with zeroinit are loaded with zeroinit.load_config('digits:METHOD')"
          if getattr(error, 'name', None) == 'configs' else '')
