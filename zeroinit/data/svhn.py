"""SVHN, house numbers cropped to their digits (Netzer et al. 2011), from whatever copy is at hand.

The training images are the 73,257 of `train`, without the easier ones of `extra`.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from zeroinit.data import Info
from zeroinit.data.reading.whole import Whole
from zeroinit.system.errors import UserError

INFO = Info(num_classes=10, train_examples=73_257, image_size=32, channels=3,
            mean=(111.6, 113.2, 120.6), std=(50.5, 51.3, 50.2))

FILES = ('train_32x32.mat', 'test_32x32.mat')
# In a process of its own, since SciPy crashes over some damaged files of MATLAB.
_READ = '''
import sys, numpy, scipy.io
found = scipy.io.loadmat(sys.argv[1], variable_names=['X', 'y'])
numpy.savez(sys.argv[2], images=found['X'], labels=found['y'])
'''


class _Matlab:
  """Two files of MATLAB; see `whole.Original`."""

  words = ' and '.join(FILES)
  download = 'http://ufldl.stanford.edu/housenumbers/train_32x32.mat and test_32x32.mat'

  def find(self, folder):
    return folder if (folder / FILES[0]).is_file() else None

  def files(self, path):
    folder = path.parent if path.is_file() else path
    for name in FILES:
      if not (folder / name).is_file():
        raise UserError(f'the SVHN in {folder} is not whole: it lacks {name}')
    return [folder / name for name in FILES]

  def read(self, path):
    return [array for file in self.files(path) for array in _read(file)]


def _read(file):
  """Images, uint8 [n, 32, 32, 3], and labels, int32 [n]."""
  with tempfile.TemporaryDirectory() as directory:
    arrays = pathlib.Path(directory) / 'arrays.npz'
    subprocess.run([sys.executable, '-c', _READ, str(file), str(arrays)], capture_output=True, check=False)
    try:
      with np.load(arrays) as found:
        images, labels = found['images'], found['labels']
      labels = labels.astype(np.int32).reshape(-1)
      images = np.ascontiguousarray(images.transpose(3, 0, 1, 2))
    except Exception as error:  # whatever it may hold
      raise UserError(f'{file} is not a file of SVHN, or damaged') from error
  return images, np.where(labels == 10, 0, labels)  # the digit 0 is the class 10 there


load = Whole('svhn_cropped', 'SVHN', INFO, test_examples=26_032, original=_Matlab(), a_class='7',
             configuration='cropped_digits').load
