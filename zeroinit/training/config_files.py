"""Configs by name or file: 'digits', 'cifar10:fixup', 'my_method.py', 'my_method.py:fixup'.

A config file has get_config(argument), which returns a config; the argument, mostly the name of a method, stands after
the colon. The configs that come with the package lie in configs/ and are named without a path.
"""

import re

from ml_collections import ConfigDict

from zeroinit.system import bundled, paths, users_files
from zeroinit.system.errors import UserError, first_line, suggestion
from zeroinit.training.config import compared_fields


def split(config):
  """('FILE.py', 'ARGUMENT') of a config by name or file; FILE may be an address such as gs://bucket/mine.py.

  Raises:
    UserError: it has no path, and there is no such name.
  """
  match = re.fullmatch(r'(.*?\.py)(?::(.*))?', config, re.DOTALL)
  if match:
    return paths.expanded(match[1]), match[2] or ''
  name, _, argument = config.partition(':')
  ours = bundled.configs()
  if name not in ours:
    raise UserError(f'there is no config {name!r}; write the path of a file, FILE.py, or one of: {", ".join(ours)}'
                    + suggestion(name, ours))
  return ours[name], argument


def located(config):
  """A config by name or file, with the path of its file: 'digits:fixup' -> '/.../configs/digits.py:fixup'."""
  file, argument = split(config)
  return f'{file}:{argument}' if argument else file


def load_config(config, overrides=None):
  """The config of a name or file, with {field: value} replaced.

  Raises:
    UserError: there is none, its file fails, or an override is wrong.
  """
  file, argument = split(config)
  get_config = getattr(load_module(file), 'get_config', None)
  if get_config is None:
    raise UserError(f'{file} has no function get_config')
  with users_files.users_code(file):
    made = get_config(*([argument] if argument else []))
  for name, value in (overrides or {}).items():
    *groups, field = name.split('.')
    place = made
    for group in groups:
      place = place.get(group) if isinstance(place, ConfigDict) else None
    if not isinstance(place, ConfigDict) or field not in place or name in ('method', 'method.name'):
      raise UserError(f'{config} has no field {name}'
                      + suggestion(name, compared_fields(made.to_dict())))
    try:
      place[field] = value
    except (TypeError, ValueError, OverflowError) as error:
      raise UserError(f'{config} does not take {name}={value!r}: {first_line(error)}') from error
  return made


def load_module(file):
  """The Python module in a config file, executed again only where it has changed.

  Raises:
    UserError: there is none, or it fails.
  """
  text = users_files.read(file)
  if file not in _modules or _modules[file][0] != text:
    _modules[file] = text, users_files.execute(text, file)
  return _modules[file][1]


_modules = {}  # {file: (its text, the module)}
