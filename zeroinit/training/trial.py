"""Functions of one's own, tried on shapes alone before anything is written or computed with them."""

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_leaves_with_path

from zeroinit.system import references, users_files
from zeroinit.system.errors import UserError
from zeroinit.training.config import functions


def try_functions(config, recipe):
  """Asks of a network what training and evaluation will, where it is one's own or has functions that are.

  Raises:
    UserError: such a function fails, returns what it must not, or declares variables of which no run can be made.
  """
  named = {references.short(':'.join(names)): None for field, names in functions(config).items() if field != 'dataset'}
  if not named:
    return
  name, batch = ' with '.join(named), recipe.batch_size // recipe.micro_batches
  images, key = jax.ShapeDtypeStruct((batch, *recipe.image_shape), jnp.float32), jax.random.key(0)

  def trained(variables, images, key):
    return recipe.net.apply(variables, images, train=True, example=jnp.arange(batch), mutable=['batch_stats'],
                            rngs={'dropout': key})

  def gradient(variables, images, key):
    recipe.net.apply(variables, images, train=False)
    return jax.grad(lambda params: trained(variables | {'params': params}, images, key)[0].sum())(variables['params'])

  with users_files.users_code(name):
    variables = jax.eval_shape(lambda key, images: recipe.net.init(key, images[:1], train=False), key, images)
    _, changed = jax.eval_shape(trained, variables, images, key)
  _need_trainable(name, variables, variables | changed)
  with users_files.users_code(name):
    jax.eval_shape(gradient, variables, images, key)


def _need_trainable(name, variables, trained):
  """Raises UserError where a training step cannot take the variables of a network, or gives other ones."""
  before, after = (dict(_described(tree)) for tree in (variables, trained))
  if not jax.tree.leaves(variables.get('params')):
    raise UserError(f'{name} has no parameters, so that there is nothing to train')
  for path in sorted(before.keys() | after.keys()):
    there, here = before.get(path, 'absent'), after.get(path, 'absent')
    if there != here:
      raise UserError(f'{name} has {path} {there} at its start and {here} in training: it must be declared whatever '
                      '`train` is, and keep its shape and type')
    if not there.startswith('float32'):
      raise UserError(f'{name} has {path} {there}: parameters and running averages must be float32, in whatever dtype '
                      'the network computes')


def _described(tree):
  """('batch_stats/norm/mean', 'float32[16]') of every leaf."""
  for path, leaf in tree_leaves_with_path(tree):
    yield keystr(path, simple=True, separator='/'), f'{leaf.dtype}{list(leaf.shape)}'
