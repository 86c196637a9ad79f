"""One page of all probes: what was measured in a directory and those below it.

  zeroinit probe page --workdir=DIR

Writes probes.html, which needs no other file and can be followed without the papers: every probe says what it
measures, its equation, what to expect, and how to read its picture. Exit codes: 0, or 2 for a mistake in the command or
its surroundings.
"""

import contextlib
import importlib
import json
import pathlib
import pkgutil

import PIL.Image
from absl import flags

import zeroinit.probes
from zeroinit import command_line
from zeroinit.report import page
from zeroinit.system import json_files, objects
from zeroinit.system.errors import UserError, first_line

# In which a reader should meet them; other probes follow.
ORDER = ('variance', 'gradients', 'channels', 'depth', 'stability', 'landscape', 'covariate_shift', 'divergence',
         'bound', 'spectra')
TITLE = 'Looking inside: what the methods do to a network'
SHARED = ('probe', 'title', 'caption', 'figure', 'notes', 'command', 'records')  # of every JSON; the rest: how made
OF_A_PROBE = {**dict.fromkeys(('probe', 'title', 'caption', 'command'), json_files.is_text),
              'figure': lambda value: json_files.is_text(value) and value == pathlib.Path(value).name != '',
              **dict.fromkeys(('notes', 'records'), lambda value: isinstance(value, list))}
SAID_ELSEWHERE = ('versions', 'dataset')


def write_page(workdir):
  """Writes probes.html into a directory.

  A probe is a module of this package that states TITLE and EXPLANATION, a tuple of paragraphs, and may have
  summary(made), a page.Table of what its JSON holds.

  Args:
    workdir: path of the directory; the JSONs of probes lie in it or anywhere below.

  Returns:
    The path of the page.

  Raises:
    UserError: there is no JSON of a probe, or one is damaged or of another version, or its figure is gone.
  """
  workdir = pathlib.Path(objects.absolute(workdir))
  of_probes = {}
  for path in sorted(workdir.rglob('*.json')):
    made = _read(path)
    if made:
      of_probes.setdefault(made['probe'], []).append((path, made))
  if not of_probes:
    raise UserError(f'{workdir} holds nothing that a probe has measured; first: zeroinit probe variance '
                    f'CONFIG:METHOD --workdir={workdir}')
  blocks = []
  for probe in sorted(of_probes, key=lambda probe: (probe not in ORDER, ORDER.index(probe) if probe in ORDER else 0)):
    module = _module(probe, of_probes[probe][0][0])
    blocks += [page.Heading(module.TITLE), *map(page.Paragraph, module.EXPLANATION)]
    for path, made in of_probes[probe]:
      blocks += _result(module, path, made)
  objects.replace(workdir / 'probes.html', page.html(TITLE, blocks))
  return workdir / 'probes.html'


def _read(path):
  """What the JSON of a probe holds; None where it is another JSON."""
  content = path.read_bytes()
  with contextlib.suppress(ValueError, RecursionError):
    made = json.loads(content)
    if not (isinstance(made, dict) and 'probe' in made):
      return None
  return json_files.parse(content, path, OF_A_PROBE)


def _module(probe, path):
  names = [module.name for module in pkgutil.iter_modules(zeroinit.probes.__path__)]
  module = importlib.import_module(f'zeroinit.probes.{probe}') if probe in names else None
  if not hasattr(module, 'EXPLANATION'):
    raise UserError(f'{path} is of a probe {probe!r}, which this version does not have')
  return module


def _result(module, path, made):
  """Blocks for one JSON and its figure."""
  figure = path.parent / made['figure']
  if not figure.exists():
    raise UserError(f'{figure} is gone, the figure of {path.name}; the same command makes both: {made["command"]}')
  try:
    with PIL.Image.open(figure) as image:
      image.verify()
  except Exception as error:  # each format has its own kinds
    raise UserError(f'{figure} is damaged: {first_line(error)}; the same command makes it anew: {made["command"]}'
                    ) from error
  how = [f'{name.replace("_", " ")}: {value}' for name, value in made.items()
         if name not in SHARED + SAID_ELSEWHERE and value not in (None, '')]
  yield page.Heading(made['title'], level=3)
  yield page.Image(figure.name, made['caption'], figure.read_bytes())
  if made['notes']:
    yield page.Items(tuple(map(str, made['notes'])))
  if hasattr(module, 'summary'):
    try:
      yield module.summary(made)
    except Exception as error:  # whatever a probe makes of records that are not its own
      raise UserError(f'{path} is damaged or of another version; the same command makes it anew: {made["command"]} '
                      f'({type(error).__name__}: {error})') from error
  yield page.Paragraph(f'Made by: {made["command"]}. {", ".join(how)}.')


def main(argv):
  del argv
  command_line.end(write_page(flags.FLAGS.workdir), 'open it in a browser')


if __name__ == '__main__':
  flags.DEFINE_string('workdir', None, 'Directory of what the probes have written.', required=True)
  command_line.run(main)
