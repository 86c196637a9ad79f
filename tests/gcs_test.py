"""Files shared between processes, and runs in gs://bucket/folder: real clients, a fake of the service, real kills."""

import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import command
import fake_gcs
import pytest

pytest.importorskip('gcsfs')

TIMINGS = ('seconds', 'images_per_second')
pytestmark = pytest.mark.usefixtures('programs_apart')

FLAGS = ('--config=configs/digits.py', '--config.epochs=2', '--config.evaluations=10', '--config.seed=7')

CREATE = """
import sys
from zeroinit.system.objects import create
root, me = sys.argv[1:]
print('ready', flush=True)
sys.stdin.readline()
print(*(i for i in range(20) if create(f'{root}/{i}', me)))
"""

LOOK = """
import json, sys
from etils import epath
from zeroinit.system import objects
folder = epath.Path(sys.argv[1])
for _ in sys.stdin:
  texts = {path.name: path.read_text() for path in folder.iterdir() if not path.is_dir()}
  print(json.dumps([texts, sorted(path.name for path in folder.glob('*')), (folder / 'new').exists(),
                    (folder / 'sub').is_dir(), (folder / 'sub' / 'new').exists()]), flush=True)
"""

WRITE = """
import sys
from etils import epath
from zeroinit.system.objects import create
folder = epath.Path(sys.argv[1])
(folder / 'old').write_text('longer than before')
create(folder / 'new', 'new')
create(folder / 'sub' / 'new', 'new')
"""

SIZES = """
import sys
from etils import epath
folder = epath.Path(sys.argv[1])
for i in range(50):
  (folder / 'many' / str(i)).write_text(str(i))
assert {path.read_text() for path in (folder / 'many').iterdir()} == {str(i) for i in range(50)}
assert len(list((folder / 'many').glob('1*'))) == 11
big = bytes(range(256)) * 30000  # more than gcsfs sends at once
(folder / 'big').write_bytes(big)
with (folder / 'big').open('rb') as file:
  assert file.read() == big
  file.seek(1000)
  assert file.read(300) == big[1000:1300]
(folder / 'empty').write_text('')
assert (folder / 'empty').read_text() == ''
(folder / 'big').unlink()
assert not (folder / 'big').exists()
(folder / 'many').rmtree()
assert [path.name for path in folder.iterdir()] == ['empty']
"""


MISTAKES = """
import sys
from etils import epath
from zeroinit.system import objects
from zeroinit.system.errors import UserError
objects.check_reachable(epath.Path('gs://bucket'))
objects.check_reachable(epath.Path('gs://bucket/not/yet'))
objects.check_reachable(epath.Path('/not/yet'))
folder = epath.Path('gs://other/folder')
for mistake in (lambda: objects.check_reachable(folder), lambda: objects.create(folder / 'a', 'text'),
                lambda: objects.replace(folder / 'a', b'text'), lambda: objects.create('/not/there/a', 'text')):
  try:
    mistake()
  except UserError as error:
    print(error)
"""


@pytest.fixture
def server():
  with fake_gcs.serve('bucket') as server:
    yield server


