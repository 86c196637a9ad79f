"""The laws of variance: their closed forms, and the networks that they are about."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from zeroinit.methods import METHODS, Method
from zeroinit.networks.resnet import CifarResNet, ResNet50V1, ResNet50V2, WideResNet
from zeroinit.probes import variance
from zeroinit.probes.variance import laws, toys
from zeroinit.system.errors import UserError

DRAWS = 20
NF = dataclasses.replace(METHODS['nf_resnet'], alpha=1.0)  # so that the branches are there


def toy(kind, name, blocks, channels=64, layers=1):
  return toys.Toy(kind, name if isinstance(name, Method) else METHODS[name], blocks, channels, layers)


def wide(depth, width, name, **attributes):
  method = name if isinstance(name, Method) else METHODS[name]
  return WideResNet(depth=depth, width=width, method=method, num_classes=10, **attributes)


def records_of(net, draws, batch=64):
  """The records of each draw of weights and Gaussian inputs, which have a second moment of 1."""
  if isinstance(net, toys.Toy):
    inputs = partial(toys.inputs, net, batch=batch, image_size=8)
  else:
    inputs = lambda key: jax.random.normal(key, (batch, 32, 32, 3))
  init = jax.jit(partial(net.init, train=False))
  for draw in range(draws):
    weights, images = jax.random.split(jax.random.key(draw))
    images = inputs(images)
    yield variance.measure(net, {'batch_stats': {}} | init(weights, images[:1]), images)


@pytest.mark.parametrize('kind', ['linear', 'relu', 'conv'])
@pytest.mark.parametrize('layers', [1, 2])
@pytest.mark.parametrize('name, output, share', [
    ('none', lambda b: 2.0**b, lambda b: 1 / 2), ('biases', lambda b: 2.0**b, lambda b: 1 / 2),
    ('ghost_norm', lambda b: b + 1, lambda b: 1 / (b + 1)), ('batch_norm', lambda b: b + 1, lambda b: 1 / (b + 1)),
    ('zeroinit', lambda b: 1, lambda b: 0), ('divide_by_sqrt2', lambda b: 1, lambda b: 1 / 2),
    ('skipinit_alpha_1', lambda b: 2.0**b, lambda b: 1 / 2),
    ('skipinit_alpha_inverse_sqrt_d', lambda b: (1 + 1 / 30) ** b, lambda b: (1 / 30) / (1 + 1 / 30)),
])
def test_closed_forms(kind, layers, name, output, share):
  found = laws.expected(toy(kind, name, 30, layers=layers), 1.0)
  blocks = range(1, 31)
  np.testing.assert_allclose([law.output for law in found], [output(b) for b in blocks], rtol=1e-9)
  np.testing.assert_allclose([law.share for law in found], [share(b) for b in blocks], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('net, outputs', [
    (wide(28, 4, 'ghost_norm'), [2, 3, 4, 5] * 3),  # all three stages change the number of channels
    (wide(28, 1, 'ghost_norm'), [2, 3, 4, 5] * 3),  # the first does not: it goes on from the stem
    (wide(16, 4, 'none'), [2 * 2.0**b for b in range(6)]), (wide(16, 4, 'multiplier'), [1] * 6),
    (wide(16, 4, 'fixup'), [1] * 6), (wide(16, 4, 'fixup_zero_only'), [1] * 6),
    (wide(28, 4, 'nf_resnet'), np.repeat(1.16 ** -np.arange(3.0), 4)),  # divided by what has not grown
    (wide(28, 4, NF), [1.04, 1.08, 1.12, 1.16] * 3),
    (wide(16, 4, 'fixup_rescale_only'), [(1 + 1 / 6) ** b for b in range(1, 7)]),
    # LeCun's halves every convolution of a ReLU: a shortcut once, a branch twice.
    (wide(16, 4, 'none', kernel_init='lecun'), np.cumprod([1 / 2 + 1 / 4, 1 + 1 / 4] * 3)),
], ids=lambda value: getattr(value, 'title', ''))
def test_what_the_laws_say_of_real_networks(net, outputs):
  found = [law.output for law in laws.expected(net, 1.0)]
  np.testing.assert_allclose(found, outputs, rtol=1e-9)


def test_post_activation_blocks_have_no_law():
  for net in (CifarResNet(depth=14, method=METHODS['none']), ResNet50V1(method=METHODS['batch_norm'])):
    assert laws.expected(net, 1.0) is None and laws.formula(net) == ''
  assert len(laws.expected(ResNet50V2(method=METHODS['batch_norm']), 1.0)) == 16


@pytest.mark.parametrize('name', [*(name for name, method in METHODS.items() if method.norm not in laws.WITHOUT_LAW
                                    and method.kernels != 'standardized'), NF])
def test_a_formula_is_what_is_drawn(name):
  """The text beside the line, evaluated, is the line."""
  net = toy('conv', name, 12, layers=2)
  text = laws.formula(net).strip('$').replace(r'\alpha', 'a').replace('^', '**')
  text = text.replace(r' \ell', ' * l').replace(r'\ell', 'l')
  alpha = {'skipinit_alpha_inverse_sqrt_d': 12**-0.5, 'depth_mup': 12**-0.5, 'completep': 1 / 12, NF: 0.2}.get(
      name, net.method.alpha)
  for block, law in enumerate(laws.expected(net, 1.0), 1):
    assert eval(text, {'l': block, 'a': alpha, 'd': 12}) == pytest.approx(law.output)


@pytest.mark.slow
@pytest.mark.parametrize('kind, name, layers, channels, blocks', [
    ('linear', 'none', 1, 64, 20), ('relu', 'none', 1, 256, 20), ('relu', 'none', 2, 256, 20),
    ('linear', 'batch_norm', 1, 32, 1000),
    pytest.param('relu', 'batch_norm', 1, 64, 1000, marks=pytest.mark.slow),
    ('linear', 'skipinit_alpha_inverse_sqrt_d', 1, 64, 100), ('relu', 'skipinit_alpha_inverse_sqrt_d', 2, 128, 100),
    ('relu', 'divide_by_sqrt2', 2, 256, 20), ('relu', 'fixup_rescale_only', 2, 128, 50),
    ('relu', 'noisy_batch_norm', 1, 64, 50), ('relu', 'batch_norm_last', 1, 256, 20),
    ('relu', NF, 2, 128, 100), ('relu', 'group_norm', 1, 64, 50),
])
def test_laws_hold_in_fully_connected_networks(kind, name, layers, channels, blocks):
  """Second moments, averaged over 20 draws of weights and inputs, lie within 3 standard errors of the law."""
  net = toy(kind, name, blocks, channels, layers)
  drawn = list(records_of(net, DRAWS))
  looked_at = sorted({1, 2, 5, blocks // 4, blocks // 2, blocks})
  expected = laws.expected(net, 1.0)
  for block in looked_at:
    law = expected[block - 1]
    for field, want, slack in (
        ('skip_second_moment', law.skip, 1e-5), ('branch_second_moment', law.branch, 1e-5),
        ('output_second_moment', law.output, 1e-5), ('share', law.share, 0.02)):  # the mean of ratios is another
      values = np.array([records[block - 1][field] for records in drawn])
      error = values.std(ddof=1) / np.sqrt(DRAWS)
      assert abs(values.mean() - want) < 3 * error + slack * want, (block, field, values.mean(), want, error)


@pytest.mark.slow
def test_with_relus_the_channel_means_grow_too():
  """papers.md, (e): variance 1 + 0.68 l, 0.68 = 1 - 1/pi; dividing by sqrt 2 leaves one direction."""
  norm = next(records_of(toy('relu', 'batch_norm', 30, 600), 1, batch=600))[-1]
  assert norm['output_variance'] == pytest.approx(1 + (1 - 1 / np.pi) * 30, rel=0.05)
  assert norm['branch_variance'] == pytest.approx(1 - 1 / np.pi, rel=0.05)
  halved = next(records_of(toy('relu', 'divide_by_sqrt2', 30, 600), 1, batch=600))[-1]
  assert halved['output_variance'] < 0.2 * halved['output_squared_mean']


@pytest.mark.slow
def test_in_a_wide_resnet_padding_takes_a_little_from_the_law():
  """papers.md, (e), of Gaussian images: with a norm a little less than j + 1 in every group; x 1.8 to 2 without."""
  norm, none, zero = (next(records_of(wide(22, 2, name), 1, batch=16)) for name in ('batch_norm', 'none', 'multiplier'))
  for record, law in zip(norm, laws.expected(wide(22, 2, 'batch_norm'), 1.0), strict=True):
    assert 0.8 * law.output < record['output_second_moment'] < 1.03 * law.output
  ends = [norm[block]['output_second_moment'] for block in (2, 5, 8)]
  assert all(3.2 < end < 4 for end in ends)
  growth = (none[-1]['output_second_moment'] / none[0]['output_second_moment']) ** (1 / 8)
  assert 1.75 < growth < 2
  for stage in (zero[0:3], zero[3:6], zero[6:9]):
    assert len({record['output_second_moment'] for record in stage}) == 1


@pytest.mark.parametrize('name, kind, channels, there', [
    ('instance_norm', 'relu', 64, False), ('instance_norm', 'conv', 64, True), ('group_norm', 'relu', 32, False),
    ('group_norm', 'relu', 64, True), ('derf', 'conv', 64, False), ('layer_norm', 'linear', 16, True)])
def test_there_is_a_law_where_a_norm_leaves_something(name, kind, channels, there):
  assert bool(laws.expected(toy(kind, name, 3, channels), 1.0)) == there


def test_fixups_second_rule_needs_two_layers():
  with pytest.raises(UserError, match='--branch_layers=2'):
    toy('relu', 'fixup', 10)
  with pytest.raises(UserError, match='linear, relu, conv'):
    toys.Toy('cubic', Method(), 10, 64)
