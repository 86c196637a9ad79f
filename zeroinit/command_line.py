"""How every command here explains itself, starts, fails and ends.

A user's mistake is one line on standard error and a non-zero exit code. May import training and runs; knows nothing of
what a command does.
"""

import os
import re
import shutil
import signal
import sys
import textwrap
import traceback

import jax
from absl import app, flags, logging

from zeroinit import __version__
from zeroinit.system import pipes, processes, settings, users_files, watch
from zeroinit.system.errors import UserError, first_line, one_line, suggestion

MISTAKE = 2  # exit code
WIDEST = 120  # columns of --help

_DISTRIBUTED = flags.DEFINE_boolean('distributed', None, 'Join the other hosts of this pod, or tasks of this srun or '
                                    'mpirun. A single run does so by itself where their presence shows.')
_COORDINATOR = flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0, to join processes by hand.')
_PROCESSES = flags.DEFINE_integer('processes', None, 'With --coordinator: how many there are.')
_PROCESS = flags.DEFINE_integer('process', None, 'With --coordinator: which one this is, from 0.')


def run(main):
  """absl's `app.run(main)`, with `--jax_*` flags, and without a traceback for what the user can mend."""
  jax.config.config_with_absl()
  app.define_help_flags()  # of which one is replaced
  flags.DEFINE_flag(_Answer('help', 'h', 'Show this.', _help))
  flags.DEFINE_flag(_Answer('version', None, 'Show the versions of zeroinit and jax.', _version))
  try:
    try:
      app.run(_with_settings(main), flags_parser=_parse)
    finally:
      pipes.flush()
  except KeyboardInterrupt:
    _leave(128 + signal.SIGINT)
  except Exception as error:
    if pipes.nobody_reads(error):
      _leave(pipes.ENDED)
    message = mistake(error)
    if message is None:
      _give_up()
      raise
    if processes.count() > 1:
      watch.last_words()
    print(f'error: {message}', file=sys.stderr, flush=True)
    _leave(MISTAKE)


def _with_settings(main):
  """main, where neither the environment nor a --jax_* flag changes what is computed: see `settings`."""
  def stated(argv):
    with settings.stated():
      main(argv)

  return stated


def mistake(error):
  """The line about an exception that the user can do something about; None for one that nobody expected."""
  match error:
    case UserError():
      message = str(error)
    case OSError():
      message = f'{error.strerror or error}' + (f': {error.filename}' if error.filename else '')
    case RuntimeError() | AssertionError() | ValueError() if 'RESOURCE_EXHAUSTED' in str(error):
      message = ('the device has too little memory: try --config.remat, or more --config.micro_batches '
                 f'({first_line(error)})')
    case RuntimeError() | AssertionError() | ValueError() if processes.count() > 1 and (
        isinstance(error, jax.errors.JaxRuntimeError) or 'Gloo' in str(error)):
      message = f'another process of this run has ended, or is out of reach: see what it said ({first_line(error)})'
    case RuntimeError() | AssertionError() | ValueError() if _raised_in(error, 'xla_bridge.py'):
      message = f'no device to run on: JAX_PLATFORMS is {os.environ.get("JAX_PLATFORMS", "")!r} ({first_line(error)})'
    case _:
      return None
  return one_line(message)


def end(where, then):
  """Says the last line of a command: where its results are, and what to do next."""
  if processes.is_first():
    print(f'results: {where}; next: {then}', flush=True)