def start(program, *arguments, environment):
  return subprocess.Popen([sys.executable, '-c', program, *map(str, arguments)], env=os.environ | environment,
                          text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def run(program, *arguments, environment):
  process = start(program, *arguments, environment=environment)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 0
  return output


@pytest.mark.slow
@pytest.mark.parametrize('place', ['local', 'gs'])
def test_of_all_processes_that_create_a_file_one_succeeds(server, tmp_path, place):
  root = tmp_path if place == 'local' else 'gs://bucket/locks'
  processes = [start(CREATE, root, me, environment=server.environment) for me in range(4)]
  for process in processes:
    assert process.stdout.readline() == 'ready\n'
  outputs = [process.communicate('go\n', timeout=60)[0] for process in processes]
  winners = {name: str(me) for me, output in enumerate(outputs) for name in output.split()}
  assert sum(len(output.split()) for output in outputs) == 20
  if place == 'local':
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
  else:
    found = {name.removeprefix('locks/'): held.content.decode() for name, held in server.objects.items()}
  assert found == winners and len(winners) == 20


def test_a_process_sees_at_once_what_another_has_written(server):
  server.put('folder/old', b'old')
  reader = start(LOOK, 'gs://bucket/folder', environment=server.environment)

  def look():
    reader.stdin.write('look\n')
    reader.stdin.flush()
    return json.loads(reader.stdout.readline())

  assert look() == [{'old': 'old'}, ['old'], False, False, False]
  run(WRITE, 'gs://bucket/folder', environment=server.environment)
  texts = {'old': 'longer than before', 'new': 'new'}
  assert look() == [texts, ['new', 'old', 'sub'], True, True, True]
  del server.objects['folder/new']
  del server.objects['folder/sub/new']
  assert look() == [{'old': 'longer than before'}, ['old'], False, False, False]
  reader.communicate()


def test_a_bucket_that_does_not_exist_is_a_mistake_of_the_user(server):
  said = run(MISTAKES, environment=server.environment).splitlines()
  assert [line.split(';')[0] for line in said] == [
      'cannot reach gs://other/folder: there is no such bucket',
      'cannot write gs://other/folder/a: there is no such bucket',
      'cannot write gs://other/folder/a: there is no such bucket',
      'cannot write /not/there/a: No such file or directory']


def test_the_fake_holds_objects_of_any_size_and_number(server):
  run(SIZES, 'gs://bucket/folder', environment=server.environment)


def metrics(text):
  """metrics.jsonl without timings: equal lists are equal to the last bit."""
  return [json.dumps({name: value for name, value in json.loads(line).items() if name not in TIMINGS})
          for line in text.splitlines()]


@pytest.mark.slow
def test_killed_at_any_moment_a_run_in_a_bucket_ends_as_in_a_directory(server, tmp_path):
  """SIGKILL while the first checkpoint is on its way, then at random moments, then while an old one is removed."""
  code, _, errors = command.run('zeroinit.main', *FLAGS, f'--workdir={tmp_path}/run')
  assert code == 0, errors

  rng = random.Random(0)

  def saving():
    return any(name.startswith('run/checkpoints/') for name in list(server.objects))

  def removing():
    return any(method == 'DELETE' and '/default/d/' in path for method, path in list(server.requests))

  def recorded(evaluations):
    held = server.objects.get('run/metrics.jsonl')
    return held is not None and held.content.count(b'\n') >= evaluations

  kills = [saving, lambda: recorded(2), lambda: recorded(4), removing]
  for due in [*kills, None]:
    process = command.start('zeroinit.main', *FLAGS, '--workdir=gs://bucket/run', '--config.checkpoint_seconds=0',
                            **server.environment)
    if due:
      while not due() and process.poll() is None:
        time.sleep(0.01)
      time.sleep(rng.uniform(0, 0.3))
      process.kill()
    output, errors = process.communicate()
    assert process.returncode == (-signal.SIGKILL if due else 0), errors

  assert 'going on from step' in output
  written = {name.removeprefix('run/'): held.content for name, held in server.objects.items()}
  assert metrics(written['metrics.jsonl'].decode()) == metrics((tmp_path / 'run' / 'metrics.jsonl').read_text())
  there, here = json.loads(written['result.json']), json.loads((tmp_path / 'run' / 'result.json').read_text())
  for result in (there, here):
    del result['seconds'], result['overrides'], result['checksums']
  assert there == here
  assert {name.split('/')[1] for name in written if name.startswith('checkpoints/')} == {'40', '44'}
  assert any(name.startswith('events') for name in written)


@pytest.mark.slow
def test_a_study_in_a_bucket_with_a_worker_killed(server, tmp_path):
  """From the launcher to the report, each cell done once, and the program taken from the bucket by the next worker."""
  flags = ('--study=digits', '--methods=zeroinit', '--set=depth=10', '--set=learning_rate=2^-8,2^-6,2^-4,2^-2',
           '--set=epochs=0.5', '--set=evaluations=1', '--workdir=gs://bucket/a study', '--slots=2')
  names = lambda end: [name for name in list(server.objects) if name.startswith('a study/') and name.endswith(end)]
  launcher = command.start('zeroinit.launch.local', *flags, JAX_COMPILATION_CACHE_DIR='', **server.environment)
  while not names('/locks/0') and launcher.poll() is None:
    time.sleep(0.05)
  held = json.loads(server.objects[names('/locks/0')[0]].content)
  os.kill(held['process'], signal.SIGKILL)
  output, errors = launcher.communicate(timeout=600)
  assert launcher.returncode == 0 and 'starting another' in output, errors
  assert len(names('/result.json')) == 4 and '[4/4]' in output
  logs = pathlib.Path(re.search('logs in (.*)', output)[1])
  ended = [line for path in logs.iterdir() for line in re.findall('\n(?:done|at chance) after', path.read_text())]
  assert len(ended) == 4  # none was trained twice
  assert not any('/checkpoints/' in name for name in server.objects)
  assert names('report.html') and names('.png') and names('results.csv') and any('/compiled/' in n for n in names(''))

  code, output, errors = command.run('zeroinit.report', '--workdir=gs://bucket/a study', **server.environment)
  assert code == 0 and '4 of 4 cells have finished' in output, errors
