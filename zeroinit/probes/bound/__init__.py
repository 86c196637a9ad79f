"""What a norm does to the gradient on its way back, and whether a bound on that holds.

  zeroinit probe bound digits:batch_norm --updates=0,80 --workdir=DIR
  zeroinit probe bound --checkpoint=runs/first --workdir=DIR

Writes bound.json, with a record for every norm of a network, and bound.png. Networks stand at their initialization,
some updates further, or where a run left them. Exit codes: 0, or 2 for a mistake in the command or its surroundings.
"""

import itertools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from flax.traverse_util import flatten_dict, unflatten_dict

from zeroinit.networks.batch_norm import EPSILON, GhostNorm
from zeroinit.probes import command, inputs, memory, snapshots, texts, writing
from zeroinit.probes.bound import figure
from zeroinit.probes.layers import Layer, leave
from zeroinit.report import page
from zeroinit.system import compiling
from zeroinit.system.errors import UserError

FLAGS = flags.FLAGS

TITLE = 'The gradient through a norm: does the bound hold?'
EXPLANATION = (
    'What the theorem says. Santurkar et al. (arXiv:1805.11604) explain batch normalization by a smoother loss: their '
    'Theorem 4.1 bounds the gradient of the normalized network by that of one without the norm. Of one channel, let y '
    'be the m values that enter its norm, one for each example and position of a batch; σ their standard deviation; ŷ '
    'the normalized ones; and γ ŷ + β what leaves the norm. g is the gradient of the loss at the output of the norm: '
    'that of a network without the norm, whose values there are the same. Then the gradient at the input of the norm, '
    'with respect to y, is bounded by |∇y|² ≤ (γ²/σ²) (|g|² - (1/m) (Σg)² - (1/√m) (Σgŷ)²): so the third version of '
    'the paper; later ones have 1/m in the last term.',
    'What is right. The backward pass leaves nothing to bound: ∇y = (γ/σ) (g - (1/m) Σg - (1/m) ŷ Σgŷ). That is g '
    'without its mean and without its part along ŷ, since neither shifting nor scaling y changes the loss; and as |ŷ|² '
    '= m, its square is |∇y|² = (γ²/σ²) (|g|² - (1/m) (Σg)² - (1/m) (Σgŷ)²). With 1/m the bound is an equation. (The '
    '1e-5 that is added to σ² makes the left side smaller by nearly nothing.) With 1/√m, √m times as much is '
    'subtracted: the bound fails in every channel where Σgŷ is not 0, and may even be negative, as no square is.',
    'What is measured. For every norm of a network, g and ∇y by automatic differentiation of the cross-entropy of a '
    'batch, and both right sides from y, g and γ: each channel by itself, and in each ghost batch. Squares are added '
    'up over the channels. Norms are in training mode; dropout, and the noise of noisy norms, are off.',
    'What to expect. The equation holds up to the rounding of float32, about 1e-6. And what the two terms take is '
    'little: of numbers that are independent of each other and of y, either takes 1/m, and m is large, the examples of '
    'a batch times the positions. In a WRN-16-1 on digits, with 64 images and m from 4096 down to 256, both together '
    'take 0.02 to 3 % of the squared gradient at initialization; with 1/√m the bound fails in 99 % of the channels. '
    'What changes the gradient is γ²/σ², there 0.4 to 3. It is below 1 only where σ exceeds γ, as in most of the first '
    'norms of blocks, which read the skip path, whose variance grows within a stage. The second norms read '
    'convolutions of normalized values, whose variance is below 1 after the ReLU, and make the gradient larger. So the '
    'theorem alone does not say that a norm makes gradients smaller.',
    'How to read the picture. One column per method; the horizontal axis counts the norms by depth. Above: the squared '
    'gradient at the output of the norm, |g|², and at its input, |∇y|²; their ratio is γ²/σ², less what the terms '
    'take. Middle: the right sides over the left side. On the line at 1 the bound is an equation, below it is wrong. '
    'Below: the share of |g|² that either term takes, and dotted 1/m.',
)
CAPTION = (
    'Against depth, in norms: the squared gradient at the output and at the input of each norm (above), both right '
    'sides of the bound over its left side, with 1/m and with 1/√m in the last term (middle), and the share of the '
    'gradient that either term takes, with 1/m dotted (below).')
