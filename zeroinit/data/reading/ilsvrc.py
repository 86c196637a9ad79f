"""ImageNet as image-net.org distributes it and people keep it, read in place.

Training images: a folder for each class, train/n01440764/*.JPEG, or ILSVRC2012_img_train.tar. Validation images: val/
(or validation/), with a folder for each class or flat, or ILSVRC2012_img_val.tar. Those without folders need a file
that says their labels: the devkit, Kaggle's LOC_val_solution.csv, or val.txt, a name and a class in each line.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile

import numpy as np

from zeroinit.data.reading import folders
from zeroinit.system.errors import UserError, first_line

BELOW = ('', 'imagenet', 'ILSVRC2012', 'ILSVRC/Data/CLS-LOC')  # where it may lie in a folder; the last is Kaggle's
TRAIN_ARCHIVE, VALIDATION_ARCHIVE = 'ILSVRC2012_img_train.tar', 'ILSVRC2012_img_val.tar'
VALIDATION = ('val', 'validation')
LABELS = ('LOC_val_solution.csv', 'val.txt', 'val_labels.txt', 'validation_labels.txt')
DEVKIT = 'ILSVRC2012_devkit_t12'
ORDER = 'by class and name'
TRUTH, META = 'ILSVRC2012_validation_ground_truth.txt', 'meta.mat'


def find(root):
  """The folder in or below `root`, a pathlib.Path, that has its training images; None where there is none."""
  for below in BELOW:
    base = root / below
    if (base / 'train').is_dir() or (base / TRAIN_ARCHIVE).is_file():
      return base
  return None


def splits(base):
  """The training and the validation images of what `find` has found, each a `data.Split`.

  Labels are those of TFDS and torchvision: the place of the class among the 1000, sorted by their synsets.

  Raises:
    UserError: there are no validation images, or nothing says their labels; a class is none of ImageNet's, or empty.
  """
  known = {synset: label for label, synset in enumerate(synsets())}
  return _train(base, known), _validation(base, known)


def synsets():
  """The names of the 1000 classes, sorted."""
  import tensorflow_datasets as tfds

  text = tfds.core.tfds_path('image_classification/imagenet_resized_labels.txt').read_text()
  return sorted(text.split())


def _train(base, known):
  if (base / 'train').is_dir():
    return folders.by_class(base / 'train', known)
  archive = base / TRAIN_ARCHIVE
  names, places = folders.members(archive, inner=True)
  labels = [known.get(name.split('/')[0]) for name in names]
  if None in labels or not labels:
    there = names[labels.index(None)] if labels else 'nothing'
    raise UserError(f"{archive} has {there} in it, and not only archives of ImageNet's classes, such as n01440764.tar")
  return folders.Members(archive, names, np.array(labels, np.int32), places)


def _validation(base, known):
  for name in VALIDATION:
    folder = base / name
    if folder.is_dir():
      if folders.classes(folder):
        return folders.by_class(folder, known)
      names = folders.images_in(folder)
      if not names:
        raise UserError(f'{folder} holds no images')
      return folders.Files(folder, names, _labels_of(names, folder, base, known))
  archive = base / VALIDATION_ARCHIVE
  if archive.is_file():
    names, places = folders.members(archive)
    return folders.Members(archive, names, _labels_of(names, archive, base, known), places)
  raise UserError(f'the ImageNet in {base} has no validation images: neither {" nor ".join(VALIDATION)}, nor '
                  f'{VALIDATION_ARCHIVE}')


def _labels_of(names, where, base, known):
  """Labels of flat validation images, int32 [n]. where: what holds them."""
  file, labels = _read_labels(where, base, known)
  missing = [name for name in names if _stem(name) not in labels]
  if missing:
    raise UserError(f'{file} has no label for {missing[0]}, which is in {where}')
  return np.array([labels[_stem(name)] for name in names], np.int32)


def _read_labels(where, base, known):
  """(file, {name of an image without its ending: label}) of the first file that says them."""
  above = base.parents[:3] if base.parts[-3:] == ('ILSVRC', 'Data', 'CLS-LOC') else ()
  for folder in (*([where] if where.is_dir() else ()), base, *above):
    for name in LABELS:
      if (folder / name).is_file():
        return folder / name, _from_lines(folder / name, known)
    for devkit in (folder / DEVKIT / 'data', folder / DEVKIT, folder / 'data', folder):
      if (devkit / TRUTH).is_file() and (devkit / META).is_file():
        return devkit / TRUTH, _from_devkit(devkit / TRUTH, (devkit / META).read_bytes(), (devkit / TRUTH).read_bytes(),
                                            known)
    archive = folder / f'{DEVKIT}.tar.gz'
    if archive.is_file():
      return archive, _from_devkit(archive, *_members_of(archive), known)
  raise UserError(f'nothing says the labels of the images in {where}, which are not in folders of classes: put the '
                  f"devkit, {DEVKIT}.tar.gz, into {base}, or Kaggle's {LABELS[0]}, or {LABELS[1]} with a name and a "
                  'class in each line')


def _from_lines(file, known):
  """Of lines 'NAME CLASS', separated by a space or comma, after one of headings, perhaps; a class is a synset or its
  label.
  """
  labels = {}
  for number, line in enumerate(file.read_text('utf-8-sig', errors='replace').splitlines()):
    words = re.split(r'[,\s]+', line.strip())
    if words == ['']:
      continue
    label = known.get(words[1]) if len(words) > 1 else None
    if label is None and len(words) > 1 and re.fullmatch(r'\d{1,3}', words[1]):
      label = int(words[1])
    if label is not None:
      labels[_stem(words[0])] = label
    elif number or re.search(r'\d', words[0]):
      raise UserError(f'{file}, line {number + 1}: {line[:60]!r} is not the name of an image and its class, a synset '
                      'such as n01440764 or a number from 0 to 999')
  return labels


def _from_devkit(file, meta, truth, known):
  """Of the devkit, whose classes have numbers of their own. meta, truth: the bytes of META and TRUTH."""
  # In a process of its own, since SciPy crashes over some damaged files of MATLAB.
  done = subprocess.run([sys.executable, '-c', _READ_META], input=meta, capture_output=True, check=False)
  try:
    label_of = {number: known[synset] for number, synset in json.loads(done.stdout) if synset in known}
    return {f'ILSVRC2012_val_{i:08d}': label_of[int(number)] for i, number in enumerate(truth.decode().split(), 1)}
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(f'the devkit of {file} cannot be read: {META} or {TRUTH} is damaged') from error


_READ_META = """
import io, json, sys
import scipy.io
synsets = scipy.io.loadmat(io.BytesIO(sys.stdin.buffer.read()), squeeze_me=True)['synsets']
print(json.dumps([[int(number), str(synset)]
                  for number, synset in zip(synsets['ILSVRC2012_ID'], synsets['WNID'], strict=True)]))
"""


def _members_of(archive):
  """META and TRUTH in the archive of the devkit."""
  found = {}
  try:
    with tarfile.open(archive) as opened:
      for member in opened:
        name = os.path.basename(member.name)
        if name in (META, TRUTH) and member.isfile():
          found[name] = opened.extractfile(member).read()
    return found[META], found[TRUTH]
  except Exception as error:  # each compression has its own kinds
    raise UserError(f'{archive} is not the devkit, or damaged: {type(error).__name__}: {first_line(error)}') from error


def _stem(name):
  return pathlib.PurePath(name).stem
