"""The loss along the gradient: exact for a parabola, and for networks what a plain loop finds; the command."""

import math

import command
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probing import LABELS, assert_mistakes, assert_on_page, cross_entropy, probe, some_images, wide
from random_variables import random_variables

from zeroinit.methods import METHODS
from zeroinit.networks.resnet import CifarResNet
from zeroinit.probes import landscape

STEP_SIZES = np.array([0.01, 0.03, 0.1])


def test_a_parabola_is_exact():
  """L = w'Aw / 2 has g = Aw, L(w - t g) = L - t g'g + t^2 g'Ag / 2, and at every t the beta |Ag| / |g|."""
  rng = np.random.default_rng(0)
  root = rng.standard_normal((7, 7))
  curvature, w = root @ root.T, rng.standard_normal(7)

  def loss_of(params):
    both = jnp.concatenate([params['first'].ravel(), params['second']])
    return both @ jnp.float32(curvature) @ both / 2

  params = {'first': jnp.float32(w[:4]).reshape(2, 2), 'second': jnp.float32(w[4:])}
  step_sizes = np.geomspace(1e-3, 10, 9)
  here, there = landscape.along_gradient(loss_of, params, jnp.float32(step_sizes))
  g = curvature @ w
  beta = np.linalg.norm(curvature @ g) / np.linalg.norm(g)
  losses = w @ g / 2 - step_sizes * (g @ g) + step_sizes**2 * (g @ curvature @ g) / 2
  assert float(here['loss']) == pytest.approx(w @ g / 2, rel=1e-5)
  assert float(here['gradient_norm']) == pytest.approx(np.linalg.norm(g), rel=1e-5)
  np.testing.assert_allclose(there['beta'], beta, rtol=1e-3)
  np.testing.assert_allclose(there['gradient_change'], step_sizes * np.linalg.norm(curvature @ g), rtol=1e-3)
  np.testing.assert_allclose(there['loss'], losses, rtol=1e-3, atol=1e-4)


def written_out(net, variables, images):
  """loss(w), g, and for each step size the loss and the gradient at w - t g: vectors, in a plain loop."""
  flat = lambda tree: np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])
  value_and_grad = jax.jit(jax.value_and_grad(
      lambda params: cross_entropy(net, variables | {'params': params}, images, LABELS)))
  loss, gradient = value_and_grad(variables['params'])
  found = []
  for step_size in STEP_SIZES:
    there = {'params': jax.tree.map(lambda w, g, t=step_size: w - np.float32(t) * g, variables['params'], gradient)}
    found.append((*value_and_grad(there['params']), flat(there['params'])))
  return float(loss), flat(gradient), [(float(loss), flat(slope), point) for loss, slope, point in found]


NORMALIZED = CifarResNet(depth=8, method=METHODS['batch_norm'])
NETWORKS = [wide('fixup', zero_init=False), wide('ghost_norm', ghost_size=3), NORMALIZED]


@pytest.mark.slow
@pytest.mark.parametrize('net', NETWORKS, ids=lambda net: f'{net.title}-{net.method.norm}-{net.method.biases}')
def test_against_a_plain_loop(net):
  images = some_images()
  variables = random_variables(net, images, train=False)
  found = landscape.measure(net, variables, images, LABELS, STEP_SIZES)
  loss, g, points = written_out(net, variables, images)
  start = np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(variables['params'])])
  assert found['loss'] == pytest.approx(loss, rel=1e-5)
  assert found['gradient_norm'] == pytest.approx(np.linalg.norm(g), rel=1e-4)
  changes, betas = [], []
  for step_size, point, (there, slope, place) in zip(STEP_SIZES, found['along'], points, strict=True):
    changes.append(np.linalg.norm(slope - g))
    betas.append(changes[-1] / np.linalg.norm(place - start))
    assert point['step_size'] == step_size
    assert point['loss'] == pytest.approx(there, rel=1e-3)
    assert point['relative_loss'] == pytest.approx(there / loss, rel=1e-3)
    assert point['gradient_change'] == pytest.approx(changes[-1], rel=1e-2)
    assert point['beta'] == pytest.approx(betas[-1], rel=1e-2)
  losses = [there for there, _, _ in points]
  assert (found['lowest_loss'], found['highest_loss']) == pytest.approx(
      (min(losses), max(losses)), rel=1e-3)
  assert (found['lowest_gradient_change'], found['highest_gradient_change']) == pytest.approx(
      (min(changes), max(changes)), rel=1e-2)
  assert found['smoothness'] == pytest.approx(max(betas), rel=1e-2)


def test_a_short_step_lowers_the_loss_by_the_square_of_the_gradient():
  """Finite differences: (L(w) - L(w - t g)) / t -> |g|^2."""
  images = some_images()
  variables = random_variables(NORMALIZED, images, train=False)
  found = landscape.measure(NORMALIZED, variables, images, LABELS, [1e-3, 2e-3, 3e-3])
  slopes = [(found['loss'] - point['loss']) / point['step_size'] for point in found['along']]
  limit = 2 * slopes[0] - slopes[1]  # without the term in t
  assert limit == pytest.approx(found['gradient_norm'] ** 2, rel=0.03)


def test_norms_use_the_statistics_of_the_batch():
  images = some_images()
  variables = random_variables(NORMALIZED, images, train=False)
  other = variables | {'batch_stats': jax.tree.map(lambda x: x + 3, variables['batch_stats'])}
  assert landscape.measure(NORMALIZED, variables, images, LABELS, STEP_SIZES) == landscape.measure(
      NORMALIZED, other, images, LABELS, STEP_SIZES)


