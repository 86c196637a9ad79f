"""Everything that reads what comes from outside is given input that is wrong, or nearly right: see `parsers`.

  python -m tests.fuzz --inputs=2000 --seed=0 --record=results/trust/fuzz.json

Prints how many inputs each parser accepted and refused. One that ends in a traceback, or is accepted and wrong, is
shown with the input that led to it, and makes the exit code 1.
"""

import argparse
import collections
import contextlib
import io
import json
import os
import pathlib
import sys
import tempfile
import time
import traceback
import warnings

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

from absl import flags
from hypothesis import HealthCheck, Phase, given, seed, settings
from rich.console import Console
from rich.table import Table

from tests.parsers import PARSERS
from zeroinit import command_line
from zeroinit.system import environment

OUTCOMES = ACCEPTED, REFUSED, WRONG, TRACEBACK = 'accepted', 'refused', 'accepted and wrong', 'traceback'
LONGEST_ERROR = 2050  # characters of the line about a mistake
HURRIED = 0.3  # seconds: parsers that take longer get a part of the inputs


def judge(parser, made):
  """ACCEPTED or REFUSED. Raises AssertionError where input is accepted and wrong, and whatever else comes out."""
  with tempfile.TemporaryDirectory(prefix='zeroinit-fuzz-') as place, warnings.catch_warnings(), \
      contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter('ignore')
    try:
      parser.parse(made, pathlib.Path(place))
    except AssertionError:
      raise
    except Exception as error:
      message = command_line.mistake(error)
      if message is None:
        raise
      assert message.strip() and message.isprintable() and len(message) < LONGEST_ERROR, message
      return REFUSED
  return ACCEPTED


def fuzz(parser, inputs, number):
  """{outcome: how often} of so many inputs, drawn from a seed; and [(outcome, input, traceback)] of bad ones."""
  counts, found = collections.Counter(), {}

  @seed(number)
  @settings(max_examples=inputs, phases=[Phase.generate], database=None, deadline=None,
            suppress_health_check=list(HealthCheck))
  @given(parser.inputs)
  def each(made):
    try:
      counts[judge(parser, made)] += 1
    except Exception as error:
      outcome = WRONG if isinstance(error, AssertionError) else TRACEBACK
      counts[outcome] += 1
      where = traceback.extract_tb(error.__traceback__)[-1]
      found.setdefault((outcome, where.filename, where.lineno), (outcome, repr(made), traceback.format_exc()))

  each()
  return counts, list(found.values())


def main():
  arguments = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  arguments.add_argument('--inputs', type=int, default=2000, help='in all')
  arguments.add_argument('--seed', type=int, default=0)
  arguments.add_argument('--record', type=pathlib.Path, help='JSON file for the counts')
  arguments.add_argument('--only', help='parsers whose name contains this')
  arguments = arguments.parse_args()
  flags.FLAGS(['fuzz'])
  parsers = [parser for parser in PARSERS if (arguments.only or '') in parser.name]
  shares = [0.2 if parser.seconds > HURRIED else 1.0 for parser in parsers]
  table = Table('parser', 'inputs', *OUTCOMES, 'seconds')
  rows, bad = [], []
  for parser, share in zip(parsers, shares, strict=True):
    began = time.monotonic()
    counts, found = fuzz(parser, max(1, round(arguments.inputs * share / sum(shares))), arguments.seed)
    rows.append({'parser': parser.name, 'accepted_means': ' '.join(parser.parse.__doc__.split()),
                 'inputs': counts.total(), **{name: counts[name] for name in OUTCOMES}})
    table.add_row(parser.name, *(str(rows[-1][name]) for name in ('inputs', *OUTCOMES)),
                  f'{time.monotonic() - began:.1f}')
    for outcome, made, trace in found:
      bad.append(parser)
      print(f'{parser.name}: {outcome}: {made[:300]}\n{trace[-1500:]}', file=sys.stderr, flush=True)
  total = {name: sum(row[name] for row in rows) for name in ('inputs', *OUTCOMES)}
  table.add_row('all', *map(str, total.values()))
  Console(width=120).print(table)
  if arguments.record:
    arguments.record.parent.mkdir(parents=True, exist_ok=True)
    record = {'command': f'python -m tests.fuzz --inputs={arguments.inputs} --seed={arguments.seed}',
              'git_revision': environment.git_revision(), **total, 'parsers': rows}
    arguments.record.write_text(json.dumps(record, indent=2) + '\n')
  sys.exit(bool(bad))


if __name__ == '__main__':
  main()
