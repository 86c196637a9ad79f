"""The deep linear network, against products of matrices, and gradient descent on it."""

import dataclasses

import command
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probing import assert_mistakes, probe

from zeroinit.methods import METHODS
from zeroinit.probes import covariate_shift, landscape, layers, linear
from zeroinit.system.errors import UserError

RATE = 0.01


def network(name='none', depth=5, width=6):
  return linear.DeepLinear(METHODS[name], depth, width)


def matrices(params):
  return [np.float64(params[f'layer{i}']['kernel']) for i in range(1, len(params) + 1)]


def product(factors):
  return np.linalg.multi_dot([np.eye(6), *factors, np.eye(6)])


def gradients(factors, inputs, targets):
  """dL/dW_i of L = |x W_1 ... W_n - y|^2 / 2, a mean over examples, in closed form."""
  error = (inputs @ product(factors) - targets) / len(inputs)
  return [(inputs @ product(factors[:i])).T @ error @ product(factors[i + 1:]).T for i in range(len(factors))]


@pytest.fixture(scope='module')
def snapshots():
  """What gradient descent gives of a network of five layers."""
  return list(linear.descend(network(), RATE, seed=3, examples=40, updates=[0, 1, 7]))


def test_the_network_is_a_product_of_matrices(snapshots):
  _, variables, _, (inputs, _) = snapshots[0]
  found = network().apply(variables, inputs, train=True)
  np.testing.assert_allclose(found, np.float64(inputs) @ product(matrices(variables['params'])), rtol=1e-4, atol=1e-5)


def test_the_task_is_linear_and_of_unit_size():
  inputs, targets = (np.float64(x) for x in linear.task(jax.random.key(0), 4000, 16))
  _, residual, _, _ = np.linalg.lstsq(inputs, targets, rcond=None)
  assert residual.sum() < 1e-6 * np.square(targets).sum()
  assert np.square(inputs).mean() == pytest.approx(1, rel=0.03)
  assert np.square(targets).mean() == pytest.approx(1, rel=0.3)


def test_descent_follows_the_gradient_in_closed_form(snapshots):
  inputs, targets = (np.float64(x) for x in snapshots[0][3])
  factors = matrices(snapshots[0][1]['params'])
  states = {0: factors}
  for step in range(8):
    factors = [w - RATE * g for w, g in zip(factors, gradients(factors, inputs, targets), strict=True)]
    states[step + 1] = factors
  assert [updates for updates, *_ in snapshots] == [0, 1, 7]
  for updates, variables, updated, _ in snapshots:
    for params, expected in ((variables['params'], states[updates]), (updated, states[updates + 1])):
      for found, factor in zip(matrices(params), expected, strict=True):
        np.testing.assert_allclose(found, factor, rtol=1e-3, atol=1e-5)


def test_probes_find_the_gradients_in_closed_form(snapshots):
  _, variables, updated, batch = snapshots[1]
  inputs, targets = (np.float64(x) for x in batch)
  old, new = matrices(variables['params']), matrices(updated)
  before = gradients(old, inputs, targets)
  for record in covariate_shift.measure(network(), variables, updated, *batch, range(1, 6)):
    i = record['layer'] - 1
    shifted = gradients(new[:i] + old[i:], inputs, targets)[i]
    assert record['gradient_norm'] == pytest.approx(np.linalg.norm(before[i]), rel=1e-3)
    assert record['shift'] == pytest.approx(np.linalg.norm(before[i] - shifted), rel=0.02, abs=1e-6)
  point = landscape.measure(network(), variables, *batch, [0.1, 0.2])['along'][1]
  moved = [w - 0.2 * g for w, g in zip(old, before, strict=True)]
  loss = 0.5 * np.square(inputs @ product(moved) - targets).sum(1).mean()
  change = np.sqrt(sum(np.square(a - b).sum() for a, b in zip(gradients(moved, inputs, targets), before, strict=True)))
  assert point['loss'] == pytest.approx(loss, rel=1e-3)
  assert point['gradient_change'] == pytest.approx(change, rel=1e-2)


def test_a_norm_belongs_to_the_layer_before_it():
  net = network('batch_norm')
  params = jax.eval_shape(lambda key: net.init(key, jnp.zeros((1, 6)), train=False), jax.random.key(0))['params']
  numbers = covariate_shift.numbers_of(net, list(layers.along_depth(net, (6,))), params)
  assert {name: {int(number) for number in module.values()} for name, module in numbers.items()} == {
      f'{name}{i}': {i} for i in range(1, 6) for name in ('layer', 'norm') if (name, i) != ('norm', 5)}


def test_descent_that_diverges_ends_there():
  found = list(linear.descend(network(), 100.0, seed=0, examples=40, updates=[0, 50, 60]))
  assert [updates for updates, *_ in found] == [0]


@pytest.mark.parametrize('name, fields', [('zeroinit', {}), ('biases', {}), ('none', {'merge_scale': 0.5})])
def test_methods_without_a_meaning_here_are_refused(name, fields):
  with pytest.raises(UserError, match='about norms only'):
    linear.DeepLinear(dataclasses.replace(METHODS[name], **fields))


DEEP_LINEAR = ('--config=configs/digits.py:none', '--network=deep_linear', '--linear_depth=6', '--linear_width=8',
               '--methods=none,batch_norm', '--config.learning_rate=0.001', '--updates=0,50')


@pytest.mark.slow
def test_both_commands(tmp_path):
  for name, flags in (('landscape', ['--step_sizes=0.01,30']), ('covariate_shift', ['--layers=3,6'])):
    made, _ = probe(name, *DEEP_LINEAR, *flags, workdir=tmp_path)
    assert [(record['method'], record['updates']) for record in made['records'] if record.get('layer', 3) == 3] == [
        (method, updates) for method in ('none', 'batch_norm') for updates in (0, 50)]
    assert made['title'].startswith('Linear network of 6 layers and 8 channels on Gaussian inputs')


@pytest.mark.slow
def test_mistakes(tmp_path):
  workdir = tmp_path / 'trained'
  code, _, errors = command.run('zeroinit.main', '--config=configs/digits.py:none', '--config.depth=10',
                                '--config.epochs=0.1', f'--workdir={workdir}')
  assert code == 0, errors
  assert_mistakes('landscape', *DEEP_LINEAR, workdir=tmp_path / 'made', mistakes={
      '--methods=none,zeroinit': 'about norms only', f'--checkpoint={workdir}': 'leave out --checkpoint'})
