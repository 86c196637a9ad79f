"""Tiny copies of ImageNet as TFDS stores it, of real JPEG files that Pillow makes; without TensorFlow."""

import io
import json
import struct

import google_crc32c
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from PIL import Image

VERSION = '5.1.0'


def encode(pixels, form='jpeg', mode='RGB', **options):
  """bytes of an image file. pixels: uint8 [height, width, 3]."""
  file = io.BytesIO()
  Image.fromarray(pixels).convert(mode).save(file, form, **options)
  return file.getvalue()


def picture(seed, height=40, width=50):
  """Something smooth, uint8 [height, width, 3], so that JPEG and resizing change it little."""
  coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
  return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def examples(first, count):
  """[(file name, content, label)], each of its own size."""
  return [(f'n{i:08d}_{i}.JPEG', encode(picture(i, 40 + i % 7, 50 + i % 5)), i * 37 % 1000)
          for i in range(first, first + count)]


def write(folder, splits):
  """A copy as TFDS's own builder writes it, in array_record. splits: {name: [(file name, content, label)]}."""
  import tensorflow_datasets as tfds

  class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version(VERSION)
    name = 'imagenet2012'

    def _info(self):
      return tfds.core.DatasetInfo(builder=self, disable_shuffling=True, features=tfds.features.FeaturesDict({
          'image': tfds.features.Image(encoding_format='jpeg'),
          'label': tfds.features.Scalar(np.int64),  # not a ClassLabel, which would refuse the wrong ones of some tests
          'file_name': tfds.features.Text()}))

    def _split_generators(self, manager):
      return {name: self._generate_examples(content) for name, content in splits.items()}

    def _generate_examples(self, content):
      for i, (name, image, label) in enumerate(content):
        yield i, {'image': io.BytesIO(image), 'label': label, 'file_name': name}

  Builder(data_dir=folder, file_format='array_record').download_and_prepare()
  return folder


def framed(record):
  """A record as it stands in a TFRecord file: its length and itself, each with its checksum."""
  length = struct.pack('<Q', len(record))
  return length + _checksum(length) + record + _checksum(record)


def _checksum(content):
  crc = google_crc32c.value(content)
  return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xa282ead8) % 2**32)


def rewrite(source, folder, form, shards):
  """The records of a copy once more, each split in several files: their number. form: 'array_record' or 'tfrecord'."""
  version = folder / 'imagenet2012' / VERSION
  version.mkdir(parents=True)
  for file in (source / 'imagenet2012' / VERSION).glob('*.json'):
    (version / file.name).write_bytes(file.read_bytes())
  info = json.loads((version / 'dataset_info.json').read_text())
  for split in info['splits']:
    whole = source / 'imagenet2012' / VERSION / f'imagenet2012-{split["name"]}.array_record-00000-of-00001'
    parts = np.array_split(np.array(ArrayRecordReader(str(whole)).read_all(), object), shards)
    split['shardLengths'] = [str(len(part)) for part in parts]
    for i, part in enumerate(parts):
      file = version / f'imagenet2012-{split["name"]}.{form}-{i:05d}-of-{shards:05d}'
      if form == 'tfrecord':
        file.write_bytes(b''.join(map(framed, part)))
      else:
        writer = ArrayRecordWriter(str(file), 'group_size:1')
        for record in part:
          writer.write(record)
        writer.close()
  (version / 'dataset_info.json').write_text(json.dumps(info | {'fileFormat': form}))
  return folder
