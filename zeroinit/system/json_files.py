"""JSON files, written whole, and read with a check of all that is used of them.

Numbers that are not finite are null in JSON.
"""

import json
import math
import sys

from zeroinit.system import objects
from zeroinit.system.errors import UserError, first_line


def write(path, value):
  """Writes a JSON file whole. Raises UserError where it cannot be written."""
  objects.replace(path, text(value))


def text(value):
  """The text of a JSON file."""
  return json.dumps(finite(value), indent=2, allow_nan=False) + '\n'


def finite(value):
  """The value with every number that is not finite replaced by None, as JSON has none."""
  if isinstance(value, dict):
    return {name: finite(item) for name, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [finite(item) for item in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value


def read(path, needs=None):
  """The JSON object in a file: see `parse`."""
  return parse(path.read_bytes(), path, needs)


def parse(content, path, needs=None):
  """The JSON object in some bytes, which must have the fields `needs`; see `checked`.

  Raises:
    UserError: it is none, or not as it must be; the message names the file.
  """
  try:
    value = json.loads(content.decode(), parse_constant=_no_number, parse_float=_number, object_pairs_hook=_each_once)
    if b'\\ud' in content.lower():
      json.dumps(value, ensure_ascii=False).encode()  # half a character can be written in JSON, but not shown
    if not isinstance(value, dict):
      raise ValueError('not an object')
  except (ValueError, RecursionError) as error:
    raise damaged(path, first_line(error)) from error
  missing = [name for name in needs or {} if name not in value]
  if missing:
    raise damaged(path, f'it lacks {", ".join(missing)}')
  return checked(value, path, needs or {})


def checked(value, path, fields):
  """The JSON object, if what it has of `fields`, {name: condition}, holds. Raises UserError, naming file and field."""
  for name, holds in fields.items():
    if name in value and not holds(value[name]):
      raise damaged(path, f'its {name} is {value[name]!r}')
  return value


def damaged(path, reason):
  """The UserError about a file that is not as it was written."""
  return UserError(f'{path} is damaged: {reason}; delete it, or use another --workdir')


def is_text(value):
  return isinstance(value, str)


def is_number(value):
  """Whether a value out of a JSON file is a number; true and false are none."""
  return type(value) in (int, float) and abs(value) <= sys.float_info.max


def is_count(value):
  """Whether it is a whole number, not negative, such as a device can count."""
  return type(value) is int and 0 <= value < 2**63


def is_share(value):
  """Whether it is a number from 0 to 1."""
  return is_number(value) and 0 <= value <= 1


def _number(literal):
  value = float(literal)
  if not math.isfinite(value):
    raise ValueError(f'{literal[:20]} is no number')
  return value


def _no_number(literal):
  raise ValueError(f'{literal} is no number')


def _each_once(pairs):
  value = dict(pairs)
  if len(value) < len(pairs):
    raise ValueError('a field is there twice')
  return value
