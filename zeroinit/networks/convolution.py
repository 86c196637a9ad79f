"""A convolution whose gradient stays fast inside a loop on the CPU backend.

XLA's CPU compiler has a fast form for ordinary convolutions, but does not bring the gradient of one with respect to
its kernel into that form when it sits in the body of a loop, and every block and every step here does: ten 3x3
convolutions at 64x16x16x64 take 13 s instead of 0.2 s. So on that backend both gradients are written out as ordinary
convolutions. Two cases have a form that is faster still: few output channels, forward and in the gradient of the
inputs, and an image smaller than the kernel. GPU and TPU keep XLA's own.

On the CPU backend this can be differentiated twice in reverse mode, but not in forward mode (no jvp).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

LAYOUT = ('NHWC', 'HWIO', 'NHWC')
FEW = 16  # output channels; up to so many `_pairs` is faster: benchmarks/convolutions.py
SMALL = 9  # pixels; the matrix of `_product` grows with their square


def conv_general_dilated(inputs, kernel, strides, padding, *, lhs_dilation, rhs_dilation, dimension_numbers,
                         feature_group_count, precision):
  """What `flax.linen.Conv` calls: `lax.conv_general_dilated`, or `convolve` on the CPU backend."""
  plain = set(lhs_dilation) == set(rhs_dilation) == {1} and feature_group_count == 1
  if jax.default_backend() == 'cpu' and plain:
    return convolve(inputs, kernel, tuple(strides), tuple(padding))
  return lax.conv_general_dilated(inputs, kernel, strides, padding, lhs_dilation=lhs_dilation,
                                  rhs_dilation=rhs_dilation, dimension_numbers=dimension_numbers,
                                  feature_group_count=feature_group_count, precision=precision)


def convolve(inputs, kernel, strides, padding):
  """Convolution of inputs [n, h, w, i] with kernel [kh, kw, i, o]; padding is ((low, high), (low, high))."""
  if kernel.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0)):
    return inputs[:, :: strides[0], :: strides[1]] @ kernel[0, 0]
  pixels, taps = inputs.shape[1] * inputs.shape[2], kernel.shape[0] * kernel.shape[1]
  if strides == (1, 1) and pixels < min(taps, SMALL + 1) and min(_output_lengths(inputs, kernel, padding)) > 0:
    return _product(inputs, kernel, padding)
  return _convolve(inputs, kernel, strides, padding)


def _output_lengths(inputs, kernel, padding):
  """Rows and columns of a convolution without strides."""
  return [inputs.shape[axis + 1] + sum(padding[axis]) - kernel.shape[axis] + 1 for axis in (0, 1)]


def _product(inputs, kernel, padding):
  """The convolution as one matrix product, from every pixel to every pixel.

  Where the image is smaller than the kernel most of a kernel meets only padding: at 2x2 pixels a 3x3 kernel needs 36
  products for each pair of channels, the matrix 16.
  """
  (n, h, w, i), o, ((top, _), (left, _)) = inputs.shape, kernel.shape[3], padding
  rows, columns = _output_lengths(inputs, kernel, padding)
  # Of the kernel, laid on a plane of zeros where it stands for every output pixel in turn, what lies on the image.
  plane = jnp.pad(kernel, ((rows - 1,) * 2, (columns - 1,) * 2, (0, 0), (0, 0)))
  laid = lambda y, x: plane[rows - 1 - y + top :, columns - 1 - x + left :][:h, :w]
  matrix = jnp.stack([laid(y, x) for y in range(rows) for x in range(columns)], 3)
  outputs = inputs.reshape(n, h * w * i) @ matrix.reshape(h * w * i, rows * columns * o)
  return outputs.reshape(n, rows, columns, o)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(inputs, kernel, strides, padding):
  _, columns = _output_lengths(inputs, kernel, padding)
  if strides == (1, 1) and kernel.shape[3] <= FEW and kernel.shape[1] > 2 and columns % 2 == 0:  # all have neighbours
    return _pairs(inputs, kernel, padding)
  return lax.conv_general_dilated(inputs, kernel, strides, padding, dimension_numbers=LAYOUT)


def _pairs(inputs, kernel, padding):
  """The convolution as one that makes two neighbours in a row at once: with a kernel of 3 columns a third more
  products, for twice the channels.
  """
  left, right = _pad(kernel, 1, 0, 1), _pad(kernel, 1, 1, 0)
  pairs = lax.conv_general_dilated(inputs, jnp.concatenate([left, right], -1), (1, 2), padding,
                                   dimension_numbers=LAYOUT)
  n, h, w, o = pairs.shape
  return pairs.reshape(n, h, 2 * w, o // 2)


def _forward(inputs, kernel, strides, padding):
  return _convolve(inputs, kernel, strides, padding), (inputs, kernel)


def _backward(strides, padding, saved, output_gradient):
  inputs, kernel = saved
  if strides == (1, 1):
    input_gradient = _input_gradient(kernel, padding, output_gradient)
  else:  # a dilated output gradient would take twice as long
    plain = partial(_strides_to_channels, kernel=kernel, strides=strides, padding=padding)
    _, back, plain_kernel = jax.vjp(plain, inputs, has_aux=True)
    input_gradient, = back(_input_gradient(plain_kernel, ((0, 0), (0, 0)), output_gradient))
  return input_gradient, _kernel_gradient(inputs, kernel.shape[:2], strides, padding, output_gradient)


def _input_gradient(kernel, padding, output_gradient):
  """Correlates with the kernel turned by 180 degrees, its channels exchanged."""
  turned = lax.optimization_barrier(jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
  full = [(length - 1 - low, length - 1 - high) for length, (low, high) in zip(kernel.shape[:2], padding, strict=True)]
  return _convolve(output_gradient, turned, (1, 1), tuple(full))


def _kernel_gradient(inputs, lengths, strides, padding, output_gradient):
  """Correlates the inputs with the output gradient.

  Examples are summed over, so batch and channel change places. The barriers keep the compiler from folding the
  transposes back into a convolution that it runs slowly.
  """
  by_channel = lax.optimization_barrier(inputs.transpose(3, 1, 2, 0))
  by_example = lax.optimization_barrier(output_gradient.transpose(1, 2, 0, 3))
  reached = []  # by the last stride: padding without the rows and columns after that
  for axis, (low, _) in enumerate(padding):
    last = (output_gradient.shape[axis + 1] - 1) * strides[axis] + lengths[axis]
    reached.append((low, last - low - inputs.shape[axis + 1]))
  gradient = lax.conv_general_dilated(by_channel, by_example, (1, 1), reached, rhs_dilation=strides,
                                      dimension_numbers=LAYOUT)
  return gradient.transpose(1, 2, 0, 3)


def _strides_to_channels(inputs, kernel, strides, padding):
  """Inputs and kernel whose plain convolution is the strided one of these: stride x stride patches become channels."""
  for axis, (stride, (low, high)) in enumerate(zip(strides, padding, strict=True)):
    size, length = kernel.shape[axis], inputs.shape[axis + 1]
    outputs = (length + low + high - size) // stride + 1
    patches = -(-size // stride)  # per kernel; the kernel is filled up with zeros
    needed = (outputs + patches - 1) * stride
    inputs = _pad(inputs, axis + 1, low, needed - length - low)
    kernel = _pad(kernel, axis, 0, patches * stride - size)
  (a, b), (n, h, w, i), (kh, kw, _, o) = strides, inputs.shape, kernel.shape
  inputs = inputs.reshape(n, h // a, a, w // b, b, i).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // a, w // b, a * b * i)
  kernel = kernel.reshape(kh // a, a, kw // b, b, i, o).transpose(0, 2, 1, 3, 4, 5)
  return inputs, kernel.reshape(kh // a, kw // b, a * b * i, o)


def _pad(x, axis, low, high):
  """Zeros before and after along one axis; a negative number takes away."""
  amounts = [(low, high, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)]
  return lax.pad(x, jnp.zeros((), x.dtype), amounts)


_convolve.defvjp(_forward, _backward)
