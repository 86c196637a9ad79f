"""Who works on a run, among any number of processes on any machines that share nothing but its directory.

A lock is a file in the run's directory, made by create-if-absent: `locks/0`, then `locks/1` by whoever takes over,
and so on; the highest number holds. Of several that try the same number one succeeds. The holder rewrites its file
every few seconds. Another process takes over when the holder has let go; when it is a process of the same machine that
has ended; or, of another machine, when its lock has not changed for `PATIENCE` seconds by the observer's own clock, so
that clocks of two machines are never compared. A holder that was only asleep finds itself outnumbered before it writes,
and gives up.
"""

import contextlib
import functools
import json
import os
import pathlib
import re
import socket
import threading
import time
import uuid

from zeroinit.system import json_files, objects, processes
from zeroinit.system.errors import UserError

HEARTBEAT = 5.0  # seconds between two signs of life
PATIENCE = 60.0  # seconds without one after which a holder on another machine counts as gone

_HELD, _TAKEN, _GONE = range(3)  # a lock, as its holder finds it
_looked_at = {}  # path of a lock -> (its content, when it was first seen so, whether it had changed by then)


class Elsewhere(UserError):
  """Another process works on the run."""


@contextlib.contextmanager
def lock(directory, say=print):
  """Holds a run's directory while open, for all processes that train it together.

  Where it cannot be known at once whether the last holder still lives, it waits until that is known.

  Args:
    directory: of the run.
    say: called with a line where it waits.

  Yields:
    A function to be called before each write; it raises Elsewhere once another process has taken over, and UserError
    where the directory has gone.

  Raises:
    Elsewhere: another process holds the directory.
  """
  mine = _wait_for(directory / 'locks', say) if processes.is_first() else None

  def still_held():
    found = processes.agree(mine.look() if mine else _HELD)
    if found == _GONE:
      raise UserError(f'{directory} has gone, or its locks have: is the disk still there? What was written before is '
                      'intact if it is, and the same command goes on from there')
    if found == _TAKEN:
      raise Elsewhere(f'another process has taken over {directory}, after no sign of life from this one for '
                      f'{PATIENCE:.0f} s')

  try:
    if not processes.agree(mine is not None):
      raise Elsewhere(f'{directory} is being worked on by {holder(directory) or "another process"}; wait for it, or '
                      'use another --workdir')
    if processes.any_of(int(_newest(directory / 'locks') is None)):
      raise UserError(f'not every process sees what the first one writes to {directory}; it must be on a disk that '
                      'they share, or at gs://')
    yield still_held
  finally:
    if mine:
      mine.let_go()


def holder(directory):
  """Who holds a run's directory, in words; None where nobody does, as far as is known now."""
  newest = _newest(directory / 'locks')
  if newest is None or _is_alive(newest) is False:
    return None
  sign = _read(newest)[1]
  return f'process {sign["process"]} on {sign["host"]}' if sign else 'another process'


def is_alive(directory):
  """Whether a run's directory has a holder that is known to live: True, False, or None where time must tell."""
  newest = _newest(directory / 'locks')
  return newest is not None and _is_alive(newest)


class _Lock:

  def __init__(self, path, sign):
    self._path, self._sign = path, sign
    self._beat = 0
    self._over = threading.Event()
    self._thread = threading.Thread(target=self._live, daemon=True)
    self._thread.start()

  def look(self):
    if self._path.with_name(str(int(self._path.name) + 1)).exists():
      return _TAKEN
    return _HELD if self._path.exists() else _GONE

  def let_go(self):
    self._over.set()
    self._thread.join()
    self._write(released=True)

  def _live(self):
    while not self._over.wait(HEARTBEAT):
      self._beat += 1
      self._write()

  def _write(self, **more):
    with contextlib.suppress(UserError):  # a disk that is full now, or a store out of reach, may not be so next time
      objects.replace(self._path, json.dumps(self._sign | {'beat': self._beat} | more))


def _wait_for(locks, say):
  """A lock, or None where another process holds the directory and lives."""
  waiting = False
  while True:
    newest = _newest(locks)
    alive = newest is not None and _is_alive(newest)
    if alive is False:
      return _take(locks, newest)
    if alive:
      return None
    if not waiting:
      say(f'{holder(locks.parent) or "another process"} was working on this: waiting for a sign of life, '
          f'{PATIENCE:.0f} s at most')
      waiting = True
    time.sleep(min(1.0, PATIENCE / 10))


def _take(locks, newest):
  """The lock after `newest`, or None where another process was quicker."""
  objects.make_directory(locks)
  path = locks / ('0' if newest is None else str(int(newest.name) + 1))
  sign = {'host': socket.gethostname(), 'machine': _machine(), 'process': os.getpid(),
          'started': _started(os.getpid()), 'lock': uuid.uuid4().hex}
  text = json.dumps(sign)
  if not objects.create(path, text) and path.read_text() != text:  # the store's answer may have been lost
    return None
  return _Lock(path, sign)


def _newest(locks):
  numbered = (path for path in locks.glob('*') if re.fullmatch('0|[1-9][0-9]*', path.name))
  return max(numbered, key=lambda path: int(path.name), default=None)


def _read(path):
  """The content of a lock, and what it says; None where it is only being written, or damaged."""
  content = path.read_bytes()
  try:
    return content, json_files.parse(content, path, _SIGN)
  except UserError:
    return content, None


_SIGN = {'host': json_files.is_text, 'machine': json_files.is_text, 'process': json_files.is_count,
         'started': lambda started: started is None or json_files.is_count(started)}


def _is_alive(path):
  """Whether the holder lives; None where that is not known yet."""
  content, sign = _read(path)
  if sign and sign.get('released'):
    return False
  if sign and sign['machine'] == _machine() and sign['started'] is not None:
    return _started(sign['process']) == sign['started']
  before = _looked_at.get(path)
  if before is None or before[0] != content:
    _looked_at[path] = before = (content, time.monotonic(), before is not None)
  if time.monotonic() - before[1] >= PATIENCE:
    return False
  return True if before[2] else None


@functools.cache
def _machine():
  """What tells one running system, or container, from all others: process numbers mean nothing outside it."""
  parts = [socket.gethostname()]
  with contextlib.suppress(OSError):  # Linux only
    parts += [pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip(), os.readlink('/proc/self/ns/pid')]
  return ' '.join(parts)


def _started(process):
  """When a process of this machine was started, in the kernel's ticks; None where there is none, or no /proc."""
  try:
    stat = pathlib.Path(f'/proc/{process}/stat').read_text()
  except OSError:
    return None
  fields = stat.rpartition(')')[2].split()  # from the third on: the second, a name, may hold anything
  return None if fields[0] in 'ZX' else int(fields[19])  # a zombie works on nothing
