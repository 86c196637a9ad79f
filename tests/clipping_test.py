"""Adaptive gradient clipping, unit by unit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables

from zeroinit.methods import METHODS
from zeroinit.networks.resnet import WideResNet
from zeroinit.training.clipping import clipped

CLIP = 0.01


@pytest.fixture(scope='module')
def trees():
  """Parameters of a network with scanned blocks, some of which are zero, and a gradient that is in part long."""
  net = WideResNet(depth=22, width=1, method=METHODS['nf_resnet'], num_classes=10)
  params = random_variables(net, jnp.zeros((1, 8, 8, 3)), train=False)['params']
  params['stage2']['rest']['alpha'] *= 0
  scale = lambda path: 1e-4 if 'bias' in str(path) else 0.1
  gradient = jax.tree_util.tree_map_with_path(
      lambda path, leaf: scale(path) * random_variables_like(leaf, len(str(path))), params)
  return gradient, params


def random_variables_like(leaf, seed):
  return jnp.float32(np.random.default_rng(seed).standard_normal(leaf.shape))


def directly(gradient, weights):
  """By the equation, for what is not stacked."""
  gradient, weights = np.float64(gradient), np.float64(weights)
  units = [(..., i) for i in range(gradient.shape[-1])] if gradient.ndim == 4 else [...]
  clipped = np.array(gradient)
  for unit in units:
    largest = CLIP * max(np.linalg.norm(weights[unit]), 1e-3)
    norm = np.linalg.norm(gradient[unit])
    if norm > largest:
      clipped[unit] *= largest / norm
  return clipped


def test_every_unit_is_clipped_as_the_paper_says_also_in_a_scan(trees):
  gradient, params = trees
  got = jax.jit(lambda *trees: clipped(*trees, CLIP))(gradient, params)
  changed = 0
  for (path, g), w, c in zip(jax.tree_util.tree_leaves_with_path(gradient), *map(jax.tree.leaves, (params, got)),
                             strict=True):
    names = [key.key for key in path]
    if names[0] == 'classifier':
      want = g
    elif 'rest' in names:
      want = np.stack([directly(g[b], w[b]) for b in range(len(g))])
    else:
      want = directly(g, w)
    np.testing.assert_allclose(c, want, rtol=1e-5, atol=1e-9, err_msg=str(names))
    changed += bool((np.asarray(c) != np.asarray(g)).any())
  assert changed > 10


def test_parameters_of_any_shape_and_name_are_clipped():
  """As a network of one's own may have them."""
  params = {'stage_scale': jnp.ones(()), 'stages': {'rest': jnp.ones((2, 3, 1, 1, 1, 4))}}
  got = clipped(jax.tree.map(lambda leaf: 10 * leaf, params), params, CLIP)
  np.testing.assert_allclose(got['stage_scale'], CLIP)
  np.testing.assert_allclose(got['stages']['rest'], CLIP, rtol=1e-5)


def test_what_is_zero_can_move(trees):
  """By 1e-3 of the clip: a multiplier at zero begins slowly."""
  alpha = clipped(*trees, CLIP)['stage2']['rest']['alpha']
  np.testing.assert_allclose(abs(alpha), CLIP * 1e-3, rtol=1e-4)


def test_a_short_gradient_is_left_as_it_is(trees):
  gradient, params = trees
  short = jax.tree.map(lambda g: 1e-6 * g, gradient)
  jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-6), clipped(short, params, CLIP), short)
