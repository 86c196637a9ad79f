"""tfds:NAME, any data set of images with classes that TensorFlow Datasets has prepared, in array_record or TFRecord.

NAME may have a configuration and a version: tfds:imagenet_v2/matched-frequency/3.0.0.
"""

import pathlib
import re

from zeroinit.data.others import Found, state_of
from zeroinit.data.reading import tfds_copy
from zeroinit.system.errors import UserError

TEST = ('test', 'validation')


def look(name, data_dir='', last=None):
  """See `Found.look`. data_dir: the folder that holds NAME. Empty: $TFDS_DATA_DIR, then ~/tensorflow_datasets."""
  return _find(name, data_dir).look(last)


def _find(name, data_dir):
  if not re.fullmatch(r'\w+([:/]\w[\w.+-]*)*', name):
    raise UserError(f'the dataset is tfds:{name}; what follows tfds: is the name of a data set, perhaps with a '
                    'configuration and a version; the folder that it is in goes into --config.data_dir')
  name = name.replace(':', '/')
  if '://' in data_dir:
    raise UserError(f'data_dir is {data_dir}; tfds:{name} is read from a local folder, so copy it to one first')
  roots = [pathlib.Path(root).absolute() for root in tfds_copy.roots(data_dir)]
  path = next(filter(None, (tfds_copy.find(root, name) for root in roots)), None)
  if path is None:
    raise UserError(f'no {name} of TFDS in {" and in ".join(map(str, roots))}: there must be {name}/VERSION with '
                    'dataset_info.json. Prepare it with tensorflow_datasets, '
                    f"tfds.data_source('{name.split('/')[0]}'), and "
                    'pass --config.data_dir=THE_FOLDER_IT_IS_IN; nothing is downloaded by itself')
  copy = tfds_copy.read(path, name.split('/')[0])
  train, tests = copy.split('train'), (copy.split(split) for split in TEST if split in copy.splits)
  # Some have a test split whose labels are kept back, -1 each.
  test = next((split for split in tests if split[0][1] >= 0), None)
  if test is None:
    raise UserError(f'the {name} in {path} has the splits {", ".join(copy.splits)}; there must be train, and test or '
                    'validation, with labels')
  if copy.num_classes < 2:
    raise UserError(f'the {name} in {path} does not say how many classes it has')
  return Found(f'{copy.name} of TFDS', str(path), copy.num_classes, copy.channels, train, test,
               state_of(sorted(file for file in path.iterdir() if file.is_file())), order=copy.name)
