"""Against overflow: squares exceed float32 long before the numbers do, so they are divided by the largest first."""

import jax
import jax.numpy as jnp


def scaled(tree):
  """A tree of arrays over a scale, the largest magnitude in it, and that scale; 1 where all are zero."""
  largest = jnp.stack([jnp.abs(leaf).max() for leaf in jax.tree.leaves(tree)]).max()
  scale = jnp.where(largest > 0, jnp.minimum(largest, 2.0**120), 1)  # XLA multiplies by 1 / scale, never a subnormal
  return jax.tree.map(lambda leaf: leaf / scale, tree), scale
