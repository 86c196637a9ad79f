import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import few

from zeroinit.methods import METHODS
from zeroinit.networks.batch_norm import GhostNorm
from zeroinit.networks.resnet import CifarResNet, ResNet50V1, ResNet50V2, WideResNet
from zeroinit.system.errors import UserError
from zeroinit.training.optimizer import SCALARS, WEIGHT_DECAY_ON, Schedule, chosen, l2_penalty, sgd, stepwise


def variables_of(net):
  return jax.eval_shape(lambda key: net.init(key, jnp.zeros((1, 32, 32, 3)), train=False), jax.random.key(0))


def params_of(method):
  return variables_of(WideResNet(depth=22, width=1, method=METHODS[method], num_classes=10))['params']


def networks(method):
  method = METHODS[method]
  return [WideResNet(depth=16, width=1, method=method, num_classes=10), CifarResNet(depth=14, method=method),
          ResNet50V1(method=method), ResNet50V2(method=method)]


def test_the_papers_run_halves_at_epoch_100_and_every_10_after():
  schedule = stepwise(200, 64, 50_000, first_drop=1 / 2, drop_every=1 / 20, drop_by=2)
  assert (schedule.steps, schedule.steps_per_epoch) == (156_200, 781)
  assert schedule.drops == tuple(781 * epoch for epoch in range(100, 200, 10))
  factors = [float(schedule.factor(781 * epoch + shift)) for epoch, shift in
             [(0, 0), (100, -1), (100, 0), (110, -1), (110, 0), (190, 0), (200, -1)]]
  assert factors == [1, 1, 1 / 2, 1 / 2, 1 / 4, 1 / 1024, 1 / 1024]


def test_the_papers_imagenet_run_halves_at_epoch_45_and_every_5_after():
  schedule = stepwise(90, 256, 1_281_167, first_drop=1 / 2, drop_every=1 / 18, drop_by=2)
  assert schedule.drops == tuple(schedule.steps_per_epoch * epoch for epoch in range(45, 90, 5))
  assert float(schedule.factor(schedule.steps - 1)) == 1 / 512


def test_the_drops_of_he_et_al():
  schedule = stepwise(200, 64, 50_000, first_drop=1 / 4, drop_every=1 / 4, drop_by=10)
  assert schedule.drops == tuple(781 * epoch for epoch in (50, 100, 150))
  steps = [781 * epoch + shift for epoch, shift in [(0, 0), (50, -1), (50, 0), (100, 0), (150, 0), (200, -1)]]
  assert [float(schedule.factor(step)) for step in steps] == pytest.approx([1, 1, 0.1, 0.01, 0.001, 0.001])
  assert stepwise(200, 128, 50_000, 1 / 2, 1 / 4, 10).drops == (390 * 100, 390 * 150)  # 2 drops, as on CIFAR-10


