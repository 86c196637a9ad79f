"""The cells of a study: of one that `named` defines, or of the `sweep` in a user's own file."""

import functools
import inspect
import re

from zeroinit.studies import named
from zeroinit.studies.cells import make_cell
from zeroinit.system import users_files
from zeroinit.system.errors import UserError, suggestion
from zeroinit.training.config import compared_fields
from zeroinit.training.config_files import load_config, load_module, split


def named_study(name):
  """(runs, docstring) of the study of that name. Raises UserError, listing the names, where there is none."""
  if name not in named.names():
    raise UserError(f'there is no study {name!r}; there are: {", ".join(named.names())}'
                    + suggestion(name, named.names()))
  generator = getattr(named, name)
  return generator(), inspect.getdoc(generator) or ''


@functools.cache
def defined_on(name):
  """{'dataset': values, 'network': values} that the study of that name has by itself; {} of a user's own study."""
  if name not in named.names():
    return {}
  default, swept = functools.cache(load_config), list(named_study(name)[0])
  return {field: {overrides.get(field, default(config)[field]) for config, overrides in swept}
          for field in ('dataset', 'network')}


def own_study(config):
  """(runs, docstring) of the `sweep` in a user's config file, FILE.py or FILE.py:ARGUMENT.

  `sweep()` yields overrides, {field: value}, or pairs (FILE.py:METHOD, overrides); ':METHOD' is of the same file.
  `sweep(add)` calls add(field=value, ...) instead.

  Raises:
    UserError: the file has no `sweep`, it fails, or it yields something else.
  """
  file, _ = split(config)
  sweep = getattr(load_module(file), 'sweep', None)
  if sweep is None:
    raise UserError(f'{file} has no function sweep: a generator of overrides beside get_config')
  with users_files.users_code(file):
    if inspect.signature(sweep).parameters:
      swept = []
      sweep(lambda overrides=(), **fields: swept.append({**dict(overrides), **fields}))
    else:
      swept = list(sweep())
  pairs = [(config, run) if isinstance(run, dict) else run for run in swept]
  for pair in pairs:
    if not (isinstance(pair, (tuple, list)) and list(map(type, pair)) == [str, dict]):
      raise UserError(f'{file}: sweep yields {pair!r}; it must yield overrides, or pairs (FILE.py:METHOD, overrides)')
  return [(file + of if of.startswith(':') else of, run) for of, run in pairs], inspect.getdoc(sweep) or ''


def expand(swept, axes=None, methods=None):
  """The cells of a study, in its order, each once, those of a compiled program together.

  Args:
    swept: iterable of (config file:method, overrides), as a study yields them.
    axes: {field: values}, which take the place of the study's own values of that field. A value that the study has
      keeps what goes with it, such as the learning rates for a batch size.
    methods: names of rows to keep; None keeps all.

  Raises:
    UserError: a run that could not be trained, a field that does not exist, a method that the study does not have,
      data of one name in two places.
  """
  pairs = [(config, dict(overrides)) for config, overrides in swept]
  if methods:
    row = lambda config: re.split('[:,]', config + ':')[1]
    rows = list(dict.fromkeys(row(config) for config, _ in pairs))
    missing = sorted(set(methods) - set(rows))
    if missing:
      raise UserError(f'the study has no method {", ".join(missing)}; it has: {", ".join(rows)}'
                      + suggestion(missing[0], rows))
    pairs = [(config, overrides) for config, overrides in pairs if row(config) in methods]
  for field, values in (axes or {}).items():
    pairs = _with_axis(pairs, field, values)
  named = {name for _, overrides in pairs for name in overrides}
  cells = {}
  for config, overrides in pairs:
    cell = make_cell(config, overrides, named)
    first = cells.setdefault(cell.identity, cell)
    if first.place.differs(cell.place):
      raise UserError(f'{first.place} and {cell.place} are different data under one name, by which a study knows it: '
                      'give one another name, or a study of its own')
  place = {program: i for i, program in enumerate(dict.fromkeys(cell.program for cell in cells.values()))}
  return sorted(cells.values(), key=lambda cell: place[cell.program])


def _with_axis(pairs, field, values):
  """The runs with the values of a field replaced, for each config apart."""
  by_config = {}
  for config, overrides in pairs:
    by_config.setdefault(config, []).append(overrides)
  replaced = []
  for config, swept in by_config.items():
    default = compared_fields(load_config(config, {}).to_dict()).get(field)
    for value in values:
      having = [overrides for overrides in swept if overrides.get(field, default) == value]
      replaced += [(config, {**overrides, field: value}) for overrides in having or swept]
  return replaced
