r"""The update at which a run diverges, in slow motion: what happens to the channels on the way.

  zeroinit probe divergence digits --methods=none,zeroinit --config.learning_rate=8 \
      --workdir=DIR
  zeroinit probe divergence cifar10:none --config.network=cifar_resnet \
      --config.depth=110 --config.width=1 --config.kernel_init=xavier --batch_size=128 --layers=8,44,80 --workdir=DIR

Writes divergence.json, with a record for every method that diverges and every layer, and divergence.png. Exit codes: 0,
or 2 for a mistake in the command or its surroundings, also where no method diverges.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from zeroinit.probes import command, inputs, layers, memory, snapshots, texts, writing
from zeroinit.probes.divergence import figure
from zeroinit.probes.scaling import scaled
from zeroinit.report import page
from zeroinit.system import compiling
from zeroinit.system.errors import UserError
from zeroinit.training.step import DIVERGED_ABOVE, init_state

FLAGS = flags.FLAGS

TITLE = 'Divergence: the fatal update'
EXPLANATION = (
    'What is measured. A network is trained at a constant learning rate, chosen too large, until the cross-entropy of '
    'a minibatch exceeds 1000, having been below, or what float32 can hold. Bjorck et al. (arXiv:1806.02375) observe '
    'that no run recovers from there. The update before is the fatal one: with it the parameters went from w to '
    'w - Δw. Did it go wrong everywhere at once? The way is walked again in small parts, w - u Δw with u from 0 to '
    '100 %, and for each u the minibatch from which Δw was computed passes through the network. The mean and the '
    'variance of every channel, over examples and positions, are taken at the outputs of some layers, before any norm '
    '(their Figure 4). Norms are in training mode, dropout is off.',
    'What to expect. Bjorck et al. see in a ResNet-110 without normalization that the moments explode, and that those '
    'of deeper layers grow by orders of magnitude more: what an update changes in one layer is amplified by all '
    'layers after it, so that a step which every single layer would stand is too much for the network. Batch norm '
    'stops this, since it brings every layer\'s input back to unit variance. Larger rates than those of networks '
    'without normalization are possible for that reason, and they hold that this is where its benefit comes from.',
    'How to read the picture. Per method two rows, a column per layer. Channels from bottom to top, the share u of '
    'the update from left to right; above the standard deviation of each channel, below the magnitude of its mean, on '
    'one logarithmic scale of colours for all layers. On the right, the variance of each layer, averaged over its '
    'channels, and the cross-entropy of the minibatch. Layers are counted along the depth, 1 is the first convolution, '
    'the classifier the last. Grey: more than float32 can hold.',
)
CAPTION = (
    'Along the fatal update, from its beginning (0 %) to its end (100 %): standard deviation and magnitude of the mean '
    'of every channel in some layers; at the right, the mean variance of each of these layers and the cross-entropy.')


def fatal_update(config, recipe, updates):
  """The update that makes a run diverge, by the criterion of `step.train_step`.

  Args:
    config, recipe: of the run; updates: how many it may take.

  Returns:
    (updates done before it, params before it, params after it), of numpy arrays; or None where the run does not
    diverge, or the loss of the initialization is not finite, for which no update is to blame.
  """
  state, before, step = init_state(recipe, config.learning_rate, config.seed), None, 0
  with snapshots.feeding(config, recipe) as feed:
    while step < updates:
      earlier, before = before, jax.device_get(state.params)
      state, cross_entropy = snapshots.advance(recipe, feed, state, step + 1)
      if state.diverged and cross_entropy <= DIVERGED_ABOVE:  # not by its loss: what it made of the parameters
        return step, before, jax.device_get(state.params)
      if state.diverged:
        return (step - 1, earlier, before) if step else None
      step += 1
  return None


def measure(net, params, updated, images, labels, numbers, shares):
  """Mean and variance of every channel of some layers, along an update of a network.

  With x a channel of the output of a layer at the parameters w - u dw, w before the update and w - dw after it, and E
  over the examples and positions of a minibatch,

      mean(u) = E[x],    variance(u) = E[(x - E[x])^2].

  The output is that of the convolution, before a norm or ReLU. Norms are in training mode, dropout is off. Bjorck et
  al., arXiv:1806.02375, Figure 4.

  Args:
    net: a ResNet, or a VGG.
    params, updated: before and after the update.
    images: float32 [batch, height, width, channels], standardized; a ghost size must divide the batch.
    labels: int32 [batch].
    numbers: of the layers, from 1; see `layers.along_depth`.
    shares: floats [n], the values of u, from 0 to 1.

  Returns:
    A record (dict) for each layer: layer; name, of the layer; along, a list of dicts, one per u, of floats that are not
    finite where float32 overflows: share, u; cross_entropy; means and variances, lists, one per channel; variance and
    squared_mean, the mean over channels of the variance and of the square of the mean.
  """
  net = net.clone(method=net.method.without_randomness)
  losses, left = jax.device_get(_along(net, params, updated, images, labels, np.float32(shares)))
  moments_at = [jax.tree.map(lambda leaf, i=i: leaf[i], left) for i in range(len(shares))]
  found, records = list(layers.along_depth(net, images.shape[1:])), []
  for number in numbers:
    layer, along = found[number - 1], []
    for share, loss, moments in zip(shares, losses, moments_at, strict=True):
      means, deviations = (layer.of(moments, name).astype(float) for name in ('mean', 'deviation'))
      along.append({'share': float(share), 'cross_entropy': float(loss), 'variance': float((deviations**2).mean()),
                    'squared_mean': float((means**2).mean()), 'means': means.tolist(),
                    'variances': (deviations**2).tolist()})
    records.append({'layer': number, 'name': layer.name, 'along': along})
  return records


@partial(compiling.jit, static_argnums=0)
def _along(net, params, updated, images, labels, shares):
  """For each share of an update, the cross-entropy, and what layers leave behind: a tree like params."""
  def at(share):
    between = jax.tree.map(lambda old, new: (1 - share) * old + share * new, params, updated)  # exact at both ends
    with nn.intercept_methods(_leave_moments):
      logits, left = net.apply({'params': between}, images, train=True, mutable=['probes', 'batch_stats'])
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), left['probes']

  return jax.lax.map(at, shares)


def _leave_moments(call, args, kwargs, context):
  """Has every convolution and the classifier leave the mean and the standard deviation of its channels."""
  module, x = context.module, call(*args, **kwargs)
  if isinstance(module, (nn.Conv, nn.Dense)) and context.method_name == '__call__':
    wide, scale = scaled(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
    axes = tuple(range(x.ndim - 1))
    for name, value in (('mean', wide.mean(axes)), ('deviation', wide.std(axes))):
      layers.leave(module, name, scale * value)
  return x


def define():
  command.define()
  command.define_layers()
  flags.DEFINE_integer('updates', 100, 'How long to wait for the divergence.', 1)
  flags.DEFINE_integer('points', 21, 'So many shares of the fatal update, from 0 to 100 %.', 2, 10_000)


def main(argv):
  del argv
  if FLAGS.checkpoint or FLAGS.draws > 1:
    raise UserError('it is one run from its initialization that is followed: leave out --checkpoint and --draws')
  who = command.subjects()
  recipes = [snapshots.constant(inputs.recipe_of(subject.config), FLAGS.updates) for subject in who]
  chosen = [command.layer_numbers(recipe.net, list(layers.along_depth(recipe.net, recipe.image_shape)))
            for recipe in recipes]
  for subject, recipe in zip(who, recipes, strict=True):
    memory.need_to_train(subject.config, recipe)
  shares = np.linspace(0, 1, FLAGS.points)
  records, notes = [], []
  with command.Measuring(len(who)) as progress:
    for subject, recipe, numbers in zip(who, recipes, chosen, strict=True):
      config, found = subject.config, fatal_update(subject.config, recipe, FLAGS.updates)
      what = f'{subject.label}, {recipe.net.title}'
      if not found:
        progress.done(f'{what}: does not diverge within {FLAGS.updates} updates')
        notes.append(f'{what} does not diverge within {FLAGS.updates} updates at a learning rate of '
                     f'{config.learning_rate:g}, or is not finite from the beginning.')
        continue
      updates, params, updated = found
      made = subject.made(recipe.net, learning_rate=config.learning_rate, updates=updates)
      here = [made | record for record in measure(recipe.net, params, updated, *inputs.batch_at(config, updates),
                                                  numbers, shares)]
      records += here
      notes += _notes(here)
      progress.done(f'{what}: diverges at update {updates + 1}')
    if not records:
      raise UserError(f'{notes[0].removesuffix(".")}: use a larger --config.learning_rate, or more --updates')
  configs, nets = [subject.config for subject in who], [recipe.net for recipe in recipes]
  title = writing.title(configs, nets) + ', along the fatal update'
  writing.write('divergence', title, notes, records, figure.draw(title, records), CAPTION,
                **writing.settings(configs, nets))


def _notes(records):
  """What a reader of the records or the figure would miss. records: of one network."""
  first, last = records[0]['along'][0], records[0]['along'][-1]
  what = f'{records[0]["method"]}, {records[0]["network"]}'
  yield (f'{what}: the fatal update is number {records[0]["updates"] + 1}. The cross-entropy of its minibatch is '
         f'{first["cross_entropy"]:.3g} before it, and {last["cross_entropy"]:.3g} after it.')
  lost = [str(record['layer']) for record in records
          if not all(np.isfinite(point['variance'] + point['squared_mean']) for point in record['along'])]
  if lost:
    yield f'{what}: moments of layer {", ".join(lost)} exceed float32 on the way: null in the JSON.'


def summary(made):
  """A page.Table, a row per method and layer. made: what divergence.json holds."""
  rows = []
  for record in made['records']:
    first, last = record['along'][0], record['along'][-1]
    moments = [point[field] for field in ('variance', 'squared_mean') for point in (first, last)]
    rows.append((record['method'], f'{record["updates"] + 1:,}', str(record['layer']),
                 *(texts.number(value, 'none') for value in moments)))
  return page.Table('The fatal update, from its beginning to its end; means over channels.', (
      'method', 'update', 'layer', 'variance before', 'after', 'squared mean before', 'after'), tuple(rows))
