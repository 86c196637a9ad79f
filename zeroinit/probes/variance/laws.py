"""The laws by which second moments grow through a residual network at initialization (SK, arXiv:2002.10444).

Weights are independent and have mean zero, so a block's output has the second moments of its two parts added. With
q the second moment after l blocks, from q = 1 at the input, and He's initialization (LeCun's where there is no ReLU):

    norm on the branch       branch 1             q = l + 1            share of the branch in the output 1 / (l + 1)
    nothing                  branch q             q = 2^l              1/2
    multiplier alpha         branch alpha^2 q     q = (1 + alpha^2)^l  alpha^2 / (1 + alpha^2)
    sum divided by sqrt(2)   branch q             q = 1                1/2
    NF, kernels scaled       branch alpha^2       q = l alpha^2 + 1    alpha^2 / q

The last (arXiv:2101.08692) divides the input of a branch by the deviation that this law expects; its kernels have mean
zero, so that they pass on the variance of what a ReLU makes and nothing of its mean.

`expected` follows these steps block by block, for any method: so it also knows that the shortcut of a block that
changes the shape reads the normalized input, at which the first law and the last start again, and Fixup's rules. It
knows nothing of zero padding, which takes a few percent from the output of a 3x3 convolution.
"""

import dataclasses
import math

from zeroinit.networks.blocks import BlockV1, expected_variances, projection
from zeroinit.networks.layers import KERNEL_INITS, RELU_GAIN, in_numbers, initial_alpha
from zeroinit.probes.variance.toys import LinearBlock


@dataclasses.dataclass(frozen=True)
class Law:
  """Second moments in one block, expected over its weights: of its two parts, of what leaves it, and the share."""

  skip: float
  branch: float
  output: float
  share: float


def expected(net, start):
  """What the laws say of every block of a network at initialization.

  Args:
    net: a ResNet or a Toy.
    start: second moment of what enters the first block.

  Returns:
    A list of Law, by depth; None for blocks that end with a ReLU (V1), for which there is no such law, and for a
    method in `WITHOUT_LAW` or with a function of one's own.
  """
  method = net.method.inner
  if without_law(net):
    return None
  weight = _multiplier(net) ** 2
  blocks, q = [], start
  channels = net.channels if hasattr(net, 'channels') else net.stem.features
  variances = [variance for of_stage in expected_variances(method, net.stages, channels) for variance in of_stage or ()]
  for number, convs in enumerate(convs for stage in net.stages for convs in stage):
    normalized = lambda h: h if method.norm == 'none' else 1.0
    projected = projection(convs, channels)
    branch = q / variances[number] if variances else q
    skip = normalized(branch) * _gain(net, projected, channels) if projected else q
    for i, spec in enumerate(convs, 1):
      last = i == len(convs)
      rescaled = net.num_blocks ** (-1 / (len(convs) - 1)) if method.depth_init and not last else 1.0  # Fixup, rule 2
      zero = 0.0 if method.zero_init and last else 1.0  # rule 1
      branch, channels = normalized(branch) * _gain(net, spec, channels) * rescaled * zero, spec.features
    branch *= weight
    q = method.merge_scale**2 * (skip + branch)
    blocks.append(Law(skip, branch, q, method.merge_scale**2 * branch / q if q else math.nan))
  return blocks


# Norms whose output has no second moment that is known whatever their input: they are functions of single numbers.
WITHOUT_LAW = ('evonorm_s0', 'dynamic_tanh', 'derf')


def without_law(net):
  """Why there is no law for a network, in words for a sentence about its method; '' where there is one."""
  if issubclass(net.block, BlockV1):
    return 'blocks that end with a ReLU (V1)'
  if net.method.inner.functions:
    return "functions of one's own"
  if getattr(net, 'kind', 'conv') != 'conv':  # a toy whose images have one position
    in_a_group = {'instance': 1, 'group': net.channels // math.gcd(net.method.groups, net.channels)}
    if in_a_group.get(net.method.inner.norm) == 1:
      return f'a {net.method.inner.norm} norm of single numbers, which makes them zero'
  return f'{net.method.inner.norm} in the place of a norm' if net.method.inner.norm in WITHOUT_LAW else ''


def _multiplier(net):
  """Of every branch, at initialization."""
  alpha = 1.0 if net.method.alpha is None else initial_alpha(net.method, net.num_blocks)
  return alpha * in_numbers(net.method.branch_scale, net.num_blocks)


def _gain(net, spec, channels):
  """Second moment after a convolution over that before its activation, if it has one; without a border.

  A ReLU halves it; kernels of mean zero pass on only the variance of what it makes, (1 - 1/pi) / 2 of a Gaussian's.
  """
  fan_in, relu = spec.size**2 * channels, net.method.inner.activation != 'none' and net.block is not LinearBlock
  if net.method.kernels == 'plain':
    scale, fan, _ = KERNEL_INITS[net.kernel_init]
    fans = {'fan_in': channels, 'fan_out': spec.features, 'fan_avg': (channels + spec.features) / 2}
    sum_of_squares, kept = scale * channels / fans[fan], 0.5
  else:
    sum_of_squares, kept = {'standardized': fan_in, 'scaled': 1.0}[net.method.kernels], (1 - 1 / math.pi) / 2
  factor = RELU_GAIN**2 if net.method.activation == 'scaled_relu' else 1.0
  return sum_of_squares * (kept * factor if relu else 1.0)


def formula(net):
  r"""The law of the second moment after \ell blocks, from 1, as text for matplotlib; '' where none is short."""
  method = net.method.inner
  usual = 'lecun' if net.block is LinearBlock else 'he'
  if without_law(net) or net.kernel_init != usual:
    return ''
  alpha = _multiplier(net)
  if method.merge_scale != 1:
    halved = math.isclose(method.merge_scale**2, 0.5) and method.norm == 'none' and alpha == 1
    return '$1$' if halved and not (method.zero_init or method.depth_init) else ''
  if method.zero_init or alpha == 0:
    return '' if method.divide_by_std and len(net.stages) > 1 else '$1$'
  restarts = ' in each stage' if len(net.stages) > 1 else ''
  if method.kernels != 'plain' or method.activation == 'scaled_relu':
    scaled = method.kernels == 'scaled' and method.activation == 'scaled_relu' and method.norm == 'none'
    as_expected = method.divide_by_std and alpha == in_numbers(method.branch_scale, net.num_blocks)
    return r'$1 + \alpha^2 \ell$' + restarts if scaled and as_expected and net.block is not LinearBlock else ''
  if method.divide_by_std:
    return ''
  if method.norm != 'none':
    return (r'$\ell + 1$' if alpha == 1 else r'$1 + \alpha^2 \ell$') + restarts
  if method.depth_init:
    return r'$(1 + 1/d)^\ell$' if alpha == 1 else ''
  return r'$2^\ell$' if alpha == 1 else r'$(1 + \alpha^2)^\ell$'
