"""Output that somebody else reads."""

import contextlib
import os
import signal
import sys


@contextlib.contextmanager
def quiet_when_nobody_reads():
  """`zeroinit studies | head -1` ends as other commands do whose reader has gone: without a word."""
  try:
    yield
    sys.stdout.flush()
  except BrokenPipeError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes when it ends
    sys.exit(128 + signal.SIGPIPE)
