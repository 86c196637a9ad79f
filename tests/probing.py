"""What the tests of the probes share: small networks, their loss, and the commands as a user runs them."""

import dataclasses
import json

import command
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from configs import digits
from zeroinit.methods import METHODS
from zeroinit.networks.resnet import WideResNet

LABELS = jnp.array([0, 1, 2, 2, 1, 0], jnp.int32)


def some_images(batch=6, size=8, channels=3):
  return jax.random.normal(jax.random.key(7), (batch, size, size, channels))


def method(name, **fields):
  return dataclasses.replace(METHODS[name], **fields)


def wide(name, depth=10, **fields):
  return WideResNet(depth=depth, width=1, method=method(name, **fields), num_classes=10, classifier_init='lecun')


def cross_entropy(net, variables, images, labels):
  """The mean over a batch, with norms in training mode."""
  logits, _ = net.apply(variables, images, train=True, mutable=['batch_stats'])
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def small_config(**fields):
  """Two epochs of two updates each, on the digits, of a network of eight layers without normalization.

  Like `wide` it starts with a classifier that is not zero, so that every layer has a gradient.
  """
  config = digits.get_config('none')
  config.update({'network': 'cifar_resnet', 'depth': 8, 'batch_size': 512, 'epochs': 2.0, 'evaluations': 1,
                 'classifier_init': 'lecun', **fields})
  return config


def unrolled(kernels, images):
  """The outputs of all layers of a CIFAR ResNet without normalization and biases. kernels: by depth."""
  outputs = []

  def convolve(x, kernel, stride=1):
    outputs.append(jax.lax.conv_general_dilated(x, kernel, (stride, stride), ((1, 1), (1, 1)),
                                                dimension_numbers=('NHWC', 'HWIO', 'NHWC')))
    return outputs[-1]

  stem, *branches, classifier = kernels
  x = nn.relu(convolve(images, stem))
  for first, second in zip(branches[::2], branches[1::2], strict=True):
    stride = 2 if first.shape[2] != first.shape[3] else 1
    shortcut = x[:, ::stride, ::stride]
    shortcut = jnp.concatenate([shortcut, jnp.zeros((*shortcut.shape[:3], first.shape[3] - first.shape[2]))], 3)
    x = nn.relu(shortcut + convolve(nn.relu(convolve(x, first, stride)), second))
  return [*outputs, x.mean((1, 2)) @ classifier]


def probe(name, *flags, workdir):
  """Runs the command of a probe; (what its JSON holds, standard output)."""
  code, output, errors = command.run(f'zeroinit.probes.{name}', *flags, f'--workdir={workdir}')
  assert code == 0 and not errors, errors
  assert (workdir / f'{name}.png').read_bytes().startswith(b'\x89PNG')
  return json.loads((workdir / f'{name}.json').read_text()), output


def assert_on_page(title, workdir):
  """The page of what probes have written into a directory can be made, and has that heading."""
  code, _, errors = command.run('zeroinit.probes.page', f'--workdir={workdir}')
  assert code == 0 and not errors and title in (workdir / 'probes.html').read_text(), errors


def assert_mistakes(name, *flags, mistakes, workdir):
  """With each of these flags a command ends with the line that says so, before it has made its directory.

  Args:
    mistakes: {flag: a part of the line}
  """
  given = [[f'zeroinit.probes.{name}', *flags, wrong, f'--workdir={workdir}'] for wrong in mistakes]
  for (code, said), message in zip(command.run_all(given), mistakes.values(), strict=True):
    command.assert_one_line(code, said, message)
  assert not workdir.exists()
