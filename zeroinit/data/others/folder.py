"""folder:PATH, one's own images: PATH/train/CLASS/*.png and the same in PATH/test or PATH/val.

Classes are the folders of train, sorted; every image is read as RGB.
"""

import hashlib
import pathlib

from zeroinit.data.others import Found, state_of
from zeroinit.data.reading import folders
from zeroinit.system import paths
from zeroinit.system.errors import UserError

TEST = ('test', 'val', 'validation', 'valid')


def look(path, data_dir='', last=None):
  """See `Found.look`. data_dir: where a folder of that name is looked for, if PATH is not there any more."""
  return _find(path, data_dir).look(last)


def _find(path, data_dir):
  if '://' in path:
    raise UserError(f'the dataset is folder:{path}; a folder is read from disk, so copy it there first')
  root = pathlib.Path(paths.expanded(path)).absolute()
  if data_dir and not root.is_dir():
    root = pathlib.Path(paths.expanded(data_dir)).absolute() / root.name
  if not root.is_dir():
    raise UserError(f'the dataset is folder:{path}, and there is no folder {root}; if it has moved, give the '
                    'folder around it as data_dir')
  test = next((root / name for name in TEST if (root / name).is_dir()), None)
  if not (root / 'train').is_dir() or test is None:
    raise UserError(f'{root} lacks {"test images: test or val" if (root / "train").is_dir() else "train"}, a folder '
                    'with one of images for each class')
  known = {name: label for label, name in enumerate(folders.classes(root / 'train'))}
  if len(known) < 2:
    raise UserError(f'{root / "train"} has {len(known)} folders of classes; there must be two or more')
  train, test = (folders.by_class(folder, known) for folder in (root / 'train', test))
  files = [root / 'train' / name for name in train.names] + [test.root / name for name in test.names]
  return Found(f'{root.name}, {len(known)} classes', str(root), len(known), 3, train, test, state_of(files),
               order=hashlib.sha256(train.labels.tobytes()).hexdigest()[:16])
