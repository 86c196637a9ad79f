r"""Gradients of single examples: how alike they are; and how much of the loss is L2, against depth.

  zeroinit probe gradients digits --methods=none,ghost_norm,zeroinit \
      --depths=16,34,100 --workdir=DIR
  zeroinit probe gradients --checkpoint=runs/first --workdir=DIR

Writes gradients.json, with a record for every method and depth, and gradients.png. Networks stand at their
initialization, or where a run left them. Exit codes: 0, or 2 for a mistake in the command or its surroundings.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from jax import lax

from zeroinit.probes import command, inputs, layers, memory, snapshots, texts, writing
from zeroinit.probes.gradients import figure
from zeroinit.probes.scaling import scaled
from zeroinit.report import page
from zeroinit.system import compiling
from zeroinit.training.optimizer import l2_penalty

FLAGS = flags.FLAGS

TITLE = 'Gradients of single examples: are they all the same?'
EXPLANATION = (
    'What is measured. Training follows the mean gradient over a batch. Where the gradients of different examples '
    'point the same way, whatever the images show, a batch says hardly more than one example does, and the first '
    'updates push the outputs for all images in one direction. The measure is the cosine between the gradients g of '
    'the cross-entropy of two examples, g_i·g_j / (|g_i| |g_j|), over all parameters, averaged over all pairs i ≠ j of '
    'a batch: 0 where they are unrelated on average, 1 where all are parallel.',
    'What to expect. The ZeroInit paper claims that without normalization gradients are correlated at initialization, '
    'and that batch normalization prevents it. A ReLU makes its outputs positive, so that their mean is common to all '
    'examples; without normalization that common part outgrows what tells the examples apart (see the variance '
    'probe), the network prefers one class for all images, and most gradients agree in pushing that class down. A '
    'norm subtracts the common part on every residual branch. Where branches start at zero or nearly so, they '
    'contribute little to the output, and the network behaves as a shallow one at any depth. Even where all images '
    'look alike to a network the mean stays far below 1: examples of different classes push the outputs in opposite '
    'directions, which cancels if the network finds all classes equally likely.',
    'The noise of the gradient is C, the mean of |g_i - g|², with g the mean gradient. An update from B examples at '
    'the rate η misses that from all of them by a distance whose mean square is at most η² C / B: twice the rate is as '
    'noisy as a quarter of the batch (Bjorck et al., arXiv:1806.02375, equation 2).',
    'The loss at initialization is the cross-entropy and L2, half the weight decay times the sum of squared kernels. '
    'That sum grows in proportion to the number of layers, and with the width, while the cross-entropy of a guess '
    'among ten classes is ln 10 = 2.3 at any depth: so L2 comes to dominate the loss of deep networks (at depth 100 '
    'and width 2 it is 3.7). Without normalization the cross-entropy itself explodes, since the outputs grow '
    'exponentially with depth. Fixup starts with kernels that are zero or small, so its L2 is small at any depth.',
    'How to read the picture. One line per method, against the number of layers. Left, the mean cosine, with its '
    'standard error where there are several draws of weights and images. In the middle the cross-entropy, solid, and '
    'L2, dashed. Right, the share of L2 in their sum. Methods are drawn slightly apart, so that equal values can be '
    'seen. With a norm the gradient of one example includes what it does to the statistics of its (ghost) batch. '
    'Dropout is off.',
)
CAPTION = (
    'Against depth, in layers: the mean cosine between the gradients of two examples (left), '
    'cross-entropy and L2 (middle), and the share of L2 in the loss (right).')


def measure(net, variables, images, labels):
  """The mean cosine between the gradients of single examples, and their loss.

  With g_i the gradient of example i's cross-entropy with respect to all parameters, and S = sum_i g_i / |g_i|,

      mean_cosine = mean over i != j of g_i.g_j / (|g_i| |g_j|) = (|S|^2 - n) / (n (n - 1))

  over the n examples whose gradient is finite and not zero. Norms are in training mode: examples that share their
  statistics (a ghost batch) pass together, then each has its own backward pass. Only one gradient, S and g (below) are
  held at a time. Dropout is off. De & Smith, ICLR 2020 submission on ZeroInit, later arXiv:2002.10444. Of the m
  gradients that are finite, also those that are zero, with g their mean,

      gradient_noise = sum_i |g_i - g|^2 / (m - 1)

  is the unbiased estimate of C = E |g_i - E g_i|^2 in equation 2 of Bjorck et al., arXiv:1806.02375.

  Args:
    net: a ResNet.
    variables: {'params': ..., 'batch_stats': ...}, as of net.init or `zeroinit.load`.
    images: float32 [batch, height, width, channels], standardized; a ghost size must divide the batch.
    labels: int32 [batch].

  Returns:
    A dict of floats: mean_cosine, not a number where n < 2; zero_gradients and overflowed_gradients, how many examples
    are left out; gradient_norm, the mean of |g_i| over the n; gradient_noise, not a number where m < 2; cross_entropy,
    the mean over the batch.
  """
  net = net.clone(method=net.method.without_randomness)
  total, norms, departures, cross_entropy = jax.device_get(_stream(net, variables, images, labels))
  finite, zero = np.isfinite(norms), norms == 0
  n = int((finite & ~zero).sum())
  return {
      'mean_cosine': (float(total) - n) / (n * (n - 1)) if n > 1 else float('nan'),
      'gradient_norm': float(norms[finite & ~zero].astype(np.float64).mean()) if n else float('nan'),
      'gradient_noise': _noise(departures[finite].astype(np.float64)),
      'zero_gradients': float(zero.sum()), 'overflowed_gradients': float((~finite).sum()),
      'cross_entropy': float(cross_entropy),
  }


def _noise(departures):
  """sum |g_i - g|^2 / (m - 1), from the distance of each gradient to the mean of those before it (Welford 1962)."""
  m = len(departures)
  weights = np.arange(m) / np.arange(1, m + 1)
  return float((weights * departures**2).sum() / (m - 1)) if m > 1 else float('nan')


@partial(compiling.jit, static_argnums=0)
def _stream(net, variables, images, labels):
  """|S|^2; of every example |g_i| and its distance to the mean of the gradients before; the mean cross-entropy."""
  sharing = net.method.examples_together(len(images))
  split = lambda x: x.reshape(-1, sharing, *x.shape[1:])

  def of_group(sums, group):
    images, labels = group

    def logits_of(params):
      return net.apply(variables | {'params': params}, images, train=True, mutable=['batch_stats'])[0]

    logits, backward = jax.vjp(logits_of, variables['params'])
    cross_entropy, slope = jax.vmap(jax.value_and_grad(optax.softmax_cross_entropy_with_integer_labels))(logits, labels)

    def of_example(sums, i):
      total, mean, count = sums
      gradient, = backward(jnp.zeros_like(logits).at[i].set(slope[i]))
      small, scale = scaled(gradient)
      length = optax.tree.norm(small)
      finite = jnp.isfinite(scale * length)
      direction = jax.tree.map(lambda leaf: jnp.where(finite & (length > 0), leaf / length, 0), small)
      departure = jax.tree.map(lambda leaf, of_mean: jnp.where(finite, leaf - of_mean, 0), gradient, mean)
      count += finite
      mean = jax.tree.map(lambda of_mean, leaf: of_mean + leaf / jnp.maximum(count, 1), mean, departure)
      departure, scale_of_departure = scaled(departure)
      sums = jax.tree.map(jnp.add, total, direction), mean, count
      return sums, (scale * length, scale_of_departure * optax.tree.norm(departure))

    sums, of_examples = lax.scan(of_example, sums, jnp.arange(sharing))
    return sums, (*of_examples, cross_entropy)

  nothing = jax.tree.map(jnp.zeros_like, variables['params'])
  sums = nothing, nothing, jnp.int32(0)
  (total, _, _), (norms, departures, cross_entropy) = lax.scan(of_group, sums, (split(images), split(labels)))
  return optax.tree.norm(total, squared=True), norms.reshape(-1), departures.reshape(-1), cross_entropy.mean()


def define():
  command.define()
  command.define_depths()


def main(argv):
  del argv
  who = command.subjects(for_gradients=True)
  cases = [(subject, config) for subject in who for config in command.at_depths(subject)]
  recipes = [inputs.recipe_of(config) for _, config in cases]
  for (subject, config), recipe in zip(cases, recipes, strict=True):
    if subject.checkpoint is None:
      memory.need(recipe.net.title, _bytes(recipe, config.batch_size))
  records, notes = [], []
  with command.Measuring(len(cases) * FLAGS.draws) as progress:
    for (subject, config), recipe in zip(cases, recipes, strict=True):
      drawn = []
      for index in range(FLAGS.draws):
        drawn.append(_loss_and_gradients(subject, subject.draw(index, depth=config.depth), recipe))
        progress.done(f'{subject.label}, {recipe.net.title}, draw {index + 1} of {FLAGS.draws}')
      made = subject.made(recipe.net, depth=layers.depth(config, recipe.net),
                          updates=None if subject.checkpoint else 0, examples=config.batch_size)
      records.append(made | writing.mean(drawn))
      notes += _notes(records[-1])
  configs, nets = [config for _, config in cases], [recipe.net for recipe in recipes]
  title = writing.title(configs, nets)
  writing.write('gradients', title, notes, records, figure.draw(title, records), CAPTION, draws=FLAGS.draws,
                **writing.settings(configs, nets))


def _loss_and_gradients(subject, config, recipe):
  """The measures of one draw."""
  images, labels = inputs.first_batch(config)
  (_, variables), = snapshots.states(config, recipe, checkpoint=subject.checkpoint)
  found = measure(recipe.net, variables, images, labels)
  l2 = float(l2_penalty(variables['params'], config.weight_decay, config.weight_decay_on))
  loss = found['cross_entropy'] + l2
  return found | {'l2': l2, 'l2_share': l2 / loss if np.isfinite(loss) else float('nan')}


def _bytes(recipe, batch_size):
  """Bytes that the probe needs: parameters, momentum, S, g and gradients; and what a backward pass looks back on."""
  together = recipe.net.method.examples_together(batch_size)
  return 8 * memory.parameter_bytes(recipe.net, recipe.image_shape) + memory.activation_bytes(recipe, together)


def _notes(record):
  """What a reader of the records or the figure would miss."""
  what = f'{record["method"]}, {record["network"]}'
  if record['zero_gradients']:
    yield (f'{what}: {record["zero_gradients"]:g} of {record["examples"]} gradients are exactly zero (the true class '
           'has all the probability that float32 can hold), and left out.')
  if record['overflowed_gradients']:
    yield (f'{what}: {record["overflowed_gradients"]:g} of {record["examples"]} gradients exceed float32, and are left '
           'out.')
  if not np.isfinite(record['mean_cosine']):
    yield f'{what}: no mean cosine, since fewer than two gradients are left.'
  if not np.isfinite(record['cross_entropy']):
    yield f'{what}: the cross-entropy exceeds float32: null in the JSON.'


def summary(made):
  """A page.Table, a row per method and depth. made: what gradients.json holds."""
  fields = ('mean_cosine', 'gradient_norm', 'gradient_noise', 'cross_entropy', 'l2', 'l2_share')
  rows = tuple((record['method'], str(record['depth']),
                *(texts.number(record.get(field), 'none') for field in fields)) for record in made['records'])
  return page.Table('Mean cosine, and the loss in its parts.', (
      'method', 'depth', 'mean cosine', "norm of an example's gradient", 'noise C of gradients', 'cross-entropy', 'L2',
      'share of L2'), rows)
