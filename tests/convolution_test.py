import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from rows import few

from zeroinit.networks.convolution import FEW, LAYOUT, convolve

CHANNELS = [(3, FEW), (FEW, FEW + 1), (FEW + 1, FEW), (FEW + 1, FEW + 2)]  # few and many have forms of their own
CASES = [(channels, size, stride, kernel_size, padded)
         for size, stride in [(8, 1), (8, 2), (9, 1), (9, 2), (8, 3), (2, 1), (1, 1)]
         for kernel_size, padded in [(1, False), (3, False), (3, True), (7, True)] if padded or kernel_size <= size
         for channels in CHANNELS]


@pytest.mark.parametrize('channels, size, stride, kernel_size, padded', few(CASES, 16))
def test_gradients_are_those_of_xla(channels, size, stride, kernel_size, padded):
  padding = ((kernel_size - 1) // 2 * padded,) * 2
  keys = jax.random.split(jax.random.key(0), 3)
  inputs = jax.random.normal(keys[0], (4, size, size, channels[0]))
  kernel = jax.random.normal(keys[1], (kernel_size, kernel_size, *channels))

  def plain(inputs, kernel):
    return lax.conv_general_dilated(inputs, kernel, (stride, stride), (padding, padding), dimension_numbers=LAYOUT)

  def ours(inputs, kernel):
    return convolve(inputs, kernel, (stride, stride), (padding, padding))

  expected, expected_gradient = jax.vjp(plain, inputs, kernel)
  actual, gradient = jax.vjp(ours, inputs, kernel)
  np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6 * float(jnp.abs(expected).max()))
  cotangent = jax.random.normal(keys[2], expected.shape)
  for want, got in zip(expected_gradient(cotangent), gradient(cotangent), strict=True):
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=2e-6 * float(jnp.abs(want).max()), rtol=0)


@pytest.mark.parametrize('height, width, strides', [(10, 7, (2, 1)), (10, 7, (1, 1)), (10, 6, (1, 1)), (1, 2, (1, 1))])
@pytest.mark.parametrize('channels', CHANNELS)
def test_unequal_padding_and_sides(channels, height, width, strides):
  inputs = jax.random.normal(jax.random.key(0), (2, height, width, channels[0]))
  kernel = jax.random.normal(jax.random.key(1), (3, 2, *channels))
  args = (strides, ((1, 2), (1, 0)))
  plain = jax.grad(lambda x, k: (lax.conv_general_dilated(x, k, *args, dimension_numbers=LAYOUT) ** 2).sum(), (0, 1))
  ours = jax.grad(lambda x, k: (convolve(x, k, *args) ** 2).sum(), (0, 1))
  for want, got in zip(plain(inputs, kernel), ours(inputs, kernel), strict=True):
    np.testing.assert_allclose(got, want, atol=2e-6 * float(jnp.abs(want).max()), rtol=1e-5)


@pytest.mark.parametrize('kernel_size, padding', [(1, (1, 2)), (3, (1, 1)), (3, (3, 4))])
@pytest.mark.parametrize('channels', CHANNELS)
def test_second_derivatives(channels, kernel_size, padding):
  """Of a smooth function of both, along a direction; padding may be wider than the kernel."""
  keys = jax.random.split(jax.random.key(0), 4)
  shapes = [(2, 6, 4, channels[0]), (kernel_size, kernel_size, *channels)]
  at, direction = ([jax.random.normal(key, shape) for key, shape in zip(keys[i : i + 2], shapes, strict=True)]
                   for i in (0, 2))

  def curvature(convolution):
    value = lambda x, k: jnp.sin(convolution(x, k)).sum()
    along = lambda x, k: sum(jnp.vdot(a, b) for a, b in zip(jax.grad(value, (0, 1))(x, k), direction, strict=True))
    return jax.grad(along, (0, 1))(*at)

  args = (1, 1), (padding, padding)
  want = curvature(lambda x, k: lax.conv_general_dilated(x, k, *args, dimension_numbers=LAYOUT))
  for expected, actual in zip(want, curvature(lambda x, k: convolve(x, k, *args)), strict=True):
    np.testing.assert_allclose(actual, expected, atol=1e-5 * float(jnp.abs(expected).max()), rtol=0)


@pytest.mark.parametrize('channels', CHANNELS)
def test_an_image_smaller_than_the_kernel_may_leave_nothing(channels):
  assert convolve(jnp.ones((4, 2, 2, channels[0])), jnp.ones((3, 3, *channels)), (1, 1), ((0, 0), (0, 0))).shape == (
      4, 0, 0, channels[1])


def test_bfloat16():
  """Results are those of float32, rounded: sums over all pixels are not made in bfloat16."""
  inputs, kernel = jnp.ones((64, 8, 8, 16)), jnp.ones((3, 3, 16, 16)) / 144
  low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (inputs, kernel))
  loss = lambda x, k: convolve(x, k, (1, 1), ((1, 1), (1, 1))).astype(jnp.float32).mean()
  for want, got in zip(jax.grad(loss, (0, 1))(inputs, kernel), jax.grad(loss, (0, 1))(*low), strict=True):
    np.testing.assert_allclose(got.astype(jnp.float32), want, rtol=0.02)
