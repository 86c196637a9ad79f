r"""The loss along the gradient: how far a step may go, and how much of the gradient is still true there.

  zeroinit probe landscape digits --methods=none,batch_norm,zeroinit,fixup \
      --updates=$(seq -s, 0 8 80) --workdir=DIR
  zeroinit probe landscape digits --methods=none,batch_norm,zeroinit,fixup \
      --step_sizes=0.001,1000 --points=31 --workdir=DIR
  zeroinit probe landscape --checkpoint=runs/first --workdir=DIR
  zeroinit probe landscape digits --network=deep_linear --methods=none,batch_norm \
      --config.learning_rate=0.001 --step_sizes=0.01,30 --updates=$(seq -s, 0 100 2000) --workdir=DIR

Writes landscape.json, with a record for every method and state, and landscape.png. Networks stand at their
initialization, some updates further, or where a run left them. Exit codes: 0, or 2 for a mistake in the command or its
surroundings.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from zeroinit.probes import command, linear, snapshots, texts, writing
from zeroinit.probes.landscape import figure
from zeroinit.probes.scaling import scaled
from zeroinit.report import page
from zeroinit.system import compiling
from zeroinit.system.errors import UserError

FLAGS = flags.FLAGS

TITLE = 'The loss along the gradient: how far ahead is it true?'
EXPLANATION = (
    'What is measured. An update trusts the gradient g of the loss L at the parameters w: it moves straight along it, '
    'for as far as the learning rate says. How good that is depends on what the loss does on the way. So on one '
    'minibatch, with the parameters of one moment of a run, w is moved to w(t) = w - t g for a range of step sizes t, '
    'and at each the loss and its gradient are computed. L is the mean cross-entropy of that minibatch, with norms in '
    'training mode and without dropout; L2 is left out, since it is equally smooth everywhere and for every method. '
    '(Of the deep linear network it is half the mean squared error.)',
    'What is made of it. The band between the smallest and the largest L(w(t)): where it is narrow, all those steps '
    'would have done about the same. The gradient predictiveness, the same band of |∇L(w(t)) - g|: how far the '
    'gradient has turned or grown. The effective β-smoothness, the largest |∇L(w(t)) - g| / |w(t) - w|: how fast the '
    'gradient changes, whatever its length; where the loss is a parabola it is no smaller than the curvature along g,'
    ' so that steps up to 2/β do not raise the loss. These are the measures of Santurkar et al. (arXiv:1805.11604, '
    'Figure 4), who take step sizes from 1/2 to 4 times the learning rate of the run. The relative loss L(w(t)) / '
    'L(w) over a wide range of t is that of Bjorck et al. (arXiv:1806.02375, Figure 3).',
    'What to expect. Santurkar et al. hold that batch normalization works because it makes the loss smoother, and not '
    'because it stabilizes the distributions of what layers see: in a VGG their bands of loss and gradient are far '
    'narrower with it, and β fluctuates less. Bjorck et al. find that with it the loss falls over a far wider range of '
    'step sizes, while without it already small steps make the loss explode, so that large learning rates are ruled '
    'out. Neither asks whether networks can have that without normalization. If the residual branches are what '
    'makes the loss rough, methods that start them at zero should be as smooth as batch norm at the beginning.',
    'How to read the picture. Several moments: a column per method; against the number of updates done, the band of '
    'the loss with the loss itself as a line, the band of the change of the gradient, and β; below, the relative loss '
    'against the step size. A panel that is low and narrow is a smooth loss. The scales are shared, so that columns '
    'can be compared. One moment: a line per method, against the step size; below 1 on the left, the step would help. '
    'All step sizes of a moment use one minibatch, the one that the run takes next, which is the same for all methods; '
    'for a checkpoint it is the first of its run. A ReLU whose input passes through zero changes the gradient by a '
    'jump, after however short a step; so β may grow towards small t, and depends on the range of t. Numbers that '
    'float32 cannot hold are left out.',
)
CAPTION = (
    'Along the gradient of one minibatch: the loss, the change of the gradient, β = change / distance, and the loss '
    'relative to that before the step; over updates with bands across step sizes, or against the step size.')


def measure(net, variables, images, labels, step_sizes):
  """The loss of a minibatch along its gradient.

  With L(w) the mean cross-entropy (norms in training mode, no dropout, no noise, no L2), g its gradient at w, and

      w(t) = w - t g,    change(t) = |grad L(w(t)) - g|,    beta(t) = change(t) / |w(t) - w|,

  over the step sizes t. Santurkar et al., arXiv:1805.11604, section 3.2 and Figure 4; Bjorck et al., arXiv:1806.02375,
  Figure 3. Only two points are held at a time, however many step sizes there are.

  Args:
    net: a ResNet, a VGG, or a `linear.DeepLinear`.
    variables: {'params': ..., 'batch_stats': ...}, as of net.init or `zeroinit.load`.
    images: float32 [batch, height, width, channels], standardized; a ghost size must divide the batch.
    labels: int32 [batch], or vectors of floats, see `snapshots.loss`.
    step_sizes: floats [n], positive.

  Returns:
    A dict of floats, which are not finite where float32 overflows: loss, L(w); gradient_norm, |g|; lowest_loss and
    highest_loss, over t; lowest_gradient_change and highest_gradient_change; smoothness, the largest beta; and along,
    a list of dicts, one per t: step_size, loss, relative_loss L(w(t)) / L(w), gradient_change, beta, which is not a
    number where g is zero or t g below the rounding of w.
  """
  net = net.clone(method=net.method.without_randomness)
  with np.errstate(over='ignore'):
    here, there = jax.device_get(_along(net, variables, images, labels, np.float32(step_sizes)))
  here = {name: float(value) for name, value in here.items()}
  points = []
  for i, step_size in enumerate(step_sizes):
    point = {name: float(values[i]) for name, values in there.items()}
    with np.errstate(all='ignore'):  # a number that does not exist is null in JSON
      relative = float(np.divide(point['loss'], here['loss']))
    points.append({'step_size': float(step_size), **point, 'relative_loss': relative})
  for field in ('loss', 'gradient_change'):
    values = [point[field] for point in points]
    here |= {f'lowest_{field}': float(np.fmin.reduce(values)), f'highest_{field}': float(np.max(values))}
  return here | {'smoothness': float(np.max([point['beta'] for point in points])), 'along': points}


@partial(compiling.jit, static_argnums=0)
def _along(net, variables, images, labels, step_sizes):
  """`along_gradient` of the loss of a network."""
  loss_of = lambda params: snapshots.loss(net, variables | {'params': params}, images, labels)
  return along_gradient(loss_of, variables['params'], step_sizes)


def along_gradient(loss_of, params, step_sizes):
  """A loss and its gradient, at `params` and along the line from there against the gradient.

  Args:
    loss_of: differentiable function of a tree like params.
    params: a tree of arrays.
    step_sizes: float32 [n].

  Returns:
    (here, there): at params {'loss', 'gradient_norm'}, and [n] each of {'loss', 'gradient_change', 'beta'}, see
    `measure`.
  """
  loss, gradient = jax.value_and_grad(loss_of)(params)

  def at(step_size):
    point = jax.tree.map(lambda w, g: w - step_size * g, params, gradient)
    loss, slope = jax.value_and_grad(loss_of)(point)
    change = length(jax.tree.map(jnp.subtract, slope, gradient))
    distance = length(jax.tree.map(jnp.subtract, point, params))  # after rounding, unlike t |g|
    return {'loss': loss, 'gradient_change': change, 'beta': change / distance}

  return {'loss': loss, 'gradient_norm': length(gradient)}, jax.lax.map(at, step_sizes)


def length(tree):
  """The norm of all numbers in a tree. It overflows no earlier than it must, see `scaling`."""
  tree, scale = scaled(tree)
  return scale * optax.tree.norm(tree)


def define():
  command.define()
  command.define_updates()
  linear.define()
  flags.DEFINE_list('step_sizes', ['0.5', '4'], 'Smallest and largest step along the gradient, in learning rates of '
                    'the config; the same at all updates, wherever the schedule drops the rate.')
  flags.DEFINE_integer('points', 8, 'So many step sizes, from the smallest to the largest by equal factors.', 2, 10_000)


def main(argv):
  del argv
  who, updates, multiples = command.subjects(for_gradients=True), command.updates(), _multiples()
  prepared = [linear.prepared(subject, updates) for subject in who]
  records, notes = [], []
  with command.Measuring(len(who) * len(updates) * FLAGS.draws) as progress:
    for subject, (net, of_draw) in zip(who, prepared, strict=True):
      # Of one update; the linear network takes plain steps. Rounded: 0.1, not 0.09999999999999998.
      damped = round(1 - subject.config.dampening, 9) if FLAGS.network == 'own' else 1.0
      step_sizes, found = damped * subject.config.learning_rate * multiples, {}  # by the number of updates
      for done, variables, *_, batch in progress.draws(subject, of_draw):
        found.setdefault(done, []).append(measure(net, variables, *batch, step_sizes))
      for done, drawn in found.items():
        along = [writing.mean(points) for points in zip(*[one.pop('along') for one in drawn], strict=True)]
        records.append(subject.made(net, updates=done) | writing.mean(drawn) | {'along': along})
        notes += _notes(records[-1])
      if net.method.clip:
        notes.append(f'{subject.label}: steps are along the gradient, which training would clip.')
      notes += command.divergence_notes(subject, found, updates)
  command.need_records(records, notes)
  configs, nets = [subject.config for subject in who], [net for net, _ in prepared]
  title = linear.title(configs, nets)
  title += f', along the gradient: step sizes from {multiples[0]:g} to {multiples[-1]:g} learning rates'
  writing.write('landscape', title, notes, records, figure.draw(title, records), CAPTION, draws=FLAGS.draws,
                **linear.settings(configs, nets))


def _multiples():
  """The step sizes that the flags name, in learning rates: float array [points]."""
  try:
    low, high = [float(text) for text in FLAGS.step_sizes]
  except ValueError:
    low, high = 0.0, 0.0
  if not 0 < low < high < np.inf:
    raise UserError(f'--step_sizes={",".join(FLAGS.step_sizes)}: write the smallest and the largest, such as 0.5,4')
  return np.geomspace(low, high, FLAGS.points)


def _notes(record):
  """What a reader of the records or the figure would miss."""
  what = texts.in_state(record['method'], record['updates'])
  if not np.isfinite(record['loss']):
    yield f'{what}: the loss exceeds float32: null in the JSON.'
  elif not np.isfinite(record['gradient_norm']):
    yield f'{what}: the gradient exceeds float32: null in the JSON.'
  else:
    if record['gradient_norm'] == 0:
      yield f'{what}: the gradient is zero, so there is no way to go.'
    lost = [point['step_size'] for point in record['along'] if not np.isfinite(point['loss'])]
    if lost:
      yield f'{what}: from a step size of {min(lost):.3g} on the loss exceeds float32: null in the JSON.'


def summary(made):
  """A page.Table, a row per method and state. made: what landscape.json holds."""
  fields = ('loss', 'lowest_loss', 'highest_loss', 'gradient_norm', 'highest_gradient_change', 'smoothness')
  rows = tuple((record['method'], texts.updates(record), *(texts.number(record[field], 'none') for field in fields))
               for record in made['records'])
  return page.Table('The loss along the gradient, over all step sizes.', (
      'method', 'updates', 'loss', 'lowest', 'highest', 'norm of the gradient', 'largest change of the gradient',
      'effective β-smoothness'), rows)
