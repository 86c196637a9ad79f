"""Who works on a run, among any number of processes on any machines that share nothing but its directory.

A claim is a file in the run's directory, made by create-if-absent: `claims/0`, then `claims/1` by whoever takes over,
and so on; the highest number holds. Of several that try the same number one succeeds. The holder rewrites its file
every few seconds. Another process takes over when the holder has let go, when it sees that the holder's process is
gone, or when it has looked at the same content for `PATIENCE` seconds by its own clock; clocks of two machines are
never compared. A holder that was only asleep finds itself outnumbered before it writes, and gives up.
"""

import contextlib
import functools
import json
import os
import pathlib
import socket
import threading
import time
import uuid

from zeroinit import processes, runs
from zeroinit.errors import UserError
from zeroinit.objects import create

HEARTBEAT = 5.0  # seconds between two signs of life
PATIENCE = 60.0  # seconds without one after which a holder counts as gone

_looked_at = {}  # path of a claim -> (its content, when it was first seen so, whether it has ever changed since)


class Elsewhere(UserError):
  """Another process works on the run.

  Attributes:
    alive: whether it has given a sign of life since this process first looked.
  """

  def __init__(self, message, alive):
    super().__init__(message)
    self.alive = alive


@contextlib.contextmanager
def claim(directory):
  """Holds a run's directory while open, for all processes that train it together.

  Gives a function to be called before each write, which
  raises Elsewhere once another process has taken over.

  Raises:
    Elsewhere: another process holds the directory.
  """
  mine = _take(directory / 'claims') if processes.is_first() else None
  if not processes.agree(mine is not None):
    raise Elsewhere(f'{directory} is being worked on by {holder(directory) or "another process"}; wait for it, or use '
                    'another --workdir', alive=seen_alive(directory))

  def still_held():
    if not processes.agree(mine is None or mine.is_held()):
      raise Elsewhere(f'another process has taken over {directory}, after no sign of life from this one for '
                      f'{PATIENCE:.0f} s', alive=True)

  try:
    yield still_held
  finally:
    if mine:
      mine.let_go()


def holder(directory):
  """Who holds a run's directory, in words; None where nobody does."""
  newest = _newest(directory / 'claims')
  if newest is None or _is_gone(newest):
    return None
  with contextlib.suppress(ValueError, KeyError):
    sign = json.loads(_looked_at[newest][0])
    return f'process {sign["process"]} on {sign["host"]}'
  return 'another process'


def seen_alive(directory):
  """Whether the holder of a run's directory has given a sign of life since this process first looked."""
  newest = _newest(directory / 'claims')
  return newest in _looked_at and _looked_at[newest][2]


class _Claim:

  def __init__(self, path, sign):
    self._path, self._sign = path, sign
    self._beat = 0
    self._over = threading.Event()
    self._thread = threading.Thread(target=self._live, daemon=True)
    self._thread.start()

  def is_held(self):
    return not self._path.with_name(str(int(self._path.name) + 1)).exists()

  def let_go(self):
    self._over.set()
    self._thread.join()
    self._write(released=True)

  def _live(self):
    while not self._over.wait(HEARTBEAT):
      self._beat += 1
      self._write()

  def _write(self, **more):
    with contextlib.suppress(Exception):  # a disk that is full now, or a store out of reach, may not be so next time
      self._path.write_text(json.dumps(self._sign | {'beat': self._beat} | more))


def _take(claims):
  newest = _newest(claims)
  if newest is not None and not _is_gone(newest):
    return None
  runs.make_directory(claims)
  path = claims / ('0' if newest is None else str(int(newest.name) + 1))
  sign = _me() | {'claim': uuid.uuid4().hex}
  if not create(path, json.dumps(sign)) and path.read_text() != json.dumps(sign):  # the answer may have been lost
    return None
  return _Claim(path, sign)


def _newest(claims):
  numbered = (path for path in claims.glob('*') if path.name.isdigit())
  return max(numbered, key=lambda path: int(path.name), default=None)


def _is_gone(path):
  """Whether the holder of a claim has let go or died, as far as can be known now."""
  content = path.read_text()
  seen = _looked_at.get(path)
  if seen is None or seen[0] != content:
    _looked_at[path] = seen = (content, time.monotonic(), seen is not None)
  if time.monotonic() - seen[1] >= PATIENCE:
    return True
  try:
    sign = json.loads(content)
  except ValueError:
    return False  # just being written
  return sign.get('released', False) or (sign['machine'] == _machine() and not _process_exists(sign['process']))


def _me():
  return {'host': socket.gethostname(), 'machine': _machine(), 'process': os.getpid()}


@functools.cache
def _machine():
  """What tells one running system, or container, from all others: process numbers mean nothing outside it."""
  parts = [socket.gethostname()]
  with contextlib.suppress(OSError):  # Linux only
    parts += [pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip(), os.readlink('/proc/self/ns/pid')]
  return ' '.join(parts)


def _process_exists(process):
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    return True
  return True
