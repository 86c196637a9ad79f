"""Whether a process grows: its resident memory over 10,000 updates of one run, and over 200 cells in one worker.

  python -m benchmarks.resident_memory --record=results/trust/memory.json                  # and memory.png beside it

The run is WRN-10-1 on the digits with 200 evaluations; the cells are of 8 compiled programs, 25 of each. Slopes are of
straight lines fitted to all samples but those of the first tenth, in which everything is loaded and compiled. Beside
all that is resident, what the process itself has allocated: the system may drop pages of mapped files at any time.
Linux only.
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import time

import matplotlib.pyplot as plt
import numpy as np
from absl import flags

from benchmarks import command, record
from zeroinit import command_line
from zeroinit.runs import run_directory
from zeroinit.studies import manifest, sweeps
from zeroinit.system.errors import UserError

UPDATES = flags.DEFINE_integer('updates', 10_000, 'Of the run.', 1000)
CELLS = flags.DEFINE_integer('cells', 200, 'Of the study, a multiple of 8.', 8)
flags.adopt_module_key_flags(record)  # so that --help shows it

EVERY = 0.25  # seconds between two samples
PER_EPOCH = 22
METHODS = ('none', 'zeroinit', 'batch_norm', 'fixup')
DEPTHS = (10, 16)


def watched(words, reached, last):
  """[(progress, MB resident, MB of them allocated)] of a process while it works.

  words: of the command; reached: called to find out how far it is; last: where it ends.
  """
  with tempfile.TemporaryFile() as log:
    process = subprocess.Popen([sys.executable, '-m', *map(str, words)], stdout=log, stderr=subprocess.STDOUT)
    samples, said = [], time.monotonic()
    while process.poll() is None:
      status = pathlib.Path(f'/proc/{process.pid}/status').read_text()
      sizes = [int(size) * 1024 / 1e6 for size in re.findall(r'(?:VmRSS|RssAnon):\s+(\d+) kB', status)]
      if sizes and 0 < (at := reached()) < last:  # then it cleans up
        samples.append((at, *sizes))
        if time.monotonic() > said + 20:
          said = time.monotonic()
          print(f'{at:,} of {last:,}: {samples[-1][1]:,.0f} MB', flush=True)
      time.sleep(EVERY)
    if process.returncode:
      log.seek(0)
      raise UserError(f'it failed: {command.reason(log.read().decode(), process.returncode)}')
  return samples


def over_updates(directory):
  """Samples over the updates of one run."""
  workdir = directory / 'run'
  metrics = workdir / 'metrics.jsonl'

  def step():
    return run_directory.Run(workdir).records[-1]['step'] if metrics.exists() else 0

  return watched(['zeroinit.main', '--config=configs/digits.py', '--config.depth=10', f'--workdir={workdir}',
                  f'--config.epochs={UPDATES.value / PER_EPOCH}', '--config.evaluations=200'], step, UPDATES.value)


def over_cells(directory):
  """Samples over the cells that one worker trains."""
  of_each = CELLS.value // (len(METHODS) * len(DEPTHS))
  axes = {'depth': list(DEPTHS), 'learning_rate': [2.0**-6], 'seed': list(range(of_each)), 'epochs': [1.0],
          'evaluations': [1]}
  swept = [(f'configs/digits.py:{method}', {}) for method in METHODS]
  study = manifest.begin(directory / 'study', 'memory', 'Small cells.', sweeps.expand(swept, axes))
  return watched(['zeroinit.studies.worker', f'--workdir={study.workdir}'], lambda: len(study.finished()), CELLS.value)


def slopes(samples):
  """MB per unit of progress, resident and allocated, without the first tenth."""
  at, *memory = np.array(samples).T
  late = at > at.max() / 10
  return [float(np.polyfit(at[late], of[late], 1)[0]) for of in memory]


def draw(path, updates, cells):
  figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout='constrained')
  for axis, samples, unit, per in zip(axes, (updates, cells), ('updates of one run', 'cells of a study'), (1000, 1),
                                      strict=True):
    at, *memory = np.array(samples).T
    late, rises = at > at.max() / 10, slopes(samples)
    for of, rise, name in zip(memory, rises, ('resident', 'allocated'), strict=True):
      axis.plot(at, of, '.', markersize=3, label=name)
      axis.plot(at[late], of[late].mean() + rise * (at[late] - at[late].mean()), 'k-', linewidth=1)
    resident, allocated = (f'{per * rise:+.2f}' for rise in rises)
    each = f'{per:,} updates' if per > 1 else 'cell'
    axis.set_title(f'{resident} MB resident, {allocated} MB allocated per {each}', fontsize='medium')
    axis.set_xlabel(unit)
  axes[0].legend(loc='lower right')
  of_each = CELLS.value // (len(METHODS) * len(DEPTHS))
  for change in range(of_each, CELLS.value, of_each):
    axes[1].axvline(change, color='0.8', linewidth=0.8, zorder=0)
  axes[1].text(0.99, 0.02, 'grey lines: another compiled program', color='0.5', ha='right', transform=axes[1].transAxes)
  axes[0].set_ylabel('memory, MB')
  axes[0].set_ylim(0)
  figure.savefig(path, dpi=120)


def thinned(samples, count=400):
  return [[at, *(round(of, 1) for of in memory)] for at, *memory in samples[:: -(-len(samples) // count)]]


def _say(what, samples):
  resident, allocated = samples[-1][1:]
  rises = ' and '.join(f'{rise * samples[-1][0]:+.0f} MB' for rise in slopes(samples))
  print(f'{what}: {resident:,.0f} MB at the end, {allocated:,.0f} MB of them allocated; {rises} over all by the fitted '
        'lines', flush=True)


def main(argv):
  del argv
  path = record.prepare()
  with tempfile.TemporaryDirectory(prefix='memory-') as directory:
    updates = over_updates(pathlib.Path(directory))
    _say(f'{UPDATES.value:,} updates', updates)
    cells = over_cells(pathlib.Path(directory))
    _say(f'{CELLS.value:,} cells', cells)
  if path:
    draw(path.with_suffix('.png'), updates, cells)
  record.write(path, {
      'of': ['resident', 'allocated'], 'updates': UPDATES.value,
      'mb_per_1000_updates': [1000 * rise for rise in slopes(updates)], 'cells': CELLS.value,
      'programs': len(METHODS) * len(DEPTHS), 'mb_per_cell': slopes(cells),
      'mb_over_updates': thinned(updates), 'mb_over_cells': thinned(cells)})


if __name__ == '__main__':
  command_line.run(main)
