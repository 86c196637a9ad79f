"""The first updates of a network, for probes that look at it while it trains, or at how far it can be trained."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zeroinit.probes import command, inputs, memory
from zeroinit.runs import run_directory
from zeroinit.system.errors import UserError
from zeroinit.training.feed import make_feed
from zeroinit.training.step import init_state


def feeding(config, recipe):
  """A context manager that gives the `feed.Feed` of a config, and closes it."""
  return contextlib.closing(make_feed(recipe, inputs.dataset_of(config), config, 0))


def advance(recipe, feed, state, until):
  """Updates up to step `until`; fewer where the training diverges. The state is given up.

  Returns:
    The state, and the mean cross-entropy of the batches of these updates; not a number where there was none.
  """
  first, total, per_epoch = int(state.step), 0.0, recipe.schedule.steps_per_epoch
  while int(state.step) < until and not state.diverged:
    step = int(state.step)
    before = float(state.sums['cross_entropy']) if step % per_epoch else 0.0  # the sums begin anew with every epoch
    state = feed.train(state, min(until, (step // per_epoch + 1) * per_epoch))
    total += float(state.sums['cross_entropy']) - before
  updates = int(state.step) - first
  return state, total / updates if updates else float('nan')


def constant(recipe, updates):
  """The recipe with a rate that never drops, for a run of so many updates."""
  schedule = dataclasses.replace(recipe.schedule, drops=(), steps=max(recipe.schedule.steps, updates))
  return dataclasses.replace(recipe, schedule=schedule, plateau=None)


def loss(net, variables, images, labels):
  """The mean cross-entropy of a batch, with norms in training mode, without L2: for probes to differentiate.

  net: without dropout and noise, see `Method.without_randomness`. Where labels are no classes but vectors of floats it
  is the mean over examples of |output - label|^2 / 2.
  """
  outputs, _ = net.apply(variables, images, train=True, mutable=['batch_stats'])
  if jnp.issubdtype(labels.dtype, jnp.floating):
    return 0.5 * jnp.square(outputs - labels).sum(-1).mean()
  return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


def states(config, recipe, updates=(0,), checkpoint=None):
  """(updates done, variables) of a network at its initialization and after so many updates, or as a run left it.

  Args:
    config, recipe: of the run.
    updates: int, ascending; where training diverges before one of them, that and later ones are not given.
    checkpoint: directory of the run; updates done are None then, since only the newest state is there.

  Raises:
    UserError: the run holds no state, or one of another network.
  """
  if checkpoint:
    yield None, variables_of(checkpoint, recipe)
    return
  state = init_state(recipe, config.learning_rate, config.seed)
  with feeding(config, recipe) if updates[-1] else contextlib.nullcontext() as feed:
    for until in updates:
      state, _ = advance(recipe, feed, state, until)
      if state.diverged:
        return
      yield until, {'params': state.params, 'batch_stats': state.batch_stats}


def prepared(subject, updates, states_of=states):
  """The network of a subject, and its `snapshots`.

  Raises:
    UserError: it has no state after so many updates, or training it needs too much memory.
  """
  recipe = inputs.recipe_of(subject.config)
  command.check_updates(subject, recipe, updates)
  memory.need_to_train(subject.config, recipe)
  return recipe.net, snapshots(subject, recipe, updates, states_of)


def snapshots(subject, recipe, updates, states_of=states, batch_of=inputs.batch_at):
  """A function that yields the snapshots of one draw, from its number: what `states_of` yields, and a batch.

  Args:
    subject: a `command.Subject`; recipe: of its config; updates: int, ascending.
    states_of: `states`, or a function like it.
    batch_of: function of a config and the updates done; default: the batch that the run takes next.
  """
  def of_draw(index):
    config = subject.draw(index)
    for done, *variables in states_of(config, recipe, updates, subject.checkpoint):
      yield done, *variables, batch_of(config, done or 0)

  return of_draw


def variables_of(checkpoint, recipe):
  """The newest variables of a run. Raises UserError where there are none, or they are those of another network."""
  net, variables = run_directory.load(checkpoint)
  expected = jax.eval_shape(lambda key: net.init(key, np.zeros((1, *recipe.image_shape), np.float32), train=False),
                            jax.random.key(0))
  shapes = lambda tree: {jax.tree_util.keystr(path, simple=True, separator='/'): np.shape(leaf)
                         for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
  there, here = shapes({name: tree for name, tree in variables.items() if tree}), shapes(dict(expected))
  for name in sorted(there.keys() | here.keys()):
    if there.get(name) != here.get(name):
      raise UserError(f'the checkpoint in {checkpoint} is of another network than its config.json describes: {name} '
                      f'has shape {there.get(name)}, not {here.get(name)}')
  return variables
