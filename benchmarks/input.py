"""How fast one core makes ImageNet batches, beside Pillow, OpenCV and, where it is installed, tf.data.

  python -m benchmarks.input --data_dir=DATA --record=results/input_cpu.json    # pip install -e ".[tf]" for tf.data

All contenders take turns in one process, each with one thread, over the same JPEG files; what counts are ratios within
a round. Only ours reads the records and makes batches of what it decodes; the others get the encoded images from
memory. Speed is per second of CPU time, and per second on the clock, which suffers from whatever else runs there.
"""

import importlib.util
import io
import random
import statistics
import time

import cv2
import numpy as np
from absl import flags
from PIL import Image

from benchmarks import record
from zeroinit import command_line
from zeroinit.data import imagenet
from zeroinit.data.reading import images, loader

DATA_DIR = flags.DEFINE_string('data_dir', '', 'As config.data_dir; a part of ImageNet will do.')
SIZE = flags.DEFINE_integer('size', 224, 'Height and width of the pictures.')
ROUNDS = flags.DEFINE_integer('rounds', 25, 'Turns of each contender.')
flags.adopt_module_key_flags(record)  # so that --help shows it

EXAMPLES, BATCH = 160, 32
OURS = 'ours: record to batch'
PILLOW, FUSED = 'Pillow: decode', 'tf.data: decode the crop, resize'
REFERENCES = (PILLOW, FUSED)  # ours is compared with the faster one


class First:
  """The first examples of a split."""

  def __init__(self, split):
    self._split = split

  def __len__(self):
    return EXAMPLES

  def __getitem__(self, index):
    return self._split[index]


def decode_by_pillow(content):
  return np.asarray(Image.open(io.BytesIO(content)).convert('RGB'))


def crop_by(decode):
  rng = random.Random(0)
  def crop(content):
    image = decode(content)
    return images.crop_and_resize(image, images.random_box(rng, *image.shape[:2]), SIZE.value)
  return crop


def by_tf_data(contents):
  """{name: tf.data pipeline over the examples}, or nothing where there is no TensorFlow."""
  if not importlib.util.find_spec('tensorflow'):
    return {}
  import tensorflow as tf

  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  tf.config.set_visible_devices([], 'GPU')
  options = tf.data.Options()
  options.threading.private_threadpool_size = 1
  options.threading.max_intra_op_parallelism = 1
  options.autotune.enabled = False

  def decode_crop(content):
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(content), bounding_boxes=tf.zeros((1, 0, 4)), area_range=images.AREA,
        aspect_ratio_range=images.ASPECT, max_attempts=images.TRIES, min_object_covered=0.1,
        use_image_if_no_bounding_boxes=True)
    return tf.image.decode_and_crop_jpeg(content, tf.concat([begin[:2], size[:2]], 0), channels=3)

  def decode_crop_resize(content):
    return tf.cast(tf.image.resize(decode_crop(content), (SIZE.value, SIZE.value), method='bilinear'), tf.uint8)

  source = tf.data.Dataset.from_tensor_slices(contents)
  return {name: source.map(function).with_options(options)
          for name, function in (('tf.data: decode the crop', decode_crop), (FUSED, decode_crop_resize))}


def contenders(split):
  """{name: a function that processes all examples once}"""
  contents = [split[i][0] for i in range(EXAMPLES)]
  each = lambda function: lambda: [function(content) for content in contents] and None
  sequences = {PILLOW: decode_by_pillow, 'Pillow: decode; our crop and resize': crop_by(decode_by_pillow),
               'OpenCV: decode': images.decode, 'OpenCV: decode; our crop and resize': crop_by(images.decode)}
  everything = {name: each(function) for name, function in sequences.items()}
  for name, pipeline in by_tf_data(contents).items():
    everything[name] = lambda pipeline=pipeline: sum(1 for _ in pipeline) and None
  return everything


def speed(function):
  """Images per second of CPU time, and on the clock."""
  clock, cpu = time.perf_counter(), time.process_time()
  function()
  return EXAMPLES / (time.process_time() - cpu), EXAMPLES / (time.perf_counter() - clock)


