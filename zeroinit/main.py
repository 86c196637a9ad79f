"""Trains one network.

  zeroinit train digits --workdir=runs/first
  zeroinit train cifar10:fixup --workdir=runs/fixup --config.learning_rate=0.25

Before the colon stands one of `zeroinit configs` or the path of your own file, after it the name of a method, a row of
METHODS in zeroinit/methods.py. Any field of the config can be overridden; they are listed, with their meaning, in
zeroinit/training/config.py. The same command with the same workdir goes on where it was stopped. Exit codes: 0 finished
or diverged, 2 a mistake in the command or its surroundings, 130 and 143 stopped by SIGINT and SIGTERM with everything
saved.
"""

import shlex
import sys

from absl import flags
from ml_collections import config_flags

from zeroinit import command_line
from zeroinit.runs import ending
from zeroinit.system import processes
from zeroinit.system.errors import UserError

CONFIG = config_flags.DEFINE_config_file('config', None, 'CONFIG:METHOD, where CONFIG is one of `zeroinit configs`, or '
                                         'your FILE.py with get_config(method).')
WORKDIR = flags.DEFINE_string('workdir', None, 'Directory of the run.')
flags.adopt_module_key_flags(command_line)  # so that --help shows them


def main(argv):
  command_line.join_processes(expected=processes.expects_others())
  from zeroinit.runs.train import Stopped, train  # takes a second to import, and --help need not wait for it

  overrides = config_flags.get_override_values(flags.FLAGS['config'])
  if 'method.name' in overrides:
    raise UserError(f'a method is chosen with its whole row: --config=CONFIG:{overrides["method.name"]}')
  try:
    result = train(CONFIG.value, WORKDIR.value, overrides)
  except Stopped as stopped:
    sys.exit(128 + stopped.signal)
  run = WORKDIR.value
  then = {'diverged': 'a lower --config.learning_rate, in another --workdir',
          'at chance': 'a lower --config.learning_rate or more --config.epochs, in another --workdir',
          'done': shlex.join(['zeroinit', 'probe', 'variance', f'--checkpoint={run}', f'--workdir={run}/probes'])}
  command_line.end(f'{run}/result.json and metrics.jsonl', then[ending.status(result)])


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'workdir'])
  command_line.run(main)
