import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zeroinit.training import batches

IMAGES = np.random.default_rng(0).integers(1, 256, (20, 8, 8, 3), np.uint8)  # no zero, which padding would look like
LABELS = np.arange(20, dtype=np.int32)


def draw(example, seed=0, epoch=0, crop='reflect', flip=True):
  return batches.draw(jnp.array(IMAGES), jnp.array(LABELS), jnp.array(example), seed, epoch, crop, flip)


def crops_of(image, mode, flip):
  """Every image that pad-4-and-crop can make of one, the plain way."""
  padding = ((4, 4), (4, 4), (0, 0))
  padded = np.pad(image, padding, mode='reflect') if mode == 'reflect' else np.pad(image, padding)
  crops = [padded[y : y + 8, x : x + 8] for y in range(9) for x in range(9)]
  return crops + [crop[:, ::-1] for crop in crops] if flip else crops


@pytest.mark.parametrize('crop', ['reflect', 'zero'])
@pytest.mark.parametrize('flip', [True, False])
def test_augmented_images_are_crops_of_the_padded_image(crop, flip):
  example = np.arange(20)
  batch = draw(example, crop=crop, flip=flip)
  np.testing.assert_array_equal(batch['label'], LABELS[example])
  for image, original in zip(np.array(batch['image']), IMAGES[example], strict=True):
    assert any((image == other).all() for other in crops_of(original, crop, flip))


def test_every_crop_and_both_mirrors_occur():
  possible = {crop.tobytes(): i for i, crop in enumerate(crops_of(IMAGES[3], 'zero', flip=True))}
  of_epoch = jax.vmap(lambda epoch: draw([3], epoch=epoch, crop='zero')['image'][0])
  seen = {possible[image.tobytes()] for image in np.array(of_epoch(jnp.arange(3000)))}
  assert len(seen) == 9 * 9 * 2


def test_none_leaves_images_alone():
  np.testing.assert_array_equal(draw([4, 2], crop='none', flip=False)['image'], IMAGES[[4, 2]])


def test_an_example_is_the_same_in_any_batch():
  whole = draw([5, 6, 7, 8])
  np.testing.assert_array_equal(draw([7])['image'], whole['image'][2:3])
  np.testing.assert_array_equal(draw([8, 5])['image'], whole['image'][jnp.array([3, 0])])


def test_epochs_and_seeds_differ():
  first = draw([5, 6, 7, 8])['image']
  assert (draw([5, 6, 7, 8], epoch=1)['image'] != first).any()
  assert (draw([5, 6, 7, 8], seed=1)['image'] != first).any()


def test_order_shows_each_example_once_an_epoch():
  orders = [np.array(batches.epoch_order(seed, epoch, 20)) for seed, epoch in [(0, 0), (0, 1), (1, 0)]]
  for order in orders:
    assert sorted(order) == list(range(20))
  assert (orders[0] != orders[1]).any() and (orders[0] != orders[2]).any()


def test_standardize_by_channel():
  mean, std = tuple(IMAGES.mean((0, 1, 2))), tuple(IMAGES.std((0, 1, 2)))
  images = batches.standardize(jnp.array(IMAGES), mean, std)
  np.testing.assert_allclose(images.mean((0, 1, 2)), 0, atol=1e-6)
  np.testing.assert_allclose(images.std((0, 1, 2)), 1, rtol=1e-6)
