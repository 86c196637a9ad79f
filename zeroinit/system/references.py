"""How a config names a function of a user's own file: 'FILE.py:FUNCTION'. `own.py` runs it."""

import inspect
import os
import re

from zeroinit.system.errors import UserError, first_line


def reference(value):
  """(file, function) of a value 'FILE.py:FUNCTION'; None where it is none."""
  match = re.fullmatch(r'(.*[^/]\.py):([^\W\d]\w*)', value, re.DOTALL) if isinstance(value, str) else None
  return match and match.groups()


def short(value):
  """A reference without the directories of its file; any other value as it is."""
  named = reference(value)
  return f'{os.path.basename(named[0])}:{named[1]}' if named else value


def named(field, function):
  """The reference to a function that stands in a field of a method. Raises UserError where it has no name in a file."""
  function = inspect.unwrap(function)
  code = getattr(function, '__code__', None)
  if code is None or not function.__qualname__.isidentifier():
    raise UserError(f'method.{field} is {first_line(repr(function))}; it must be a function at the top level of a '
                    'file, made by def')
  # Code that was read from a store says so, and has no place in the file system.
  file = code.co_filename if '://' in code.co_filename else os.path.abspath(code.co_filename)
  return f'{file}:{function.__name__}'