ROUNDING = 1e-5  # of (gamma^2 / sigma^2) |g|^2: one side exceeds the other if by more than that


def sides(y, gradient, scale):
  """The right side of Santurkar et al.'s Theorem 4.1 (arXiv:1805.11604), for every channel, and its parts.

  With sigma^2 the variance of the m values y_j of a channel, plus epsilon, and yhat = (y - mean) / sigma,

      |grad_{y_j} Lhat|^2 <= (gamma^2 / sigma_j^2) (|g|^2 - <1, g>^2 / m - <g, yhat_j>^2 / m),    g = grad_{y_j} L,

  and in version 3 of the paper sqrt(m) instead of the last m.

  Args:
    y: what enters the norm, float64 [groups, examples, ..., channels], the groups having their own statistics.
    gradient: g, with respect to what leaves it, of the same shape.
    scale: gamma, [channels].

  Returns:
    A dict of arrays [groups, channels]: gradient, |g|^2; scaled, mean_part and direction_part, the three terms with
    their factor; right, the right side; right_sqrt_m, that of version 3.
  """
  axes = tuple(range(1, y.ndim - 1))
  m = _values(y)
  variance = y.var(axes, keepdims=True) + EPSILON
  normalized = (y - y.mean(axes, keepdims=True)) / np.sqrt(variance)
  factor = scale**2 / variance.squeeze(axes)
  square = (gradient**2).sum(axes)
  mean_part, direction_part = (factor * part**2 / m for part in (gradient.sum(axes), (gradient * normalized).sum(axes)))
  rest = factor * square - mean_part
  return {'gradient': square, 'scaled': factor * square, 'mean_part': mean_part, 'direction_part': direction_part,
          'right': rest - direction_part, 'right_sqrt_m': rest - np.sqrt(m) * direction_part}


def _values(y):
  """m, the values of a channel that share their statistics. y: [groups, examples, ..., channels]."""
  return int(np.prod(y.shape[1:-1]))


def measure(net, variables, images, labels):
  """Both sides of Theorem 4.1 at every norm of a network, see `sides`; added up over its channels, and ghost batches.

  L is the mean cross-entropy of the batch. Norms are in training mode; dropout and noise are off; at least float32.

  Args:
    net: a ResNet or a VGG.
    variables: {'params': ..., 'batch_stats': ...}, as of net.init or `zeroinit.load`.
    images: float32 [batch, height, width, channels], standardized; a ghost size must divide the batch.
    labels: int32 [batch].

  Returns:
    A record (dict) for each norm, in the order of computation: norm: 1, 2, ...; layer: its path; units: channels times
    ghost batches; m: values of each; and floats:
      gradient: sum of |g|^2, at the output of the norm; left: sum of |grad_y Lhat|^2, at its input;
      right, right_sqrt_m: sums of the right sides;
      factor: the mean of gamma^2 / sigma^2, weighted by |g|^2;
      mean_share, direction_share: what the terms of <1, g> and <g, yhat>, over m, take of the scaled |g|^2;
      deviation: the largest |left - right| of a unit, over its scaled |g|^2;
      exceeded, exceeded_sqrt_m: share of the units in which left exceeds the right side; negative_sqrt_m: share in
        which that is negative.

  Raises:
    UserError: the network has no norm.
  """
  net = net.clone(method=net.method.without_randomness, dtype=jnp.promote_types(net.dtype, jnp.float32))
  _need_norm(net.title, net.method)
  norms, nothing = _norms(net, variables, images)
  gradients, left = jax.device_get(_gradients(net, variables, nothing, images, labels))
  size = min(net.method.ghost_size, len(images)) if net.method.norm == 'ghost' else len(images)
  records = []
  for number, norm in enumerate(norms, 1):
    of = lambda tree, leaf, norm=norm: norm.of(tree, leaf).astype(np.float64)
    y, before, after = (value.reshape(-1, size, *value.shape[1:]) for value in (
        of(left, 'input'), of(gradients, 'before'), of(gradients, 'after')))
    squares = (before**2).sum(tuple(range(1, y.ndim - 1)))
    records.append({'norm': number, 'layer': norm.name, 'units': squares.size, 'm': _values(y),
                    **_compare(squares, sides(y, after, of(variables['params'], 'scale')))})
  return records


