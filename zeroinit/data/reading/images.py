"""From an encoded image to the picture of `size` x `size` that a network sees. Pure functions, in NumPy and OpenCV.

A box is (top, left, height, width), whole pixels, inside the image.
"""

import functools
import io
import math

import cv2
import numpy as np
from PIL import Image

from zeroinit.system.errors import first_line

AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # of a random box: share of the image; width / height
TRIES = 10
CENTRAL = 224 / 256  # of the shorter side

# For the whole process: the loader has a thread for every core, and says itself what is wrong with an image.
cv2.setNumThreads(1)
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def decode(content):
  """The image in `content` (bytes), uint8 [height, width, 3], RGB. Its EXIF orientation is ignored, as TensorFlow does.

  OpenCV decodes, to the same pixels as Pillow and faster. What it rejects is left to Pillow, which reads more formats.
  Both reject an image that ends too early.

  Raises:
    ValueError: neither can read it.
  """
  try:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is not None:
      return image
  except cv2.error:
    pass
  try:
    with Image.open(io.BytesIO(content)) as image:
      return np.array(image.convert('RGB'))
  except Image.UnidentifiedImageError:
    raise ValueError(f'its {len(content):,} bytes are not an image') from None
  except Exception as error:  # each format has its own kinds
    raise ValueError(f'its image is damaged: {first_line(error)}') from error


def random_box(rng, height, width):
  """The box of a random resized crop of an image: any part of its area from 8 %, a little wider or higher than square.

  Szegedy et al. 2015 (arXiv:1409.4842), section 6. What they leave open is as in torchvision: the logarithm of the
  aspect ratio is uniform, and where 10 boxes have not fitted, it is the largest central one of a permitted ratio.

  Args:
    rng: a random.Random, or a numpy.random.Generator.
  """
  low, high = map(math.log, ASPECT)
  for _ in range(TRIES):
    area = (AREA[0] + (AREA[1] - AREA[0]) * rng.random()) * height * width
    aspect = math.exp(low + (high - low) * rng.random())
    h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
    if 0 < h <= height and 0 < w <= width:
      return int(rng.random() * (height - h + 1)), int(rng.random() * (width - w + 1)), h, w
  return _centred(height, width, min(height, round(width / ASPECT[0])), min(width, round(height * ASPECT[1])))


def central_box(height, width):
  """The box for evaluation: as if the shorter side were resized to 256/224 of `size`, and the centre cut out."""
  side = max(1, round(CENTRAL * min(height, width)))
  return _centred(height, width, side, side)


def _centred(height, width, h, w):
  return (height - h) // 2, (width - w) // 2, h, w


def crop_and_resize(image, box, size):
  """What is in the box, resized without aliasing, as uint8 [size, size, 3]; for training and evaluation alike.

  Bilinear; where it shrinks, after a triangle filter, and from a factor of four on also after averages of 2 x 2 pixels.
  That is in the mean nearer to Pillow's antialiased bilinear resize than OpenCV's INTER_AREA is, in half its time or
  less and a third of Pillow's (results/input_cpu.json).

  Args:
    image: uint8 [height, width, 3].
  """
  top, left, height, width = box
  image = image[top : top + height, left : left + width]
  while min(height, width) >= 4 * size:
    height, width = height // 2, width // 2
    image = cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
  across, down = _triangle(width, size), _triangle(height, size)
  if len(across) > 1 or len(down) > 1:
    image = cv2.sepFilter2D(image, -1, across, down, borderType=cv2.BORDER_REPLICATE)
  return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


@functools.cache
def _triangle(side, size):
  """The filter along an axis that shrinks from `side` to `size` pixels, float32 [odd number].

  Pillow's has the half width side / size. This one is narrower, for what the linear interpolation after it adds: 1/4
  came nearest to Pillow over real images.
  """
  width = math.sqrt(max((side / size) ** 2 - 1 / 4, 1))
  reach = math.ceil(width) - 1
  weights = 1 - np.abs(np.arange(-reach, reach + 1)) / width
  return (weights / weights.sum()).astype(np.float32)
