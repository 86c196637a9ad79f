"""Trains one network.

  python -m zeroinit.main --config=configs/digits.py --workdir=runs/first
  python -m zeroinit.main --config=configs/cifar10.py:fixup --workdir=runs/fixup --config.learning_rate=0.25

After the colon stands the name of a method, a row of METHODS in zeroinit/methods.py. Any field of the config can be
overridden; they are listed, with their meaning, in zeroinit/config.py. The same command with the same workdir goes on
where it was stopped. Exit codes: 0 finished or diverged, 2 a mistake in the command or its surroundings, 130 and 143
stopped by SIGINT and SIGTERM with everything saved.
"""

import shlex
import sys

from absl import flags
from ml_collections import config_flags

from zeroinit import command_line, processes
from zeroinit.errors import UserError

CONFIG = config_flags.DEFINE_config_file('config', None, 'File with get_config(method), and a method: FILE.py:METHOD.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Directory of the run.')
flags.adopt_module_key_flags(command_line)  # so that --help shows them


def main(argv):
  command_line.join_processes(expected=processes.expects_others())
  from zeroinit.train import Stopped, train  # takes a second to import, and --help need not wait for it

  overrides = config_flags.get_override_values(flags.FLAGS['config'])
  if 'method.name' in overrides:
    raise UserError(f'a method is chosen with its whole row: --config=FILE.py:{overrides["method.name"]}')
  try:
    result = train(CONFIG.value, WORKDIR.value, overrides)
  except Stopped as stopped:
    sys.exit(128 + stopped.signal)
  run = WORKDIR.value
  if result['status'] == 'diverged':
    then = 'a lower --config.learning_rate, in another --workdir'
  else:
    then = shlex.join(['python', '-m', 'zeroinit.probes.variance', f'--checkpoint={run}', f'--workdir={run}/probes'])
  command_line.end(f'{run}/result.json and metrics.jsonl', then)


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'workdir'])
  command_line.run(main)
