"""The network against a plain PyTorch twin with the same weights: logits, loss, and every gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_variables import random_variables

from zeroinit.methods import METHODS
from zeroinit.resnet import WideResNet

torch = pytest.importorskip('torch', reason="needs PyTorch: pip install -e '.[test,parity]'")
F = torch.nn.functional

DEPTH, WIDTH = 16, 4


class Twin:
  """WRN written from the papers, on a dict of tensors named as our parameters are; `rest` is indexed by block."""

  def __init__(self, variables):
    leaf = lambda path, x: torch.tensor(np.array(x, np.float64), requires_grad=True)
    self.params = jax.tree_util.tree_map_with_path(leaf, variables['params'])

  def norm(self, p, x):
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    normalized = (x - mean) / torch.sqrt(var + 1e-5)
    return normalized * p['scale'][None, :, None, None] + p['bias'][None, :, None, None]

  def activation(self, p, x):
    x = self.norm(p['norm'], x) if 'norm' in p else x + p.get('bias_before', 0)
    return torch.relu(x) + p.get('bias_after', 0)

  def conv(self, p, x, stride=1):
    kernel = p['kernel'].permute(3, 2, 0, 1)
    return F.conv2d(x, kernel, p.get('bias'), stride, padding=kernel.shape[-1] // 2)

  def block(self, p, x, stride):
    h = self.activation(p.get('relu1', {}), x)
    shortcut = self.conv(p['shortcut'], h, stride) if 'shortcut' in p else x
    h = self.conv(p['conv1'], h, stride)
    h = self.conv(p['conv2'], self.activation(p.get('relu2', {}), h))
    return shortcut + p.get('alpha', 1.0) * h

  def __call__(self, images):
    p = self.params
    x = self.conv(p['stem'], torch.tensor(np.array(images, np.float64)).permute(0, 3, 1, 2))
    for i, stride in enumerate((1, 2, 2), 1):
      stage = p[f'stage{i}']
      x = self.block(stage['first'], x, stride)
      for b in range((DEPTH - 4) // 6 - 1):
        x = self.block(jax.tree.map(lambda leaf, b=b: leaf[b], stage['rest']), x, 1)
    x = self.activation(p.get('relu', {}), x).mean((2, 3))
    return x @ p['classifier']['kernel'] + p['classifier'].get('bias', 0)


@pytest.mark.parametrize('name', ['batch_norm', 'zeroinit', 'fixup', 'none'])
def test_forward_and_backward_of_the_twin(name):
  net = WideResNet(DEPTH, WIDTH, METHODS[name], 10)
  # A ReLU input within rounding of zero may be cut in one of the two and not in the other, which changes a gradient by
  # about 1e-3. A million inputs would hold one; so the images are few and small.
  images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
  labels = jnp.arange(4)
  variables = random_variables(net, images, train=False)

  def loss(params):
    batch_statistics = net.method.norm != 'none'  # in training, but without dropout, whose mask the twin cannot draw
    logits, _ = net.apply(variables | {'params': params}, images, train=batch_statistics, mutable=['batch_stats'])
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

  (value, logits), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables['params'])

  twin = Twin(variables)
  twin_logits = twin(images)
  twin_value = F.cross_entropy(twin_logits, torch.tensor(np.array(labels)).long())
  twin_value.backward()
  close(logits, twin_logits, 'logits')
  assert float(value) == pytest.approx(twin_value.item(), rel=1e-4)
  twin_gradient = jax.tree.map(lambda leaf: leaf.grad, twin.params)
  for (path, got), want in zip(jax.tree_util.tree_leaves_with_path(gradient), jax.tree.leaves(twin_gradient),
                               strict=True):
    close(got, want, jax.tree_util.keystr(path))


def close(got, want, name):
  """To 1e-4 of the whole: the twin computes in float64."""
  want = want.detach().numpy()
  assert np.linalg.norm(got - want) <= 1e-4 * np.linalg.norm(want), name