@pytest.mark.parametrize('epochs, batch_size', [(1, 64), (0.5, 64), (5, 1437), (0.001, 64)])
def test_short_runs_keep_the_shape(epochs, batch_size):
  schedule = stepwise(epochs, batch_size, 1437, 1 / 2, 1 / 20, 2)
  assert schedule.steps == max(1, round(epochs * (1437 // batch_size)))
  assert all(max(1, schedule.steps // 2) <= drop < schedule.steps for drop in schedule.drops)
  assert list(schedule.drops) == sorted(schedule.drops)


def test_factor_is_exact_inside_jit():
  schedule = Schedule(100, 10, tuple(range(0, 60)))
  assert float(jax.jit(schedule.factor)(70)) == 2.0**-60


def test_batch_larger_than_the_data():
  with pytest.raises(UserError, match='1,437'):
    stepwise(1, 2000, 1437, 1 / 2, 1 / 20, 2)


@pytest.mark.parametrize('method', few(['fixup', 'zeroinit', 'ghost_norm', *METHODS], 3))
@pytest.mark.parametrize('on', ['kernels', 'all_but_norm', 'all'])
def test_l2_reaches_what_it_names(method, on):
  """Under the scan a bias is a matrix and alpha a vector, so the shape tells nothing."""
  params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), params_of(method))
  gradient = jax.grad(l2_penalty)(params, 0.5, on)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    names = [key.key for key in path]
    decayed = {'kernels': names[-1] == 'kernel', 'all_but_norm': 'norm' not in names, 'all': True}[on]
    np.testing.assert_array_equal(leaf, 0.5 if decayed else 0.0, err_msg=str(names))


@pytest.mark.parametrize('net', networks('batch_norm'), ids=lambda net: net.title)
def test_all_but_norm_leaves_out_what_belongs_to_a_norm(net):
  """Which parameters those are, the modules themselves say: those with the paths of a GhostNorm."""
  norms = set()

  def note(call, args, kwargs, context):
    if isinstance(context.module, GhostNorm):
      norms.add(context.module.path)
    return call(*args, **kwargs)

  with nn.intercept_methods(note):
    params = variables_of(net)['params']
  for path, _ in jax.tree_util.tree_leaves_with_path(params):
    names = tuple(key.key for key in path)
    assert WEIGHT_DECAY_ON['all_but_norm'](names) == (names[:-1] not in norms), names
  assert len(norms) == {'WRN-16-1': 13, 'ResNet-14': 1 + 6 * 2, 'ResNet-50-V1': 1 + 8 * 3 + 4,
                        'ResNet-50-V2': 8 * 3 + 1}[net.title]  # a stage has two blocks, of which one is scanned


@pytest.mark.parametrize('net', networks('fixup') + networks('zeroinit_scalar_bias'),
                         ids=lambda net: f'{net.title}-{net.method.biases}')
def test_scalars_are_the_parameters_without_axes(net):
  """Of scanned blocks, those with the one axis along which blocks lie."""
  params = variables_of(net)['params']
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    names = [key.key for key in path]
    assert (names[-1] in SCALARS) == (leaf.ndim == int('rest' in names)), names


def test_l2_is_half_the_sum_of_squares():
  params = {'stem': {'kernel': jnp.array([1.0, 2.0]), 'bias': jnp.array([9.0])}}
  assert float(l2_penalty(params, 0.1, 'kernels')) == pytest.approx(0.5 * 0.1 * 5)


@pytest.mark.parametrize('method, scalars', [('fixup', 9 * 5 + 2), ('zeroinit', 9), ('ghost_norm', 0)])
def test_the_rate_of_scalars_reaches_scalars_only(method, scalars):
  params = params_of(method)
  tx = sgd(0.9, 0.0, scalar_rate=0.1)
  gradient = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), params)
  direction, _ = tx.update(gradient, tx.init(gradient), gradient)
  slow = sum(int((leaf != 1).sum()) for leaf in jax.tree.leaves(direction))
  assert slow == scalars
  named = chosen(params, lambda path: path[-1] in SCALARS)
  for leaf, is_scalar in zip(jax.tree.leaves(direction), jax.tree.leaves(named), strict=True):
    np.testing.assert_allclose(leaf, 0.1 if is_scalar else 1.0)


@pytest.mark.parametrize('dampening', [0.0, 0.9, 0.5])
def test_damped_momentum_by_hand(dampening):
  tx = sgd(0.9, dampening, 1.0)
  w = {'kernel': jnp.array(5.0)}
  state, v, expected = tx.init(w), 0.0, 5.0
  for rate, gradient in [(0.1, 2.0), (0.1, -1.0), (0.05, 3.0)]:
    direction, state = tx.update({'kernel': jnp.array(gradient)}, state, w)
    w = jax.tree.map(lambda w, d, rate=rate: w - rate * d, w, direction)
    v = 0.9 * v + (1 - dampening) * gradient
    expected -= rate * v
  assert float(w['kernel']) == pytest.approx(expected)


def test_damping_is_a_tenth_of_the_rate_of_a_heavy_ball():
  """Equal but for the rounding of 0.9, 0.1 and of the rate, over updates that amplify nothing."""
  gradients = np.random.default_rng(0).normal(size=(50, 1000)).astype(np.float32)

  def trained(dampening, rate):
    tx, w = sgd(0.9, dampening, 1.0), {'kernel': jnp.ones(1000)}
    state = tx.init(w)
    for gradient in gradients:
      direction, state = tx.update({'kernel': jnp.asarray(gradient)}, state, w)
      w = jax.tree.map(lambda w, d: w - rate * d, w, direction)
    return w['kernel']

  np.testing.assert_allclose(trained(0.9, 0.125), trained(0.0, 0.0125), rtol=0, atol=2e-6)


def test_the_last_quarter_of_a_run():
  assert [Schedule(steps, 10, ()).last_quarter for steps in (1, 3, 4, 5, 100)] == [0, 2, 3, 3, 75]
