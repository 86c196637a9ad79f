"""Kills, stops, starves and damages real runs and studies on the digits; all must end as undisturbed ones do.

  python -m tests.faults --training_kills=50 --study_kills=50 --seed=0 --record=results/trust/faults.json

What happens when follows from the seed, as far as a machine's clock allows. The end is compared byte for byte, timings
aside: metrics.jsonl, result.json and the last checkpoint. A SIGKILL counts only where it hit a live process: that is
stopped first, so that it cannot end in between. Linux only; as root also with disks of its own (tmpfs) that fill up,
become read-only or vanish, and with processes that take each other for those of another machine. The exit code is 1
where anything ended differently.
"""

import collections
import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial

import jax
from absl import flags

from tests import command
from zeroinit import command_line
from zeroinit.runs import run_directory
from zeroinit.runs.progress import duration
from zeroinit.system import environment, json_files, objects

TRAINING_KILLS = flags.DEFINE_integer('training_kills', 50, 'SIGKILLs that are to hit live training processes.', 0)
STUDY_KILLS = flags.DEFINE_integer('study_kills', 50, 'SIGKILLs that are to hit live workers and launchers.', 0)
ROUNDS = flags.DEFINE_integer('rounds', 3, 'How often each of the other faults is injected.', 0)
SEED = flags.DEFINE_integer('seed', 0, 'Of the random moments.')
RECORD = flags.DEFINE_string('record', None, 'JSON file to write.')

TIMINGS = ('seconds', 'images_per_second', 'waited_for_data')
# All kinds of state at once: running statistics, multipliers and dropout; saved after every dispatch.
RUN = ('--config=configs/digits.py:ghost_norm', '--config.depth=10', '--config.method.alpha=0',
       '--config.method.dropout=0.2', '--config.epochs=6', '--config.evaluations=10',
       '--config.checkpoint_seconds=0')
STUDY = ('--study=digits', '--methods=none,zeroinit', '--set=depth=10', '--set=learning_rate=2^-7,2^-6,2^-5,2^-4',
         '--set=epochs=4', '--set=evaluations=4', '--set=checkpoint_seconds=0', '--slots=2')
DAMAGES = ('truncated', 'bit-flipped', 'removed')  # what happens to a file
PATIENCE = 240  # seconds after which a process counts as hung


class Broken(Exception):
  """A promise was not kept; the message says which."""


