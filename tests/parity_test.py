"""Every network against a plain PyTorch twin with the same weights: logits, loss, and every gradient."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_variables import random_variables

from zeroinit.methods import METHODS
from zeroinit.networks.resnet import CifarResNet, ResNet50V1, ResNet50V2, WideResNet

torch = pytest.importorskip('torch', reason="needs PyTorch: pip install -e '.[test,parity]'")
F = torch.nn.functional


class Twin:
  """Networks written from the papers, on a dict of tensors named as our parameters are; `rest` is indexed by block."""

  def __init__(self, variables, method, strided='conv1', variances=()):
    """strided: the convolution of a branch that has its stride; variances: by which each block's input is divided."""
    self.method, self.variances = method, list(variances)
    leaf = lambda path, x: torch.tensor(np.array(x, np.float64), requires_grad=True)
    self.params = jax.tree_util.tree_map_with_path(leaf, variables['params'])
    self.strided = strided

  def norm(self, p, x):
    of_channel = lambda values: values[None, :, None, None]
    groups = {'layer': 1, 'instance': x.shape[1]}.get(self.method.norm, min(32, x.shape[1]))
    match self.method.norm:
      case 'batch':
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        normalized = (x - mean) / torch.sqrt(var + 1e-5)
      case 'group' | 'layer' | 'instance':
        return F.group_norm(x, groups, p['scale'], p['bias'], 1e-5)
      case 'filter_response':
        normalized = x / torch.sqrt((x**2).mean((2, 3), keepdim=True) + 1e-6)
      case 'evonorm_s0':
        parts = x.reshape(len(x), groups, -1)
        std = torch.sqrt(parts.var(2, unbiased=False) + 1e-5).repeat_interleave(x.shape[1] // groups, 1)
        normalized = x * torch.sigmoid(of_channel(p['v']) * x) / std[:, :, None, None]
      case 'dynamic_tanh':
        normalized = torch.tanh(p['a'] * x)
      case 'derf':
        normalized = torch.erf(p['a'] * x + p['s'])
    return normalized * of_channel(p['scale']) + of_channel(p['bias'])

  def activation(self, p, x):
    x = self.norm(p['norm'], x) if 'norm' in p else x + p.get('bias_before', 0)
    return self.activate(p, x) + p.get('bias_after', 0)

  def activate(self, p, x):
    match self.method.activation:
      case 'relu':
        return torch.relu(x)
      case 'scaled_relu':
        return (2 / (1 - 1 / np.pi))**0.5 * torch.relu(x)
      case 'thresholded':
        return torch.maximum(x, p['threshold'][None, :, None, None])
    return x

  def conv(self, p, x, stride=1):
    kernel = p['kernel'].permute(3, 2, 0, 1)
    if self.method.kernels != 'plain':
      fan_in = kernel[0].numel()
      var, mean = (moment[:, None, None, None] for moment in torch.var_mean(kernel, (1, 2, 3), unbiased=False))
      kernel = kernel - mean
      if self.method.kernels == 'standardized':
        kernel = kernel / torch.sqrt(var + 1e-10)
      else:
        kernel = kernel * p['gain'][:, None, None, None] / torch.sqrt(torch.clamp(var * fan_in, min=1e-4))
    return F.conv2d(x, kernel, p.get('bias'), stride, padding=kernel.shape[-1] // 2)

  def block_v2(self, p, x, stride):
    shortcut, h = x, self.activation(p.get('relu1', {}), x / self.variances.pop(0)**0.5 if self.variances else x)
    if 'shortcut' in p:
      shortcut = self.conv(p['shortcut'], h, stride)
    h = self.conv(p['conv1'], h, stride if self.strided == 'conv1' else 1)
    h = self.conv(p['conv2'], self.activation(p.get('relu2', {}), h), stride if self.strided == 'conv2' else 1)
    if 'conv3' in p:
      h = self.conv(p['conv3'], self.activation(p.get('relu3', {}), h))
    alpha = p.get('alpha', torch.ones(()))
    blocks = sum(map(len, self.stages_of))
    fixed = {'inverse_sqrt_d': blocks**-0.5, 'inverse_d': 1 / blocks}.get(
        self.method.branch_scale, self.method.branch_scale)
    return shortcut + fixed * alpha.reshape(-1, 1, 1) * h

  def block_v1(self, p, x, stride):
    shortcut = x
    if 'input_bias' in p:  # Fixup's b1a
      x = x + p['input_bias']
    h = self.conv(p['conv1'], x, stride if self.strided == 'conv1' else 1)
    h = self.conv(p['conv2'], self.activation(p.get('relu1', {}), h), stride if self.strided == 'conv2' else 1)
    if 'conv3' in p:
      h = self.conv(p['conv3'], self.activation(p.get('relu2', {}), h))
    if 'norm' in p:
      h = self.norm(p['norm'], h)
    if 'shortcut' in p:
      shortcut = self.conv(p['shortcut'], x, stride)
      if 'shortcut_norm' in p:
        shortcut = self.norm(p['shortcut_norm'], shortcut)
    elif stride != 1:  # option A
      shortcut = x[:, :, ::2, ::2]
      shortcut = torch.cat([shortcut, torch.zeros_like(shortcut)], 1)
    return self.activate(p, shortcut + p.get('alpha', 1.0) * h + p.get('merge_bias', 0))

  def stages(self, block, x):
    for name in sorted(name for name in self.params if name.startswith('stage')):
      first, rest = self.params[name]['first'], self.params[name].get('rest')
      x = block(first, x, 1 if name == 'stage1' else 2)
      for b in range(len(rest['conv1']['kernel']) if rest else 0):
        x = block(jax.tree.map(lambda leaf, b=b: leaf[b], rest), x, 1)
    return x

  def classifier(self, x):
    x = x.mean((2, 3)) + self.params.get('pooled_bias', 0)
    return x @ self.params['classifier']['kernel'] + self.params['classifier'].get('bias', 0)

  def wide_resnet(self, images):
    x = self.stages(self.block_v2, self.conv(self.params['stem'], images))
    return self.classifier(self.activation(self.params.get('relu', {}), x))

  def cifar_resnet(self, images):
    x = self.activation(self.params.get('stem_relu', {}), self.conv(self.params['stem'], images))
    return self.classifier(self.stages(self.block_v1, x))

  def resnet50_v1(self, images):
    x = self.activation(self.params.get('stem_relu', {}), self.conv(self.params['stem'], images, 2))
    return self.classifier(self.stages(self.block_v1, F.max_pool2d(x, 3, 2, 1)))

  def resnet50_v2(self, images):
    x = F.max_pool2d(self.conv(self.params['stem'], images, 2), 3, 2, 1)
    x = self.stages(self.block_v2, x)
    return self.classifier(self.activation(self.params.get('relu', {}), x))


@pytest.mark.parametrize('name', ['batch_norm', 'zeroinit', 'fixup', 'none'])
def test_wide_resnet(name):
  net = WideResNet(depth=16, width=4, method=METHODS[name], num_classes=10, classifier_init='lecun')
  compare(net, Twin.wide_resnet, image_size=16)


@pytest.mark.parametrize('name', [
    'group_norm', 'layer_norm', 'instance_norm', 'group_norm_ws', 'filter_response_norm', 'evonorm_s0', 'dynamic_tanh',
    'derf', 'nf_resnet', 'layer_scale', 'depth_mup', 'completep'])
def test_successors(name):
  net = WideResNet(depth=16, width=1, method=METHODS[name], num_classes=10, classifier_init='lecun')
  compare(net, Twin.wide_resnet, image_size=16)


@pytest.mark.parametrize('name', ['batch_norm', 'zeroinit_scalar_bias', 'fixup', 'filter_response_norm', 'layer_norm'])
def test_cifar_resnet(name):
  compare(CifarResNet(depth=14, method=METHODS[name], classifier_init='lecun'), Twin.cifar_resnet, image_size=16)


# WRN-16-1: 1 at the stem, 0.2^2 more after each block, from 1 again where the shortcut is a projection.
NF_VARIANCES = (1.0, 1.04, 1.08, 1.04, 1.08, 1.04)


def cases(*names_and_strides):
  """(method, bottleneck_stride); all but the first are slow."""
  first, *others = [name.split() for name in names_and_strides]
  return [first, *(pytest.param(*case, marks=pytest.mark.slow) for case in others)]


@pytest.mark.parametrize('name, stride', cases(
    'fixup 1x1', 'fixup 3x3', 'batch_norm 1x1', 'batch_norm 3x3', 'zeroinit 1x1', 'zeroinit_scalar_bias 1x1'))
def test_resnet50_v1(name, stride):
  net = ResNet50V1(method=METHODS[name], num_classes=10, bottleneck_stride=stride, classifier_init='lecun')
  compare(net, Twin.resnet50_v1, image_size=32)


@pytest.mark.parametrize('name, stride', cases(
    'zeroinit 3x3', 'zeroinit 1x1', 'batch_norm 1x1', 'batch_norm 3x3', 'fixup 1x1'))
def test_resnet50_v2(name, stride):
  net = ResNet50V2(method=METHODS[name], num_classes=10, bottleneck_stride=stride, classifier_init='lecun')
  compare(net, Twin.resnet50_v2, image_size=32)


def compare(net, twin_network, image_size):
  """In float64. In float32 a ReLU input within rounding of zero may be cut in one of the two and not in the other,
  which changes a gradient by about 1e-3, and 50 layers with batch norm amplify rounding to 1e-2.
  """
  with jax.enable_x64(True):
    _compare(dataclasses.replace(net, dtype=jnp.float64), twin_network, image_size)


def _compare(net, twin_network, image_size):
  images = jax.random.normal(jax.random.key(0), (4, image_size, image_size, 3), jnp.float32)
  labels = jnp.arange(4)
  variables = jax.tree.map(lambda x: x.astype(net.dtype), random_variables(net, images, train=False))

  def loss(params):
    # With a batch norm in training, else not, because of dropout, whose mask the twin cannot draw.
    train = net.method.has_batch_norm
    logits, _ = net.apply(variables | {'params': params}, images, train=train, mutable=['batch_stats'])
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

  (value, logits), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables['params'])
  assert logits.dtype == net.dtype

  variances = {'nf_resnet': NF_VARIANCES}.get(next(name for name, row in METHODS.items() if row == net.method), ())
  twin = Twin(variables, net.method, 'conv2' if getattr(net, 'bottleneck_stride', '1x1') == '3x3' else 'conv1',
              variances)
  twin.stages_of = net.stages
  twin_logits = twin_network(twin, torch.tensor(np.array(images, np.float64)).permute(0, 3, 1, 2))
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