def join_processes(expected=False):
  """Joins the processes that the flags name; otherwise this one works alone.

  expected: whether there are others to join even where no flag says so.
  """
  by_hand = (_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
  if None not in by_hand:
    processes.join(*by_hand)
  elif by_hand != (None, None, None):
    raise UserError('--coordinator=HOST:PORT, --processes=N and --process=I belong together')
  elif expected if _DISTRIBUTED.value is None else _DISTRIBUTED.value:
    processes.join()


class _Answer(flags.BooleanFlag):
  """A flag that ends the command with an answer, whatever else the command line says or lacks."""

  def __init__(self, name, short_name, meaning, answer):
    """answer: function without arguments that returns the text."""
    super().__init__(name, False, meaning, short_name, allow_override=True)
    self._answer = answer

  def parse(self, argument):
    if self._parse(argument):
      print(self._answer())
      sys.exit()


def _version():
  return f'zeroinit {__version__}, jax {jax.__version__}'


def _help():
  """The command's docstring, which has examples, and its flags as they were defined; those to join processes last."""
  defined, joining = list(flags.FLAGS), flags.FLAGS.get_flags_for_module(__name__)
  shown = sorted(flags.FLAGS.get_key_flags_for_module(sys.argv[0]),
                 key=lambda flag: (flag in joining, defined.index(flag.name)))
  names = [f'--[no]{flag.name}' if flag.boolean else f'--{flag.name}' for flag in shown]
  margin = max(map(len, names), default=0) + 4
  width = max(margin + 20, min(shutil.get_terminal_size().columns, WIDEST))
  lines = [textwrap.fill(_meaning(flag), width, initial_indent=f'  {name}'.ljust(margin),
                         subsequent_indent=' ' * margin, break_on_hyphens=False)
           for name, flag in zip(names, shown, strict=True)]
  return '\n'.join([sys.modules['__main__'].__doc__.strip(), '', *lines, '',
                    '--version shows the versions, --helpfull the flags of absl and jax.'])


def _meaning(flag):
  """What a flag means, what it takes, and its default where it has one."""
  words = [flag.help.removesuffix(';\n    repeat this option to specify a list of values')]
  if flag.parser.syntactic_help:
    words.append(f'({flag.parser.syntactic_help})')
  if flag.default not in (None, False, []):
    words.append(f'Default: {flag.default_as_str[1:-1]}.')  # which is in quotes
  return ' '.join(words)


def _give_up():
  """Shows an error that nobody expected, and ends at once, where other processes wait for this one."""
  if processes.count() > 1:
    watch.last_words()
    traceback.print_exc()
    _leave(1)


def _leave(code):
  if processes.count() > 1:
    watch.leave(code)  # an exit in good order would wait for the others, who may be waiting for this process
  sys.exit(code)


def _raised_in(error, file):
  return traceback.extract_tb(error.__traceback__)[-1].filename.endswith(file)


def _parse(argv):
  """absl's parsing of the command line, with every failure as a UserError."""
  try:
    rest = flags.FLAGS([_located(word, before) for word, before in zip(argv, ['', *argv], strict=False)])
    if 'config' in flags.FLAGS:
      hasattr(flags.FLAGS.config, 'lock')  # a missing file is an error only once somebody looks
  except (UserError, BrokenPipeError):  # such as of `--help | head`
    raise
  except Exception as error:  # a config file is Python, so anything can come out of it
    raise UserError(_what_went_wrong(error)) from error
  if flags.FLAGS['verbosity'].using_default_value:
    flags.FLAGS.verbosity = logging.WARNING  # at INFO the libraries report their every step
  if rest[1:]:
    raise UserError(f'unexpected argument {rest[1]!r}: flags are written --name=value')
  return rest


def _located(word, before):
  """A word of the command line; where it is a config by name, by its file, since others ask for that."""
  from zeroinit.training.config_files import located  # not needed by every command

  if before in ('--config', '-config') and not word.startswith('-'):
    return located(word)
  flag, equals, config = word.partition('=')
  return f'{flag}={located(config)}' if flag in ('--config', '-config') and equals else word


def _what_went_wrong(error):
  """One line about an exception that came out of parsing flags or loading a config file."""
  text = str(error.args[0]) if error.args else type(error).__name__
  if 'as a ConfigDict' in text:
    return 'config.method is a group of fields; a method is chosen with --config=CONFIG:METHOD'
  if isinstance(error, SyntaxError):
    return f'{error.filename}:{error.lineno}: {error.msg}'
  if isinstance(error, OSError):
    return f'the config file cannot be read: {str(error).splitlines()[-1].split("to load: ")[-1].strip()}'
  if _raised_in(error, 'config_dict.py') and isinstance(error, (AttributeError, KeyError)):
    name, *near = re.findall(r'"?\b([\w.]+)\b"?', text.replace(r'\n', ' ').replace('Did you mean', ''))
    return f'the config has no field {name}' + (f"; did you mean '{near[0]}'?" if near else '')
  if "has no attribute 'get_config'" in text:
    return 'the config file has no function get_config'
  if isinstance(error, flags.UnrecognizedFlagError):
    return f'there is no flag --{error.flagname}{_flag_near(error.flagname)}'
  if isinstance(error, flags.Error) and 'Traceback' not in text:
    return ' '.join(text.split())
  last = text.strip().splitlines()[-1]
  if 'Traceback' in text:  # of the error that came out of the file, as text
    return f'the config file fails: {last}'
  where = traceback.extract_tb(error.__traceback__)[-1]
  return (f'the config file fails: {where.filename}:{where.lineno}: {type(error).__name__}: {last}'
          + users_files.about_configs(error))


def _flag_near(name):
  """As `suggestion`, for what is no flag: another flag, or the way to set the field of the config that it names."""
  from zeroinit.training.config import base_config  # not needed otherwise

  field = name.removeprefix('config.')
  if field in base_config('none') and 'set' in flags.FLAGS:
    return f"; did you mean '--set={field}=VALUE'?"
  if field in base_config('none') and 'config' in flags.FLAGS:
    return ' without --config=CONFIG' if field != name else f"; did you mean '--config.{field}'?"
  return suggestion(f'--{name}', [f'--{flag}' for flag in flags.FLAGS])
