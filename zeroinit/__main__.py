"""What does batch normalization do for residual networks, and what can replace it?

  zeroinit train digits:zeroinit --workdir=runs/first      one network on a data set
  zeroinit study digits --workdir=runs/digits              the fair comparison: a grid of rates for every method, here
  zeroinit slurm figure1 --workdir=DIR --partition=gpu     the same as an array of Slurm tasks
  zeroinit tpu figure1 --workdir=gs://B/DIR --tpu=NAMES    the same on TPU slices
  zeroinit work --workdir=DIR                              one more worker for a study that has begun
  zeroinit report --workdir=DIR                            tables, figures and claims of a study, at any time
  zeroinit probe variance digits:none --workdir=DIR        a look inside, of which there are ten
  zeroinit methods                                         what is compared: each row of METHODS
  zeroinit configs                                         the configs that come with the package
  zeroinit studies                                         the papers' tables and figures, one study each

A network is named CONFIG:METHOD, where CONFIG is one of `zeroinit configs` or the path of your own file. Each command
explains itself: zeroinit study --help. `python -m zeroinit` is the same as `zeroinit`. The probes:
%s; and page, which gathers what they wrote.
"""

import dataclasses
import difflib
import inspect
import pathlib
import pkgutil
import runpy
import sys

import zeroinit
from zeroinit.studies import named
from zeroinit.system import bundled, pipes

HERE = pathlib.Path(zeroinit.__file__).parent
# The module of each verb, and the flag for which the word after it stands.
VERBS = {
    'train': ('zeroinit.main', 'config'),
    'study': ('zeroinit.launch.local', 'study'),
    'slurm': ('zeroinit.launch.slurm', 'study'),
    'tpu': ('zeroinit.launch.tpu', 'study'),
    'work': ('zeroinit.studies.worker', 'workdir'),
    'report': ('zeroinit.report', 'workdir'),
    'probe': (None, 'config'),
}


def main():
  """The command `zeroinit`: looks only at its first words, so that its help takes no time, and hands on the rest."""
  words = sys.argv[1:]
  try:
    _answer(words)
    pipes.flush()
  except BrokenPipeError as error:
    if not pipes.nobody_reads(error):
      raise
    sys.exit(pipes.ENDED)


def _answer(words):
  if not words or words[0] in ('--help', '-h', 'help'):
    print(__doc__.strip() % ', '.join(probes()))
  elif words[0] == '--version':
    print(f'zeroinit {zeroinit.__version__}')
  elif words[0] in LISTS:
    _refuse(words[1:])
    print(LISTS[words[0]]())
  else:
    module, flags = parsed(words)
    sys.argv[1:] = flags
    runpy.run_module(module, run_name='__main__', alter_sys=True)


def parsed(words):
  """(module, its flags) of the words after `zeroinit`. Ends the process with a line where they are no command."""
  verb, *rest = words
  if verb not in VERBS:
    _fail(f'there is no command {verb!r}', verb, [*VERBS, *LISTS])
  module, flag = VERBS[verb]
  if verb == 'probe':
    if not rest or rest[0].startswith('-'):
      _fail(f'say which probe: {", ".join(probes())}, or page, which gathers what they wrote')
    name, *rest = rest
    if name not in (*probes(), 'page'):
      _fail(f'there is no probe {name!r}', name, [*probes(), 'page'])
    module = f'zeroinit.probes.{name}'
  if rest and not rest[0].startswith('-'):
    # A file of one's own holds a study in its `sweep`.
    own = flag == 'study' and '.py' in rest[0]
    rest[0] = f'--{"config" if own else flag}={rest[0]}'
  return module, rest


def probes():
  """The names of the probes, each of which is a folder."""
  return [module.name for module in pkgutil.iter_modules([str(HERE / 'probes')]) if module.ispkg]


def _methods():
  from zeroinit.methods import METHODS, Method

  plain = dataclasses.asdict(Method())
  differs = lambda row: {name: value for name, value in dataclasses.asdict(row).items() if value != plain[name]}
  says = lambda row: ', '.join(f'{name}={value!r}' for name, value in differs(row).items())
  return _table({name: says(row) or 'no normalization, and nothing in its place' for name, row in METHODS.items()})


def _configs():
  first = lambda path: pathlib.Path(path).read_text().removeprefix('"""').splitlines()[0].removesuffix('"""')
  return _table({name: first(path) for name, path in bundled.configs().items()})


def _studies():
  return _table({name: inspect.getdoc(getattr(named, name)).splitlines()[0] for name in named.names()})


LISTS = {'methods': _methods, 'configs': _configs, 'studies': _studies}


def _table(rows):
  width = max(map(len, rows)) + 2
  return '\n'.join(f'{name:<{width}}{says}'.rstrip() for name, says in rows.items())


def _refuse(words):
  if words:
    _fail(f'unexpected argument {words[0]!r}')


def _fail(message, wrong=None, names=()):
  near = difflib.get_close_matches(wrong, names, 1) if wrong else []
  message += f"; did you mean '{near[0]}'?" if near else f'; there are: {", ".join(names)}' if names else ''
  print(f'error: {message}', file=sys.stderr)
  sys.exit(2)


if __name__ == '__main__':
  main()
