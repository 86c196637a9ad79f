"""Variance along depth: how large the skip path and the residual branches are at every block.

  zeroinit probe variance digits --methods=none,ghost_norm,zeroinit --workdir=DIR
  zeroinit probe variance digits --network=relu --blocks=100 --draws=20 --workdir=DIR
  zeroinit probe variance digits:ghost_norm --updates=0,10,80 --workdir=DIR
  zeroinit probe variance --checkpoint=runs/first --workdir=DIR

Writes variance.json, with a record for every block, and variance.png. Networks stand at their initialization, some
updates further, or where a run left them. Exit codes: 0, or 2 for a mistake in the command or its surroundings.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from zeroinit.networks.batch_norm import GhostNorm
from zeroinit.networks.blocks import Block
from zeroinit.probes import command, inputs, memory, snapshots, texts, writing
from zeroinit.probes.layers import leave
from zeroinit.probes.scaling import scaled
from zeroinit.probes.variance import figure, laws, toys
from zeroinit.report import page
from zeroinit.system import compiling
from zeroinit.system.errors import UserError
from zeroinit.training.config import method_of
from zeroinit.training.recipe import image_shape

FLAGS = flags.FLAGS

TITLE = 'Variance along depth: what normalization does to the residual branches'
EXPLANATION = (
    'What is measured. A residual network adds to a skip path x, block by block, the output of a residual branch: '
    'x + alpha f(x), with alpha = 1 where the method has no multiplier. How large are the two parts of that sum? The '
    'second moment E[x²] is the mean square over all examples, positions and channels of a batch. At initialization, '
    'because weights are drawn independently and with mean zero, the second moments of the two parts add: '
    'E[(x + f)²] = E[x²] + E[f²].',
    'What follows. Without normalization a branch keeps the size of what it reads, E[f²] = E[x²], so every block '
    'doubles the second moment: 2^ℓ after ℓ blocks, and each branch is half of its block\'s output. With a norm on the '
    'branch, E[f²] = 1 at every depth: the skip path grows by 1 per block, to ℓ + 1, and the ℓ-th branch is only '
    '1/(ℓ + 1) of the output. A deep normalized network is therefore mostly skip path: it starts close to the '
    'identity, and behaves as if it were shallow. This is how De & Smith (arXiv:2002.10444) explain that batch '
    'normalization trains deep residual networks. A multiplier does the same without normalization: (1 + alpha²)^ℓ and '
    'a share of alpha²/(1 + alpha²), which is zero for alpha = 0, and about 1/d for alpha = 1/sqrt(d), d being the '
    'number of blocks. Dividing every sum by sqrt(2) also keeps the second moment, at 1, but leaves each branch at one '
    'half of the output.',
    'How to read the picture. One column per method; the horizontal axis is depth, in blocks. Above: the second '
    'moments of the skip path as it leaves a block, and of the branch as it enters the sum. Middle: the share of the '
    'branch in the block\'s output. Below: the second moment of the skip path, as it enters the sum, in its two parts, '
    'the variance of its channels and the square of their means, and as circles the variance that the first norm of '
    'the block sees. Dashed lines are the laws, from the second moment that enters the first block. Numbers that '
    'float32 cannot hold are left out.',
    'What to expect. Fully connected networks follow the laws. In a convolutional network the zeros around the image '
    'take a few percent from every 3x3 convolution, and more from small images, so that growth stays a little below: '
    'about 1.9 instead of 2 per block on 32x32 pixels. The max pool of a ResNet-50 leaves mostly positive numbers, of '
    'which a ReLU keeps more than the half that the laws assume, so without normalization it starts above them. Where '
    'a block changes the number of channels, its shortcut is a convolution that reads the normalized input, so with a '
    'norm the law starts again in each stage. The laws are about second moments only: with ReLUs the channel means '
    'grow as well, and the variance, by which a norm divides, grows as 1 + 0.68 ℓ. Without normalization the means '
    'take over: all examples become nearly the same vector, also where dividing by sqrt(2) keeps its length, which is '
    'why that is no cure for depth.',
)
CAPTION = (
    'Against depth, in blocks: second moments of the skip path after a block and of the residual branch in it (above), '
    'the share of the branch in the output (middle), and the variance and squared mean of the channels of the skip '
    'path (below). Dashed: the laws for initialization. A vertical line: the next stage begins.')


def measure(net, variables, images):
  """The size of the skip path and of the residual branch at every block of a network.

  With a block's output  x' = s (skip + branch),  branch = alpha f(x),  s = method.merge_scale, and a channel's mean and
  variance taken over examples and positions,

      second_moment = E[x^2] = variance + squared_mean,    variance = E_c[var_c],    squared_mean = E_c[mean_c^2],

  each for `skip` and `branch` (as they enter the sum), and `output` (what leaves the block, in V1 after its ReLU). De &
  Smith, arXiv:2002.10444. Norms are in training mode, without noise; the moments of each block are taken where it is
  computed, so memory does not grow with depth.

  Args:
    net: a ResNet, or a Toy of `zeroinit.probes.variance.toys`.
    variables: {'params': ..., 'batch_stats': ...}, as of net.init or `zeroinit.load`.
    images: float32 [batch, height, width, channels], standardized; a ghost size must divide the batch.

  Returns:
    A record (dict) for each block, by depth, of floats, which are not finite where float32 overflows:
      block: 1, 2, ...; stage: 1, 2, ...;
      input_second_moment: of what enters the block;
      skip_second_moment, skip_variance, skip_squared_mean, and the same of branch and output;
      ratio: branch_second_moment / skip_second_moment;
      share: s^2 branch_second_moment / second moment of s (skip + branch), which in V2 is the output;
      norm_mean_square, norm_variance: of the block's first norm, the mean over channels of its squared mean and of its
        variance (over a ghost batch, averaged over ghosts); absent without batch or ghost norm;
      running_mean_square, running_variance: the same of its running averages, as they are in `variables`.
  """
  left = jax.device_get(_moments(net, variables, images))
  records = []
  for number, (stage, block) in enumerate(_by_block(left), 1):
    moments = {place: _unscaled(block[place]) for place in ('input', 'skip', 'branch', 'sum', 'output')}
    record = {'block': number, 'stage': stage, 'input_second_moment': moments['input']['second_moment']}
    for place in ('skip', 'branch', 'output'):
      record |= {f'{place}_{field}': value for field, value in moments[place].items()}
    skip, branch, total = (moments[place]['second_moment'] for place in ('skip', 'branch', 'sum'))
    with np.errstate(all='ignore'):  # a number that does not exist is null in JSON
      record['ratio'] = float(np.divide(branch, skip))
      record['share'] = float(np.divide(net.method.merge_scale**2 * branch, total))
    records.append(record)
  if net.method.inner.has_batch_norm:
    for name, statistics in (('norm', left), ('running', jax.device_get(variables['batch_stats']))):
      for record, (_, block) in zip(records, _by_block(statistics), strict=True):
        norm = block['norm1'] if 'norm1' in block else block['relu1']['norm']
        record[f'{name}_mean_square'] = float((norm['mean'] ** 2).mean())
        record[f'{name}_variance'] = float(norm['var'].mean())
  return records


@partial(compiling.jit, static_argnums=0)
def _moments(net, variables, images):
  """What the blocks and norms of a network leave behind: a tree like its variables, the blocks of a scan stacked."""
  net = net.clone(method=net.method.without_randomness)
  with nn.intercept_methods(_leave_moments):
    _, left = net.apply(variables, images, train=True, mutable=['probes', 'batch_stats'])
  return left['probes']


def _leave_moments(call, args, kwargs, context):
  """Has every block leave the moments of its parts, and every norm its statistics, when a method of it is called."""
  module, result = context.module, call(*args, **kwargs)
  if isinstance(module, Block) and context.method_name == '__call__':
    leave(module, 'input', _scaled_moments(args[0]))
    leave(module, 'output', _scaled_moments(result))
  elif isinstance(module, Block) and context.method_name == 'merge':
    leave(module, 'skip', _scaled_moments(args[0]))
    leave(module, 'sum', _scaled_moments(result))
  elif isinstance(module, Block) and context.method_name == 'multiplier':
    leave(module, 'branch', _scaled_moments(result * args[0]))
  elif isinstance(module, GhostNorm) and context.method_name == '__call__':
    x = args[0]
    size = min(module.group_size or len(x), len(x))
    groups = x.reshape(-1, size, *x.shape[1:]).astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = tuple(range(1, groups.ndim - 1))
    leave(module, 'mean', groups.mean(axes).mean(0))
    leave(module, 'var', groups.var(axes).mean(0))
  return result


def _scaled_moments(x):
  """Moments of x over a scale, and that scale, see `scaling`."""
  x, scale = scaled(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
  mean, variance = x.mean(range(x.ndim - 1)), x.var(range(x.ndim - 1))
  return {'scale': scale, 'variance': variance.mean(), 'squared_mean': (mean**2).mean()}


def _unscaled(moments):
  square = float(moments['scale']) ** 2
  variance, squared_mean = square * float(moments['variance']), square * float(moments['squared_mean'])
  return {'second_moment': variance + squared_mean, 'variance': variance, 'squared_mean': squared_mean}


def _by_block(tree):
  """(stage, what the tree holds of a block), by depth. tree: of numpy arrays, with stage1, stage2, ..."""
  for stage in sorted(name for name in tree if name.startswith('stage')):
    number = int(stage.removeprefix('stage'))
    yield number, tree[stage]['first']
    rest = tree[stage].get('rest', {})
    for i in range(len(jax.tree.leaves(rest)[0]) if rest else 0):
      yield number, jax.tree.map(lambda leaf, i=i: leaf[i], rest)


def define():
  command.define()
  command.define_updates()
  flags.DEFINE_enum('network', 'own', ['own', *toys.KINDS], "The config's own network, or a toy: fully connected "
                    'linear, fully connected with ReLU, or convolutional with ReLU.')
  flags.DEFINE_integer('blocks', 100, 'Blocks of a toy network.', 1, 1_000_000)
  flags.DEFINE_integer('channels', 256, 'Channels, or width, of a toy network.', 1, 100_000)
  flags.DEFINE_integer('branch_layers', 1, 'Layers in each residual branch of a toy network.', 1, 2)


def main(argv):
  del argv
  who, updates = command.subjects(), command.updates()
  if FLAGS.network != 'own' and (FLAGS.checkpoint or updates != [0]):
    raise UserError(f'--network={FLAGS.network} is never trained: leave out --checkpoint and --updates')
  prepare = partial(_own, updates=updates) if FLAGS.network == 'own' else _toy
  prepared = [prepare(subject) for subject in who]  # so that a mistake shows before anything is computed
  records, notes, formulas = [], [], {}
  with command.Measuring(len(who) * len(updates) * FLAGS.draws) as progress:
    for subject, (net, of_draw) in zip(who, prepared, strict=True):
      found = {}  # by the number of updates
      for done, variables, (images, _) in progress.draws(subject, of_draw):
        found.setdefault(done, []).append(measure(net, variables, images))
      for done, draws in found.items():
        records += _records(subject, net, done, draws)
      formulas[subject.label] = laws.formula(net) if 0 in found else ''
      notes += _notes(subject, net, found, updates)
  command.need_records(records, notes)
  configs, nets = [subject.config for subject in who], [net for net, _ in prepared]
  normless = [subject.label for subject, net in zip(who, nets, strict=True) if net.method.inner.norm == 'none']
  others = [subject.label for subject, net in zip(who, nets, strict=True)
            if not net.method.inner.has_batch_norm and subject.label not in normless]
  if others:
    notes.insert(0, f'No batch or ghost norm, so no statistics of norms in the records: {", ".join(others)}.')
  if normless:
    notes.insert(0, f'No norm, so no statistics of norms in the records: {", ".join(normless)}.')
  title = writing.title(configs, nets, None if FLAGS.network == 'own' else 'Gaussian inputs')
  settings = writing.settings(configs, nets)
  if FLAGS.network != 'own':
    settings |= {'dataset': 'Gaussian inputs'} | ({} if FLAGS.network == 'conv' else {'image_size': 1})
  writing.write('variance', title, notes, records, figure.draw(title, records, formulas), CAPTION,
                draws=FLAGS.draws, **settings)


def _own(subject, updates):
  """The network of a config, and its `snapshots.snapshots`, all on the first batch."""
  recipe = inputs.recipe_of(subject.config)
  if not hasattr(recipe.net, 'block'):
    raise UserError(f'{recipe.net.title} has no residual blocks, and so no skip path whose variance could be measured')
  command.check_updates(subject, recipe, updates)
  if updates[-1]:
    memory.need_to_train(subject.config, recipe)
  elif subject.checkpoint is None:  # parameters, momentum, and what initializing takes
    memory.need(recipe.net.title, 3 * memory.parameter_bytes(recipe.net, recipe.image_shape))
  first_batch = lambda config, _: inputs.first_batch(config)
  return recipe.net, snapshots.snapshots(subject, recipe, updates, batch_of=first_batch)


def _toy(subject):
  """As `_own`, for a toy network with the method of the config, whose inputs have no labels."""
  config = subject.config
  net = toys.Toy(FLAGS.network, method_of(config), FLAGS.blocks, FLAGS.channels, FLAGS.branch_layers)
  inputs_of = partial(toys.inputs, net, batch=config.batch_size, image_size=image_shape(config)[0])
  memory.need(net.title, 2 * memory.parameter_bytes(net, inputs_of(jax.random.key(0)).shape[1:]))
  init = jax.jit(partial(net.init, train=False))

  def of_draw(index):
    weights, images = jax.random.split(jax.random.key(subject.draw(index).seed))
    images = inputs_of(images)
    yield 0, {'batch_stats': {}} | init(weights, images[:1]), (images, None)

  return net, of_draw


def _records(subject, net, done, draws):
  """Means over draws of the records of one network in one state, with the laws where it is at initialization."""
  records = [writing.mean(drawn) for drawn in zip(*draws, strict=True)]
  expected = laws.expected(net, records[0]['input_second_moment']) if done == 0 else None
  made = subject.made(net, updates=done, draws=len(draws))
  for place, record in enumerate(records):
    law = expected[place] if expected else None
    of_law = {'law_skip_second_moment': law.skip, 'law_branch_second_moment': law.branch,
              'law_output_second_moment': law.output, 'law_share': law.share} if law else {}
    yield made | record | of_law


def _notes(subject, net, found, updates):
  """What a reader of the records or the figure would miss."""
  if not subject.checkpoint and (who := laws.without_law(net)):
    yield f'{subject.label}: no law for {who}.'
  yield from command.divergence_notes(subject, found, updates)
  for done, draws in found.items():
    lost = [record['block'] for records in draws for record in records
            if not np.isfinite(record['output_second_moment'])]
    if lost:
      yield f'{texts.in_state(subject.label, done)} exceeds float32 from block {min(lost)} on: null in the JSON.'


def summary(made):
  """A page.Table of the last block of each stage. made: what variance.json holds."""
  rows = []
  for record, after in zip(made['records'], [*made['records'][1:], None], strict=True):
    place = lambda record: record and (record['method'], record['updates'], record['stage'])
    if place(record) != place(after):
      rows.append((record['method'], texts.updates(record), str(record['block']),
                   *(texts.number(record.get(field)) for field in (
                       'output_second_moment', 'law_output_second_moment', 'share', 'law_share', 'skip_variance',
                       'skip_squared_mean'))))
  return page.Table('The last block of each stage.', (
      'method', 'updates', 'block', 'second moment of the output', 'law', "branch's share", 'law',
      'variance of the skip path', 'squared mean of the skip path'), tuple(rows))