def test_dropout_is_off():
  images = some_images()
  variables = random_variables(wide('none'), images, train=False)
  assert landscape.measure(wide('dropout'), variables, images, LABELS, STEP_SIZES) == landscape.measure(
      wide('none'), variables, images, LABELS, STEP_SIZES)


def test_what_overflows_on_the_way_is_not_finite():
  net, images = wide('none'), some_images()
  variables = random_variables(net, images, train=False)
  found = landscape.measure(net, variables, images, LABELS, [1e-3, 1e-2, 1e30])
  near, _, far = found['along']
  assert math.isfinite(near['beta']) and not math.isfinite(far['loss'])
  assert found['lowest_loss'] < near['loss'] and not math.isfinite(found['highest_loss'])
  huge = jax.tree.map(lambda leaf: 1e30 * leaf, variables)
  assert not math.isfinite(landscape.measure(net, huge, images, LABELS, STEP_SIZES)['gradient_norm'])


def test_without_a_gradient_there_is_no_beta():
  net, images = wide('none'), some_images()
  variables = random_variables(net, images, train=False)
  kernel = variables['params']['classifier']['kernel']
  variables['params']['classifier']['kernel'] = jnp.full_like(kernel, -1e4).at[:, 0].set(1e4)  # certain of class 0
  found = landscape.measure(net, variables, images, jnp.zeros(6, jnp.int32), STEP_SIZES)
  assert found['gradient_norm'] == found['highest_gradient_change'] == 0 and math.isnan(found['smoothness'])


@pytest.mark.parametrize('size', [1e-30, 1.0, 1e30])
def test_lengths_whose_squares_float32_cannot_hold(size):
  tree = {'one': jnp.float32([3 * size, 0]), 'other': jnp.float32([[4 * size]])}
  assert float(landscape.length(tree)) == pytest.approx(5 * size, rel=1e-5)


@pytest.mark.parametrize('tree, length', [({'a': jnp.zeros(3)}, 0.0), ({'a': jnp.float32([1, np.inf])}, math.inf)])
def test_lengths_at_the_ends(tree, length):
  assert float(landscape.length(tree)) == length


@pytest.mark.slow
def test_more_step_sizes_need_no_more_memory():
  net = wide('none')
  variables = jax.eval_shape(lambda key: net.init(key, some_images(), train=False), jax.random.key(0))
  parameters = sum(leaf.size * 4 for leaf in jax.tree.leaves(variables))
  images = jax.ShapeDtypeStruct((6, 8, 8, 3), jnp.float32)

  def temporaries(points):
    step_sizes = jax.ShapeDtypeStruct((points,), jnp.float32)
    lowered = landscape._along.program().lower(net, variables, images, LABELS, step_sizes)
    return lowered.compile().memory_analysis().temp_size_in_bytes

  assert temporaries(40) - temporaries(4) < parameters


DIGITS = ('--config=configs/digits.py:ghost_norm', '--config.depth=10', '--config.batch_size=64')


@pytest.mark.slow
def test_a_record_for_every_method_and_moment(tmp_path):
  made, output = probe('landscape', *DIGITS, '--methods=none,ghost_norm', '--updates=0,3', '--draws=2', '--points=3',
                       '--config.learning_rate=2.5', workdir=tmp_path)
  records = made['records']
  assert [(record['method'], record['updates']) for record in records] == [
      (name, updates) for name in ('none', 'ghost_norm') for updates in (0, 3)]
  for record in records:
    assert [point['step_size'] for point in record['along']] == pytest.approx([0.125, 0.125 * 8**0.5, 1.0], rel=1e-5)
    assert record['standard_error']['smoothness'] > 0 and record['along'][0]['standard_error']['beta'] > 0
    if None not in record.values():
      assert record['lowest_loss'] <= record['highest_loss']
  assert made['title'].endswith('step sizes from 0.5 to 4 learning rates') and 'left' in output


@pytest.mark.slow
def test_a_run_and_what_overflows(tmp_path):
  workdir = tmp_path / 'trained'
  code, _, errors = command.run('zeroinit.main', *DIGITS, '--config.epochs=0.5', f'--workdir={workdir}')
  assert code == 0, errors
  made, output = probe('landscape', f'--checkpoint={workdir}', '--step_sizes=1e-3,1e40', '--points=2',
                       workdir=tmp_path / 'made')
  record, = made['records']
  assert (record['method'], record['updates']) == ('ghost_norm in trained', None)
  assert record['along'][0]['beta'] > 0 and record['along'][1]['loss'] is None
  assert record['highest_loss'] is None and 'exceeds float32' in output
  assert_on_page(landscape.TITLE, tmp_path / 'made')


@pytest.mark.slow
def test_mistakes(tmp_path):
  assert_mistakes('landscape', *DIGITS, workdir=tmp_path / 'made', mistakes={
      '--step_sizes=4,0.5': '--step_sizes=4,0.5: write the smallest and the largest',
      '--step_sizes=1': '--step_sizes=1: write the smallest and the largest',
      '--step_sizes=a,b': '--step_sizes=a,b: write the smallest and the largest',
      '--updates=1000000': 'is more than the',
      '--updates=-1': 'write numbers of updates'})
