"""Output that somebody else reads, and who may have seen enough: `zeroinit studies | head -1`."""

import os
import select
import signal
import sys

ENDED = 128 + signal.SIGPIPE  # the exit code of a command whose reader has gone


def flush():
  """Raises what Python would otherwise complain of when it has ended."""
  if sys.stdout:
    sys.stdout.flush()


def nobody_reads(error):
  """Whether an exception says that the reader of standard output has gone. What is still to be written is dropped then.

  A broken pipe may also be that of a store or of another process.
  """
  if not isinstance(error, BrokenPipeError) or not sys.stdout:
    return False
  output = select.poll()
  output.register(sys.stdout.fileno(), 0)
  if not any(event & select.POLLERR for _, event in output.poll(0)):
    return False
  os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  return True
