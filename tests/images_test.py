"""Decoding gives what Pillow gives; boxes lie inside; resizing is near Pillow's."""

import io
import random

import cv2
import numpy as np
import pytest
from imagenet_copies import encode, picture
from PIL import Image

from zeroinit.data import imagenet
from zeroinit.data.reading import images


def by_pillow(content):
  return np.asarray(Image.open(io.BytesIO(content)).convert('RGB'))


def antialiased(image, box, size):
  top, left, height, width = box
  crop = Image.fromarray(image).crop((left, top, left + width, top + height))
  return np.asarray(crop.resize((size, size), Image.Resampling.BILINEAR))


def difference(image, other):
  return np.abs(image.astype(int) - other).mean()


@pytest.mark.parametrize('content, tolerance', [
    (encode(picture(0)), 0), (encode(picture(0), progressive=True), 0), (encode(picture(0), subsampling=0), 0),
    (encode(picture(0), mode='L'), 0), (encode(picture(0), mode='CMYK', quality=95), 2), (encode(picture(0), 'png'), 0),
    (encode(picture(0), 'png', mode='L'), 0), (encode(picture(0), 'png', mode='P'), 0),
    (encode(picture(0), 'png', mode='RGBA'), 0), (encode(picture(0), 'bmp'), 0), (encode(picture(0), 'gif'), 0),
    (encode(picture(0), 'tiff', mode='CMYK'), 0), (encode(picture(0), 'webp'), 1),
])
def test_every_kind_of_image_is_rgb_as_pillow_reads_it(content, tolerance):
  image = images.decode(content)
  assert image.dtype == np.uint8 and image.shape == (40, 50, 3)
  assert difference(image, by_pillow(content)) <= tolerance


def test_what_opencv_rejects_pillow_reads(monkeypatch):
  monkeypatch.setattr(cv2, 'imdecode', lambda *_: None)
  content = encode(picture(0), mode='CMYK')
  np.testing.assert_array_equal(images.decode(content), by_pillow(content))


def test_the_orientation_in_exif_is_ignored():
  exif = Image.Exif()
  exif[0x112] = 6  # turned by 90 degrees
  np.testing.assert_array_equal(images.decode(encode(picture(0), exif=exif)), images.decode(encode(picture(0))))


@pytest.mark.parametrize('options', [{}, {'progressive': True}, {'mode': 'L'}, {'mode': 'CMYK'}])
def test_a_jpeg_that_ends_too_early_is_an_error_wherever_it_ends(options, capfd):
  content = encode(picture(1), **options)
  for length in [*range(1, len(content), 7), len(content) - 2, len(content) - 1]:
    with pytest.raises(ValueError, match='image'):
      images.decode(content[:length])
  assert capfd.readouterr().err == ''


def test_a_jpeg_cut_off_at_the_end_of_its_thumbnail_is_an_error():
  content, thumbnail = encode(picture(2)), encode(picture(2, 8, 10))
  segment = b'Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0' + thumbnail
  content = content[:2] + b'\xff\xe1' + (len(segment) + 2).to_bytes(2, 'big') + segment + content[2:]
  assert images.decode(content).shape == (40, 50, 3)
  cut = content[: content.index(thumbnail) + len(thumbnail)]
  assert cut.endswith(b'\xff\xd9')  # as if it were complete
  with pytest.raises(ValueError, match='image'):
    images.decode(cut)


@pytest.mark.parametrize('content', [b'', b'\xff', b'nonsense' * 100, encode(picture(0), 'png')[:-200],
                                     encode(picture(0), 'bmp')[:-200]])
def test_what_nobody_can_read_is_an_error(content, capfd):
  with pytest.raises(ValueError, match='image'):
    images.decode(content)
  assert capfd.readouterr().err.count('\n') <= 1  # libpng says its line, whatever one does


@pytest.mark.parametrize('height, width', [(375, 500), (500, 375), (1, 500), (500, 1), (1, 1), (2, 3), (100, 1000)])
def test_random_boxes_have_the_area_and_aspect_they_should(height, width):
  boxes = np.array([images.random_box(random.Random(i), height, width) for i in range(1000)])
  top, left, h, w = boxes.T
  assert (top >= 0).all() and (left >= 0).all() and (h > 0).all() and (w > 0).all()
  assert (top + h <= height).all() and (left + w <= width).all()
  low, high = images.ASPECT  # but for rounding to whole pixels
  assert (((w + 0.5) / (h - 0.5) >= low) & ((w - 0.5) / (h + 0.5) <= high)).all()
  central = (boxes == images.random_box(_Never(), height, width)).all(1)
  assert ((h + 0.5) * (w + 0.5) >= images.AREA[0] * height * width)[~central].all()


