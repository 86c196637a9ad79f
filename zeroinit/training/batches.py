"""A batch is a pure function of (seed, epoch, index).

A data set that lies on the device as uint8 is drawn from here: order, crop and flip are computed inside jit from the
seed. So many steps run in one dispatch, there is no loader whose state must be saved, and nothing depends on the device
count. `loader` does the same on the host for one that streams.

A batch is a dict of arrays: image, uint8 [batch, height, width, channels]; label, int32 [batch]; and example, int32
[batch], the index of each image in the data set, on which its random numbers depend.
"""

import jax
import jax.numpy as jnp

PADDING = 4  # pixels on every side from which a crop of the original size is cut
INIT, ORDER, AUGMENT, DROPOUT = range(4)  # what a random number is for


def key_for(purpose, seed, time=0):
  """The random key of one purpose at one time (an epoch or a step). seed: uint32 scalar, may be traced."""
  return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), purpose), time)


def epoch_order(seed, epoch, examples):
  """The order in which an epoch shows the training set: a permutation, int32 [examples]."""
  return jax.random.permutation(key_for(ORDER, seed, epoch), jnp.arange(examples, dtype=jnp.int32))


def draw(images, labels, example, seed, epoch, crop, flip):
  """The batch of the given examples, cropped and flipped as in the given epoch.

  Args:
    images: uint8 [n, height, width, channels], the training set; labels: int32 [n].
    example: int32 [batch], indices into the training set.
    seed, epoch: scalars, may be traced.
    crop: 'reflect' or 'zero', how the image is continued beyond its edge before cropping; 'none' does not crop.
    flip: whether to mirror half of the images left to right.
  """
  height, width = images.shape[1:3]

  def augmented(key, index):
    vertical, horizontal, mirror = jax.random.split(key, 3)
    rows, columns = jnp.arange(height), jnp.arange(width)
    if crop != 'none':
      rows = rows + jax.random.randint(vertical, (), -PADDING, PADDING + 1)
      columns = columns + jax.random.randint(horizontal, (), -PADDING, PADDING + 1)
    if flip:
      columns = jnp.where(jax.random.bernoulli(mirror), columns[::-1], columns)
    image = images[index, _reflect(rows, height)[:, None], _reflect(columns, width)[None, :]]
    if crop == 'zero':
      inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None, :]
      image = jnp.where(inside[:, :, None], image, 0)
    return image

  keys = jax.vmap(jax.random.fold_in, (None, 0))(key_for(AUGMENT, seed, epoch), example)
  return {'image': jax.vmap(augmented)(keys, example), 'label': labels[example], 'example': example}


def _reflect(index, size):
  """Continues an image beyond its edges by mirroring it there, the edge itself not repeated."""
  return size - 1 - jnp.abs(size - 1 - jnp.abs(index))


def standardize(images, mean, std):
  """uint8 [n, height, width, channels] to float32: each channel with mean 0, deviation 1 over the training set."""
  mean, std = (jnp.array(values).reshape(1, 1, 1, -1) for values in (mean, std))
  return (images.astype(jnp.float32) - mean) / std
