"""Small data sets that are not ours, of pictures of three classes, as folders of images and as TFDS prepares them."""

import io

import numpy as np
from PIL import Image

CLASSES = ('ant', 'bee', 'cat')


def picture(label, i, size=(12, 12), form='png'):
  """Brighter for larger labels, so that there is something to learn."""
  pixels = np.random.default_rng((label, i)).integers(0, 60, (*size, 3)) + 60 * label
  file = io.BytesIO()
  Image.fromarray(pixels.astype(np.uint8)).save(file, form)
  return file.getvalue()


def write_folder(root, train=8, test=4, test_name='val', **options):
  for split, count in (('train', train), (test_name, test)):
    for label, name in enumerate(CLASSES):
      (root / split / name).mkdir(parents=True)
      for i in range(count):
        (root / split / name / f'{i}.png').write_bytes(picture(label, i, **options))
  return root


def write_tfds(root, called='shades', channels=3, test_name='test', also=()):
  import tensorflow_datasets as tfds

  class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('1.2.3')
    name = called

    def _info(self):
      return tfds.core.DatasetInfo(builder=self, disable_shuffling=True, features=tfds.features.FeaturesDict({
          'image': tfds.features.Image(shape=(12, 12, channels), encoding_format='png'),
          'label': tfds.features.ClassLabel(names=list(CLASSES))}))

    def _split_generators(self, manager):
      return {'train': self._generate_examples(8), **{name: self._generate_examples(4) for name in (test_name, *also)}}

    def _generate_examples(self, count):
      for label in range(3):
        for i in range(count):
          image = Image.open(io.BytesIO(picture(label, i)))
          red = Image.fromarray(np.asarray(image)[:, :, 0])
          yield label * count + i, {'image': image if channels == 3 else red, 'label': label}

  Builder(data_dir=root, file_format='array_record').download_and_prepare()
  return root
