"""Threads that may be left in the middle of their work."""

import queue
import threading
import weakref
from concurrent.futures import Future


class Threads:
  """Like a ThreadPoolExecutor, which however finishes all that it was given before Python exits; these stop.

  They also stop when nobody refers to this object any more. So what they are given must not refer to it.

  Attributes:
    stopped: an Event, which what runs in them looks at to end early.
    stop: a function that stops them; may be called twice.
  """

  def __init__(self, count, name):
    self.stopped, self._tasks = threading.Event(), queue.SimpleQueue()
    # Daemons, for which Python does not wait before it stops them here, at its exit.
    threads = [threading.Thread(target=_work, args=(self._tasks,), name=name, daemon=True) for _ in range(count)]
    for thread in threads:
      thread.start()
    self.stop = weakref.finalize(self, _stop, threads, self._tasks, self.stopped)

  def submit(self, function, *args):
    """A Future of what the function will return."""
    future = Future()
    self._tasks.put((future, function, args))
    return future


def _work(tasks):
  while task := tasks.get():
    future, function, args = task
    try:
      future.set_result(function(*args))
    except BaseException as error:
      future.set_exception(error)
    del task, future, function, args  # which would be kept while it waits for the next


def _stop(threads, tasks, stopped):
  stopped.set()
  for _ in threads:
    tasks.put(None)
  for thread in threads:
    if thread is not threading.current_thread():  # where garbage collection stops them, it may run in one of them
      thread.join()