class Harness:
  """Injects faults. Every method raises Broken where a promise is not kept.

  Attributes:
    done: {fault: how often it was injected}.
  """

  def __init__(self, directory, seed, say=print):
    self.directory, self.random, self.say = pathlib.Path(directory), random.Random(seed), say
    self.done = collections.Counter()
    self._numbers = itertools.count()
    self._references = {}

  def new(self, name):
    """The path of a new workdir."""
    return self.directory / f'{name}-{next(self._numbers)}'

  def start(self, module, *words, workdir, **options):
    """Starts a command on a workdir; `says` reads what it has said."""
    log = self.directory / f'{next(self._numbers)}.log'
    with open(log, 'w') as file:
      process = command.start(module, *words, f'--workdir={workdir}', log=file, **options)
    process.says = log.read_text
    return process

  def train(self, workdir, flags_=RUN, **options):
    return self.start('zeroinit.main', *flags_, workdir=workdir, **options)

  def undisturbed(self, module='zeroinit.main', words=RUN):
    """The workdir of a run or study that nothing happened to."""
    if (module, words) not in self._references:
      workdir = self.new('undisturbed')
      self._finish(self.start(module, *words, workdir=workdir))
      self._references[module, words] = workdir
    return self._references[module, words]

  def _finish(self, process, code=0, says=''):
    """Waits for a process that is to end with that code and those words, and in no case with a traceback."""
    try:
      found = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
      process.kill()
      raise Broken(f'hung for {PATIENCE} s: {process.says()[-2000:]}') from None
    said = process.says()
    if found != code or says not in said or 'Traceback' in said:
      raise Broken(f'exit code {found} instead of {code}, and {says!r} expected in:\n{said[-3000:]}')
    if code == command_line.MISTAKE and len([line for line in said.splitlines() if line.startswith('error: ')]) != 1:
      raise Broken(f'not one line that begins with "error: ":\n{said[-3000:]}')
    return said

  def complete(self, workdir, flags_=RUN):
    """Finishes a run, and compares its end with the undisturbed one's."""
    said = self._finish(self.train(workdir, flags_))
    self.compare(workdir, flags_)
    return said

  def compare(self, workdir, flags_=RUN):
    expected = ending(self.undisturbed(words=flags_))
    for name, value in ending(workdir).items():
      if value != expected[name]:
        raise Broken(f'{workdir}: {name} is not that of the undisturbed run')

  # Signals at random moments.

  def _moment(self, process, workdir, moment):
    """Waits for a random instant of a kind in the life of a training process, or for its end."""
    checkpoints = workdir / 'checkpoints'
    saving = lambda: set(checkpoints.glob('*orbax-checkpoint-tmp*'))
    metrics = workdir / 'metrics.jsonl'
    records = lambda: metrics.stat().st_mtime_ns if metrics.exists() else 0
    old, before = saving(), records()
    until, at_most = {
        'starting': (lambda: True, 4.0),
        'compiling': (lambda: 'Total:' in process.says(), 2.5),
        'training': (lambda: 'compiled in' in process.says(), 2.5),
        'saving': (lambda: saving() - old, 0.05),
        'evaluating and recording': (lambda: records() != before, 0.05),
        'ending': (lambda: '  done\n' in process.says(), 0.3)}[moment]
    while process.poll() is None and not until():
      time.sleep(0.002)
    time.sleep(self.random.uniform(0, at_most))

  def training_signals(self, kills, flags_=RUN):
    """SIGKILL at any moment of a run, and in between SIGTERM and SIGSTOP with SIGCONT, until so many kills have hit."""
    self.undisturbed(words=flags_)
    kinds = ('starting', 'compiling', 'training', 'saving', 'evaluating and recording', 'ending')
    progress = _Left(kills, self.say)
    while progress.done < kills:
      workdir, hits = self.new('run'), min(kills - progress.done, self.random.randint(4, 10))
      while True:
        moment = self.random.choices(kinds, (2, 1, 3, 4, 3, 1))[0] if hits else None
        anew = {'JAX_ENABLE_COMPILATION_CACHE': 'false'} if moment == 'compiling' else {}
        process = self.train(workdir, flags_, **anew)
        if moment:
          self._moment(process, workdir, moment)
          fault = self.random.choices(['SIGKILL', 'SIGTERM', 'SIGSTOP and SIGCONT'], (6, 1, 1))[0]
          if fault == 'SIGKILL' and kill(process.pid):
            self._finish(process, -signal.SIGKILL)
            hits -= 1
            self.done[f'SIGKILL to training, {moment}'] += 1
            progress.step(f'training killed while {moment}')
            continue
          if fault == 'SIGTERM' and process.poll() is None:
            process.terminate()
            if process.wait(PATIENCE) != 0:  # before the run begins, SIGTERM ends it as it ends any process
              self._finish(process, 143 if process.returncode > 0 else -signal.SIGTERM)
              self.done['SIGTERM to training'] += 1
              continue
          if fault == 'SIGSTOP and SIGCONT' and self._pause(process.pid):
            self.done['SIGSTOP and SIGCONT to training'] += 1
        self._finish(process)
        break
      self.compare(workdir, flags_)
      shutil.rmtree(workdir)

  def _pause(self, pid):
    try:
      os.kill(pid, signal.SIGSTOP)
      time.sleep(self.random.uniform(0.1, 2))
      os.kill(pid, signal.SIGCONT)
      return True
    except ProcessLookupError:
      return False

  def study_signals(self, kills, words=STUDY):
    """The same to the workers of a study, to those in a cell above all, and to its launcher."""
    reference = self.undisturbed('zeroinit.launch.local', words)
    progress = _Left(kills, self.say)
    while progress.done < kills:
      workdir, hits, dead = self.new('study'), min(kills - progress.done, self.random.randint(5, 9)), set()
      while True:
        launcher = self.start('zeroinit.launch.local', *words, workdir=workdir)
        while launcher.poll() is None and hits:
          began, patience = time.monotonic(), self.random.uniform(0.2, 8)
          in_cell = self.random.random() < 0.7
          victims = []
          while launcher.poll() is None and time.monotonic() < began + (60 if in_cell else patience):
            victims = list(holders(workdir)) if in_cell else workers(workdir)
            if in_cell and victims:
              time.sleep(self.random.uniform(0, 2))
              break
            time.sleep(0.005)
          victim, whom = (self.random.choice(victims), 'a worker') if victims else (None, None)
          if self.random.random() < 0.12:
            victim, whom = launcher.pid, 'the launcher'
          if victim is None or launcher.poll() is not None:
            continue
          if self.random.random() < 0.15:
            self.done[f'SIGSTOP and SIGCONT to {whom}'] += self._pause(victim)
          elif self.random.random() < 0.1 and whom == 'the launcher':
            launcher.terminate()
            self.done['SIGTERM to the launcher'] += 1
          else:
            claimed = victim in holders(workdir)
            if kill(victim):
              dead.add(victim)
              hits -= 1
              self.done[f'SIGKILL to {whom}' + ' in a cell' * claimed] += 1
              progress.step(f'{whom} killed' + ' in a cell' * claimed)
        try:
          code = launcher.wait(PATIENCE)
        except subprocess.TimeoutExpired:
          launcher.kill()
          raise Broken(f'the launcher hung: {launcher.says()[-2000:]}') from None
        if 'Traceback' in launcher.says():
          raise Broken(launcher.says())
        if code == 0:
          break
        if code not in (-signal.SIGKILL, 143) and 'ended with exit code -9' not in launcher.says():
          raise Broken(f'the launcher ended with {code}:\n{launcher.says()[-3000:]}')
      deadline = time.monotonic() + PATIENCE
      while workers(workdir) and time.monotonic() < deadline:  # those of launchers that were killed
        time.sleep(0.1)
      self._compare_studies(reference, workdir, dead)
      shutil.rmtree(workdir)

  def _compare_studies(self, reference, workdir, dead):
    # A worker that is killed while it removes the checkpoints of a finished cell leaves some behind.
    expected, found = ({path.name: ending(path, state=False) for path in (study / 'cells').iterdir()}
                       for study in (reference, workdir))
    if expected != found:
      raise Broken(f'{workdir}: cells differ: {[name for name in expected if expected[name] != found.get(name)]}, '
                   f'more: {found.keys() - expected.keys()}')
    table = lambda study: [line for line in (study / 'report.md').read_text().splitlines() if '|' in line]
    if table(reference) != table(workdir):
      raise Broken(f'{workdir}: the tables of the report differ')
    for cell in (workdir / 'cells').iterdir():  # nobody took over from a process that lived and had not let go
      numbers = sorted(int(path.name) for path in (cell / 'locks').glob('[0-9]*'))
      signs = [json.loads((cell / 'locks' / str(number)).read_text()) for number in numbers]
      if not all(sign['process'] in dead or sign.get('released') for sign in signs[:-1]):
        raise Broken(f'{cell} was taken from a living worker')

  # What happens to files.

  def _partly(self, flags_=RUN):
    """The workdir of a run that was stopped in the middle, with two whole checkpoints and a few records."""
    workdir = self.new('run')
    while True:
      process = self.train(workdir, flags_)
      wanted = self.random.randint(3, 12)
      while process.poll() is None and lines(workdir / 'metrics.jsonl') < wanted:
        time.sleep(0.005)
      process.terminate()
      if process.wait(PATIENCE) == 143:
        return workdir
      shutil.rmtree(workdir)

  def damaged_checkpoint(self, which, way):
    """Said, and the end is the same. which: 'newest' or 'all'; way: one of DAMAGES."""
    workdir = self._partly()
    steps = sorted((workdir / 'checkpoints').iterdir(), key=lambda path: int(path.name))
    for step in steps[-1:] if which == 'newest' else steps:
      file = self.random.choice([path for path in sorted(step.rglob('*')) if path.is_file() and path.stat().st_size])
      self._damage(file, way)
    said = self.complete(workdir)
    for says in [f'{steps[-1].name} is damaged', 'beginning again' if which == 'all' else 'going on from']:
      if says not in said:
        raise Broken(f'{says!r} was not said of a {way} checkpoint ({file}):\n{said[-3000:]}')
    self.done[f'checkpoint {way}, {which}'] += 1
    shutil.rmtree(workdir)

  def _damage(self, file, way):
    content = file.read_bytes()
    place, bit = self.random.randrange(1, len(content) - 1), 1 << self.random.randrange(8)
    if way == 'removed':
      file.unlink()
    elif way == 'truncated':
      file.write_bytes(content[:place])
    else:
      file.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1:])

  def damaged_record(self, name, way, flags_=RUN):
    """A result.json or metrics.jsonl that is damaged is said to be; once it is deleted, the run makes it again.

    A metrics.jsonl that can still be read does not go with its checkpoints, so the run makes it again at once.
    """
    if name == 'result.json':
      workdir = self.new('run')
      shutil.copytree(self.undisturbed(words=flags_), workdir)
    else:
      workdir = self._partly(flags_)
    self._damage(workdir / name, way)
    if way != 'removed':
      process = self.train(workdir, flags_)
      if process.wait(PATIENCE) == 0 and name == 'metrics.jsonl':
        self._finish(process, says='is damaged and passed over: metrics.jsonl')
      else:
        said = self._finish(process, command_line.MISTAKE, says=f'{name} is damaged')
        if 'delete it' not in said:
          raise Broken(said)
        (workdir / name).unlink()
    self.complete(workdir, flags_)
    self.done[f'{name} {way}'] += 1
    shutil.rmtree(workdir)

  def full_disk(self, room):
    """From a random moment on the disk has so many bytes left: one line, all is intact, and the run goes on later."""
    with self.disk('6m') as disk:
      workdir, filler = disk / 'run', disk / 'filler'
      process = self.train(workdir)
      self._moment(process, workdir, self.random.choice(['training', 'saving', 'evaluating and recording']))
      deadline = time.monotonic() + PATIENCE
      with open(filler, 'wb', buffering=0) as file:
        while process.poll() is None and time.monotonic() < deadline:  # what the run frees is taken, too
          with contextlib.suppress(OSError):
            while (free := shutil.disk_usage(disk).free) > room:
              file.write(bytes(min(free - room, 1 << 16)))
          time.sleep(0.001)
      said = self._finish(process, command_line.MISTAKE, says='No space left on device')
      if 'intact' not in said:
        raise Broken(said)
      self._finish(self.train(workdir), command_line.MISTAKE)  # and still
      filler.unlink()
      self.complete(workdir)
      self.done['full disk (tmpfs)'] += 1

  def file_size_limit(self):
    """The same without root: no file may grow beyond a size."""
    workdir = self.new('run')
    for size in (1_000, 30_000):
      process = self.train(workdir, before=('prlimit', f'--fsize={size}'), PYTHONDONTWRITEBYTECODE='1')
      self._finish(process, command_line.MISTAKE, says='File too large')
    self.complete(workdir)
    self.done['file-size limit'] += 1
    shutil.rmtree(workdir)

  def read_only(self):
    """The disk becomes read-only at a random moment."""
    with self.disk('20m') as disk:
      workdir = disk / 'run'
      process = self.train(workdir, (*RUN, '--config.tensorboard=False'))  # whose file would stay open
      self._moment(process, workdir, self.random.choice(['training', 'saving', 'evaluating and recording']))
      while subprocess.run(['mount', '-o', 'remount,ro', disk], capture_output=True).returncode:
        time.sleep(0.001)  # until no file is just being written
      self._finish(process, command_line.MISTAKE, says='Read-only file system')
      self._finish(self.train(workdir), command_line.MISTAKE, says='Read-only file system')
      subprocess.run(['mount', '-o', 'remount,rw', disk], check=True)
      self.complete(workdir)
      self.done['read-only disk'] += 1

  def vanished_mount(self):
    """The disk is unmounted at a random moment, and comes back later."""
    with self.disk('20m') as disk, self._bound(disk) as (mount, unmount, there):
      mount()
      workdir = there / 'run'
      process = self.train(workdir)
      self._moment(process, workdir, self.random.choice(['training', 'saving', 'evaluating and recording']))
      unmount()
      self._finish(process, command_line.MISTAKE)
      if begun := list(there.rglob('*.json*')):  # not even a checkpoint that anybody vouches for
        raise Broken(f'the run began again where the disk had been: {begun}')
      mount()
      self.complete(workdir)
      self.done['vanished mount'] += 1

  def vanished_data(self):
    """The directory of the data is gone for a while, whether the run has begun or not."""
    from tests import imagenet_copies

    data = self.directory / 'data'
    if not data.exists():
      imagenet_copies.write(data, {'train': imagenet_copies.examples(0, 48),
                                   'validation': imagenet_copies.examples(48, 10)})
    flags_ = ('--config=configs/imagenet.py:none', f'--config.data_dir={data}', '--config.network=wide_resnet',
              '--config.depth=10', '--config.width=1', '--config.image_size=16', '--config.batch_size=16',
              '--config.micro_batches=1', '--config.dtype=float32', '--config.epochs=40', '--config.evaluations=20',
              '--config.learning_rate=0.001', '--config.checkpoint_seconds=0')
    self.undisturbed(words=flags_)
    workdir, away = self.new('run'), data.with_name('away')
    process = self.train(workdir, flags_)
    self._moment(process, workdir, 'training')
    data.rename(away)
    if kill(process.pid):
      self._finish(process, -signal.SIGKILL)
    self._finish(self.train(workdir, flags_), command_line.MISTAKE, says=str(data))
    away.rename(data)
    self.complete(workdir, flags_)
    self.done['vanished data directory'] += 1

  # Who may work on what.

  def race(self):
    """Two processes, started within a moment of each other, for one run: one trains, the other says so and ends."""
    workdir = self.new('run')
    first = self.train(workdir)
    time.sleep(self.random.choice([0, self.random.uniform(0, 0.3)]))
    second = self.train(workdir)
    codes = sorted([first.wait(PATIENCE), second.wait(PATIENCE)])
    said = [first.says(), second.says()]
    refused = [text for text in said if 'is being worked on by process' in text or 'is finished' in text]
    if codes not in ([0, 2], [0, 0]) or len(refused) != 1 or 'Traceback' in ''.join(said):
      raise Broken(f'{codes}: {said}')
    self.compare(workdir)
    self.done['two processes race for one run'] += 1

  def stale_lock(self):
    """A run whose last holder, on another machine, is silent is taken over after a minute."""
    workdir = self._partly()
    locks = workdir / 'locks'
    (locks / str(len(list(locks.iterdir())))).write_text(json.dumps(
        {'host': 'elsewhere', 'machine': 'elsewhere', 'process': 1, 'started': 1, 'lock': 'gone', 'beat': 3}))
    said = self.complete(workdir)
    if 'was working on this: waiting for a sign of life, 60 s at most' not in said:
      raise Broken(said)
    self.done['stale claim of another machine'] += 1

  def sleeper(self):
    """A process of another machine, as it seems, sleeps, is taken over from, and wakes up when all is done."""
    workdir = self.new('run')
    process = self.train(workdir, before=('unshare', '--pid', '--fork', '--mount-proc', '--kill-child'))
    self._moment(process, workdir, self.random.choice(['training', 'saving', 'evaluating and recording']))
    inside = children(process.pid)
    if not inside or not stop(inside[0]):
      return self.sleeper()
    self.complete(workdir)
    os.kill(inside[0], signal.SIGCONT)
    self._finish(process, command_line.MISTAKE, says='another process has taken over')
    self.compare(workdir)
    self.done['a sleeper wakes up after another has finished'] += 1

  @contextlib.contextmanager
  def disk(self, size):
    """A disk of its own, of that size."""
    disk = self.new('disk')
    disk.mkdir()
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', disk], check=True)
    try:
      yield disk
    finally:
      subprocess.run(['umount', '--lazy', disk], check=True)

  @contextlib.contextmanager
  def _bound(self, disk):
    there = self.new('mount')
    there.mkdir()
    mount = lambda: subprocess.run(['mount', '--bind', disk, there], check=True)
    unmount = lambda: subprocess.run(['umount', '--lazy', there], check=True)
    try:
      yield mount, unmount, there
    finally:
      if os.path.ismount(there):
        unmount()


