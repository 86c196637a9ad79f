"""Variables for a network at no particular point of its training, made without compiling its initialization."""

import jax
import jax.numpy as jnp
import numpy as np


def random_variables(module, *args, seed=0, **kwargs):
  """Kernels as He would draw them, all else near its usual start; no zero hides a branch. Arguments: of module.init."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    name, noise = path[-1].key, rng.standard_normal(leaf.shape)
    if name == 'kernel':
      return jnp.float32(noise * np.sqrt(2 / np.prod(leaf.shape[-4:-1])))
    start = 1.0 if name in ('scale', 'gain', 'var', 'v') else 0.5 if name == 'alpha' else 0.0
    return jnp.float32(start + 0.1 * noise)

  shapes = jax.eval_shape(lambda key: module.init(key, *args, **kwargs), jax.random.key(0))
  return jax.tree_util.tree_map_with_path(draw, shapes)
