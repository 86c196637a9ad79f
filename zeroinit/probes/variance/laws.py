"""The laws by which second moments grow through a residual network at initialization (SK, arXiv:2002.10444).

Weights are independent and have mean zero, so a block's output has the second moments of its two parts added. With
q the second moment after l blocks, from q = 1 at the input, and He's initialization (LeCun's where there is no ReLU):

    norm on the branch       branch 1             q = l + 1            share of the branch in the output 1 / (l + 1)
    nothing                  branch q             q = 2^l              1/2
    multiplier alpha         branch alpha^2 q     q = (1 + alpha^2)^l  alpha^2 / (1 + alpha^2)
    sum divided by sqrt(2)   branch q             q = 1                1/2

`expected` follows these steps block by block, for any method: so it also knows that the shortcut of a block that
changes the shape reads the normalized input, at which the first law starts again, and Fixup's rules. It knows nothing
of zero padding, which takes a few percent from the output of a 3x3 convolution.
"""

import dataclasses
import math

from zeroinit.networks.blocks import BlockV1, projection
from zeroinit.networks.layers import KERNEL_INITS, initial_alpha
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
    method with a function of one's own, of which nothing is known.
  """
  method = net.method.inner
  if issubclass(net.block, BlockV1) or method.functions:
    return None
  weight = 1.0 if method.alpha is None else initial_alpha(method, net.num_blocks) ** 2
  blocks, q = [], start
  channels = net.channels if hasattr(net, 'channels') else net.stem.features
  for convs in (convs for stage in net.stages for convs in stage):
    normalized = lambda h: h if method.norm == 'none' else 1.0
    projected = projection(convs, channels)
    skip = normalized(q) * _gain(net, projected, channels) if projected else q
    branch = q
    for i, spec in enumerate(convs, 1):
      last = i == len(convs)
      rescaled = net.num_blocks ** (-1 / (len(convs) - 1)) if method.depth_init and not last else 1.0  # Fixup, rule 2
      zero = 0.0 if method.zero_init and last else 1.0  # rule 1
      branch, channels = normalized(branch) * _gain(net, spec, channels) * rescaled * zero, spec.features
    branch *= weight
    q = method.merge_scale**2 * (skip + branch)
    blocks.append(Law(skip, branch, q, method.merge_scale**2 * branch / q if q else math.nan))
  return blocks


def _gain(net, spec, channels):
  """Second moment after a convolution over that before its ReLU, which halves it, if it has one; without a border."""
  scale, fan, _ = KERNEL_INITS[net.kernel_init]
  variance = scale / {'fan_in': channels, 'fan_out': spec.features, 'fan_avg': (channels + spec.features) / 2}[fan]
  return variance * channels * (1.0 if net.block is LinearBlock else 0.5)


def formula(net):
  r"""The law of the second moment after \ell blocks, from 1, as text for matplotlib; '' where none is short."""
  method = net.method.inner
  usual = 'lecun' if net.block is LinearBlock else 'he'
  if issubclass(net.block, BlockV1) or net.kernel_init != usual or method.functions:
    return ''
  alpha = 1.0 if method.alpha is None else initial_alpha(method, net.num_blocks)
  if method.merge_scale != 1:
    halved = math.isclose(method.merge_scale**2, 0.5) and method.norm == 'none' and alpha == 1
    return '$1$' if halved and not (method.zero_init or method.depth_init) else ''
  if method.zero_init or alpha == 0:
    return '$1$'
  if method.norm != 'none':
    restarts = ' in each stage' if len(net.stages) > 1 else ''
    return (r'$\ell + 1$' if alpha == 1 else r'$1 + \alpha^2 \ell$') + restarts
  if method.depth_init:
    return r'$(1 + 1/d)^\ell$' if alpha == 1 else ''
  return r'$2^\ell$' if alpha == 1 else r'$(1 + \alpha^2)^\ell$'
