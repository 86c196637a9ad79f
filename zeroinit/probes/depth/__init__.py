r"""Fixup's depth test: how well a network of any depth does after one epoch.

  zeroinit probe depth digits --config.learning_rate=0.25 --depths=10,100,1000 \
      --methods=batch_norm,none,fixup,fixup_zero_only,fixup_rescale_only,zeroinit --workdir=DIR

Writes depth.json, with a record for every method and depth, and depth.png. Exit codes: 0, or 2 for a mistake in the
command or its surroundings.
"""

import math

from absl import flags

from zeroinit.probes import command, inputs, layers, memory, snapshots, writing
from zeroinit.probes.depth import figure
from zeroinit.report import page
from zeroinit.report.published import FX, records
from zeroinit.system.errors import UserError
from zeroinit.training.step import evaluate, init_state

FLAGS = flags.FLAGS

TITLE = 'Depth: does it train at all?'
EXPLANATION = (
    'What is measured. Networks of growing depth are trained for a moment, one epoch unless it says otherwise, all at '
    'the same learning rate, and scored on the test set. This is the cheapest test of whether a method lets depth '
    'grow: a deep network that does not begin to learn in its first epoch rarely does later. It is Figure 3 of the '
    'Fixup paper (arXiv:1901.09321), where batch norm and Fixup reach about 50 % on CIFAR-10 at depth 10 as at '
    'depth 1000.',
    'What to expect. Without normalization a deep network begins with outputs, and a loss, that are larger than those '
    'of a shallow one by orders of magnitude, and the first update destroys it, or it is dead already. Fixup starts '
    'every residual branch at zero (its rule 1) and rescales the other layers of the branch by the number of blocks, '
    'd^(-1/(2m - 2)) for branches of m layers (its rule 2). De & Smith report that either rule alone suffices: '
    'fixup_zero_only and fixup_rescale_only. That is so at small learning rates; at the rates that batch norm stands, '
    'one rule alone may fail where both train. A multiplier that starts at zero does what rule 1 does.',
    'How to read the picture. One line per method, against the number of layers; with its standard error where there '
    'are several draws of weights and order of images. Dotted: what guessing reaches, which is also what a network '
    'counts that has diverged. Methods are drawn slightly apart. One learning rate for all is the protocol of the '
    'Fixup paper, and not a fair comparison of methods, whose best rates differ: a study does that.',
)
CAPTION = 'Test accuracy after the first epochs against depth, in layers. Dotted: guessing.'


def measure(config, recipe, epochs=1.0):
  """Trains a network from its initialization for a moment, and scores it.

  The rate is the first of the config's schedule, and does not drop unless the run itself would have dropped it by then.
  Zhang et al., arXiv:1901.09321, section 4.1, Figure 3.

  Args:
    config: of a run: learning rate and seed.
    recipe: of the run, see `zeroinit.training.recipe`.
    epochs: how long; at least one update.

  Returns:
    A dict of floats: test_accuracy, of a diverged network 1 / classes; train_cross_entropy, the mean over the updates;
    diverged, 0 or 1; updates, int, those asked for.
  """
  updates = max(1, round(epochs * recipe.schedule.steps_per_epoch))
  state, examples = init_state(recipe, config.learning_rate, config.seed), inputs.dataset_of(config).test_examples
  with snapshots.feeding(config, recipe) as feed:
    state, cross_entropy = snapshots.advance(recipe, feed, state, updates)
    diverged = bool(state.diverged)
    accuracy = 1 / recipe.net.num_classes if diverged else evaluate(recipe, state, feed.test_batches(), examples)[0]
  return {'test_accuracy': accuracy, 'train_cross_entropy': cross_entropy, 'diverged': float(diverged),
          'updates': updates}


def define():
  command.define()
  command.define_depths()
  flags.DEFINE_float('epochs', 1.0, 'How long to train.', 0.0)


def main(argv):
  del argv
  if FLAGS.checkpoint:
    raise UserError('the depth test begins at the initialization: leave out --checkpoint')
  cases = [(subject, config) for subject in command.subjects() for config in command.at_depths(subject)]
  recipes = [inputs.recipe_of(config) for _, config in cases]
  for (_, config), recipe in zip(cases, recipes, strict=True):
    memory.need_to_train(config, recipe)
    if not FLAGS.epochs > 0:
      raise UserError(f'--epochs={FLAGS.epochs:g}: write a positive number')
    if FLAGS.epochs > config.epochs:
      raise UserError(f'--epochs={FLAGS.epochs:g} is more than the {config.epochs:g} epochs of the run')
  measured, notes = [], []
  with command.Measuring(len(cases) * FLAGS.draws) as progress:
    for (subject, config), recipe in zip(cases, recipes, strict=True):
      drawn = []
      for index in range(FLAGS.draws):
        drawn.append(measure(subject.draw(index, depth=config.depth), recipe, FLAGS.epochs))
        progress.done(f'{subject.label}, {recipe.net.title}, draw {index + 1} of {FLAGS.draws}: test accuracy '
                      f'{drawn[-1]["test_accuracy"]:.4f}{", diverged" if drawn[-1]["diverged"] else ""}')
      made = {'method': subject.label, 'network': recipe.net.title, 'depth': layers.depth(config, recipe.net)}
      measured.append(made | {'learning_rate': config.learning_rate} | writing.mean(drawn))
      if measured[-1]['diverged']:
        notes.append(f'{subject.label}, {recipe.net.title}: {measured[-1]["diverged"]:.0%} of the draws diverged.')
  configs, nets = [config for _, config in cases], [recipe.net for recipe in recipes]
  title = writing.title(configs, nets) + f': accuracy after {FLAGS.epochs:g} epoch{"" if FLAGS.epochs == 1 else "s"}'
  writing.write('depth', title, notes, measured, figure.draw(title, measured, 1 / nets[0].num_classes), CAPTION,
                draws=FLAGS.draws, epochs=FLAGS.epochs, **writing.settings(configs, nets))


def summary(made):
  """A page.Table, a row per method and a column per depth, with the Fixup paper's. made: what depth.json holds."""
  depths = sorted({record['depth'] for record in made['records']})
  of = {(record['method'], record['depth']): record for record in made['records']}
  rows = [(method, *(_percent(of.get((method, depth))) for depth in depths))
          for method in dict.fromkeys(record['method'] for record in made['records'])]
  published = {(theirs['method'], theirs['depth']): theirs['value'] for theirs in records(FX, 'Figure 3')
               if theirs['dataset'] == made['dataset'] and made['epochs'] == 1}
  for method in dict.fromkeys(method for method, depth in published if depth in depths):
    theirs = [published.get((method, depth)) for depth in depths]
    rows.append((f'{method}, published', *('' if value is None else f'{value:g}' for value in theirs)))
  caption = 'Test accuracy, %.'
  if published:
    caption += " Published: the Fixup paper's Figure 3, read off, within a point; another network, of the same depth."
  return page.Table(caption, ('method', *(f'depth {depth}' for depth in depths)), tuple(rows))


def _percent(record):
  if record is None:
    return ''
  error = record.get('standard_error', {}).get('test_accuracy')
  text = f'{100 * record["test_accuracy"]:.1f}' + (f' ± {100 * error:.1f}' if error is not None else '')
  return text + (' (diverged)' if record['diverged'] and math.isclose(record['diverged'], 1) else '')
