"""VGG: parameter counts, shapes, and methods that it cannot take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zeroinit.methods import METHODS
from zeroinit.networks.vgg import VGG
from zeroinit.system.errors import UserError


def variables_of(net, size=32):
  return jax.eval_shape(lambda key: net.init(key, jnp.zeros((1, size, size, 3)), train=False), jax.random.key(0))


@pytest.mark.parametrize('method, count', [('biases', 14_719_818), ('batch_norm', 14_724_042)])
def test_parameters(method, count):
  params = variables_of(VGG(method=METHODS[method], num_classes=10))['params']
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_multiply_adds_and_activations_are_those_of_the_shapes():
  net = VGG(method=METHODS['biases'], num_classes=10)
  sizes = [32] * 2 + [16] * 2 + [8] * 3 + [4] * 3 + [2] * 3
  channels = [3, 64, 64, 128, 128, *[256] * 3, *[512] * 6]
  outputs = [size**2 * features for size, features in zip(sizes, channels[1:], strict=True)]
  assert net.activations((32, 32, 3)) == sum(outputs)
  assert net.multiply_adds((32, 32, 3)) == 5120 + sum(
      9 * entering * output for entering, output in zip(channels, outputs, strict=False))


@pytest.mark.parametrize('size', [1, 8, 28, 32, 64])
def test_images_of_any_size(size):
  net = VGG(method=METHODS['batch_norm'], num_classes=7)
  logits = jax.eval_shape(lambda key: net.init_with_output(key, jnp.zeros((2, size, size, 3)), train=False)[0],
                          jax.random.key(0))
  assert logits.shape == (2, 7)


@pytest.mark.parametrize('method', ['zeroinit', 'multiplier', 'fixup', 'divide_by_sqrt2', 'zeroinit_scalar_bias',
                                    'batch_norm_last'])
def test_a_method_for_residual_branches_is_refused(method):
  with pytest.raises(UserError, match='no residual branches'):
    VGG(method=METHODS[method], num_classes=10)


@pytest.mark.slow
def test_its_logits_are_those_of_the_layers_one_by_one():
  net = VGG(method=METHODS['biases'], num_classes=3)
  images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
  variables = net.init(jax.random.key(0), images, train=False)
  x, params = images, variables['params']
  for i in range(1, 14):
    kernel, bias = params[f'conv{i}']['kernel'], params[f'conv{i}']['bias']
    x = jnp.maximum(jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME',
                                                 dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
                    + bias.reshape(1, 1, 1, -1), 0)
    if i in (2, 4, 7):  # then a single pixel is left
      x = x.reshape(2, x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).max((2, 4))
  classifier = params['classifier']
  logits = x.mean((1, 2)) @ classifier['kernel'] + classifier['bias'][None]
  np.testing.assert_allclose(net.apply(variables, images, train=False), logits, rtol=1e-4, atol=1e-5)