class _Left:
  """Says after each of `count` steps how long the rest will take."""

  def __init__(self, count, say):
    self.count, self.done, self._say, self._began = count, 0, say, time.monotonic()

  def step(self, what):
    self.done += 1
    left = (time.monotonic() - self._began) / self.done * (self.count - self.done)
    self._say(f'[{self.done}/{self.count}] {what}  {duration(left)} left')


def ending(workdir, state=True):
  """{name: content} of what a run has come to, equal to the last bit where it is equal; timings aside.

  state: whether to look at the last checkpoint too.
  """
  untimed = lambda record: {name: value for name, value in record.items() if name not in (*TIMINGS, 'checksums')}
  run = run_directory.Run(workdir)
  there = {'records': [json.dumps(untimed(record)) for record in run.records],
           'result': json.dumps(untimed(run.result)) if run.result else None}
  if state:
    with contextlib.closing(run.checkpoints):
      leaves = jax.tree_util.tree_leaves_with_path(run.checkpoints.restore())
    whole = b''.join(str(path).encode() + leaf.tobytes() for path, leaf in leaves)
    there['state'] = hashlib.sha256(whole).hexdigest()
  return there


def lines(path):
  return len(path.read_text().splitlines()) if path.exists() else 0


def state_of(pid):
  """The kernel's letter for what a process does: T is stopped, Z ended; None where there is none."""
  try:
    return pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
  except OSError:
    return None


