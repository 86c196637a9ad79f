"""What mkdocs does for this site: it shows the records in results/, which lie outside docs/, without copying them.

A page links to a record as it stands in the checkout, ../results/..., so that the link also works on GitHub. A link to
any other file of the checkout is on the site the name of that file.
"""

import pathlib
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]


def on_files(files, config):
  """Adds the pictures and reports of results/ to what the site is made of."""
  for path in sorted(ROOT.glob('results/**/*')):
    if path.suffix in ('.png', '.md'):
      files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
  return files


def on_page_markdown(markdown, page, config, files):
  """Links that leave docs/ either come to results/, which the site has beside its pages, or become text."""
  folder = pathlib.PurePosixPath(page.file.src_uri).parent
  up = '../' * len(folder.parts)
  markdown = re.sub(rf'\]\({re.escape(up)}\.\./(results/[^)]*\.(?:png|md))\)', rf']({up}\1)', markdown)
  return re.sub(rf'(?<!!)\[([^\]]*)\]\({re.escape(up)}\.\./[^)]*\)', r'\1', markdown)
