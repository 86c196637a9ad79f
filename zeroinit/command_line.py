"""How every command here starts and fails: a user's mistake is one line on standard error and a non-zero exit code."""

import signal
import sys
import traceback

import jax
from absl import app, flags, logging

from zeroinit.errors import UserError

MISTAKE = 2  # exit code


def run(main):
  """absl's `app.run(main)`, with `--jax_*` flags, and without a traceback for what the user can mend."""
  jax.config.config_with_absl()
  flags.FLAGS.set_default('verbosity', logging.WARNING)  # the libraries report every step at INFO
  try:
    app.run(main, flags_parser=_parse)
  except UserError as error:
    _fail(error)
  except OSError as error:
    _fail(f'{error.strerror or error}' + (f': {error.filename}' if error.filename else ''))
  except RuntimeError as error:
    if 'Unable to initialize backend' in str(error) or 'RESOURCE_EXHAUSTED' in str(error):
      _fail(_about_device(str(error)))
    raise
  except KeyboardInterrupt:
    sys.exit(128 + signal.SIGINT)


def _fail(message):
  print(f'error: {message}', file=sys.stderr, flush=True)
  sys.exit(MISTAKE)


def _about_device(message):
  first = message.strip().splitlines()[0]
  if 'RESOURCE_EXHAUSTED' in message:
    return f'the device has too little memory: try --config.remat, or more --config.micro_batches ({first})'
  return f'{first}; JAX_PLATFORMS says which devices to use: cpu, cuda or tpu'


def _parse(argv):
  """absl's parsing of the command line, with every failure as a UserError."""
  try:
    rest = flags.FLAGS(argv)
  except UserError:
    raise
  except flags.Error as error:
    raise UserError(' '.join(str(error).split('Error whilst parsing config file:')[0].split())
                    if 'Traceback' not in str(error) else str(error).strip().splitlines()[-1]) from error
  except Exception as error:
    raise UserError(_about_config(error)) from error
  if rest[1:]:
    raise UserError(f'unexpected argument {rest[1]!r}: flags are written --name=value')
  return rest


def _about_config(error):
  """What went wrong while a config file was loaded, and where in it."""
  if isinstance(error, SyntaxError):
    return f'{error.filename}:{error.lineno}: {error.msg}'
  message = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
  return f'the config: {message}'
