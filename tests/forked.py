"""Gives many command lines to the modules they name, each in a process forked after the imports that take long.

Reads from standard input a JSON list of [module, flag, ...] and writes one of [exit code, all that it said].
"""

import json
import os
import runpy
import sys
import tempfile
import traceback

import zeroinit.probes.command
import zeroinit.probes.writing
import zeroinit.runs.train  # noqa: F401


def run(module, words):
  """Its exit code."""
  sys.argv = [module, *words]
  try:
    runpy.run_module(module, run_name='__main__', alter_sys=True)
  except SystemExit as ended:
    return ended.code if isinstance(ended.code, int) else bool(ended.code)
  except BaseException:
    traceback.print_exc()
    return 1
  return 0


results = []
for module, *words in json.load(sys.stdin):
  with tempfile.TemporaryFile() as said:
    child = os.fork()
    if not child:
      os.dup2(said.fileno(), 1)
      os.dup2(said.fileno(), 2)
      code = run(module, words)
      sys.stdout.flush()
      os._exit(code)  # an exit in good order takes a second
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said.seek(0)
    results.append([code, said.read().decode()])
print(json.dumps(results))