def stop(pid):
  """Stops a process and waits until it has; False where it had ended."""
  try:
    os.kill(pid, signal.SIGSTOP)
  except ProcessLookupError:
    return False
  while (state := state_of(pid)) not in ('T', 't', 'Z', 'X', None):
    time.sleep(0.0005)
  return state in ('T', 't')


def kill(pid):
  """SIGKILL to a process that lives at that moment, since a stopped one cannot end; False where it had ended."""
  if not stop(pid):
    return False
  os.kill(pid, signal.SIGKILL)
  return True


def children(pid):
  try:
    return [int(child) for child in pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]
  except OSError:
    return []


def workers(study):
  """Process numbers of the live workers of a study, whoever started them."""
  found = []
  for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
    with contextlib.suppress(OSError):
      if f'--workdir={study}' in (words := path.read_text().split('\0')) and 'zeroinit.studies.worker' in words:
        found.append(int(path.parent.name))
  return [pid for pid in found if state_of(pid) not in ('Z', 'X', None)]


def holders(study):
  """{process number: cell} of the live workers that hold a cell."""
  alive, found = set(workers(study)), {}
  for locks in pathlib.Path(study).glob('cells/*/locks'):
    numbered = [path for path in locks.iterdir() if path.name.isdigit()]
    if numbered:
      sign = json.loads(max(numbered, key=lambda path: int(path.name)).read_text())
      if not sign.get('released') and sign['process'] in alive:
        found[sign['process']] = locks.parent
  return found


