r"""The largest stable learning rate, by bisection over short runs: per method, depth and batch size.

  zeroinit probe stability digits --methods=none,zeroinit,fixup,batch_norm \
      --depths=16,100 --batch_sizes=16,64,256 --workdir=DIR
  zeroinit probe stability --checkpoint=runs/first --workdir=DIR

Writes stability.json, with a record for every method, depth and batch size, and stability.png. Networks start at their
initialization, or where a run left them. Exit codes: 0, or 2 for a mistake in the command or its surroundings.
"""

import functools
import math

import jax
from absl import flags

from zeroinit.probes import command, inputs, layers, memory, snapshots, writing
from zeroinit.probes.stability import figure
from zeroinit.report import page
from zeroinit.runs import ending
from zeroinit.system.errors import UserError
from zeroinit.training.step import init_state

FLAGS = flags.FLAGS

TITLE = 'The largest stable learning rate'
EXPLANATION = (
    'Why it matters. At a small batch size the noise of the gradients limits the learning rate, and all methods do '
    'best at about the same one, which is proportional to the batch size. At a large batch size the limit is another: '
    'the largest rate at which training is stable. De & Smith (arXiv:2002.10444) argue that batch normalization gains '
    'accuracy at large batch sizes because it moves that limit up, and that where the limit does not matter, a '
    'network without normalization does as well. Bjorck et al. (arXiv:1806.02375) hold that large rates are where all '
    'of its benefit comes from. So the whole argument turns on one number, which is measured here.',
    'What is measured. A short run at a constant learning rate counts as stable if it does not diverge (the loss stays '
    'finite, and the cross-entropy does not return above 1000) and it learns: over the last quarter of its updates the '
    'mean cross-entropy is below 98 % of that of guessing, ln(classes). From the rate of the config on, larger and '
    'smaller ones are tried, by factors of 2, until one is stable; from there the rate is doubled until it is not, and '
    'the interval between is halved, on a logarithmic scale, until it is narrow. These are short runs: a rate that is '
    'stable here may still fail later, one that fails here might be reached by a warm-up, and a network that learns '
    'slowly may need more updates to show it.',
    'What to expect. In the ZeroInit paper the largest rates that do best on CIFAR-10, at any batch size, are 2^-3 '
    'without normalization, 2^1 for ZeroInit and 2^4 for batch norm, which shrinks the effective rate as the weights '
    'grow. Deeper networks without normalization stand smaller rates, or none.',
    'How to read the picture. One panel per depth, or per batch size; one line per method; up is a larger rate, in '
    'powers of two. An open mark at the bottom: at no rate that was tried does it learn in so few updates. Methods '
    'are drawn slightly apart.',
)
CAPTION = 'The largest learning rate at which short runs are stable, per method, against batch size or depth.'
LOWEST, HIGHEST = -16, 8  # log2 of the rates that are tried
STABLE, AT_CHANCE, DIVERGED = 'stable', 'at chance', 'diverged'  # how a run may end


def largest_stable(outcome, start, width):
  """The largest stable rate and the smallest unstable one above it, log2, at most `width` apart.

  Stable rates are assumed to be an interval: above it a run diverges or goes dead, below it nothing is learnt in time.
  It is looked for from `start` outwards in steps of a factor of 2, then followed upwards to its end, which is bisected.

  Args:
    outcome: function of log2 of a rate that gives STABLE, AT_CHANCE or DIVERGED.
    start: log2 of the rate to begin with.
    width: in log2.

  Returns:
    (lower, upper); lower is -inf where no stable rate was found from 2^LOWEST to 2^HIGHEST, upper inf where the largest
    of them is stable.
  """
  outcome = functools.cache(outcome)
  start = min(max(start, LOWEST), HIGHEST)
  grid = sorted((float(rate) for rate in range(LOWEST, HIGHEST + 1)), key=lambda rate: abs(rate - start))
  lower, ceiling = -math.inf, math.inf
  for rate in grid:
    if rate < ceiling and outcome(rate) == STABLE:
      lower = rate
      break
    if rate < ceiling and outcome(rate) == DIVERGED:
      ceiling = rate
  if math.isinf(lower):
    return lower, ceiling
  upper = lower + 1
  while upper < ceiling and upper <= HIGHEST and outcome(upper) == STABLE:
    lower, upper = upper, upper + 1
  if upper > HIGHEST:
    return lower, math.inf
  while upper - lower > width:
    middle = (lower + upper) / 2
    lower, upper = (middle, upper) if outcome(middle) == STABLE else (lower, middle)
  return lower, upper


