"""The notebooks as they are committed, with what came out when they ran."""

import json
import pathlib
import re

import pytest

from tests import command

jupytext = pytest.importorskip('jupytext', reason='needs jupytext: pip install -e ".[notebook]"')

NOTEBOOKS = sorted((command.ROOT / 'notebooks').glob('*.ipynb'))
COLAB = 'https://colab.research.google.com'
A_MACHINE = re.compile(r'(?<![\w.~:])/(?:content|home|mnt|opt|root|tmp|Users|usr|var|work)\b|[A-Z]:\\')

EDGES = re.compile(r'(\w+ at [\d.]+(, )?)+$')  # the rates by which a grid grows
PASSING = (r'(high|low)est rate of the grid: the optimum may lie beyond|\bremark\b', r'Revision: [^.]*\.', r'\S*\d\S*')

of_each = pytest.mark.parametrize('notebook', NOTEBOOKS, ids=lambda path: path.stem)


def repository():
  """Where CITATION.cff says that the code is published; '' while it does not."""
  found = re.search(r'^repository-code:\s*[\'"]?([^\'"\s]+)', (command.ROOT / 'CITATION.cff').read_text(), re.MULTILINE)
  return found[1] if found else ''


@of_each
def test_a_pair_is_in_step(notebook):
  """The .py, which is read and edited, has the cells of the .ipynb; `jupytext --sync notebooks/*.py` brings that about.
  """
  cells = lambda path: [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]
  assert cells(notebook) == cells(notebook.with_suffix('.py'))
  assert json.loads(notebook.read_text())['metadata']['jupytext']['formats'] == 'ipynb,py:percent'


def test_every_notebook_is_a_pair():
  assert len(NOTEBOOKS) == 3
  assert [path.stem for path in NOTEBOOKS] == sorted(path.stem for path in (command.ROOT / 'notebooks').glob('*.py')
                                                     if path.name != 'my_method.py')


@of_each
def test_it_shows_what_came_out(notebook):
  """Whoever reads it on a web page sees the figures; and no path of the machine on which it ran."""
  cells = [cell for cell in json.loads(notebook.read_text())['cells'] if cell['cell_type'] == 'code']
  assert any('image/png' in output.get('data', {}) for cell in cells for output in cell['outputs'])
  assert [cell['execution_count'] for cell in cells] == list(range(1, len(cells) + 1))
  for cell in cells:
    said = ''.join(cell['source']) + '\n'.join(lines(cell['outputs']))
    assert not A_MACHINE.search(said), said


def lines(outputs):
  """What a cell says, as text; without pictures and pages, and without warnings, which depend on the machine."""
  found = []
  for output in outputs:
    if output.get('name') == 'stderr':
      continue
    text = output.get('text') or output.get('data', {}).get('text/markdown') or []
    found += ''.join(text).splitlines()
  return found


def words(outputs):
  """What a cell says, word by word, but for numbers and what hangs on their rounding: which optima are at an edge."""
  said = '\n'.join(line for line in lines(outputs) if not EDGES.match(line))
  for passing in PASSING:
    said = re.sub(passing, '', said)
  return re.findall(r'[A-Za-z_]+', said)


@pytest.mark.slow
@of_each
def test_its_outputs_are_those_of_the_code_as_it_stands(notebook, tmp_path):
  """It runs, shows as much, and says the same but for numbers."""
  nbclient = pytest.importorskip('nbclient', reason='needs nbclient: pip install -e ".[notebook]"')
  import nbformat

  committed = nbformat.read(notebook, as_version=4)
  again = nbformat.read(notebook, as_version=4)
  (tmp_path / 'notebooks').mkdir()
  nbclient.NotebookClient(again, timeout=600, resources={'metadata': {'path': str(tmp_path / 'notebooks')}}).execute()
  for before, after in zip(committed.cells, again.cells, strict=True):
    if before.cell_type == 'code':
      shown = lambda outputs: [sorted(output.get('data', {})) for output in outputs if 'data' in output]
      assert shown(before.outputs) == shown(after.outputs), before.source
      assert words(before.outputs) == words(after.outputs), before.source


@of_each
def test_it_is_installed_and_opened_from_where_the_code_is_published(notebook):
  """With an address in CITATION.cff, the badge and the first cell have it; without, Colab asks for the file."""
  text = notebook.with_suffix('.py').read_text()
  where = re.sub('^https://github.com', '/github', repository())
  link = f'{COLAB}{where}/blob/main/notebooks/{notebook.name}' if repository() else f'{COLAB}/'
  assert f"\nREPOSITORY = '{repository()}'" in text
  assert f'[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({link})' in text


@of_each
def test_links_lead_somewhere(notebook):
  for target in re.findall(r'\]\((?!https?:)([^)#]+)', notebook.with_suffix('.py').read_text()):
    assert pathlib.Path(notebook.parent / target).exists(), target
