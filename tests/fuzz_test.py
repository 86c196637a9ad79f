"""Bad input of every kind ends in one line, or is accepted and right: see `parsers` for what that means of each."""

import random

import command
import pytest
from absl import flags
from hypothesis import HealthCheck, given, settings

from tests.fuzz import ACCEPTED, REFUSED, fuzz, judge
from tests.parsers import PARSERS

FEW = {parser.name: 3 if parser.seconds > 0.1 else 12 for parser in PARSERS}


@pytest.fixture(scope='module', autouse=True)
def parsed_flags():
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


@pytest.mark.parametrize('parser', PARSERS, ids=lambda parser: parser.name)
def test_a_few(parser):
  """The same few each time; where one is wrong, the smallest that is."""
  @settings(max_examples=FEW[parser.name], derandomize=True, database=None, deadline=None,
            suppress_health_check=list(HealthCheck))
  @given(parser.inputs)
  def each(made):
    assert judge(parser, made) in (ACCEPTED, REFUSED)

  each()


@pytest.mark.slow
@pytest.mark.parametrize('parser', PARSERS, ids=lambda parser: parser.name)
def test_many(parser):
  """Others each time, from a seed that is printed."""
  number = random.randrange(10**6)
  print(f'python -m tests.fuzz --seed={number}')
  counts, found = fuzz(parser, 20 if parser.seconds > 0.1 else 100, number)
  assert not found, found
  assert counts.total() >= 20


def test_commands_end_in_one_line(tmp_path):
  """The same through the commands themselves."""
  (tmp_path / 'manifest.json').write_bytes(b'[' * 100_000)
  (tmp_path / 'metrics.jsonl').write_bytes(b'{"step": 1, "seconds": 2.0, "\xff": "half a character"}\n')
  for module, *words in (['zeroinit.report'], ['zeroinit.studies.worker'], ['zeroinit.main', '--config=digits']):
    code, _, errors = command.run(module, f'--workdir={tmp_path}', *words)
    assert (code, errors.count('\n')) == (2, 1) and 'is damaged' in errors, errors