def others(harness):
  """(name, function) of each fault but signals."""
  for way in DAMAGES:
    for which in ('newest', 'all'):
      yield f'checkpoint {way}, {which}', partial(harness.damaged_checkpoint, which, way)
    for name in ('result.json', 'metrics.jsonl'):
      yield f'{name} {way}', partial(harness.damaged_record, name, way)
  yield 'file-size limit', harness.file_size_limit
  yield 'vanished data', harness.vanished_data
  yield 'race', harness.race
  if os.geteuid() == 0:
    for room in (0, 20_000, 300_000):  # for nothing; for records; for part of a checkpoint
      yield f'full disk, {room:,} bytes left', partial(harness.full_disk, room)
    yield 'read-only disk', harness.read_only
    yield 'vanished mount', harness.vanished_mount


def slow_others(harness):
  """Those that take more than a minute, since patience is a part of what they look at."""
  yield 'stale claim', harness.stale_lock
  if os.geteuid() == 0:
    yield 'sleeper', harness.sleeper


def main(argv):
  del argv
  began = time.monotonic()
  with tempfile.TemporaryDirectory(prefix='faults-') as directory:
    command.compile_little(f'{directory}/compiled')
    harness = Harness(directory, SEED.value, lambda line: print(line, flush=True))
    print(f'seed {SEED.value}', flush=True)
    tasks = [('signals to training', lambda: harness.training_signals(TRAINING_KILLS.value)),
             ('signals to a study', lambda: harness.study_signals(STUDY_KILLS.value))]
    tasks += ROUNDS.value * list(others(harness)) + (list(slow_others(harness)) if ROUNDS.value else [])
    broken = []
    for i, (name, task) in enumerate(tasks):
      print(f'{i + 1} of {len(tasks)}: {name}', flush=True)
      try:
        task()
      except Broken as error:
        broken.append(f'{name}: {error}')
        print(f'BROKEN: {broken[-1]}', flush=True)
  seconds = time.monotonic() - began
  width = max(map(len, harness.done), default=0)
  for fault, count in harness.done.items():
    print(f'{fault:<{width}}  {count:4d}')
  kills = sum(count for fault, count in harness.done.items() if fault.startswith('SIGKILL'))
  print(f'{sum(harness.done.values())} faults, {kills} of them SIGKILLs that hit a live process, in '
        f'{duration(seconds)}; {len(broken)} broken promises')
  if RECORD.value:
    json_files.write(objects.absolute(RECORD.value), {
        'command': ' '.join(['python -m tests.faults', *sys.argv[1:]]), 'seed': SEED.value,
        'faults': dict(harness.done), 'sigkills': kills, 'broken': broken, 'seconds': seconds,
        **environment.of(jax.devices()[:1])})
  sys.exit(bool(broken))


if __name__ == '__main__':
  command_line.run(main)
