"""Small copies of CIFAR-100 and SVHN in every form in which they are read."""

import pickle
import tarfile

import numpy as np
import scipy.io

from tests import cifar10_copies

CLASSES = {'cifar100': 100, 'svhn': 10}
FORMS = [('cifar100', form) for form in ('tfds', 'parquet', 'python', 'binary', 'archive')] + [
    ('svhn', form) for form in ('tfds', 'parquet', 'matlab')]


def pictures(classes):
  rng = np.random.default_rng(1)
  images = lambda n: rng.integers(0, 256, (n, 32, 32, 3), np.uint8)
  labels = lambda n: rng.permutation(np.arange(n) * 7 % classes).astype(np.int32)
  return images(30), labels(30), images(12), labels(12)


def write(root, name, form, images):
  classes, splits = CLASSES[name], (('train', *images[:2]), ('test', *images[2:]))
  match name, form:
    case _, 'tfds':
      cifar10_copies.write_tfds(root, images, 'svhn_cropped' if name == 'svhn' else name, classes)
    case _, 'parquet':
      cifar10_copies.write_parquet(root / 'data', images, columns=('img', 'fine_label') if classes == 100 else
                                   ('image', 'label'))
    case 'cifar100', 'python':
      (root / 'cifar-100-python').mkdir(parents=True)
      for split, pixels, labels in splits:
        batch = {b'data': pixels.transpose(0, 3, 1, 2).reshape(-1, 3072), b'fine_labels': labels.tolist(),
                 b'coarse_labels': (labels // 5).tolist(), b'filenames': [b'x.png'] * len(labels)}
        (root / 'cifar-100-python' / split).write_bytes(pickle.dumps(batch, protocol=2))
    case 'cifar100', 'binary':
      (root / 'cifar-100-binary').mkdir(parents=True)
      for split, pixels, labels in splits:
        columns = np.stack([labels // 5, labels], 1).astype(np.uint8), pixels.transpose(0, 3, 1, 2).reshape(-1, 3072)
        (root / 'cifar-100-binary' / f'{split}.bin').write_bytes(np.concatenate(columns, 1).tobytes())
    case 'cifar100', 'archive':
      write(root / 'unpacked', name, 'python', images)
      with tarfile.open(root / 'cifar-100-python.tar.gz', 'w:gz') as archive:
        archive.add(root / 'unpacked', arcname='')
    case 'svhn', 'matlab':
      root.mkdir(parents=True)
      for split, pixels, labels in splits:
        found = {'X': pixels.transpose(1, 2, 3, 0), 'y': np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)}
        scipy.io.savemat(root / f'{split}_32x32.mat', found, do_compression=True)
  return root
