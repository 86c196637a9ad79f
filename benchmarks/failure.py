"""Why a process that a benchmark started has failed."""


def reason(output, code):
  """The last line that it wrote, without the 'error: ' of the command line; its exit code where it wrote none."""
  lines = output.strip().splitlines() or [f'exit code {code}']
  return lines[-1].removeprefix('error: ')