class _Never:
  """Draws boxes as large and as wide as they come, which fit no image."""

  def random(self):
    return 1.0


def test_random_boxes_are_uniform_in_area_in_the_logarithm_of_aspect_and_in_place():
  top, left, h, w = np.array([images.random_box(random.Random(i), 4000, 4000) for i in range(4000)]).T
  area, aspect = h * w / 4000**2, np.log(w / h)
  small = area < 0.5  # larger ones fit only where they are nearly square
  np.testing.assert_allclose(np.quantile(area[small], [0.25, 0.5, 0.75]), [0.185, 0.29, 0.395], atol=0.02)
  np.testing.assert_allclose(np.quantile(aspect[small] / np.log(4 / 3), [0.25, 0.5, 0.75]), [-0.5, 0, 0.5], atol=0.08)
  for place, room in ((top, 4000 - h), (left, 4000 - w)):
    share = place[small] / room[small]
    np.testing.assert_allclose(np.quantile(share, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.03)


def test_where_no_random_box_fits_it_is_the_largest_central_one():
  assert images.random_box(_Never(), 100, 1000) == (0, 433, 100, 133)
  assert images.random_box(_Never(), 1000, 99) == (434, 0, 132, 99)
  assert images.random_box(_Never(), 300, 310) == (0, 0, 300, 310)


@pytest.mark.parametrize('height, width, box', [(256, 256, (16, 16, 224, 224)), (375, 500, (23, 86, 328, 328)),
                                                (1, 500, (0, 249, 1, 1)), (512, 1024, (32, 288, 448, 448))])
def test_the_central_box(height, width, box):
  assert images.central_box(height, width) == box


@pytest.mark.parametrize('box', [(0, 0, 40, 50), (3, 4, 1, 1), (39, 0, 1, 50), (0, 7, 40, 1), (5, 5, 33, 31)])
@pytest.mark.parametrize('size', [8, 15, 64])
def test_any_box_gives_a_picture_of_the_size_near_pillows(box, size):
  image = picture(3)
  got = images.crop_and_resize(image, box, size)
  assert got.shape == (size, size, 3) and got.dtype == np.uint8
  assert difference(got, antialiased(image, box, size)) <= 1.5  # of 255 levels


def test_a_box_of_the_size_is_cut_out_unchanged_and_nothing_outside_is_seen():
  image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
  np.testing.assert_array_equal(images.crop_and_resize(image, (10, 20, 224, 224), 224), image[10:234, 20:244])
  hidden = np.zeros_like(image)
  hidden[100:250, 90:260] = image[100:250, 90:260]
  for size in (32, 160, 200):
    pictures = [images.crop_and_resize(pixels, (100, 90, 150, 170), size) for pixels in (image, hidden)]
    np.testing.assert_array_equal(*pictures)


@pytest.mark.parametrize('factor', [1.5, 1.9, 2.5, 3.9, 6.3, 9.0])
def test_shrinking_does_not_alias(factor):
  stripes = np.zeros((round(64 * factor), round(64 * factor), 3), np.uint8)
  stripes[::2] = 255  # finer than the result can show: it must be gray
  shown = images.crop_and_resize(stripes, (0, 0, len(stripes), len(stripes)), 64)
  assert shown[2:-2].std() <= 32 and cv2.resize(stripes, (64, 64))[2:-2].std() >= 60


@pytest.mark.parametrize('size', [64, 224])
def test_real_images_look_as_pillow_resizes_them(real_imagenet, size):
  split = imagenet.load(str(real_imagenet)).train
  differences = []
  for i in range(0, 160, 4):
    image = images.decode(split[i][0])
    np.testing.assert_array_equal(image, by_pillow(split[i][0]))
    for box in (images.central_box(*image.shape[:2]), images.random_box(random.Random(i), *image.shape[:2])):
      differences.append(difference(images.crop_and_resize(image, box, size), antialiased(image, box, size)))
  assert np.mean(differences) < 1.2 and max(differences) < 6
