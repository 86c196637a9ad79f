"""Functions of a user's own file, FILE.py:FUNCTION, for a row of METHODS, a network or a data set.

The text of the file travels with what is made of it: it lies beside the config.json of a run, and in `files` of a
study. Only files are executed that the user names, or that lie in a directory that the user names.
"""

import ast
import functools
import os

from zeroinit.methods import METHODS
from zeroinit.system import users_files
from zeroinit.system.errors import UserError, suggestion

NOT_COMPARED = ('get_config', 'sweep')  # what they give stands in configs and cells


def function(file, name, text):
  """The function of that name in a file with this text. Raises UserError where there is none, or the file fails."""
  module = _module(os.path.basename(file), text)
  found = getattr(module, name, None)
  if not callable(found):
    functions = [other for other in vars(module) if callable(getattr(module, other))]
    raise UserError(f'{file} has no function {name}{suggestion(name, functions)}')
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


def substance(text):
  """The part of a file's text on which numbers can depend: without docstring, comments around it, get_config, sweep
  and rows of METHODS, which are compared by their values. So a sweep can grow, and a row be added, in a study.
  """
  lines, kept = text.splitlines(), []
  for node in ast.parse(text).body:
    row = ast.unparse(node).startswith(('METHODS[', 'METHODS.update('))
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if not (row or docstring or getattr(node, 'name', None) in NOT_COMPARED):
      first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, 'decorator_list', ()))])
      kept += lines[first - 1:node.end_lineno]
  return '\n'.join(kept)


def need_same_code(code, directory):
  """Raises UserError where a directory holds another version of a file of functions. code: [(name, text)]."""
  for name, text in code:
    copy = directory / name
    if copy.exists() and substance(users_files.read(copy)) != substance(text):
      raise UserError(f'{name} has changed since {copy} was copied from it, and numbers of two versions would mix; use '
                      'another --workdir, or undo the change')
