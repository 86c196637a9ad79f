"""The notebooks as they are committed. That they run is seen by `pytest --nbmake notebooks`, which .ci/run calls."""

import json
import pathlib
import re

import pytest

from tests import command

jupytext = pytest.importorskip('jupytext', reason='needs jupytext: pip install -e ".[notebook]"')

NOTEBOOKS = sorted((command.ROOT / 'notebooks').glob('*.ipynb'))
COLAB = 'https://colab.research.google.com'
A_MACHINE = re.compile(r'(?<![\w.~:])/(?:content|home|mnt|opt|root|tmp|Users|usr|var|work)\b|[A-Z]:\\')

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
def test_it_is_kept_as_it_was_written_not_as_it_ran(notebook):
  """Without outputs, and without the paths of a machine."""
  for cell in json.loads(notebook.read_text())['cells']:
    assert not cell.get('outputs') and cell.get('execution_count') is None
    assert not A_MACHINE.search(''.join(cell['source']))


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