def _compare(left, of_units):
  """The floats of a record. left: of the units; of_units: as of `sides`."""
  total = {name: float(values.sum()) for name, values in of_units.items()}
  scaled = of_units['scaled']
  above = lambda right: float((left > of_units[right] + ROUNDING * scaled).mean())
  with np.errstate(all='ignore'):  # where no gradient arrives a share does not exist, and is null in JSON
    share = lambda part, whole: float(np.divide(total[part], total[whole]))
    deviation = np.abs(left - of_units['right']) / np.where(scaled > 0, scaled, 1)
    return {'gradient': total['gradient'], 'left': float(left.sum()), 'right': total['right'],
            'right_sqrt_m': total['right_sqrt_m'], 'factor': share('scaled', 'gradient'),
            'mean_share': share('mean_part', 'scaled'), 'direction_share': share('direction_part', 'scaled'),
            'deviation': float(deviation.max()), 'exceeded': above('right'), 'exceeded_sqrt_m': above('right_sqrt_m'),
            'negative_sqrt_m': float((of_units['right_sqrt_m'] < -ROUNDING * scaled).mean())}


def _norms(net, variables, images):
  """The Layers that are norms, in the order of computation, and a tree of zeros to be added there."""
  axes = {}  # {path: axes of what enters one norm}

  def note(call, args, kwargs, context):
    if isinstance(context.module, GhostNorm) and context.method_name == '__call__':
      axes[context.module.path] = args[0].ndim
    return call(*args, **kwargs)

  with nn.intercept_methods(note):
    _, left = jax.eval_shape(partial(_apply, net), variables, images)
  there, norms = flatten_dict(left), []
  stack = lambda path: there[(*path, 'after')].shape[:-axes[path]]
  for _, together in itertools.groupby(axes, key=lambda path: path[:2] if stack(path) else path):  # stage, rest
    together = list(together)
    for place in range(*stack(together[0])) if stack(together[0]) else (None,):
      norms += [Layer(path, place) for path in together]
  zeros = {path: jnp.zeros(leaf.shape, leaf.dtype) for path, leaf in there.items() if path[-1] != 'input'}
  return norms, unflatten_dict(zeros)


@partial(compiling.jit, static_argnums=0)
def _gradients(net, variables, zeros, images, labels):
  """The gradients with respect to what enters and leaves every norm, and a tree of what enters them."""
  def cross_entropy(zeros):
    logits, left = _apply(net, variables | {'probes': zeros}, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), left

  return jax.grad(cross_entropy, has_aux=True)(zeros)


def _apply(net, variables, images):
  """Logits, and what the norms leave behind: `input`, and what was added `before` and `after` them."""
  with nn.intercept_methods(_add_and_leave):
    logits, left = net.apply(variables, images, train=True, mutable=['probes', 'batch_stats'])
  return logits, left['probes']


def _add_and_leave(call, args, kwargs, context):
  """Has every norm add something, zero unless given, to what enters and leaves it: the gradient with respect to that.

  Not in a collection of its own: see `layers.leave`.
  """
  module = context.module
  if not isinstance(module, GhostNorm) or context.method_name != '__call__':
    return call(*args, **kwargs)
  x = module.perturb('before', args[0], collection='probes')
  leave(module, 'input', x)
  return module.perturb('after', call(x, *args[1:], **kwargs), collection='probes')


