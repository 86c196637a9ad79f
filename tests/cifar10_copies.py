"""Small copies of CIFAR-10 in every form in which it is read; without TensorFlow."""

import io
import json
import pickle
import tarfile

import numpy as np
from PIL import Image

from tests.imagenet_copies import framed

FORMS = ('py', 'bin', 'py_archive', 'bin_archive', 'array_record', 'tfrecord', 'parquet', 'parquet_shards')


def pictures(train=50, test=10):
  """(train images, train labels, test images, test labels), in five training batches and one of test images."""
  rng = np.random.default_rng(0)
  return (rng.integers(0, 256, (train, 32, 32, 3), np.uint8), rng.integers(0, 10, train).astype(np.int32),
          rng.integers(0, 256, (test, 32, 32, 3), np.uint8), rng.integers(0, 10, test).astype(np.int32))


def write(folder, form, images):
  """A copy in one of FORMS, in `folder`, as `cifar10.load` finds it."""
  match form:
    case 'py':
      write_py(folder / 'cifar-10-batches-py', images)
    case 'bin':
      write_bin(folder / 'cifar-10-batches-bin', images)
    case 'py_archive' | 'bin_archive':
      kind, name = (('py', 'python') if form == 'py_archive' else ('bin', 'binary'))
      unpacked = folder.with_name(f'{folder.name}_unpacked')
      write(unpacked, kind, images)
      folder.mkdir(parents=True)
      with tarfile.open(folder / f'cifar-10-{name}.tar.gz', 'w:gz') as archive:
        archive.add(unpacked, arcname='')
    case 'array_record':
      write_tfds(folder, images)
    case 'tfrecord':
      write_tfds(folder, images)
      to_tfrecord(folder)
    case 'parquet':
      write_parquet(folder / 'plain_text', images)
    case 'parquet_shards':  # as a hub's cache keeps a download, with other names of the columns
      write_parquet(folder / 'datasets--somebody--cifar10' / 'snapshots' / '0a1b' / 'data', images, shards=3,
                    columns=('image', 'labels'))


def split_in_batches(images):
  for i in range(5):
    yield f'data_batch_{i + 1}', images[0][i * 10 : i * 10 + 10], images[1][i * 10 : i * 10 + 10]
  yield 'test_batch', images[2], images[3]


def write_py(folder, images):
  folder.mkdir(parents=True)
  for name, pixels, labels in split_in_batches(images):
    batch = {b'data': pixels.transpose(0, 3, 1, 2).reshape(-1, 3072), b'labels': labels.tolist(), b'batch_label': b'x'}
    (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


def write_bin(folder, images):
  folder.mkdir(parents=True)
  for name, pixels, labels in split_in_batches(images):
    records = np.concatenate([labels[:, None].astype(np.uint8), pixels.transpose(0, 3, 1, 2).reshape(-1, 3072)], 1)
    (folder / f'{name}.bin').write_bytes(records.tobytes())


def write_tfds(folder, images, called='cifar10', classes=10):
  """As TFDS's own builder stores it, in array_record, but from PIL images, which needs no TensorFlow."""
  import tensorflow_datasets as tfds

  class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('3.0.2')
    name = called

    def _info(self):
      return tfds.core.DatasetInfo(builder=self, disable_shuffling=True, features=tfds.features.FeaturesDict({
          'image': tfds.features.Image(shape=(32, 32, 3), encoding_format='png'),
          'label': tfds.features.ClassLabel(num_classes=classes)}))

    def _split_generators(self, manager):
      return {'train': self._generate_examples(*images[:2]), 'test': self._generate_examples(*images[2:])}

    def _generate_examples(self, pixels, labels):
      for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        yield i, {'image': Image.fromarray(image), 'label': int(label)}

  Builder(data_dir=folder, file_format='array_record').download_and_prepare()


def write_parquet(folder, images, shards=1, columns=('img', 'label'), classes=None):
  """As hubs have it: PNGs in a struct of bytes and path, the splits in files of so many shards.

  classes: names of the classes, for the metadata.
  """
  import pyarrow
  import pyarrow.parquet

  folder.mkdir(parents=True)
  for split, pixels, labels in (('train', *images[:2]), ('test', *images[2:])):
    rows = [{columns[0]: {'bytes': png(image), 'path': None}, columns[1]: int(label)}
            for image, label in zip(pixels, labels, strict=True)]
    for i, part in enumerate(np.array_split(np.arange(len(rows)), shards)):
      table = pyarrow.Table.from_pylist([rows[row] for row in part])
      if classes:
        features = {columns[0]: {'_type': 'Image'}, columns[1]: {'names': classes, '_type': 'ClassLabel'}}
        table = table.replace_schema_metadata({'huggingface': json.dumps({'info': {'features': features}})})
      pyarrow.parquet.write_table(table, folder / f'{split}-{i:05d}-of-{shards:05d}.parquet')


def png(image):
  """A picture, encoded without loss."""
  content = io.BytesIO()
  Image.fromarray(image).save(content, 'PNG')
  return content.getvalue()


def to_tfrecord(folder):
  """Turns the array_record copy into a TFRecord copy with the same records."""
  from array_record.python.array_record_module import ArrayRecordReader

  version = folder / 'cifar10' / '3.0.2'
  for file in version.glob('*array_record*'):
    records = ArrayRecordReader(str(file)).read_all()
    file.with_name(file.name.replace('array_record', 'tfrecord')).write_bytes(b''.join(map(framed, records)))
    file.unlink()
  info = json.loads((version / 'dataset_info.json').read_text())
  (version / 'dataset_info.json').write_text(json.dumps(info | {'fileFormat': 'tfrecord'}))
