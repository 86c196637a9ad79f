"""All images of a split, decoded, as arrays."""

import numpy as np

from zeroinit.system.errors import UserError


class OfSeveralSizes(UserError):
  """The images do not make one array."""


def decoded(split, channels):
  """Images, uint8 [n, height, width, channels], and labels, int32 [n], of a `data.Split`.

  Raises:
    OfSeveralSizes: an image has another size than the first.
    UserError: one cannot be used.
  """
  pixels, labels = None, np.empty(len(split), np.int32)
  for i in range(len(split)):
    image, labels[i] = one(split, i, channels)
    if pixels is None:
      pixels = np.empty((len(split), *image.shape), np.uint8)
    if image.shape != pixels.shape[1:]:
      sizes = [f'{width}x{height}' for height, width in (image.shape[:2], pixels.shape[1:3])]
      raise OfSeveralSizes(f'{split.name_of(i)} cannot be used: it is {sizes[0]} and the first is {sizes[1]}')
    pixels[i] = image
  return pixels, labels


def one(split, index, channels):
  """An image of a split, uint8 [height, width, channels], and its label.

  channels: 3, or 1, for which the first is taken.

  Raises:
    UserError: it cannot be read or decoded, or its label is none.
  """
  from zeroinit.data.reading import images  # OpenCV, which whoever reads from the cache need not wait for

  content, label = split[index]
  try:
    if not 0 <= label < 2**31:
      raise ValueError(f'its label is {label}')
    return images.decode(content)[:, :, :channels], label
  except ValueError as error:
    raise UserError(f'{split.name_of(index)} cannot be used: {error}') from error
