"""The terms of gradients, against terms written out one by one, and against Table 1 of Bjorck et al."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probing import LABELS, assert_mistakes, cross_entropy, probe, some_images, wide
from random_variables import random_variables

from configs import cifar10
from zeroinit.methods import METHODS
from zeroinit.networks import resnet
from zeroinit.networks.blocks import Stage
from zeroinit.networks.resnet import CifarResNet
from zeroinit.networks.vgg import VGG
from zeroinit.probes import channels, inputs, layers, snapshots
from zeroinit.system import compiling


class Unrolled(Stage):
  """A stage without a scan: its blocks are first, rest0, rest1, ..."""

  @nn.compact
  def __call__(self, x, train):
    for i, convs in enumerate(self.convs):
      x = self.block(convs, self.method, self.num_blocks, name=f'rest{i - 1}' if i else 'first')(x, train)
    return x


def unrolled(tree):
  """The variables of a network, or a part of them, as they are without scans."""
  parts = {}
  for name, part in tree.items():
    if name == 'rest':
      for place in range(len(jax.tree.leaves(part)[0])):
        parts[f'rest{place}'] = jax.tree.map(lambda leaf, place=place: leaf[place], part)
    else:
      parts[name] = unrolled(part) if isinstance(part, dict) else part
  return parts


def inputs_and_slopes(net, variables, images):
  """{path: (input, gradient with respect to the output)} of every layer, from zeros that are added to the outputs."""
  strides = {}

  def run(zeros):
    inputs, outputs = {}, {}

    def add(call, args, kwargs, context):
      module, output = context.module, call(*args, **kwargs)
      if context.method_name != '__call__' or not isinstance(module, (nn.Conv, nn.Dense)):
        return output
      inputs[module.path], outputs[module.path] = args[0], output
      strides[module.path] = getattr(module, 'strides', (1, 1))[0]
      return output + zeros[module.path] if zeros else output

    with nn.intercept_methods(add):
      logits, _ = net.apply(variables, images, train=True, mutable=['batch_stats'])
    return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean(), (inputs, outputs)

  zeros = jax.tree.map(lambda output: jnp.zeros(output.shape), jax.eval_shape(lambda: run(None))[1][1])
  slopes, (inputs, _) = jax.jit(jax.grad(run, has_aux=True))(zeros)
  return {path: (np.asarray(inputs[path], float), np.asarray(slope, float), strides[path])
          for path, slope in slopes.items()}


def sums_of_terms(x, slope, stride, size):
  """sum |d| and sum d, [size, size, input channel, output channel], every d written out."""
  if x.ndim == 2:
    x, slope = x[:, None, None], slope[:, None, None]
  pad, (height, width) = (size - 1) // 2, slope.shape[1:3]
  x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  absolute, plain = [], []
  for dy in range(size):
    for dx in range(size):
      seen = x[:, dy : dy + stride * height : stride, dx : dx + stride * width : stride]
      d = seen[..., :, None] * slope[..., None, :]
      absolute.append(np.abs(d).sum((0, 1, 2)))
      plain.append(d.sum((0, 1, 2)))
  return np.array(absolute), np.array(plain)


NETWORKS = [wide('ghost_norm', 16, ghost_size=2), wide('fixup', 22),
            CifarResNet(depth=14, method=METHODS['batch_norm']), CifarResNet(depth=14, method=METHODS['zeroinit'])]


@pytest.mark.slow
@pytest.mark.parametrize('net', NETWORKS, ids=lambda net: f'{net.title}-{net.method.norm}-{net.method.biases}')
def test_against_the_terms_written_out(net, monkeypatch):
  """The reference has no scans, so that this also says that scanned layers are measured as others are."""
  net, images = dataclasses.replace(net, method=dataclasses.replace(net.method, dropout=0.0)), some_images()
  variables = random_variables(net, images, train=False)
  records, found = channels.measure(net, variables, images, LABELS), list(layers.along_depth(net, images.shape[1:]))
  monkeypatch.setattr(resnet, 'Stage', Unrolled)
  reference = inputs_and_slopes(net, unrolled(variables), images)
  for number, (layer, record) in enumerate(zip(found, records, strict=True), 1):
    assert (record['layer'], record['name']) == (number, layer.name)
    path = tuple('rest' + str(layer.place) if key == 'rest' else key for key in layer.path)
    size = 1 if path == ('classifier',) else 3
    absolute, plain = sums_of_terms(*reference[path], size)
    assert record['sum_of_absolute'] == pytest.approx(absolute.mean(), rel=2e-3), layer.name
    assert record['absolute_of_sum'] == pytest.approx(np.abs(plain).mean(), rel=2e-3)
    assert record['ratio'] == pytest.approx(absolute.mean() / np.abs(plain).mean(), rel=4e-3)
    assert record['ratio'] > 1
    np.testing.assert_allclose(record['between_channels'], np.abs(plain).sum(0), rtol=1e-2,
                               atol=1e-3 * np.abs(plain).max())
    assert record['largest'] == pytest.approx(np.abs(plain).max(), rel=2e-3)
    assert record['std'] == pytest.approx(plain.std(), rel=2e-3)
    assert record['kurtosis'] == pytest.approx((((plain - plain.mean()) / plain.std()) ** 4).mean(), rel=1e-2)


def gradient_of(net, variables, images):
  def loss(params):
    logits, _ = net.apply(variables | {'params': params}, images, train=True, mutable=['batch_stats'])
    return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean(), logits
  return jax.jit(jax.grad(loss, has_aux=True))(variables['params'])


@pytest.mark.slow
@pytest.mark.parametrize('net', [wide('batch_norm'), VGG(method=METHODS['biases'], num_classes=10)],
                         ids=lambda net: net.title)
def test_the_sum_of_the_terms_is_the_gradient(net):
  images = some_images()
  variables = random_variables(net, images, train=False)
  gradient, logits = gradient_of(net, variables, images)
  records = channels.measure(net, variables, images, LABELS)
  for layer, record in zip(layers.along_depth(net, images.shape[1:]), records, strict=True):
    kernel = layer.of(gradient, 'kernel').astype(float)
    assert record['name'] == layer.name
    assert record['absolute_of_sum'] == pytest.approx(np.abs(kernel).mean(), rel=1e-3)
    histogram = record['histogram']
    assert sum(histogram['counts']) == kernel.size
    left, right = histogram['edges'][0], histogram['edges'][-1]
    assert -left == right == record['largest'] == pytest.approx(np.abs(kernel).max(), rel=1e-3)
    third = histogram['edges'][20], histogram['edges'][41]  # around zero
    inside = ((kernel > third[0]) & (kernel < third[1])).sum()
    assert sum(histogram['counts'][20:41]) == pytest.approx(inside, rel=1e-3, abs=2)  # two may lie on an edge
  of_outputs = jax.grad(lambda logits: optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).sum())(logits)
  np.testing.assert_allclose(records[-1]['of_outputs'], of_outputs, atol=1e-4)
  assert not any('of_outputs' in record for record in records[:-1])


def test_the_layers_of_bjorck_et_al():
  found = list(layers.along_depth(CifarResNet(depth=110, method=METHODS['batch_norm']), (32, 32, 3)))
  assert len(found) == 110 and layers.middle(found) == [18, 54, 90]
  setting = {'dataset': 'cifar10', 'kernel_init': 'xavier'}
  assert {(network, layer) for network, _, layer in channels.bjorck_table1(setting)} == {
      ('ResNet-110', layer) for layer in (18, 54, 90)}
  assert channels.bjorck_table1(setting | {'kernel_init': 'he'}) == {}


@pytest.mark.slow
@pytest.mark.parametrize('name, reached, note', [
    ('zeroinit', (1, 8), 'layers 2-7 is'), ('fixup', (8,), 'layers 1-7 is')])
def test_where_no_gradient_arrives_there_is_no_ratio(name, reached, note):
  net, images = wide(name), some_images()
  variables = jax.jit(lambda key: net.init(key, images, train=False))(jax.random.key(0))
  records = channels.measure(net, variables, images, LABELS)
  for record in records:
    if record['layer'] in reached:
      assert record['ratio'] > 1 and record['histogram']
    else:
      assert record['sum_of_absolute'] == record['absolute_of_sum'] == record['largest'] == 0
      assert np.isnan(record['ratio']) and record['histogram'] is None
  said, = channels._notes([{'method': name, 'updates': 0, **record} for record in records])
  assert note in said


def test_one_image_repeated_has_terms_that_cancel_no_more():
  """b grows with the number of images as a does, if they are equal: with different ones it does not."""
  net, images = wide('none'), some_images()
  variables = random_variables(net, images, train=False)
  same = jnp.repeat(images[:1], len(LABELS), 0)
  once = channels.measure(net, variables, same[:1], LABELS[:1])
  repeated = channels.measure(net, variables, same, jnp.zeros_like(LABELS))
  different = channels.measure(net, variables, images, LABELS)
  ratios = lambda records: np.array([record['ratio'] for record in records])
  np.testing.assert_allclose(ratios(repeated), ratios(once), rtol=1e-3)
  assert (ratios(different) > 1.02 * ratios(once)).all()


@pytest.mark.slow
def test_dropout_is_off_and_remat_changes_nothing():
  net, images = wide('none', 16), some_images()
  variables = random_variables(net, images, train=False)
  plain = [record['ratio'] for record in channels.measure(net, variables, images, LABELS)]
  for other in (wide('dropout', 16), dataclasses.replace(net, remat=True)):
    found = [record['ratio'] for record in channels.measure(other, variables, images, LABELS)]
    assert found == pytest.approx(plain, rel=1e-4)


@pytest.mark.slow
def test_bfloat16_is_summed_in_float32():
  net, images = wide('biases'), some_images()
  variables = random_variables(net, images, train=False)
  low = channels.measure(dataclasses.replace(net, dtype=jnp.bfloat16), variables, images, LABELS)
  for want, got in zip(channels.measure(net, variables, images, LABELS), low, strict=True):
    assert got['sum_of_absolute'] == pytest.approx(want['sum_of_absolute'], rel=0.05)


def test_squares_of_gradients_may_overflow():
  """Gradients of 1e25, whose squares float32 cannot hold, have the ratios and the shape of gradients of 1."""
  net, images = wide('none'), some_images()
  variables = random_variables(net, images, train=False)
  want = channels.measure(net, variables, images, LABELS)[-1]
  variables['params']['classifier']['kernel'] *= 1e-25  # the outputs do not change, the classifier's gradient does
  variables['params']['stem']['kernel'] *= 1e25
  got = channels.measure(net, variables, images, LABELS)[-1]
  assert got['std'] == pytest.approx(1e25 * want['std'], rel=1e-3)
  for field in ('ratio', 'kurtosis'):
    assert got[field] == pytest.approx(want[field], rel=1e-3)


@pytest.mark.slow
def test_memory_is_that_of_a_backward_pass():
  """Terms are never stored, nor slopes of all layers: nothing beyond sums of the size of the parameters."""
  net, images = wide('none', 52), jax.ShapeDtypeStruct((64, 16, 16, 3), jnp.float32)
  labels = jax.ShapeDtypeStruct((64,), jnp.int32)
  variables = jax.eval_shape(lambda key: net.init(key, jnp.zeros((1, 8, 8, 3)), train=False), jax.random.key(0))
  parameters = sum(leaf.size * 4 for leaf in jax.tree.leaves(variables))

  @compiling.jit
  def usual(variables, images, labels):
    return jax.grad(lambda params: cross_entropy(net, {'params': params}, images, labels))(variables['params'])

  def temporaries(function, *args):
    return function.program().lower(*args).compile().memory_analysis().temp_size_in_bytes

  activations = temporaries(usual, variables, images, labels)
  assert activations > 10 * parameters
  assert temporaries(channels._backward, net, variables, images, labels) < 1.2 * activations + 5 * parameters


def test_the_figure_says_where_there_is_nothing_to_draw():
  images, records = some_images(), []
  shown = {'in_table': [2, 6], 'histogram': [6], 'between_channels': [5]}
  for name in ('none', 'fixup'):
    net = wide(name)
    variables = random_variables(net, images, train=False)
    if name == 'fixup':
      variables['params']['classifier']['kernel'] *= 0
    records += [{'method': name, 'updates': 0, 'network': net.title} | channels._kept(record, shown)
                for record in channels.measure(net, variables, images, LABELS)]
  figure = channels.figure.draw('a title', records, {('WRN-10-1', 'none', 6): {'ratio': 3.0}})
  texts = [text.get_text() for ax in figure.axes for text in ax.texts]
  assert texts.count('the gradient is exactly 0') == 2  # Fixup's histogram, and its channels
  labels = [text.get_text() for text in figure.legends[0].get_texts()]
  assert labels == ['none', 'Bjorck et al.']


@pytest.mark.slow
@pytest.mark.parametrize('name, low, high', [('batch_norm', 20, 250), ('none', 1.4, 3.6)])
def test_table_1_of_bjorck_et_al(name, low, high, real_cifar10):
  config = cifar10.get_config(name)
  config.update({'data_dir': str(real_cifar10), 'network': 'cifar_resnet', 'depth': 110, 'width': 1,
                 'kernel_init': 'xavier', 'classifier_init': 'xavier', 'crop': 'zero', 'batch_size': 128})
  recipe = inputs.recipe_of(config)
  (_, variables), = snapshots.states(config, recipe)
  records = channels.measure(recipe.net, variables, *inputs.first_batch(config))
  ratios = [records[layer - 1]['ratio'] for layer in (18, 54, 90)]
  assert all(low <= ratio <= high for ratio in ratios), ratios
  if name == 'batch_norm':
    assert ratios == sorted(ratios, reverse=True)
  else:  # one class has almost all the probability, for almost every image
    assert (records[-1]['of_outputs'] > 0.9).mean(0).max() > 0.7


@pytest.mark.slow
def test_the_command(tmp_path):
  made, _ = probe('channels', '--config=configs/digits.py', '--config.depth=10', '--config.learning_rate=0.01',
                  '--methods=none,zeroinit', '--updates=0,2', '--draws=2', '--layers=2,4', '--histogram=4',
                  '--heat_map=5', workdir=tmp_path)
  records = made['records']
  assert [(record['method'], record['updates'], record['layer']) for record in records] == [
      (name, updates, layer) for name in ('none', 'zeroinit') for updates in (0, 2) for layer in range(1, 9)]
  assert [record['layer'] for record in records[:8] if record['in_table']] == [2, 4]
  for number, record in enumerate(records):
    assert ('histogram' in record) == (record['layer'] == 4)
    assert ('between_channels' in record) == (record['layer'] == 5)
    assert ('of_outputs' in record) == (record['layer'] == 8)
    dead = record['method'] == 'zeroinit' and record['updates'] == 0 and 2 <= record['layer'] <= 7
    assert record['ratio'] is None if dead else record['ratio'] > 1, number
  assert any('zeroinit: the gradient of layers 2-7 is exactly zero' in note for note in made['notes'])
  rows = channels.summary(made).rows
  assert [row[:2] for row in rows[:4]] == [('none', '2'), ('none', '4'), ('none after 2 updates', '2'),
                                           ('none after 2 updates', '4')]


@pytest.mark.slow
def test_mistakes(tmp_path):
  assert_mistakes('channels', '--config=configs/digits.py:none', '--config.depth=16', workdir=tmp_path / 'made',
                  mistakes={
      '--layers=2,99': '--layers=99 does not exist: WRN-16-1 has the layers 1 to 14',
      '--histogram=15': '--histogram=15 does not exist',
      '--heat_map=40': '--heat_map=40 does not exist',
      '--layers=stem': '--layers=stem: write positive numbers',
      '--methods=none,nf_resnet': 'nf_resnet uses its kernels scaled',
      '--updates=-1': '--updates=-1: write numbers'})
