"""The forms of ImageNet beside each other: an epoch of the loader over the same images, by turns.

  python -m benchmarks.forms --data_dir=DATA --record=results/forms_cpu.json

DATA holds a copy of TFDS, in array_record, or a part of one. From it folders, an archive and Parquet files are written
into a temporary directory. The first epoch of each turn, in which they are read from disk, is not timed.
"""

import io
import pathlib
import statistics
import tarfile
import tempfile

import numpy as np
import pyarrow
import pyarrow.parquet
from absl import flags

from benchmarks import input as loading  # whose flags are ours too
from benchmarks import record
from zeroinit import command_line
from zeroinit.data import imagenet
from zeroinit.data.reading import ilsvrc

flags.adopt_module_key_flags(record)  # so that --help shows it
flags.adopt_module_key_flags(loading)

GROUP = 100  # rows, as hubs have it


def write(root, dataset):
  """{form: data_dir} of the forms that are written into a folder."""
  synsets, rows = ilsvrc.synsets(), {}
  for name, split in (('train', dataset.train), ('val', dataset.test)):
    for i in range(len(split)):
      content, label = split[i]
      folder = root / 'folders' / name / synsets[label]
      folder.mkdir(parents=True, exist_ok=True)
      (folder / f'{i:08d}.JPEG').write_bytes(content)
      rows.setdefault(name, []).append({'image': {'bytes': content}, 'label': label})
  (root / 'archives').mkdir()
  (root / 'archives' / 'val').symlink_to(root / 'folders' / 'val')
  with tarfile.open(root / 'archives' / ilsvrc.TRAIN_ARCHIVE, 'w') as outer:
    for folder in sorted((root / 'folders' / 'train').iterdir()):
      inner = io.BytesIO()
      with tarfile.open(fileobj=inner, mode='w') as archive:
        for file in sorted(folder.iterdir()):
          archive.add(file, file.name)
      member = tarfile.TarInfo(f'{folder.name}.tar')
      member.size = len(inner.getvalue())
      outer.addfile(member, io.BytesIO(inner.getvalue()))
  (root / 'parquet').mkdir()
  for name, examples in rows.items():
    file = root / 'parquet' / f'{name}-00000-of-00001.parquet'
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(examples), file, row_group_size=GROUP)
  return {form: root / form for form in ('folders', 'archives', 'parquet')}


def main(argv):
  del argv
  path, workers = record.prepare(), 2
  there = imagenet.load(loading.DATA_DIR.value)
  with tempfile.TemporaryDirectory() as root:
    splits = {'array_record': there.train}
    splits |= {form: imagenet.load(str(data_dir)).train for form, data_dir in write(pathlib.Path(root), there).items()}
    speeds = {form: [] for form in splits}
    for _ in range(loading.ROUNDS.value):
      for form, split in splits.items():
        speeds[form].append(loading.turn_of_ours(loading.First(split), workers))
  rows = []
  for form, values in speeds.items():
    clock = [speed for _, speed in values]
    ratios = [speed / other for speed, (_, other) in zip(clock, speeds['array_record'], strict=True)]
    rows.append({'form': form, 'images_per_second': statistics.median(clock),
                 'over_array_record': record.summary(ratios)})
    print(f'{form:14s}{np.median(clock):7.0f} images/s, over array_record '
          '{median:.2f} ({min:.2f} to {max:.2f})'.format(**rows[-1]['over_array_record']))
  record.write(path, {'data': there.title, 'size': loading.SIZE.value, 'rounds': loading.ROUNDS.value,
                      'workers': workers, 'forms': rows}, ['opencv-python-headless', 'array-record', 'pyarrow'])


if __name__ == '__main__':
  command_line.run(main)
