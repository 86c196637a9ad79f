"""SGD with damped momentum by the paper's protocol: the schedule, L2, and groups of parameters chosen by name.

Names, never ranks: under the scan of `blocks.Stage` a bias is a matrix and alpha a vector.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from zeroinit.system.errors import UserError

SCALARS = ('alpha', 'bias_before', 'bias_after', 'input_bias', 'merge_bias', 'pooled_bias')
WEIGHT_DECAY_ON = {
    'kernels': lambda path: path[-1] == 'kernel',
    'all_but_norm': lambda path: not any(name.endswith('norm') for name in path),
    'all': lambda path: True,
}

PLATEAU_MARGIN = 1e-3  # by which share of it a loss must be lower than the lowest so far


@dataclasses.dataclass(frozen=True)
class Schedule:
  """The learning rate of every update, as a factor on the rate that was tuned: 1, then divided at each of `drops`.

  Attributes:
    steps: updates in the run.
    steps_per_epoch: updates in an epoch; an incomplete batch at its end is dropped.
    drops: the updates, counted from 0, at which the rate is divided by `drop_by`.
  """

  steps: int
  steps_per_epoch: int
  drops: tuple[int, ...]
  drop_by: float = 2.0

  @property
  def last_quarter(self):
    """The update, counted from 0, with which the last quarter of the run begins."""
    return self.steps - -(-self.steps // 4)

  def factor(self, step):
    """drop_by^-(drops up to `step`), a float32 scalar. step: an int, or an int32 scalar on a device or in jit."""
    numpy = jnp if isinstance(step, jax.Array) else np
    factors = numpy.array(self.drop_by ** -np.arange(len(self.drops) + 1.0), np.float32)
    return factors[numpy.sum(step >= numpy.array(self.drops, np.int32))]


def stepwise(epochs, batch_size, examples, first_drop, drop_every, drop_by):
  """Constant up to `first_drop` of the run, then divided by `drop_by` at once and after every further `drop_every`.

  ZI, section 3: 1/2, 1/20 and 2, so the rate is halved every 10 epochs from epoch 100 of 200 on; on ImageNet every 5
  from 45 of 90 on. He et al. (arXiv:1512.03385) instead divide by 10, a few times: 1/4, 1/4 and 10 are three drops,
  and 1/2, 1/4 and 10 the two that they use on CIFAR-10.

  Args:
    epochs: length of the run; need not be whole.
    batch_size: examples per update.
    examples: size of the training set.
    first_drop, drop_every: fractions of the run.
    drop_by: what the rate is divided by, at least 1.

  Raises:
    UserError: the batch is larger than the training set, or the run longer than 2^31 steps.
  """
  if batch_size > examples:
    raise UserError(f'batch_size is {batch_size}, more than the {examples:,} training images')
  steps_per_epoch = examples // batch_size
  if epochs * steps_per_epoch >= 2**31:
    raise UserError(f'epochs is {epochs:g}, more than 2^31 steps of batch_size {batch_size}')
  steps = max(1, round(epochs * steps_per_epoch))
  fractions = [first_drop + i * drop_every for i in range(int((1 - first_drop) / drop_every) + 1)]
  drops = [round(fraction * steps) for fraction in fractions]
  return Schedule(steps, steps_per_epoch, tuple(drop for drop in drops if 0 < drop < steps), drop_by)


def about_rates(momentum, dampening):
  """What a learning rate is with such an optimizer, in words."""
  if not momentum:
    return 'of plain gradient descent'
  if not dampening:
    return f'of a heavy ball with momentum {momentum:g}'
  return f'damped (momentum {momentum:g}, dampening {dampening:g}): a heavy ball needs {1 - dampening:g} of them'


def chosen(params, predicate):
  """A tree of bools shaped like params: predicate(path), where path is a tuple of names such as ('stem', 'kernel')."""
  return jax.tree_util.tree_map_with_path(lambda path, _: predicate(tuple(key.key for key in path)), params)


def l2_penalty(params, weight_decay, weight_decay_on):
  """weight_decay / 2 * (sum of squares), over the parameters that `weight_decay_on` names: the L2 term of the loss."""
  mask = chosen(params, WEIGHT_DECAY_ON[weight_decay_on])
  squares = jax.tree.map(lambda param, decayed: jnp.sum(param * param) if decayed else 0.0, params, mask)
  return 0.5 * weight_decay * sum(jax.tree.leaves(squares))


def sgd(momentum, dampening, scalar_rate, plateau=None):
  """v <- momentum * v + (1 - dampening) * gradient; the direction is v, times scalar_rate for alpha and scalar biases.

  With dampening = momentum v is a mean of gradients and the learning rate is the effective one, lr / (1 - momentum) of
  the heavy ball, which is dampening = 0 (arXiv:1711.00489). torch.optim.SGD has the same, but for an undamped first v.

  The learning rate is not in here but multiplies the direction, so that it can be an input of the compiled step.

  Args:
    momentum, dampening, scalar_rate: numbers.
    plateau: a Plateau; `update` then needs the loss as `value`.
  """
  scalars = lambda params: chosen(params, lambda path: path[-1] in SCALARS)
  parts = [optax.scale(1 - dampening), optax.trace(momentum), optax.masked(optax.scale(scalar_rate), scalars)]
  if plateau:
    parts.append(optax.contrib.reduce_on_plateau(
        factor=1 / plateau.drop_by, patience=plateau.epochs, accumulation_size=plateau.steps_per_epoch,
        rtol=PLATEAU_MARGIN))
  return optax.chain(*parts)


@dataclasses.dataclass(frozen=True)
class Plateau:
  """The direction is divided by `drop_by` after so many epochs in none of which the mean loss was a new minimum."""

  epochs: int
  steps_per_epoch: int
  drop_by: float


def plateau_factor(state):
  """What the plateaus so far have made of the learning rate. state: of `sgd`."""
  return getattr(state[-1], 'scale', 1.0)  # not optax.tree.get: norms have parameters of that name
