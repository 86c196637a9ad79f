"""Tiny copies of ImageNet as image-net.org distributes it and people keep it."""

import io
import tarfile

import numpy as np
import scipy.io

from zeroinit.data.reading import ilsvrc

FORMS = ('folders', 'flat and val.txt', 'Kaggle', 'flat and devkit', 'archives')


def write(folder, form, train, validation):
  """A copy in one of FORMS, and its data_dir. train, validation: [(file name, content, label)]."""
  folder.mkdir(parents=True)
  synsets = ilsvrc.synsets()
  base = folder / 'ILSVRC' / 'Data' / 'CLS-LOC' if form == 'Kaggle' else folder
  if form == 'archives':
    by_class = {}
    for name, content, label in train:
      by_class.setdefault(synsets[label], []).append((name, content))
    inner = [(f'{synset}.tar', archive(files)) for synset, files in sorted(by_class.items())]
    (folder / ilsvrc.TRAIN_ARCHIVE).write_bytes(archive(inner))
    (folder / ilsvrc.VALIDATION_ARCHIVE).write_bytes(archive([example[:2] for example in validation]))
    (folder / f'{ilsvrc.DEVKIT}.tar.gz').write_bytes(archive(
        [(f'{ilsvrc.DEVKIT}/data/{name}', content) for name, content in devkit(validation)], 'w:gz'))
    return folder
  for name, content, label in train:
    put(base / 'train' / synsets[label] / name, content)
  for name, content, label in validation:
    put(base / 'val' / synsets[label] / name if form == 'folders' else base / 'val' / name, content)
  if form == 'flat and val.txt':
    put(folder / 'val.txt', ''.join(f'{name} {label}\n' for name, _, label in validation).encode())
  elif form == 'Kaggle':
    rows = [f'{name.removesuffix(".JPEG")},{synsets[label]} 1 2 3 4 {synsets[0]} 5 6 7 8'
            for name, _, label in validation]
    put(folder / 'LOC_val_solution.csv', '\n'.join(['ImageId,PredictionString', *rows]).encode())
  elif form == 'flat and devkit':
    for name, content in devkit(validation):
      put(folder / ilsvrc.DEVKIT / 'data' / name, content)
  return folder


def devkit(validation):
  """[(name, content)]: numbers of classes in an order of their own, and the ground truth in these."""
  number_of = lambda label: 1000 - label
  synsets = np.array([(number_of(label), synset) for label, synset in enumerate(ilsvrc.synsets())],
                     [('ILSVRC2012_ID', object), ('WNID', object)])
  meta = io.BytesIO()
  scipy.io.savemat(meta, {'synsets': synsets})
  truth = ''.join(f'{number_of(label)}\n' for _, _, label in sorted(validation))
  return [(ilsvrc.META, meta.getvalue()), (ilsvrc.TRUTH, truth.encode())]


def archive(files, mode='w'):
  """bytes of a tar archive. files: [(name, content)]."""
  made = io.BytesIO()
  with tarfile.open(fileobj=made, mode=mode) as opened:
    for name, content in files:
      member = tarfile.TarInfo(name)
      member.size = len(content)
      opened.addfile(member, io.BytesIO(content))
  return made.getvalue()


def put(file, content):
  file.parent.mkdir(parents=True, exist_ok=True)
  file.write_bytes(content)
