"""The first updates of a network, for probes that look at it while it trains, or at how far it can be trained."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zeroinit import data, runs
from zeroinit.errors import UserError
from zeroinit.probes import command
from zeroinit.resident import Resident
from zeroinit.step import init_state, score
from zeroinit.stream import Stream


@contextlib.contextmanager
def feeding(config, recipe):
  """The data of a config, as `advance` and `test_accuracy` take it."""
  dataset = command.dataset_of(config)
  feed = (Stream(recipe, dataset, config, 0) if isinstance(dataset, data.StreamedDataset)
          else Resident(recipe, dataset, config.eval_batch_size))
  with contextlib.closing(feed):
    yield feed


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


def loss(net, variables, images, labels):
  """The mean cross-entropy of a batch, with norms in training mode, without L2: for probes to differentiate.

  net: without dropout and noise, see `Method.without_randomness`. Where labels are no classes but vectors of floats it
  is the mean over examples of |output - label|^2 / 2.
  """
  outputs, _ = net.apply(variables, images, train=True, mutable=['batch_stats'])
  if jnp.issubdtype(labels.dtype, jnp.floating):
    return 0.5 * jnp.square(outputs - labels).sum(-1).mean()
  return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


def test_accuracy(recipe, feed, state, examples):
  """The share of the test images, of which there are so many, that are classified correctly."""
  return sum(int(score(recipe, state, *batch)[0]) for batch in feed.test_batches()) / examples


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
  """The network of a subject, and its `moments`.

  Raises:
    UserError: it has no state after so many updates, or training it needs too much memory.
  """
  recipe = command.recipe_of(subject.config)
  command.check_updates(subject, recipe, updates)
  command.need_memory_to_train(subject.config, recipe)
  return recipe.net, moments(subject, recipe, updates, states_of)


def moments(subject, recipe, updates, states_of=states, batch_of=command.batch_at):
  """A function that yields the moments of one draw, from its number: what `states_of` yields, and a batch.

  Args:
    subject: a `command.Subject`; recipe: of its config; updates: int, ascending.
    states_of: `states`, or a function like it.
    batch_of: function of a config and the updates done; default: the batch that the run takes next.
  """
  def of_draw(index):
    config = subject.draw(index)
    for state, *variables in states_of(config, recipe, updates, subject.checkpoint):
      yield state, *variables, batch_of(config, state or 0)

  return of_draw


def variables_of(checkpoint, recipe):
  """The newest variables of a run. Raises UserError where there are none, or they are those of another network."""
  net, variables = runs.load(checkpoint)
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
