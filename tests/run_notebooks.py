"""Runs the notebooks and keeps what comes out of them; after an edit of a .py, and `jupytext --sync notebooks/*.py`.

  python -m tests.run_notebooks            # all, or those named
"""

import pathlib
import sys
import tempfile

import nbclient
import nbformat

HERE = pathlib.Path(__file__).parents[1] / 'notebooks'

for path in map(pathlib.Path, sys.argv[1:] or sorted(HERE.glob('*.ipynb'))):
  notebook = nbformat.read(path, as_version=4)
  with tempfile.TemporaryDirectory() as folder:
    nbclient.NotebookClient(notebook, timeout=600, resources={'metadata': {'path': folder}}).execute()
  for cell in notebook.cells:
    cell.metadata.pop('execution', None)  # when it ran
  nbformat.write(notebook, path)
  print(path, f'{path.stat().st_size / 1e6:.1f} MB', flush=True)
