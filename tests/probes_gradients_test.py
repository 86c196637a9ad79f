"""Cosines between gradients of single examples, against those gradients written out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probing import LABELS, some_images, wide
from random_variables import random_variables

from zeroinit.methods import METHODS
from zeroinit.networks.resnet import CifarResNet
from zeroinit.probes import gradients


def written_out(net, variables, images):
  """The matrix whose rows are the gradients of the examples, all in one forward pass; and each one's cross-entropy."""
  def losses(params):
    logits, _ = net.apply(variables | {'params': params}, images, train=True, mutable=['batch_stats'])
    found = optax.softmax_cross_entropy_with_integer_labels(logits, LABELS)
    return found, found

  rows, found = jax.jit(jax.jacrev(losses, has_aux=True))(variables['params'])
  rows = [np.asarray(leaf, np.float64).reshape(len(images), -1) for leaf in jax.tree.leaves(rows)]
  return np.concatenate(rows, 1), np.asarray(found, np.float64)


NETWORKS = [wide('none'), wide('biases'), wide('fixup', zero_init=False), wide('batch_norm'),
            wide('ghost_norm', ghost_size=3), CifarResNet(depth=8, method=METHODS['batch_norm'])]


@pytest.mark.slow
@pytest.mark.parametrize('net', NETWORKS, ids=lambda net: f'{net.title}-{net.method.norm}-{net.method.biases}')
def test_against_the_gradients_written_out(net):
  images = some_images()
  variables = random_variables(net, images, train=False)
  found = gradients.measure(net, variables, images, LABELS)
  rows, losses = written_out(net, variables, images)
  lengths = np.linalg.norm(rows, axis=1)
  cosines = (rows / lengths[:, None]) @ (rows / lengths[:, None]).T
  assert found['mean_cosine'] == pytest.approx(cosines[~np.eye(6, dtype=bool)].mean(), abs=1e-4)
  assert found['gradient_norm'] == pytest.approx(lengths.mean(), rel=1e-3)
  noise = ((rows - rows.mean(0)) ** 2).sum() / (len(rows) - 1)
  assert found['gradient_noise'] == pytest.approx(noise, rel=1e-3)
  assert found['cross_entropy'] == pytest.approx(losses.mean(), rel=1e-4)
  assert found['zero_gradients'] == found['overflowed_gradients'] == 0


@pytest.mark.slow
def test_with_a_norm_examples_share_their_statistics():
  """What makes the test above one of shared statistics: alone, an example has another gradient."""
  net, images = wide('batch_norm'), some_images()
  variables = random_variables(net, images, train=False)
  together = gradients.measure(net, variables, images, LABELS)
  alone = [gradients.measure(net, variables, images[i : i + 1], LABELS[i : i + 1]) for i in range(6)]
  assert abs(together['gradient_norm'] - np.mean([one['gradient_norm'] for one in alone])) > 0.01
  free, variables = wide('none'), random_variables(wide('none'), images, train=False)
  together = gradients.measure(free, variables, images, LABELS)
  alone = [gradients.measure(free, variables, images[i : i + 1], LABELS[i : i + 1]) for i in range(6)]
  assert together['gradient_norm'] == pytest.approx(np.mean([one['gradient_norm'] for one in alone]), rel=1e-4)


@pytest.mark.parametrize('image, label, cosine', [('same', 'same', 1), ('same', 'other', None)])
def test_equal_examples_have_equal_gradients(image, label, cosine):
  net, images = wide('none'), jnp.repeat(some_images(1), 6, 0)
  variables = random_variables(net, images, train=False)
  labels = jnp.zeros(6, jnp.int32) if label == 'same' else LABELS
  found = gradients.measure(net, variables, images, labels)
  noise = found['gradient_noise'] / found['gradient_norm'] ** 2
  assert found['mean_cosine'] == pytest.approx(1, abs=1e-5) if cosine else found['mean_cosine'] < 0.99
  assert noise < 1e-10 if cosine else noise > 0.01


def certain(net, images):
  """Variables of a network that is certain of class 0, whatever it sees."""
  variables = random_variables(net, images, train=False)
  bias = variables['params']['classifier']['bias']
  variables['params']['classifier']['bias'] = bias.at[0].set(1e4)
  return variables


def test_gradients_of_zero_are_counted_and_left_out():
  net, images = wide('biases'), some_images()
  found = gradients.measure(net, certain(net, images), images, LABELS)  # two examples are of class 0
  assert found['zero_gradients'] == 2 and -1 <= found['mean_cosine'] <= 1 and found['gradient_norm'] > 0
  rows, _ = written_out(net, certain(net, images), images)
  assert found['gradient_noise'] == pytest.approx(((rows - rows.mean(0)) ** 2).sum() / 5, rel=1e-3)  # they count here
  found = gradients.measure(net, certain(net, images), images, jnp.zeros(6, jnp.int32))
  assert found['gradient_noise'] == 0
  assert found['zero_gradients'] == 6 and np.isnan(found['mean_cosine']) and np.isnan(found['gradient_norm'])


def test_gradients_that_overflow_are_counted_and_left_out():
  net, images = wide('none'), some_images()
  variables = random_variables(net, images, train=False)
  huge = jax.tree.map(lambda leaf: 1e30 * leaf, variables)
  found = gradients.measure(net, huge, images, LABELS)
  assert found['overflowed_gradients'] == 6 and np.isnan(found['mean_cosine']) and np.isnan(found['gradient_noise'])


def test_the_noise_is_of_the_gradients_that_do_not_overflow():
  net, images = wide('none'), some_images()
  variables = random_variables(net, images, train=False)
  some = jnp.array([0, 2, 3, 5])
  found = gradients.measure(net, variables, images.at[jnp.array([1, 4])].mul(1e38), LABELS)
  assert found['overflowed_gradients'] == 2
  assert found['gradient_noise'] == pytest.approx(
      gradients.measure(net, variables, images[some], LABELS[some])['gradient_noise'], rel=1e-4)


def test_squares_of_gradients_may_overflow():
  """Gradients of 1e25, whose squares float32 cannot hold, have the cosines of gradients of 1."""
  net, images = wide('none'), some_images()
  variables = random_variables(net, images, train=False)
  variables['params']['classifier']['kernel'] *= 1e-25  # the outputs do not change, the classifier's gradient does
  variables['params']['stem']['kernel'] *= 1e25
  found = gradients.measure(net, variables, images, LABELS)
  assert found['overflowed_gradients'] == 0 and found['gradient_norm'] > 1e24
  assert 0 < found['gradient_noise'] < 2 * 6 / 5 * found['gradient_norm'] ** 2
  assert -1 <= found['mean_cosine'] <= 1


def test_dropout_is_off():
  images = some_images()
  variables = random_variables(wide('none'), images, train=False)
  assert gradients.measure(wide('dropout'), variables, images, LABELS) == gradients.measure(
      wide('none'), variables, images, LABELS)


@pytest.mark.slow
def test_one_gradient_is_held_at_a_time():
  net = wide('none')
  variables = jax.eval_shape(lambda key: net.init(key, some_images(), train=False), jax.random.key(0))
  parameters = sum(leaf.size * 4 for leaf in jax.tree.leaves(variables))

  def temporaries(batch):
    images, labels = jax.ShapeDtypeStruct((batch, 8, 8, 3), jnp.float32), jax.ShapeDtypeStruct((batch,), jnp.int32)
    lowered = gradients._stream.program().lower(net, variables, images, labels)
    return lowered.compile().memory_analysis().temp_size_in_bytes

  assert temporaries(64) - temporaries(8) < 10 * parameters
