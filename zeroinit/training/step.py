"""State -> `train_step(recipe, state, batch)` -> State: one update of the network; and scoring it.

Arrays are placed on one mesh axis 'data' with `NamedSharding`, under plain `jax.jit`: the program means the same on
1, 2 or 8 devices, and batch norm means the global batch.
"""

from functools import partial
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from zeroinit.system import compiling
from zeroinit.training import batches
from zeroinit.training.clipping import clipped
from zeroinit.training.optimizer import l2_penalty, sgd
from zeroinit.training.recipe import is_deterministic

DIVERGED_ABOVE = 1e3  # cross-entropy, once it has been below: an unnormalized network of depth 100 starts above
SUMMED = ('cross_entropy', 'accuracy', 'l2', 'gradient_norm')


@flax.struct.dataclass
class State:
  """All that changes in a run, or that one compiled program takes as an input. Saved whole in a checkpoint.

  Attributes:
    step: int32, updates done so far.
    params, batch_stats: variables of the network; batch_stats is {} without a norm over the batch.
    momentum: state of the optimizer.
    learning_rate: float32, before the schedule's factor.
    seed: uint32.
    sums: sums over the steps of the current epoch, float32: SUMMED, and `steps`.
    last_quarter: float32, mean cross-entropy of the updates so far in the last quarter of the run.
    settled: bool, whether the cross-entropy has ever been below DIVERGED_ABOVE.
    diverged: bool, the loss or the parameters after the update are not finite, or the cross-entropy is above
      DIVERGED_ABOVE again; no step is taken once it is set.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  momentum: Any
  learning_rate: jax.Array
  seed: jax.Array
  sums: dict[str, jax.Array]
  last_quarter: jax.Array
  settled: jax.Array
  diverged: jax.Array


def init_state(recipe, learning_rate, seed):
  """The state before the first update, on every device of the recipe's mesh."""
  program = _init_state if jax.default_backend() != 'cpu' else _init_state_on_cpu
  return program(recipe, *jax.device_put((np.float32(learning_rate), np.uint32(seed)), recipe.replicated))


def _state(recipe, learning_rate, seed):
  images = jnp.zeros((1, *recipe.image_shape))
  variables = recipe.net.init(batches.key_for(batches.INIT, seed), images, train=False)
  state = State(
      step=jnp.int32(0), params=variables['params'], batch_stats=variables.get('batch_stats', {}),
      momentum=_optimizer(recipe).init(variables['params']), learning_rate=learning_rate, seed=seed,
      sums=_no_sums(), last_quarter=jnp.float32(0), settled=jnp.bool_(False), diverged=jnp.bool_(False))
  return lax.with_sharding_constraint(state, recipe.replicated)


_init_state = jax.jit(_state, static_argnums=0)
# It runs once, and the CPU compiler would take five times as long to optimize it.
_init_state_on_cpu = jax.jit(_state, static_argnums=0, compiler_options={
    'xla_backend_optimization_level': 0, **compiling.EMITTERS})


def train_step(recipe, state, batch):
  """One update by the mean cross-entropy of the batch plus L2.

  v <- momentum * v + (1 - dampening) * gradient, w <- w - rate * v; where the method clips, the gradient without L2.

  batch: see `zeroinit.training.batches`; its arrays are [micro_batches, batch / micro_batches, ...].
  """
  (cross_entropy, accuracy), gradient, batch_stats = _gradient(recipe, state, batch)
  if recipe.net.method.clip:
    gradient = clipped(gradient, state.params, recipe.net.method.clip)
  l2, l2_gradient = jax.value_and_grad(l2_penalty)(state.params, recipe.weight_decay, recipe.weight_decay_on)
  gradient = jax.tree.map(jnp.add, gradient, l2_gradient)
  direction, momentum = _optimizer(recipe).update(gradient, state.momentum, state.params, value=cross_entropy + l2)
  rate = state.learning_rate * recipe.schedule.factor(state.step)
  params = jax.tree.map(lambda w, v: w - rate * v, state.params, direction)

  measured = {'cross_entropy': cross_entropy, 'accuracy': accuracy, 'l2': l2,
              'gradient_norm': optax.tree.norm(gradient), 'steps': 1.0}
  late = state.step + 1 - recipe.schedule.last_quarter  # updates in it, with this one; a sum of millions would drift
  further = (cross_entropy - state.last_quarter) / jnp.maximum(late, 1)
  last_quarter = state.last_quarter + jnp.where(late > 0, further, 0)
  settled = state.settled | (cross_entropy < DIVERGED_ABOVE)
  finite = jnp.isfinite(cross_entropy + l2) & jnp.isfinite(optax.tree.norm(params))
  diverged = ~finite | (settled & (cross_entropy > DIVERGED_ABOVE))
  return state.replace(step=state.step + 1, params=params, batch_stats=batch_stats, momentum=momentum,
                       sums=jax.tree.map(jnp.add, state.sums, measured),
                       last_quarter=last_quarter, settled=settled, diverged=diverged)


