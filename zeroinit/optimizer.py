"""Heavy-ball SGD by the paper's protocol: the schedule, L2, and groups of parameters chosen by name.

Names, never ranks: under the scan of `blocks.Stage` a bias is a matrix and alpha a vector.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from zeroinit.errors import UserError

SCALARS = ('alpha', 'bias_before', 'bias_after', 'input_bias', 'merge_bias', 'pooled_bias')
WEIGHT_DECAY_ON = {
    'kernels': lambda path: path[-1] == 'kernel',
    'all_but_norm': lambda path: not any(name.endswith('norm') for name in path),
    'all': lambda path: True,
}


@dataclasses.dataclass(frozen=True)
class Schedule:
  """The learning rate of every update, as a factor on the rate that was tuned: 1, then halved at each of `drops`.

  Attributes:
    steps: updates in the run.
    steps_per_epoch: updates in an epoch; an incomplete batch at its end is dropped.
    drops: the updates, counted from 0, at which the rate is halved.
  """

  steps: int
  steps_per_epoch: int
  drops: tuple[int, ...]

  def factor(self, step):
    """2^-(drops up to `step`), exactly. step: int32 scalar -> float32 scalar, inside or outside jit."""
    return jnp.ldexp(jnp.float32(1), -jnp.sum(step >= jnp.array(self.drops, jnp.int32)))


def halving(epochs, batch_size, drop_every, examples):
  """Constant for half the run, then halved at once and after every further `drop_every` of the run (ZI, section 3).

  Args:
    epochs: length of the run; need not be whole.
    batch_size: examples per update.
    drop_every: fraction of the run: 1/20 for CIFAR-10 (10 of 200 epochs), 1/18 for ImageNet (5 of 90).
    examples: size of the training set.

  Raises:
    UserError: the batch is larger than the training set, or the run longer than 2^31 steps.
  """
  if batch_size > examples:
    raise UserError(f'batch_size is {batch_size}, more than the {examples:,} training images')
  steps_per_epoch = examples // batch_size
  if epochs * steps_per_epoch >= 2**31:
    raise UserError(f'epochs is {epochs:g}, more than 2^31 steps of batch_size {batch_size}')
  steps = max(1, round(epochs * steps_per_epoch))
  fractions = [0.5 + i * drop_every for i in range(int(0.5 / drop_every) + 1)]
  drops = [round(fraction * steps) for fraction in fractions]
  return Schedule(steps, steps_per_epoch, tuple(drop for drop in drops if 0 < drop < steps))


def chosen(params, predicate):
  """A tree of bools shaped like params: predicate(path), where path is a tuple of names such as ('stem', 'kernel')."""
  return jax.tree_util.tree_map_with_path(lambda path, _: predicate(tuple(key.key for key in path)), params)


def l2_penalty(params, weight_decay, weight_decay_on):
  """weight_decay / 2 * (sum of squares), over the parameters that `weight_decay_on` names: the L2 term of the loss."""
  mask = chosen(params, WEIGHT_DECAY_ON[weight_decay_on])
  squares = jax.tree.map(lambda param, decayed: jnp.sum(param * param) if decayed else 0.0, params, mask)
  return 0.5 * weight_decay * sum(jax.tree.leaves(squares))


def heavy_ball(momentum, scalar_rate):
  """v <- momentum * v + gradient; the direction is v, times scalar_rate for alpha and the scalar biases.

  The learning rate is not in here but multiplies the direction, so that it can be an input of the compiled step.
  """
  scalars = lambda params: chosen(params, lambda path: path[-1] in SCALARS)
  return optax.chain(optax.trace(momentum), optax.masked(optax.scale(scalar_rate), scalars))
