"""How every command here starts and fails: a user's mistake is one line on standard error and a non-zero exit code."""

import os
import re
import signal
import sys
import traceback

import jax
from absl import app, flags, logging

from zeroinit import processes
from zeroinit.errors import UserError, first_line

MISTAKE = 2  # exit code

_DISTRIBUTED = flags.DEFINE_boolean('distributed', None, 'Join the other hosts of this pod, or tasks of this srun or '
                                    'mpirun. A single run does so by itself where their presence shows.')
_COORDINATOR = flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0, to join processes by hand.')
_PROCESSES = flags.DEFINE_integer('processes', None, 'With --coordinator: how many there are.')
_PROCESS = flags.DEFINE_integer('process', None, 'With --coordinator: which one this is, from 0.')


def run(main):
  """absl's `app.run(main)`, with `--jax_*` flags, and without a traceback for what the user can mend."""
  jax.config.config_with_absl()
  try:
    app.run(main, flags_parser=_parse)
  except UserError as error:
    _fail(error)
  except OSError as error:
    _fail(f'{error.strerror or error}' + (f': {error.filename}' if error.filename else ''))
  except (RuntimeError, AssertionError, ValueError) as error:
    if 'RESOURCE_EXHAUSTED' in str(error):
      _fail('the device has too little memory: try --config.remat, or more --config.micro_batches '
            f'({first_line(error)})')
    if processes.count() > 1 and (isinstance(error, jax.errors.JaxRuntimeError) or 'Gloo' in str(error)):
      _fail(f'another process of this run has ended, or is out of reach: see what it said ({first_line(error)})')
    if not _raised_in(error, 'xla_bridge.py'):
      _give_up()
      raise
    _fail(f'no device to run on: JAX_PLATFORMS is {os.environ.get("JAX_PLATFORMS", "")!r} ({first_line(error)})')
  except KeyboardInterrupt:
    _leave(128 + signal.SIGINT)
  except Exception:
    _give_up()
    raise


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


def _fail(message):
  print(f'error: {message}', file=sys.stderr, flush=True)
  _leave(MISTAKE)


def _give_up():
  """Shows an error that nobody expected, and ends at once, where other processes wait for this one."""
  if processes.count() > 1:
    traceback.print_exc()
    _leave(1)


def _leave(code):
  if processes.count() > 1:
    os._exit(code)  # an exit in good order would wait for the others, who may be waiting for this process
  sys.exit(code)


def _raised_in(error, file):
  return traceback.extract_tb(error.__traceback__)[-1].filename.endswith(file)


def _parse(argv):
  """absl's parsing of the command line, with every failure as a UserError."""
  try:
    rest = flags.FLAGS(argv)
    if 'config' in flags.FLAGS:
      hasattr(flags.FLAGS.config, 'lock')  # a missing file is an error only once somebody looks
  except UserError:
    raise
  except Exception as error:  # a config file is Python, so anything can come out of it
    raise UserError(_what_went_wrong(error)) from error
  if flags.FLAGS['verbosity'].using_default_value:
    flags.FLAGS.verbosity = logging.WARNING  # at INFO the libraries report their every step
  if rest[1:]:
    raise UserError(f'unexpected argument {rest[1]!r}: flags are written --name=value')
  return rest


def _what_went_wrong(error):
  """One line about an exception that came out of parsing flags or loading a config file."""
  text = str(error.args[0]) if error.args else type(error).__name__
  if 'as a ConfigDict' in text:
    return 'config.method is a group of fields; a method is chosen with --config=FILE.py:METHOD'
  if isinstance(error, SyntaxError):
    return f'{error.filename}:{error.lineno}: {error.msg}'
  if isinstance(error, OSError):
    return f'the config file cannot be read: {str(error).splitlines()[-1].split("to load: ")[-1].strip()}'
  if _raised_in(error, 'config_dict.py') and isinstance(error, AttributeError):
    name, *suggestion = re.findall(r'"?\b([\w.]+)\b"?', text.replace(r'\n', ' ').replace('Did you mean', ''))
    return f'the config has no field {name}' + (f'; did you mean {suggestion[0]}?' if suggestion else '')
  if "has no attribute 'get_config'" in text:
    return 'the config file has no function get_config'
  if isinstance(error, flags.Error) and 'Traceback' not in text:
    return ' '.join(text.split())
  last = text.strip().splitlines()[-1]
  if 'Traceback' in text:  # of the error that came out of the file, as text
    return f'the config file fails: {last}'
  where = traceback.extract_tb(error.__traceback__)[-1]
  return f'the config file fails: {where.filename}:{where.lineno}: {type(error).__name__}: {last}'
