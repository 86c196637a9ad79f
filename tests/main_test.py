import command
import pytest


def test_help_says_what_to_type():
  code, output, errors = command.run('zeroinit.main', '--help')
  assert 'zeroinit train digits --workdir=runs/first' in output
  assert 'Traceback' not in errors and code == 0


@pytest.mark.slow
def test_the_libraries_are_quiet(tmp_path):
  code, output, errors = command.run('zeroinit.main', '--config=configs/digits.py:multiplier', '--config.depth=10',
                                     '--config.epochs=0.1', f'--workdir={tmp_path / "run"}')
  assert code == 0 and not errors
  assert 'alpha starts at 0 in all 3 blocks' in output
  run = tmp_path / 'run'
  assert output.splitlines()[-1] == (f'results: {run}/result.json and metrics.jsonl; next: a lower '
                                     '--config.learning_rate or more --config.epochs, in another --workdir')
