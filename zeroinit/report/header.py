"""The title of a report, which says what stands between its numbers and the papers', what was run, and how far."""

import collections
import math
import re
import time

from zeroinit.report import page
from zeroinit.report.published import PUBLISHED_SEEDS, departs, in_the_place_of
from zeroinit.runs import ending
from zeroinit.runs.progress import duration
from zeroinit.training.optimizer import about_rates
from zeroinit.training.protocol import PROTOCOLS

REFRESH_SECONDS = 20.0  # of the page of a running study


def title(gathered):
  """Name and first line of the study; in parentheses what departs from the paper, and what is missing."""
  study = gathered.study
  about = (study.document.strip().splitlines() or [''])[0]
  says = departures(gathered) + _partial(gathered)
  return f'{study.name}: {about}'.strip(': ') + (f' ({"; ".join(says)})' if says else '')


def departures(gathered):
  """Phrases that say why the numbers are not what the study's name promises, or not the paper's to compare with."""
  study, cells, results = gathered.study.name, gathered.study.cells, gathered.results
  protocols = {cell.protocol for cell in cells if cell.dataset in PROTOCOLS}
  protocols |= {result.get('protocol') for result in results.values() if result.get('dataset') in PROTOCOLS}
  phrases = []
  epochs = sorted({cell.fields['epochs'] for cell in cells if cell.fields['epochs'] < cell.whole_epochs})
  if epochs:
    phrases.append(f'SHORTENED to {" and ".join(f"{n:g}" for n in epochs)} epoch{"" if epochs == [1] else "s"}')
  if 'own' in protocols:
    phrases.append('own protocol')
  others = sorted({cell.dataset for cell in cells if departs(study, cell, 'dataset')})
  others += sorted({cell.network for cell in cells if departs(study, cell, 'network')})
  if others:
    phrases.append(f'on {" and ".join(others)}')
  narrower = [f'{network} for {in_the_place_of(study, network)}' for network in dict.fromkeys(
      cell.network for cell in cells) if in_the_place_of(study, network) != network]
  if narrower:
    phrases.append(' and '.join(narrower))
  in_the_paper, here = PUBLISHED_SEEDS.get(study), runs_per_rate(gathered.groups)[0]
  if in_the_paper and here < in_the_paper:
    phrases.append(f'{here} seed{"" if here == 1 else "s"} of {in_the_paper}')
  titles = {result.get('data', '') for result in results.values()}
  lossy = sorted(title for title in titles if re.search('JPEG( q[0-9]+)? copy', title))
  if lossy:
    phrases.append(f'lossy data: {" and ".join(lossy)}')
  partial = sorted(title for title in titles if re.search('[0-9] of [0-9]', title))
  if partial:
    phrases.append(f'partial data: {" and ".join(partial)}')
  return phrases


def what_was_run(gathered):
  """One paragraph: how many cells, on what, with which versions, and how long it took."""
  results, total = list(gathered.results.values()), len(gathered.study.cells)
  ended = collections.Counter(map(ending.status, results))
  failed = len(gathered.failures)
  counts = (f'{len(results)} of {total} cells have finished: {ended["done"]} done, {ended["at chance"]} at chance, '
            f'{ended["diverged"]} diverged, '
            f'{total - len(results)} missing' + (f' ({failed} of them failed)' if failed else '') + '.')
  if not results:
    return counts
  says = lambda field: _different(result[field] for result in results if result.get(field) is not None)
  versions = {}
  for result in results:
    for name, version in result.get('versions', {}).items():
      versions.setdefault(name, {})[version] = None
  threads = says('threads')
  settings = _different(' '.join(f'{name}={value}' for name, value in result.get('settings', {}).items()) or 'none'
                        for result in results)
  seconds = math.fsum(result.get('seconds') or 0.0 for result in results)
  fields = [cell.fields for cell in gathered.study.cells]
  parts = (
      f'Learning rates: {_different(about_rates(of["momentum"], of["dampening"]) for of in fields)}',
      f'Data: {says("data")}', f'Device: {says("device")}',
      f'CPU threads: {threads}' + (' (cells differ)' if ' and ' in threads else ''),
      *([f'Settings of XLA and JAX: {settings} (cells differ)'] if ' and ' in settings else []),
      'Versions: ' + ', '.join(f'{name} {_different(there)}' for name, there in versions.items()),
      f'Revision: {says("git_revision") or "not known"}', f'Time computed: {duration(seconds)}')
  return counts + ' ' + '. '.join(parts) + '.'


def progress(gathered, live):
  """How far a study is that is not over, as page.Progress.

  live: whether the report is being rewritten, although no worker may have begun a cell yet.
  """
  study, results = gathered.study, gathered.results
  running = study.running()
  ended = collections.Counter(map(ending.status, results.values()))
  seconds = study.seconds_left(results, len(running))
  left = '' if seconds is None else f'; about {duration(seconds)} left'
  goes_on = '' if live or running else '; the same command goes on'
  says = (f'{len(results)} of {len(study.cells)} cells done, {ended["diverged"]} of them diverged, '
          f'{ended["at chance"]} at chance; {len(running)} running, '
          f'{len(gathered.failures)} failed{left}{goes_on}. Written at {time.strftime("%Y-%m-%d %H:%M:%S %Z")}.')
  return page.Progress(len(results), len(study.cells), says, REFRESH_SECONDS if live or running else None)


def _partial(gathered):
  total = len(gathered.study.cells)
  return [f'PARTIAL: {len(gathered.results)} of {total} cells'] if gathered.missing else []


def runs_per_rate(groups):
  """(fewest, most) runs that the study has at any rate of any setting."""
  runs = []
  for group in groups:
    rates = [cell.learning_rate for cell in group.cells]
    runs += [rates.count(rate) for rate in set(rates)]
  return min(runs, default=0), max(runs, default=0)


def _different(values):
  """'2', or '2 and 16' where not all are the same."""
  return ' and '.join(dict.fromkeys(map(str, values)))
