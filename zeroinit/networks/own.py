"""Functions of a user's own file in a row of METHODS, `FILE.py:FUNCTION`: finding, comparing and applying them.

The text of the file travels with the method, in `Method.code`, and lies beside the config.json of a run and in `files`
of a study. Only files are executed that the user names, or that lie in a directory that the user names.
"""

import ast
import dataclasses
import functools
import os

import jax
import numpy as np

from zeroinit.methods import FUNCTIONS, METHODS
from zeroinit.system import users_files
from zeroinit.system.errors import UserError, suggestion
from zeroinit.system.references import reference

NOT_OF_A_METHOD = ('get_config', 'sweep')  # what they give stands in configs and cells


def complete(method):
  """The method as it travels: its functions named without directories, the text of their files in `code`.

  Raises:
    UserError: there is no such file or function, or the file fails.
  """
  if method.code:
    return method
  code, names = {}, {}
  for field, (file, function) in method.functions.items():
    name, text = os.path.basename(file), users_files.read(file)
    if code.setdefault(name, text) != text:
      raise UserError(f'method.norm and method.alpha are of two files called {name}; give one another name')
    names[field] = f'{name}:{function}'
  made = dataclasses.replace(method, **names, code=tuple(sorted(code.items())))
  for field in names:
    _function(made, field)
  return made


def moved(method, directory):
  """The same fields, {name: value}, with functions looked for in a directory. method: the `method` part of a config."""
  found = {field: reference(method[field]) for field in FUNCTIONS}
  return {field: f'{directory / os.path.basename(named[0])}:{named[1]}' for field, named in found.items() if named}


def substance(text):
  """The part of a file's text on which a method can depend: without docstring, comments around it, get_config, sweep
  and rows of METHODS, which are compared by their values. So a sweep can grow, and a row be added, in a study.
  """
  lines, kept = text.splitlines(), []
  for node in ast.parse(text).body:
    row = ast.unparse(node).startswith(('METHODS[', 'METHODS.update('))
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if not (row or docstring or getattr(node, 'name', None) in NOT_OF_A_METHOD):
      first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, 'decorator_list', ()))])
      kept += lines[first - 1:node.end_lineno]
  return '\n'.join(kept)


def need_same_code(code, directory):
  """Raises UserError where a directory holds another version of a file of functions. code: of a Method."""
  for name, text in code:
    copy = directory / name
    if copy.exists() and substance(users_files.read(copy)) != substance(text):
      raise UserError(f'{name} has changed since {copy} was copied from it, and numbers of two versions would mix; use '
                      'another --workdir, or undo the change')


def apply(method, field, module, x, train):
  """What the function in a field of a method makes of x, as an array of the type of x.

  Args:
    field: 'norm', whose result must have the shape of x, or 'alpha', whose result times x must.
    module: the flax module that is being built, in which the function may declare parameters.
    x: [batch, height, width, channels], of the type in which the network computes.
    train: whether this is training, a Python bool.

  Raises:
    UserError: the function fails, or returns something else.
  """
  function, name = _function(method, field), getattr(method, field)
  with users_files.users_code(name):
    made = function(module, x, train)
  if not isinstance(made, (int, float, np.ndarray, np.generic, jax.Array)):
    raise UserError(f'{name} returns {made!r}; it must return an array')
  shape = np.shape(made)
  try:
    fits = shape == x.shape if field == 'norm' else np.broadcast_shapes(shape, x.shape) == x.shape
  except ValueError:
    fits = False
  if not fits:
    what = 'a norm must keep it' if field == 'norm' else 'a multiplier must be one number, one per channel, or the like'
    raise UserError(f'{name} makes the shape {shape} of {x.shape}, [batch, height, width, channels]; {what}')
  axes = x.ndim if shape else 0  # a single number keeps its own
  return jax.numpy.asarray(made, x.dtype).reshape((1,) * (axes - len(shape)) + shape)


def _function(method, field):
  file, function = method.functions[field]
  code = dict(method.code or complete(method).code)
  module = _module(os.path.basename(file), code[os.path.basename(file)])
  found = getattr(module, function, None)
  if not callable(found):
    functions = [name for name in vars(module) if callable(getattr(module, name))]
    raise UserError(f'{file} has no function {function}{suggestion(function, functions)}')
  return found


@functools.cache
def _module(name, text):
  """The module that a file makes, whose rows of METHODS are left out: another version of it may have made those."""
  rows = dict(METHODS)
  try:
    return users_files.execute(text, name)
  finally:
    METHODS.clear()
    METHODS.update(rows)