def turn_of_ours(split, workers):
  """The same, for an epoch of the loader in full swing."""
  batches = loader.training_batches(
      split, seed=0, batch_size=BATCH, rows=np.arange(BATCH), size=SIZE.value, crop='random_resized', flip=True,
      num_classes=imagenet.INFO.num_classes, workers=workers)
  take_an_epoch = lambda: [next(batches) for _ in range(EXAMPLES // BATCH)] and None
  take_an_epoch()
  result = speed(take_an_epoch)
  batches.close()
  return result


def ways_to_resize(size):
  """{name: a function that cuts a box out of an image and resizes it}"""
  crop = lambda image, box: image[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]
  by_opencv = lambda image, box, way: cv2.resize(crop(image, box), (size, size), interpolation=way)
  return {
      'Pillow, bilinear': lambda image, box: np.asarray(
          Image.fromarray(crop(image, box)).resize((size, size), Image.Resampling.BILINEAR)),
      'ours': lambda image, box: images.crop_and_resize(image, box, size),
      'OpenCV, INTER_AREA': lambda image, box: by_opencv(
          image, box, cv2.INTER_AREA if min(box[2:]) > size else cv2.INTER_LINEAR),
      'OpenCV, INTER_LINEAR': lambda image, box: by_opencv(image, box, cv2.INTER_LINEAR),
  }


def resizing(split):
  """Of each way to resize the same random crops: microseconds, and mean difference from Pillow's, in 255 levels."""
  decoded = [images.decode(split[i][0]) for i in range(EXAMPLES)]
  boxes = [images.random_box(random.Random(i), *image.shape[:2]) for i, image in enumerate(decoded)]
  rows = []
  for size in (64, 128, 224):
    ways = ways_to_resize(size)
    pictures = {name: np.array(list(map(way, decoded, boxes)), int) for name, way in ways.items()}
    seconds = {name: [] for name in ways}
    for _ in range(ROUNDS.value):
      for name, way in ways.items():
        began = time.process_time()
        for image, box in zip(decoded, boxes, strict=True):
          way(image, box)
        seconds[name].append(time.process_time() - began)
    for name in ways:
      rows.append({'size': size, 'way': name, 'microseconds': 1e6 * statistics.median(seconds[name]) / EXAMPLES,
                   'difference': float(np.abs(pictures[name] - pictures['Pillow, bilinear']).mean())})
  return rows


def main(argv):
  del argv
  dataset, path = imagenet.load(DATA_DIR.value), record.prepare()
  split, turns = First(dataset.train), {}
  for name, function in contenders(split).items():
    function()
    turns[name] = lambda function=function: speed(function)
  turns[OURS] = lambda: turn_of_ours(split, 1)
  turns[f'{OURS}, 2 workers'] = lambda: turn_of_ours(split, 2)
  speeds = {name: [] for name in turns}
  for _ in range(ROUNDS.value):
    for name, turn in turns.items():
      speeds[name].append(turn())
  references = [name for name in REFERENCES if name in speeds]
  rows = []
  print(f'{"images per second":40s} {"of CPU time":>28s}   {"on the clock":>28s}')
  for name, values in speeds.items():
    row = {'contender': name}
    for i, kind in enumerate(('cpu', 'clock')):
      row[kind] = record.summary([value[i] for value in values])
      row[f'{kind}_ours_over_it'] = record.summary([a[i] / b[i] for a, b in zip(speeds[OURS], values, strict=True)])
    rows.append(row)
    cells = ('{median:7.0f} ({min:5.0f} to {max:5.0f})'.format(**row[kind]) for kind in ('cpu', 'clock'))
    print(f'{name:40s} {"   ".join(f"{cell:>28s}" for cell in cells)}')
  measured = {'data': dataset.title, 'size': SIZE.value, 'rounds': ROUNDS.value, 'images_per_second': rows}
  for i, kind in enumerate(('cpu', 'clock')):
    ratios = [ours[i] / max(speeds[name][turn][i] for name in references) for turn, ours in enumerate(speeds[OURS])]
    measured[f'{kind}_ratio'] = record.summary(ratios)
    print(f'ours / the faster of {" and ".join(references)}, {kind}: ' + '{median:.2f} ({min:.2f} to {max:.2f})'.format(
        **measured[f'{kind}_ratio']))
  measured['resizing'] = resizing(split)
  for row in measured['resizing']:
    print('size {size:3d}  {way:22s} {microseconds:6.0f} us, {difference:5.2f} levels from Pillow'.format(**row))
  with_tensorflow = ['tensorflow-cpu'] if importlib.util.find_spec('tensorflow') else []
  record.write(path, measured, ['opencv-python-headless', 'pillow', 'array-record', *with_tensorflow])


if __name__ == '__main__':
  command_line.run(main)