def _gradient(recipe, state, batch):
  """Mean cross-entropy and accuracy, the gradient, and the running statistics, accumulated over micro-batches.

  Micro-batches are consecutive parts of the batch, so that ghost batches are the same however many there are.
  """
  dropout_key = batches.key_for(batches.DROPOUT, state.seed, state.step)

  def loss(params, part):
    variables = {'params': params, 'batch_stats': state.batch_stats}
    images = batches.standardize(part['image'], recipe.mean, recipe.std)
    logits, changed = recipe.net.apply(variables, images, train=True, example=part['example'],
                                       mutable=['batch_stats'], rngs={'dropout': dropout_key})
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, part['label']).mean()
    accuracy = (logits.argmax(-1) == part['label']).mean()
    return cross_entropy, (accuracy, changed.get('batch_stats', {}))

  def accumulate(total, part):
    (cross_entropy, (accuracy, batch_stats)), gradient = jax.value_and_grad(loss, has_aux=True)(state.params, part)
    return jax.tree.map(jnp.add, total, ((cross_entropy, accuracy), gradient, batch_stats)), None

  scalar = jnp.float32(0)
  nothing = jax.tree.map(jnp.zeros_like, ((scalar, scalar), state.params, state.batch_stats))
  total, _ = lax.scan(accumulate, nothing, batch)
  return jax.tree.map(lambda x: x / recipe.micro_batches, total)


@partial(compiling.jit, is_deterministic=is_deterministic, static_argnums=0)
def score(recipe, state, images, labels):
  """Sums over a batch, in evaluation mode: images classified correctly, correctly within the first five, cross-entropy.

  images: uint8 [batch, height, width, channels]; labels: int32 [batch], negative where an image only fills the batch.
  """
  images, labels = lax.with_sharding_constraint((images, labels), recipe.divided())
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  logits = recipe.net.apply(variables, batches.standardize(images, recipe.mean, recipe.std), train=False)
  counts, label = labels >= 0, jnp.maximum(labels, 0)
  cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, label)
  _, first_five = lax.top_k(logits, min(5, logits.shape[-1]))  # of equal ones the first, as argmax has it
  hits = (first_five == label[:, None]) & jnp.isfinite(logits).all(-1, keepdims=True)
  sums = [jnp.where(counts, x, 0).sum() for x in (hits[:, 0], hits.any(-1), cross_entropy)]
  return lax.with_sharding_constraint(sums, recipe.replicated)


def evaluate(recipe, state, test_batches, examples, stopping=lambda: 0):
  """Accuracy, top-5 accuracy and mean cross-entropy on a test set.

  Args:
    test_batches: iterable of what `score` takes; examples: how many images count in them.
    stopping: asked after every batch whether to give up.

  Returns:
    Three floats; None where it was given up.
  """
  correct, within_five, cross_entropy = 0, 0, 0.0
  for images, labels in test_batches:
    scores = score(recipe, state, images, labels)
    correct, within_five = correct + int(scores[0]), within_five + int(scores[1])
    cross_entropy += float(scores[2])
    if stopping():
      return None
  return correct / examples, within_five / examples, cross_entropy / examples


def restart_sums(recipe, state, until):
  """The state, with its sums at 0 where it is about to begin an epoch."""
  begins = (state.step % recipe.schedule.steps_per_epoch == 0) & (until > state.step)
  return state.replace(sums=jax.tree.map(lambda x: jnp.where(begins, 0, x), state.sums))


def means(state):
  """Means of SUMMED over the steps of the current epoch so far (device arrays)."""
  return {name: state.sums[name] / state.sums['steps'] for name in SUMMED}


def _no_sums():
  return {name: jnp.float32(0) for name in (*SUMMED, 'steps')}


def _optimizer(recipe):
  return sgd(recipe.momentum, recipe.dampening, recipe.net.method.scalar_rate, recipe.plateau)
