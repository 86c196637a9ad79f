"""Functions of a user's own file in a row of METHODS, `FILE.py:FUNCTION`; their text travels in `Method.code`."""

import dataclasses
import os

import jax
import numpy as np

from zeroinit import own
from zeroinit.system import references, users_files
from zeroinit.system.errors import UserError


def complete(method):
  """The method as it travels: its functions named without directories, the text of their files in `code`.

  Raises:
    UserError: there is no such file or function, the file fails, or two files have one name.
  """
  if method.code:
    return method
  code = users_files.texts(file for file, _ in method.functions.values())
  names = {field: references.short(getattr(method, field)) for field in method.functions}
  made = dataclasses.replace(method, **names, code=tuple(sorted(code.items())))
  for field in names:
    _function(made, field)
  return made


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
  file, name = method.functions[field]
  code = dict(method.code or complete(method).code)
  return own.function(file, name, code[os.path.basename(file)])