def measure(config, recipe, updates=100, width=0.5, variables=None, tell=lambda line: None):
  """The largest learning rate at which a short run is stable.

  A run of n updates at a constant rate is stable if it does not diverge, and

      mean over its last n/4 updates of the cross-entropy < 0.98 ln(classes).

  De & Smith, arXiv:2002.10444, section 4, whose largest rates are those with the best accuracy after full runs.

  Args:
    config: of a run: the rate to begin with, and the seed.
    recipe: of the run, see `snapshots.constant`.
    updates: n, 4 or more.
    width: of the interval that encloses the limit, in log2.
    variables: to start from, {'params': ..., 'batch_stats': ...}; default: the initialization by the config's seed.
    tell: called before each run with a line that says which.

  Returns:
    A dict: log2_largest_stable_rate, float, -inf where no rate is stable; log2_smallest_unstable_rate, float, inf where
    none is unstable; tried, a list of dicts, one per run: log2_rate, outcome, cross_entropy.
  """
  tried = []

  def outcome(log2_rate):
    tell(f'trying a rate of 2^{log2_rate:g}')
    state = init_state(recipe, 2.0**log2_rate, config.seed)
    if variables:
      state = state.replace(**jax.device_put(variables, recipe.replicated))
    with snapshots.feeding(config, recipe) as feed:
      state, _ = snapshots.advance(recipe, feed, state, updates - updates // 4)
      state, cross_entropy = snapshots.advance(recipe, feed, state, updates)
    learnt = ending.learnt(cross_entropy, recipe.net.num_classes)
    came_out = DIVERGED if state.diverged else STABLE if learnt else AT_CHANCE
    tried.append({'log2_rate': log2_rate, 'outcome': came_out, 'cross_entropy': cross_entropy})
    return came_out

  lower, upper = largest_stable(outcome, round(math.log2(config.learning_rate)), width)
  return {'log2_largest_stable_rate': lower, 'log2_smallest_unstable_rate': upper, 'tried': tried}


def define():
  command.define()
  command.define_depths()
  flags.DEFINE_list('batch_sizes', None, "Batch sizes, such as 16,64,256. Default: the config's.")
  flags.DEFINE_integer('length', 100, 'Updates in a run.', 4)
  flags.DEFINE_float('width', 0.5, 'Stop when the limit is known to so many powers of two.', 0.01, 4.0)


def main(argv):
  del argv
  if FLAGS.batch_size and FLAGS.batch_sizes:
    raise UserError('--batch_size and --batch_sizes both say how many images; leave one out')
  cases = [(subject, subject.draw(0, depth=config.depth, batch_size=batch_size))
           for subject in command.subjects() for config in command.at_depths(subject)
           for batch_size in (command.integers('batch_sizes') if FLAGS.batch_sizes else [config.batch_size])]
  recipes = [snapshots.constant(inputs.recipe_of(config), FLAGS.length) for _, config in cases]
  if not FLAGS.width > 0:
    raise UserError(f'--width={FLAGS.width} is not a positive number')
  for (_, config), recipe in zip(cases, recipes, strict=True):
    memory.need_to_train(config, recipe)
  records = []
  with command.Measuring(len(cases) * FLAGS.draws) as progress:
    for (subject, config), recipe in zip(cases, recipes, strict=True):
      variables = snapshots.variables_of(subject.checkpoint, recipe) if subject.checkpoint else None
      what, drawn = f'{subject.label}, {recipe.net.title}, batch size {config.batch_size}', []
      for index in range(FLAGS.draws):
        draw = subject.draw(index, depth=config.depth, batch_size=config.batch_size)
        tell = lambda line, what=what, index=index: progress.doing(f'{what}, draw {index + 1}: {line}')
        drawn.append(measure(draw, recipe, FLAGS.length, FLAGS.width, variables, tell))
        progress.done(f'{what}, draw {index + 1} of {FLAGS.draws}: {_rate(drawn[-1])}')
      tried = [run | {'draw': index} for index, one in enumerate(drawn) for run in one.pop('tried')]
      made = subject.made(recipe.net, depth=layers.depth(config, recipe.net), batch_size=config.batch_size)
      records.append(made | _mean(drawn) | {'tried': tried})
  configs, nets = [config for _, config in cases], [recipe.net for recipe in recipes]
  title = writing.title(configs, nets) + f': the largest rate at which {FLAGS.length} updates are stable'
  notes = [note for record in records for note in _notes(record)]
  writing.write('stability', title, notes, records, figure.draw(title, records), CAPTION, draws=FLAGS.draws,
                length=FLAGS.length, width=FLAGS.width, **writing.settings(configs, nets))


def _mean(drawn):
  """Means over the draws in which a stable rate was found, and how many those are."""
  found = [one for one in drawn if math.isfinite(one['log2_largest_stable_rate'])]
  return writing.mean(found or drawn[:1]) | {'draws_with_a_stable_rate': len(found)}


def _notes(record):
  """What a reader of the records or the figure would miss."""
  what = f'{record["method"]}, {record["network"]}, batch size {record["batch_size"]}'
  found = record['draws_with_a_stable_rate']
  if found < FLAGS.draws:
    intact = [run['log2_rate'] for run in record['tried'] if run['outcome'] != DIVERGED]
    rest = f'; it does not diverge up to 2^{max(intact):g}' if intact else ''
    yield (f'{what}: in {FLAGS.draws - found} of {FLAGS.draws} draws it learns at no rate from 2^{LOWEST} to '
           f'2^{HIGHEST} in so few updates{rest}.')
  if record['log2_smallest_unstable_rate'] == math.inf and found:
    yield f'{what}: stable at every rate up to 2^{HIGHEST}, in at least one draw.'


def _rate(record):
  """The largest stable rate, as people read it."""
  log2_rate = record['log2_largest_stable_rate']
  return 'learns at no rate' if log2_rate in (None, -math.inf) else f'2^{log2_rate:.3g}'


def summary(made):
  """A page.Table, a row per method and depth, a column per batch size. made: what stability.json holds."""
  batches = sorted({record['batch_size'] for record in made['records']})
  of = {(record['method'], record['depth'], record['batch_size']): record for record in made['records']}
  rows = tuple((method, str(depth), *(_cell(of.get((method, depth, batch))) for batch in batches))
               for method, depth in dict.fromkeys((record['method'], record['depth']) for record in made['records']))
  return page.Table('Largest stable learning rate.', ('method', 'depth', *(f'batch size {batch}' for batch in batches)),
                    rows)


def _cell(record):
  if record is None:
    return ''
  error = record.get('standard_error', {}).get('log2_largest_stable_rate')
  return _rate(record) + (f' (± {error:.2g} in the exponent)' if error else '')
