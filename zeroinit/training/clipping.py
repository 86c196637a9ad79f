"""Adaptive gradient clipping (Brock et al., arXiv:2102.06171, section 4): a limit on gradient over weights, by unit."""

import jax
import jax.numpy as jnp

EPSILON = 1e-3  # a unit's weights count as this long at least, so that what starts at zero can move at all


def clipped(gradient, params, clip):
  """The gradient, of each unit at most `clip` times as long as its weights; the classifier's as it is.

      G -> clip * max(|W|, 1e-3) / |G| * G  where |G| is more than clip * max(|W|, 1e-3)

  A unit is an output channel of a kernel, and a bias, a gain or a multiplier as a whole, in each block apart. Of a
  gradient without the L2 term, as in the authors' code. What a network of one's own stacks by a scan is one unit.

  Not optax.adaptive_grad_clip: it finds the axes of a unit by how many there are, and a scan adds one (optax issue
  1576).

  Args:
    gradient, params: trees of one shape.
    clip: the paper's lambda.
  """
  def of_leaf(path, gradient, weights):
    names = [key.key for key in path]
    if names[0] == 'classifier':
      return gradient
    stacked = int(names[0].startswith('stage') and names[1:2] == ['rest'])  # along the first axis, see `blocks.Stage`
    last = gradient.ndim - (gradient.ndim - stacked > 1)
    length = lambda x: jnp.sqrt((x**2).sum(tuple(range(stacked, last)), keepdims=True))
    longest, found = clip * jnp.maximum(length(weights), EPSILON), length(gradient)
    return jnp.where(found > longest, longest / found * gradient, gradient)

  return jax.tree_util.tree_map_with_path(of_leaf, gradient, params)
