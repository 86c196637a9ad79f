"""Processes that train together notice when one of them is killed, at once, and when one is stopped, after a minute.

Otherwise they would wait for it in the next collective operation until jax ends them, without a word that a user can
read. Each holds a connection to process 0, on which both give signs of life; what happens to one, process 0 passes on.
Whoever ends in good order says so first.
"""

import atexit
import contextlib
import hmac
import os
import secrets
import socket
import sys
import threading

from jax._src import distributed  # the address of process 0, and a store that all can read

HEARTBEAT = 5.0  # seconds between two signs of life
PATIENCE = 60.0  # seconds without one after which a process counts as stopped
GRACE = 2.0  # seconds for a process to say by itself what is wrong, where another has already said so
EXIT_CODE = 2
_DONE, _FAILED, _ALIVE = b'.', b'!', b'+'

_connections = {}  # socket -> the thread that listens to it
_over = threading.Event()  # this process ends
_speaking = threading.Lock()


def begin():
  """Begins to watch over the processes that jax.distributed has joined. Every one of them must call it."""
  state = distributed.global_state
  key, timeout = 'zeroinit/watch', 1000 * int(PATIENCE)
  if state.process_id == 0:
    both = socket.has_dualstack_ipv6()
    server = socket.create_server(('', 0), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both)
    token = secrets.token_hex()
    state.client.key_value_set(key, f'{server.getsockname()[1]} {token}')
    _start(_accept, server, token.encode())
  else:
    port, token = state.client.blocking_key_value_get(key, timeout).split()
    host = state.coordinator_address.rpartition(':')[0].strip('[]')
    try:
      connection = socket.create_connection((host, int(port)), PATIENCE)
      connection.sendall(f'{token} {state.process_id:8d}'.encode())
    except OSError:  # a firewall: then jax's own watch, which takes longer and says less
      return
    _listen(connection, 0)
  _start(_give_signs)
  atexit.register(_say, _DONE)


def last_words():
  """To be called before a process says why it ends; of several threads only one returns."""
  _speaking.acquire()
  _over.set()


def leave(code):
  """Ends this process at once; the others are told that it has said what is wrong."""
  _say(_FAILED)
  if distributed.global_state.process_id == 0:  # without which jax would end the others before they can speak
    for thread in list(_connections.values()):
      if thread is not threading.current_thread():
        thread.join(2 * GRACE)
  os._exit(code)


def _say(last):
  _over.set()
  for connection in list(_connections):
    with contextlib.suppress(OSError):
      connection.sendall(last)


def _accept(server, token):
  while True:
    connection, _ = server.accept()
    with contextlib.suppress(OSError, ValueError):
      connection.settimeout(PATIENCE)
      said, _, process = connection.recv(len(token) + 9, socket.MSG_WAITALL).partition(b' ')
      if hmac.compare_digest(said, token):
        _listen(connection, int(process))


def _listen(connection, process):
  connection.settimeout(PATIENCE)
  _connections[connection] = _start(_hear, connection, process)


def _hear(connection, process):
  last, reason = b'', 'has ended, or is out of reach'
  try:
    while said := connection.recv(64):
      last = said[-1:]
      if last == _FAILED:
        break
  except TimeoutError:
    reason = f'has given no sign of life for {PATIENCE:.0f} s'
  except OSError:
    pass
  if last == _FAILED:
    _over.wait(GRACE)
  if last == _DONE or _over.is_set():
    return
  last_words()
  print(f'error: another process of this run {reason}: see what it said (number {process}); the same command goes on '
        'from the last checkpoint', file=sys.stderr, flush=True)
  leave(EXIT_CODE)


def _give_signs():
  while not _over.wait(HEARTBEAT):
    for connection in list(_connections):
      with contextlib.suppress(OSError):
        connection.sendall(_ALIVE)


def _start(function, *args):
  thread = threading.Thread(target=function, args=args, daemon=True)
  thread.start()
  return thread
