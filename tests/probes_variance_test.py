"""The moments of skip path and branches, against a computation of their own, and what they must be."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probing import method, some_images, wide
from random_variables import random_variables
from rows import few

from zeroinit.networks.resnet import CifarResNet, ResNet50V1, ResNet50V2
from zeroinit.probes import variance
from zeroinit.probes.variance import toys


class Reference:
  """The networks in NumPy at float64, which keep what their blocks add up; `ghost` examples share their statistics."""

  def __init__(self, net, variables):
    self.net, self.method = net, net.method
    self.params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables['params'])

  def conv(self, p, x, stride=1):
    kernel, pad = p['kernel'], p['kernel'].shape[0] // 2
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0))), kernel.shape[:2], (1, 2))[:, ::stride, ::stride]
    return np.einsum('nyxiab,abio->nyxo', windows, kernel) + p.get('bias', 0)

  def statistics(self, x):
    size = {'batch': len(x), 'ghost': self.method.ghost_size}[self.method.norm]
    groups = x.reshape(-1, size, *x.shape[1:])
    return groups.mean((1, 2, 3)), groups.var((1, 2, 3))

  def norm(self, p, x):
    mean, var = (np.repeat(s, len(x) // len(s), 0)[:, None, None] for s in self.statistics(x))
    return (x - mean) / np.sqrt(var + 1e-5) * p['scale'] + p['bias']

  def activation(self, p, x):
    x = self.norm(p['norm'], x) if 'norm' in p else x + p.get('bias_before', 0)
    return np.maximum(x, 0) + p.get('bias_after', 0)

  def blocks(self, x):
    """(what enters the block, skip, branch, their sum, output, input of its first norm), by depth."""
    x = self.conv(self.params['stem'], x, self.net.stem.stride)
    if 'V2' not in self.net.block.__name__:
      x = self.activation(self.params.get('stem_relu', {}), x)
    if self.net.pools:
      padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
      x = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2].max((-1, -2))
    for number, stage in enumerate(self.net.stages, 1):
      for b, convs in enumerate(stage):
        p = self.params[f'stage{number}']['rest' if b else 'first']
        p = jax.tree.map(lambda leaf, b=b: leaf[b - 1], p) if b else p
        strides = [spec.stride for spec in convs]
        found = (self.v2 if 'V2' in self.net.block.__name__ else self.v1)(p, x, strides)
        yield x, *found
        x = found[3]

  def merge(self, p, skip, branch):
    branch = p.get('alpha', 1.0) * branch
    return skip, branch, self.method.merge_scale * (skip + branch) + p.get('merge_bias', 0)

  def v2(self, p, x, strides):
    skip, h = x, x
    for i, stride in enumerate(strides, 1):
      h = self.activation(p.get(f'relu{i}', {}), h)
      if i == 1 and 'shortcut' in p:
        skip = self.conv(p['shortcut'], h, max(strides))
      h = self.conv(p[f'conv{i}'], h, stride)
    skip, branch, total = self.merge(p, skip, h)
    return skip, branch, total, total, x

  def v1(self, p, x, strides):
    h = x + p.get('input_bias', 0)
    skip = x
    if 'shortcut' in p:
      skip = self.conv(p['shortcut'], h, max(strides))
      skip = self.norm(p['shortcut_norm'], skip) if 'shortcut_norm' in p else skip
    elif max(strides) > 1:
      skip = h[:, ::2, ::2]
      skip = np.concatenate([skip, np.zeros_like(skip)], -1)
    first = h = self.conv(p['conv1'], h, strides[0])
    for i, stride in enumerate(strides[1:], 2):
      h = self.conv(p[f'conv{i}'], self.activation(p.get(f'relu{i - 1}', {}), h), stride)
    h = self.norm(p['norm'], h) if 'norm' in p else h
    skip, branch, total = self.merge(p, skip, h)
    return skip, branch, total, np.maximum(total, 0), first


NETWORKS = [
    wide('ghost_norm', 16, ghost_size=2), wide('fixup', 16, zero_init=False), wide('zeroinit', 16, merge_scale=0.7),
    wide('divide_by_sqrt2', 22), CifarResNet(depth=14, method=method('batch_norm')),
    CifarResNet(depth=14, method=method('zeroinit_scalar_bias')),
    ResNet50V1(method=method('batch_norm'), num_classes=3), ResNet50V2(method=method('biases'), num_classes=3),
]


@pytest.mark.slow
@pytest.mark.parametrize('net', NETWORKS, ids=lambda net: f'{net.title}-{net.method.norm}-{net.method.biases}')
def test_against_numpy_block_by_block(net):
  images = some_images(size=64 if net.pools else 8)
  variables = random_variables(net, images, train=False)
  records = variance.measure(net, variables, images)
  reference = Reference(net, variables)
  expected = list(reference.blocks(np.asarray(images, np.float64)))
  assert [record['block'] for record in records] == list(range(1, len(expected) + 1))
  assert [record['stage'] for record in records] == [i for i, stage in enumerate(net.stages, 1) for _ in stage]
  for record, (entering, skip, branch, total, output, normed) in zip(records, expected, strict=True):
    assert record['input_second_moment'] == pytest.approx((entering**2).mean(), rel=2e-3)
    for place, x in (('skip', skip), ('branch', branch), ('output', output)):
      for field, want in (('second_moment', (x**2).mean()), ('variance', x.var((0, 1, 2)).mean()),
                          ('squared_mean', (x.mean((0, 1, 2)) ** 2).mean())):
        assert record[f'{place}_{field}'] == pytest.approx(want, rel=2e-3, abs=1e-4 * (x**2).mean()), (place, field)
    scale = net.method.merge_scale
    assert record['share'] == pytest.approx(scale**2 * (branch**2).mean() / (total**2).mean(), rel=2e-3)
    assert record['ratio'] == pytest.approx((branch**2).mean() / (skip**2).mean(), rel=2e-3)
    if net.method.norm == 'none':
      assert not any(name.startswith('norm') for name in record)
    else:
      mean, var = reference.statistics(normed)
      assert record['norm_mean_square'] == pytest.approx((mean.mean(0) ** 2).mean(), rel=2e-3, abs=1e-4 * var.mean())
      assert record['norm_variance'] == pytest.approx(var.mean(), rel=2e-3)


@pytest.mark.parametrize('net', [wide('batch_norm', 16), CifarResNet(depth=14, method=method('ghost_norm'))],
                         ids=lambda net: net.title)
def test_running_statistics_are_those_stored(net):
  images = some_images()
  variables = random_variables(net, images, train=False)
  records = variance.measure(net, variables, images)
  stored = [variables['batch_stats'][f'stage{i}'] for i in (1, 2, 3)]
  stored = [block for stage in stored for block in (
      stage['first'], *(jax.tree.map(lambda leaf, b=b: leaf[b], stage['rest']) for b in range(1)))]
  for record, block in zip(records, stored, strict=True):
    norm = block['relu1']['norm']
    assert record['running_mean_square'] == pytest.approx(float((norm['mean'] ** 2).mean()))
    assert record['running_variance'] == pytest.approx(float(norm['var'].mean()))


@pytest.mark.parametrize('name', few(['zeroinit', 'fixup', 'multiplier', 'fixup_zero_only'], 2))
def test_a_branch_that_starts_at_zero_has_no_share(name):
  net, images = wide(name, 16), some_images()
  variables = jax.jit(lambda key: net.init(key, images, train=False))(jax.random.key(0))
  for record in variance.measure(net, variables, images):
    assert record['share'] == record['ratio'] == record['branch_second_moment'] == 0
    assert record['output_second_moment'] == pytest.approx(record['skip_second_moment'], rel=1e-6)


@pytest.mark.slow
def test_remat_measures_the_same():
  net, images = wide('ghost_norm', 22, ghost_size=2), some_images()
  variables = random_variables(net, images, train=False)
  for want, got in zip(variance.measure(net, variables, images),
                       variance.measure(dataclasses.replace(net, remat=True), variables, images), strict=True):
    assert got == pytest.approx(want, rel=1e-5)


def test_bfloat16_is_measured_in_float32():
  net, images = wide('zeroinit', 16), some_images()
  variables = random_variables(net, images, train=False)
  low = variance.measure(dataclasses.replace(net, dtype=jnp.bfloat16), variables, images)
  for want, got in zip(variance.measure(net, variables, images), low, strict=True):
    assert got['output_second_moment'] == pytest.approx(want['output_second_moment'], rel=0.05)


def test_squares_beyond_float32_are_still_numbers_and_then_are_not():
  net = toys.Toy('linear', method('none'), 400, 8)
  images = toys.inputs(net, jax.random.key(0), 16, 1)
  records = variance.measure(net, jax.jit(lambda key: net.init(key, images, train=False))(jax.random.key(1)), images)
  moments = np.array([record['output_second_moment'] for record in records])
  assert np.finfo(np.float32).max < moments[np.isfinite(moments)].max() < 1e80
  first = int(np.flatnonzero(~np.isfinite(moments))[0])
  assert first > 200 and np.isfinite(moments[:first]).all() and not np.isfinite(moments[first:]).any()
  assert (moments[:first] > 0).all() and moments[first - 1] > 1e70


def test_memory_does_not_grow_with_depth():
  def temporaries(blocks):
    net = toys.Toy('relu', method('ghost_norm'), blocks, 16)
    images = toys.inputs(net, jax.random.key(0), 64, 1)
    variables = jax.eval_shape(lambda key: net.init(key, images, train=False), jax.random.key(1))
    program = variance._moments.program().lower(net, variables, images).compile().memory_analysis()
    parameters = sum(leaf.size * 4 for leaf in jax.tree.leaves(variables))
    return program.temp_size_in_bytes + program.output_size_in_bytes, parameters

  (few, _), (many, parameters) = temporaries(10), temporaries(1000)
  assert many - few < 2 * parameters  # less than one activation of 64 x 16 numbers for each of the blocks