def _need_norm(label, method):
  if not method.has_batch_norm:
    raise UserError(f'{label} has no batch or ghost norm to look at: choose another method, such as batch_norm')


def define():
  command.define()
  command.define_updates()


def main(argv):
  del argv
  who, updates = command.subjects(for_gradients=True), command.updates()
  prepared = [_prepared(subject, updates) for subject in who]
  records, notes = [], []
  with command.Measuring(len(who) * len(updates) * FLAGS.draws) as progress:
    for subject, (net, of_draw) in zip(who, prepared, strict=True):
      found = {}  # by the number of updates
      for done, variables, batch in progress.draws(subject, of_draw):
        found.setdefault(done, []).append(measure(net, variables, *batch))
      for done, draws in found.items():
        here = [subject.made(net, updates=done) | writing.mean(drawn) for drawn in zip(*draws, strict=True)]
        records += here
        notes.append(_note(subject.label, done, here))
      notes += command.divergence_notes(subject, found, updates)
  command.need_records(records, notes)
  configs, nets = [subject.config for subject in who], [net for net, _ in prepared]
  title = writing.title(configs, nets)
  writing.write('bound', title, notes, records, figure.draw(title, records), CAPTION, draws=FLAGS.draws,
                **writing.settings(configs, nets))


def _prepared(subject, updates):
  """The network of a subject, and its `snapshots.snapshots`, all on the first batch."""
  recipe = inputs.recipe_of(subject.config)
  _need_norm(subject.label, recipe.net.method)
  command.check_updates(subject, recipe, updates)
  memory.need(recipe.net.title, _bytes(recipe, subject.config.batch_size))
  first_batch = lambda config, _: inputs.first_batch(config)
  return recipe.net, snapshots.snapshots(subject, recipe, updates, batch_of=first_batch)


def _bytes(recipe, batch_size):
  """Bytes that the probe needs: parameters and their updates; and of each norm its input and two gradients, twice."""
  parameters = memory.parameter_bytes(recipe.net, recipe.image_shape)
  return 5 * parameters + 4 * memory.activation_bytes(recipe, batch_size)


def _note(label, done, records):
  """What the figure shows, in numbers."""
  records = [record for record in records if record['gradient'] > 0]
  what = texts.in_state(label, done) + (' at initialization' if done == 0 else '')
  if not records:
    return f'{what}: no gradient arrives at any norm.'
  ends = lambda values: f'{min(values):.2g} to {max(values):.2g}'
  units = [record['units'] for record in records]
  exceeded = np.average([record['exceeded_sqrt_m'] for record in records], weights=units)
  taken = [100 * (record['mean_share'] + record['direction_share']) for record in records]
  return (f'{what}: with 1/m the sides differ by at most {max(record["deviation"] for record in records):.0e} of the '
          f'gradient; with 1/√m the left one exceeds the right one in {100 * exceeded:.3g} % of the channels. The two '
          f'terms take {ends(taken)} % of the gradient; γ²/σ² is {ends([record["factor"] for record in records])}.')


def summary(made):
  """A page.Table, a row per norm. made: what bound.json holds."""
  ratio = lambda record, field: '' if not record['left'] else f'{record[field] / record["left"]:.4g}'
  percent = lambda value: '' if value is None else f'{100 * value:.2g}'
  rows = tuple((
      record['method'], texts.updates(record), record['layer'], f'{record["m"]:,}', texts.number(record['factor']),
      percent(record['mean_share']), percent(record['direction_share']), ratio(record, 'right'),
      ratio(record, 'right_sqrt_m'), percent(record['exceeded_sqrt_m'])) for record in made['records'])
  return page.Table('The gradient through every norm.', (
      'method', 'updates', 'norm', 'm', 'γ²/σ²', 'taken by the mean, %', 'taken along ŷ, %', 'right side over left',
      'the same with 1/√m', 'channels that exceed it, %'), rows)
