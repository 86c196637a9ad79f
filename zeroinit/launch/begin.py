"""What all launchers share: the flags that say which study, and writing its manifest."""

import ast
import itertools
import os
import re
import sys

from absl import flags
from etils import epath

from zeroinit.studies import manifest, named, sweeps
from zeroinit.system import objects
from zeroinit.system.errors import UserError

# Assumed for the estimate of --list, not measured: what large float32 (TF32) convolutions reach in practice.
ASSUMED = 'one NVIDIA A100 or H200 at 50 TFLOP/s'
ASSUMED_FLOPS = 5e13

_STUDY = flags.DEFINE_string('study', None, 'One of `zeroinit studies`: table1, figure1, digits, ...')
_CONFIG = flags.DEFINE_string('config', None, 'Or your own FILE.py or FILE.py:ARGUMENT, with get_config and sweep.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Directory of the study; the same command goes on with it.')
_SET = flags.DEFINE_multi_string('set', [], 'FIELD=VALUE or FIELD=VALUE,VALUE,...: any field of the config, for all '
                                 'cells; in the place of the values that the study has for it. May be repeated.')
_METHODS = flags.DEFINE_list('methods', None, 'Only these methods of the study.')
_SEEDS = flags.DEFINE_integer('seeds', None, 'Seeds 0 ... N - 1 for every setting.', lower_bound=1)
LIST = flags.DEFINE_boolean('list', False, 'Print the cells and their cost, and stop.')
EXTEND = flags.DEFINE_boolean('extend', False, 'Where an optimal learning rate is at an end of its grid, add rates, by '
                              'powers of two; `zeroinit study` goes on until it is inside.')
KEEP_CHECKPOINTS = flags.DEFINE_boolean('keep_checkpoints', False, "Keep a finished cell's last checkpoints.")


def begin(write=True):
  """The study that the flags name, in its directory; or None with --list, which is done then.

  Args:
    write: False leaves the directory alone, as if it were new.

  Raises:
    UserError: a study, method, field or value that does not exist; a directory that holds another study.
  """
  if (_STUDY.value is None) == (_CONFIG.value is None):
    raise UserError('say which study: either --study=NAME, or --config=FILE.py with a sweep of your own; there are: '
                    + ', '.join(named.names()))
  if _STUDY.value is not None:
    name, (swept, document) = _STUDY.value, sweeps.named_study(_STUDY.value)
  else:
    name, (swept, document) = os.path.normpath(_CONFIG.value), sweeps.own_study(_CONFIG.value)
  set_here = [_axis(text) for text in _SET.value]
  if _SEEDS.value is not None:
    set_here.append(('seed', list(range(_SEEDS.value))))
  axes = dict(set_here)
  if len(axes) < len(set_here):
    raise UserError('a field is set twice: write its values after one --set, FIELD=VALUE,VALUE')
  cells = sweeps.expand(swept, axes, _METHODS.value)
  if not cells:
    raise UserError(f'study {name} has no cells')
  if LIST.value:
    _list(document, cells)
    return None
  if WORKDIR.value is None:
    raise UserError('say where the study is to be kept: --workdir=runs/NAME')
  if write:
    study = grow(manifest.begin(WORKDIR.value, name, document, cells))
    if len(study.cells) > len(cells):
      print(f'{study.workdir} holds {len(study.cells) - len(cells)} more cells of this study, which are trained too')
    return study
  # Not even asked whether it can be reached, where it is an address.
  workdir = epath.Path(WORKDIR.value) if '://' in WORKDIR.value else objects.absolute(WORKDIR.value)
  return manifest.Study(workdir, name, document, tuple(cells))


def grow(study):
  """The study with the rates that --extend adds to grids that are done; the same one where there is nothing to add."""
  if not EXTEND.value:
    return study
  from zeroinit.report.groups import beyond_the_edge, gather  # takes a second to import

  grown = beyond_the_edge(gather(study))
  if grown:
    print(f'{len(grown)} more cells, since an optimal learning rate is at an end of its grid', flush=True)
    study = manifest.begin(study.workdir, study.name, study.document, [*study.cells, *grown])
  return study


def raise_failures(study):
  """Raises UserError where cells failed that no worker has finished since."""
  finished = study.finished()
  failures = {identity: message for identity, message in study.failures().items() if identity not in finished}
  if failures:
    identity, message = next(iter(failures.items()))
    raise UserError(f'{len(failures)} of {len(study.cells)} cells failed, such as {identity}: {message}; the same '
                    'command tries them again')


def worker_command(study, *more, python=sys.executable):
  """What a launcher starts on every device, machine or slice, as a list."""
  keep = ['--keep_checkpoints'] if KEEP_CHECKPOINTS.value else []
  return [python, '-m', 'zeroinit.studies.worker', f'--workdir={study.workdir}', *keep, *more]


def _axis(text):
  """'learning_rate=2^-3,0.25' -> ('learning_rate', [0.125, 0.25])"""
  field, equals, values = text.partition('=')
  if not (field and equals and values):
    raise UserError(f'--set={text}: write --set=FIELD=VALUE')
  return field, [_value(value) for value in values.split(',')]


def _value(text):
  power = re.fullmatch(r'2\^(-?\d{1,3})', text)
  if power:
    return 2 ** int(power[1])  # an int where it is one: a batch size must be
  if text.lower() in ('true', 'false'):
    return text.lower() == 'true'
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


def _list(document, cells):
  print(document, end='\n\n')
  names = list(dict.fromkeys(itertools.chain.from_iterable(cell.fields for cell in cells)))
  changing = [name for name in names if len({cell.fields.get(name) for cell in cells}) > 1]
  for index, cell in enumerate(cells):
    print(f'{index:5d}  {cell.method:<24} {cell.network:<12}',
          '  '.join(f'{name} {_short(cell.fields.get(name))}' for name in changing))
  flop, images = sum(cell.flop for cell in cells), sum(cell.images for cell in cells)
  data = ' and '.join(dict.fromkeys(cell.dataset for cell in cells))
  print(f'\n{len({cell.program for cell in cells})} compiled programs, {images:.3g} training images of {data}, '
        f'{flop:.3g} floating-point operations: about {flop / ASSUMED_FLOPS / 3600:.2g} hours on {ASSUMED} (assumed)')
  print(f'{len(cells)} cells')


def _short(value):
  return f'{value:g}' if isinstance(value, float) else value
