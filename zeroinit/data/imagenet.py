"""ImageNet (ILSVRC 2012), read in place and without TensorFlow: as TFDS stores it, in array_record or TFRecord, as
image-net.org distributes it, in folders or archives, or as hubs offer it, in Parquet files.

It stays on disk: a record is read and decoded when its turn comes. Nothing is ever downloaded.
"""

import pathlib
import re

from etils import epath

from zeroinit.data import Info, StreamedDataset
from zeroinit.data.reading import ilsvrc, parquet, tfds_copy
from zeroinit.system import objects
from zeroinit.system.errors import UserError

INFO = Info(num_classes=1000, train_examples=1_281_167, image_size=None, channels=3,
            mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))  # torchvision's
# All test on the validation set: the test set has no labels.
SPLITS = {'train': INFO.train_examples, 'validation': 50_000}
PARQUET = {'train': ('train',), 'validation': ('validation', 'val')}  # how the files of a split begin
SLOW = 1e6  # bytes of a row group, which is read for every image that is drawn


def load(data_dir=''):
  """ImageNet.

  Args:
    data_dir: a TFDS directory (which holds imagenet2012/VERSION), or that VERSION itself; an array_record copy may be
      on gs://. Or a folder that holds train and val, or their archives: see `reading.ilsvrc`. Or one that holds Parquet
      files. Empty: $TFDS_DATA_DIR, then ~/tensorflow_datasets.

  Returns:
    A StreamedDataset. A part of ImageNet is said to be one in the title.

  Raises:
    UserError: there is no ImageNet there (the message says what to do), or it is not whole.
  """
  form, path = _find(data_dir)
  splits, order = _READ[form](path)
  parts = [f'{len(split):,} of {whole:,} {name} images'
           for (name, whole), split in zip(SPLITS.items(), splits, strict=True) if len(split) != whole]
  return StreamedDataset(', '.join(['ImageNet', *parts]), *splits, complete=not parts, order=order)


def _of_tfds(path):
  copy = tfds_copy.read(path, 'imagenet2012')
  return [copy.split(name) for name in SPLITS], 'TFDS'


def _of_folders(path):
  return ilsvrc.splits(path), ilsvrc.ORDER


def _of_parquet(path):
  splits = [parquet.Rows(files) for files in parquet.find(path, PARQUET).values()]
  if splits[0].group_bytes > SLOW:
    print(f'Parquet files give an image only with its row group, here {splits[0].group_bytes / 1e6:.0f} MB: training '
          'draws at random, and is faster from folders, archives or array_record', flush=True)
  return splits, 'Parquet'


_READ = {'tfds': _of_tfds, 'folders': _of_folders, 'parquet': _of_parquet}


def _find(data_dir):
  """Its form, and where it is: the directory of the newest version of TFDS, or what the form's reader looks into."""
  if re.match('https?:', data_dir):
    raise UserError(f'data_dir is {data_dir}; ImageNet is read from a folder or from gs://')
  roots = [epath.Path(root) for root in tfds_copy.roots(data_dir)]
  for root in roots:
    objects.check_reachable(root)
    if found := tfds_copy.find(root, 'imagenet2012'):
      return 'tfds', found
    if '://' in str(root):
      continue
    root = pathlib.Path(root)
    if (found := ilsvrc.find(root)) and not list((found / 'train').glob('*.parquet')):
      return 'folders', found
    if parquet.find(root, PARQUET):
      return 'parquet', root
  places = ' and in '.join(str(root) + ('' if root.exists() else ' (which does not exist)') for root in roots)
  raise UserError(f'no ImageNet in {places}: there must be train/, with a folder for each class, and val/; or '
                  f'{ilsvrc.TRAIN_ARCHIVE} and {ilsvrc.VALIDATION_ARCHIVE}; or Parquet files of train and validation; '
                  'or imagenet2012/VERSION of TFDS, in array_record or TFRecord. Nothing is downloaded by itself')
