r"""Internal covariate shift: how much a layer's gradient changes because the layers before it are updated.

  zeroinit probe covariate_shift digits --methods=none,batch_norm,zeroinit,fixup \
      --updates=$(seq -s, 0 8 80) --layers=4,8,12 --workdir=DIR
  zeroinit probe covariate_shift --checkpoint=runs/first --workdir=DIR
  zeroinit probe covariate_shift digits --network=deep_linear \
      --methods=none,batch_norm --config.learning_rate=0.001 --updates=$(seq -s, 0 100 2000) --layers=9,17 --workdir=DIR

Writes covariate_shift.json, with a record for every method, state and layer, and covariate_shift.png. Networks stand at
their initialization, some updates further, or where a run left them. Exit codes: 0, or 2 for a mistake in the command
or its surroundings.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax.traverse_util import flatten_dict, unflatten_dict

from zeroinit.networks.blocks import BlockV1
from zeroinit.probes import command, layers, linear, snapshots, texts, writing
from zeroinit.probes.covariate_shift import figure
from zeroinit.report import page
from zeroinit.system import compiling
from zeroinit.training.recipe import image_shape
from zeroinit.training.step import init_state

FLAGS = flags.FLAGS

TITLE = 'Internal covariate shift: does a layer learn for inputs that are gone?'
EXPLANATION = (
    'What is measured. An update moves all layers at once, but each by a gradient for which the others were where they '
    'had been. Batch normalization was invented to make that harmless: it would keep the distribution of what a layer '
    'receives stable while the layers before it change. Santurkar et al. (arXiv:1805.11604, Definition 2.1) measure '
    'directly what that is about. At one moment of a run, G is the gradient of the loss with respect to the weights of '
    'layer i, as the update uses it; G\' is the same gradient, on the same minibatch, after the layers 1 to i - 1 have '
    'made their part of the update. |G - G\'| is the internal covariate shift: how much the best direction for layer i '
    'has changed because of the layers below it; and the cosine between G and G\' is how much of the direction is '
    'left, 1 if all of it.',
    'How exactly. The loss is the mean cross-entropy of the minibatch that the run takes next, with norms in training '
    'mode, without dropout and without L2. The update is that of the run: momentum, L2, dropout and the learning rate '
    'of that moment included. Layers are counted along the depth: 1 is the first convolution, the convolutions of the '
    'residual branches follow, and the classifier is the last; the convolution on the shortcut of a block is updated '
    'together with the first one of its branch. Norms, biases and multipliers are updated together with the layer '
    'that they follow. So layer i receives exactly what the whole update will have it receive. (The deep linear '
    'network takes plain gradient descent on half the mean squared error of all examples.)',
    'What to expect. In a VGG, and in a linear network of 25 layers, Santurkar et al. find that networks with batch '
    'norm have as large a shift as those without it, or a larger one, while they train better: for the linear network '
    'with batch norm the two gradients are almost uncorrelated. So a stable input of each layer is not what batch norm '
    'achieves, and not what makes training fast. Where residual branches start at zero or nearly so, '
    'an update of one block changes little of what later blocks receive, at least in the beginning. At such a start '
    'the gradient of the convolutions of a branch may be exactly zero: then there is no cosine.',
    'How to read the picture. A line per method. Several moments: a column per layer, against the number of updates '
    'done. One moment: against the number of the layer. Above, |G - G\'| on a logarithmic scale, below the cosine. '
    'Norms of gradients differ between methods, so the cosine is the fairer comparison; the table also has |G - G\'| '
    'as a share of |G|.',
)
CAPTION = (
    'Internal covariate shift of single layers: the norm of the change of their gradient when the layers before are '
    'updated first (above), and the cosine between the gradients before and after it (below).')


def measure(net, variables, updated, images, labels, numbers):
  """How much the gradients of layers change when all layers before them make their part of an update.

  With W_1, ..., W_n the layers' weights, W_j' those after the update, and L the loss of a minibatch,

      G_i  = dL/dW_i (W_1,  ..., W_{i-1},  W_i, ..., W_n),
      G_i' = dL/dW_i (W_1', ..., W_{i-1}', W_i, ..., W_n),
      shift = |G_i - G_i'|,    cosine = G_i.G_i' / (|G_i| |G_i'|).

  W_i is the kernel of layer i; which other parameters are updated with it says `numbers_of`. Norms are in training
  mode, dropout is off. Santurkar et al., arXiv:1805.11604, Definition 2.1.

  Args:
    net: a ResNet, a VGG, or a `linear.DeepLinear`.
    variables: {'params': ..., 'batch_stats': ...} before the update.
    updated: the params after it.
    images: float32 [batch, height, width, channels], standardized; a ghost size must divide the batch.
    labels: int32 [batch], or vectors of floats, see `snapshots.loss`.
    numbers: of the layers, from 1; see `layers.along_depth`.

  Returns:
    A record (dict) for each of the numbers, of floats, which are not finite where float32 overflows: layer, int; name,
    of the layer; gradient_norm, |G|; shifted_gradient_norm, |G'|; shift; relative_shift, shift / |G|; cosine. The last
    two are not a number where a gradient is zero.
  """
  net = net.clone(method=net.method.without_randomness)
  found = list(layers.along_depth(net, images.shape[1:]))
  number_of = numbers_of(net, found, variables['params'])
  gradient = partial(_gradient, net, variables, updated, number_of, images, labels)
  before, records = gradient(0), []
  for number in numbers:
    layer = found[number - 1]
    g, shifted = (np.float64(layer.of(tree, 'kernel')).ravel() for tree in (before, gradient(number)))
    length, shifted_length, shift = map(np.linalg.norm, (g, shifted, g - shifted))
    with np.errstate(all='ignore'):  # a number that does not exist is null in JSON
      relative, cosine = shift / length, g @ shifted / (length * shifted_length)
    records.append({'layer': number, 'name': layer.name, 'gradient_norm': float(length),
                    'shifted_gradient_norm': float(shifted_length), 'shift': float(shift),
                    'relative_shift': float(relative), 'cosine': float(cosine)})
  return records


@partial(compiling.jit, static_argnums=0)
def _gradient(net, variables, updated, number_of, images, labels, layer):
  """The gradient of the loss where the layers before `layer` are updated; 0: none."""
  loss_of = lambda params: snapshots.loss(net, variables | {'params': params}, images, labels)
  return jax.grad(loss_of)(updated_before(layer, variables['params'], updated, number_of))


def updated_before(layer, params, updated, number_of):
  """The parameters of which those of the layers before `layer` are the updated ones. number_of: see `numbers_of`."""
  return jax.tree.map(lambda old, new, number: jnp.where(number < layer, new, old), params, updated, number_of)


def numbers_of(net, found, params):
  """The number of the layer with which each parameter is updated.

  A norm, a bias or a multiplier goes with the last layer before it in the forward pass, and a shortcut with the first
  convolution of its block. So what enters layer i depends on no other parameters than those with numbers below i.

  Args:
    net: the network; found: its `layers.along_depth`, a list.
    params: its parameters.

  Returns:
    A tree like params, of int32 arrays: scalars, or for scanned blocks [blocks, 1, ...], to broadcast against them.
  """
  of_layer, of_blocks = {}, {}  # of_blocks: for every path of a block, and place of it in its scan, numbers of layers
  for number, layer in enumerate(found, 1):
    of_layer[layer.path, layer.place] = number
    of_blocks.setdefault(layer.path[:-1], {}).setdefault(layer.place, []).append(number)
  of_blocks[()] = {None: range(1, len(found))}  # what is in no block, but for the classifier
  activation_first = hasattr(net, 'block') and not issubclass(net.block, BlockV1)

  def number_of(path, leaf):
    block = max((block for block in of_blocks if path[: len(block)] == block), key=len)
    name = path[len(block)]
    numbers = [of_layer.get(((*block, name), place)) or _number(name, inside[0], inside[-1], activation_first)
               for place, inside in of_blocks[block].items()]
    scanned = None not in of_blocks[block]
    return np.int32(numbers).reshape((-1, *[1] * (leaf.ndim - 1)) if scanned else ())

  return unflatten_dict({path: number_of(path, leaf) for path, leaf in flatten_dict(params).items()})


def _number(name, first, last, activation_first):
  """The layer with which a parameter of a block, or its module, is updated that is no layer itself.

  first, last: numbers of the block's layers. activation_first: whether relu1 or norm1 is before the first of them.
  """
  if name.startswith(('stem', 'shortcut')):
    return first
  if name == 'input_bias':
    return first - 1
  if name[-1].isdigit():  # relu1, norm1
    return first + int(re.sub(r'\D', '', name)) - (2 if activation_first else 1)
  return last  # alpha, merge_bias, pooled_bias, and the last norm or activation


def define():
  command.define()
  command.define_updates()
  command.define_layers()
  linear.define()


def main(argv):
  del argv
  who, updates = command.subjects(for_gradients=True), command.updates()
  prepared = [linear.prepared(subject, updates, steps) for subject in who]
  shapes = [image_shape(subject.config) if FLAGS.network == 'own' else (net.width,)
            for subject, (net, _) in zip(who, prepared, strict=True)]
  chosen = [command.layer_numbers(net, list(layers.along_depth(net, shape)))
            for (net, _), shape in zip(prepared, shapes, strict=True)]
  records, notes = [], []
  with command.Measuring(len(who) * len(updates) * FLAGS.draws) as progress:
    for subject, (net, of_draw), numbers in zip(who, prepared, chosen, strict=True):
      found = {}  # by the number of updates
      for done, variables, updated, batch in progress.draws(subject, of_draw):
        found.setdefault(done, []).append(measure(net, variables, updated, *batch, numbers))
      for done, draws in found.items():
        here = [subject.made(net, updates=done) | writing.mean(drawn) for drawn in zip(*draws, strict=True)]
        records += here
        notes += _notes(here)
      if subject.checkpoint:
        notes.append(f'{subject.label}: the update begins with no momentum, since that of the run is not read.')
      notes += command.divergence_notes(subject, found, updates)
  command.need_records(records, notes)
  configs, nets = [subject.config for subject in who], [net for net, _ in prepared]
  title = linear.title(configs, nets) + ': internal covariate shift'
  writing.write('covariate_shift', title, notes, records, figure.draw(title, records), CAPTION,
                draws=FLAGS.draws, **linear.settings(configs, nets))


def steps(config, recipe, updates, checkpoint=None):
  """(updates done, variables, parameters one update later) of a run, as numpy arrays.

  Args: as of `snapshots.states`. From a checkpoint, the update begins with no momentum, on the first batch of the run.
  """
  state = init_state(recipe, config.learning_rate, config.seed)
  if checkpoint:
    state = state.replace(**jax.device_put(snapshots.variables_of(checkpoint, recipe), recipe.replicated))
  with snapshots.feeding(config, recipe) as feed:
    for until in updates:
      state, _ = snapshots.advance(recipe, feed, state, until)
      if state.diverged:
        return
      variables = jax.device_get({'params': state.params, 'batch_stats': state.batch_stats})
      state, _ = snapshots.advance(recipe, feed, state, until + 1)
      yield None if checkpoint else until, variables, jax.device_get(state.params)


def _notes(records):
  """What a reader of the records or the figure would miss. records: of one network in one state."""
  what = texts.in_state(records[0]['method'], records[0]['updates'])
  zero = [str(record['layer']) for record in records if record['gradient_norm'] == 0]
  lost = [str(record['layer']) for record in records if not np.isfinite(record['shift'])]
  if zero:
    yield f'{what}: the gradient of layer {", ".join(zero)} is exactly zero, so there is no cosine.'
  if lost:
    yield f'{what}: the gradient of layer {", ".join(lost)} exceeds float32: null in the JSON.'


def summary(made):
  """A page.Table, a row per method, state and layer. made: what covariate_shift.json holds."""
  fields = ('gradient_norm', 'shift', 'relative_shift', 'cosine')
  rows = tuple((record['method'], texts.updates(record), str(record['layer']),
                *(texts.number(record[field], 'none') for field in fields)) for record in made['records'])
  return page.Table('Internal covariate shift.', (
      'method', 'updates', 'layer', "|G|", "|G - G'|", "|G - G'| / |G|", 'cosine'), rows)
