r"""Gradients of single layers and channels: whether the terms that they are sums of cancel.

  zeroinit probe channels digits --methods=none,batch_norm --workdir=DIR
  zeroinit probe channels cifar10 --config.network=cifar_resnet --config.depth=110 \
      --config.width=1 --config.kernel_init=xavier --batch_size=128 --methods=none,batch_norm,zeroinit --updates=0,5 \
      --layers=18,54,90 --histogram=55 --heat_map=45 --workdir=DIR
  zeroinit probe channels --checkpoint=runs/first --workdir=DIR

Writes channels.json, with a record for every layer, and channels.png. Networks stand at their initialization, some
updates further, or where a run left them. Exit codes: 0, or 2 for a mistake in the command or its surroundings.
"""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from flax.traverse_util import flatten_dict, unflatten_dict

from zeroinit.probes import command, layers, snapshots, texts, writing
from zeroinit.probes.channels import figure
from zeroinit.report import page, published
from zeroinit.system import compiling
from zeroinit.system.errors import UserError
from zeroinit.training.recipe import image_shape

FLAGS = flags.FLAGS
BINS = 61  # of a histogram; odd, so that one of them is around zero
MOST = 128  # channels, images or classes along one side of a heat map
FIELDS = ('sum_of_absolute', 'absolute_of_sum', 'ratio')

TITLE = 'Gradients inside the network: do their terms cancel?'
EXPLANATION = (
    'What is measured. A weight of a convolution is used at every position (x, y) of every image b of a batch, so the '
    'gradient of the loss with respect to it is a sum over all of them. Its terms are d = (gradient with respect to '
    'an output of the convolution) x (the input that the weight multiplies there). Two numbers tell how they combine: '
    'a is the sum of their absolute values, b the absolute value of their sum, which is the gradient itself. Both are '
    'averaged over the weights of the layer, and divided: a/b. Where a/b is large the terms have different signs for '
    'different images and positions, and nearly cancel. Where it is near 1 all have the same sign: the gradient asks '
    'for the same change whatever the image shows. The loss is the mean cross-entropy of the batch, norms are in '
    'training mode, dropout is off.',
    'What to expect. Bjorck et al. (arXiv:1806.02375) measured a ResNet-110 at initialization on CIFAR-10, with the '
    'initialization of Xavier, in three layers. With batch norm a/b is 252, 113 and 41; without it 1.7, 2.6 and 2.1. '
    'Without normalization the means of the channels outgrow what tells images apart (see the variance probe), the '
    'network prefers one class for every image, and the same channels have a large gradient for all of them. So the '
    'gradient is large, the same for all images, and passes through few channels: they argue that this is what forces '
    'small learning rates on networks without normalization. Their a and b are probably means over positions, so '
    'that ratios can be compared with ours, and scales cannot.',
    'Which layer. Layers are counted along the depth, as Bjorck et al. do: 1 is the first convolution of the network; '
    'the convolutions of the residual branches follow; the classifier, for which the same sums are taken, is the '
    'last. Convolutions on shortcuts are not counted.',
    'How to read the picture. Above: a/b of every layer against depth. Circles: the values of Bjorck et al. Below, one '
    'row per method. Left, the histogram of the gradient over the weights of one layer, in units of its standard '
    'deviation, on a logarithmic axis; dashed, a normal distribution of the same size: counts far outside it are heavy '
    'tails. Middle, the gradient between each input channel and each output channel of one convolution, '
    'sum over x, y of |gradient|: rows or columns that stand out are channels that all gradients pass through. Right, '
    'the gradient of the loss of each image (rows) with respect to each output of the network (columns), which is '
    'the probability of the class, minus 1 for the true class. Every row has its one negative entry; a column that is '
    'red all the way is a class that the network predicts for every image. Of channels, images and classes at most the '
    f'first {MOST} are shown.',
    'Where the multiplier of a branch is exactly 0, or its last convolution is, or the classifier, no gradient reaches '
    'the convolutions before it, and a/b is 0/0. Such networks say something only some updates later. Where there are '
    'several states of a network, its row shows the first in which the gradient is not zero.',
)
CAPTION = (
    'Above: a/b against depth, the sum of the absolute terms of a gradient over the absolute value of their sum. '
    'Circles: Table 1 of Bjorck et al., 2018. Below: the histogram of the gradient of one layer, the gradient between '
    'the channels of one convolution, and the gradients with respect to the outputs, image by image.')


def measure(net, variables, images, labels):
  """How the terms of the gradient of each layer's kernel K combine, and its distribution.

  With O the output of the layer, I its input, L the mean cross-entropy of the batch, and the terms of a gradient

      d_{b,x,y} = dL/dO_{b,o,x,y} I_{b,i,x+x',y+y'},    dL/dK_{x',y',i,o} = sum_{b,x,y} d_{b,x,y},

  the measures are, with E the mean over the weights of the kernel,

      sum_of_absolute = E sum |d|,    absolute_of_sum = E |sum d|,    ratio = sum_of_absolute / absolute_of_sum.

  No term is ever stored: since |d| is |dL/dO| |I|, the sum of all |d| is what the backward pass of the convolution
  gives for absolute values. Norms are in training mode, dropout is off. Bjorck et al., arXiv:1806.02375, Table 1 and
  Figures 2, 6 and 7.

  Args:
    net: a network whose convolutions and classifier are Flax's.
    variables: {'params': ..., 'batch_stats': ...}, as of net.init or `zeroinit.load`.
    images: float32 [batch, height, width, channels], standardized; a ghost size must divide the batch.
    labels: int32 [batch].

  Returns:
    A record (dict) for each layer, as of `layers.along_depth`; floats are not finite where float32 overflows or 0 is
    divided by 0:
      layer: 1, 2, ...; name: of the layer;
      sum_of_absolute, absolute_of_sum, ratio;
      std, largest, kurtosis: of the numbers in dL/dK: standard deviation, largest magnitude, and fourth central moment
        over squared variance, 3 for a normal distribution;
      histogram: {'edges': [BINS + 1], 'counts': [BINS], 'mean', 'std'} of these numbers; None where all are zero or one
        is not finite;
      between_channels: [input channel, output channel], the sum over x', y' of |dL/dK|;
      of_outputs: only of the last layer, [batch, classes], dL_b/dO with L_b the loss of one image.
  """
  net = net.clone(method=net.method.without_randomness)
  gradient, absolute, of_outputs = jax.device_get(_backward(net, variables, images, labels))
  records = []
  for number, layer in enumerate(layers.along_depth(net, images.shape[1:]), 1):
    kernel, terms = layer.of(gradient, 'kernel').astype(float), layer.of(absolute, 'terms').astype(float)
    with np.errstate(all='ignore'):  # a number that does not exist is null in JSON
      record = {'layer': number, 'name': layer.name, 'sum_of_absolute': float(terms.mean()),
                'absolute_of_sum': float(np.abs(kernel).mean())}
      record['ratio'] = float(np.divide(record['sum_of_absolute'], record['absolute_of_sum']))
      record |= _distribution(kernel)
      record['between_channels'] = np.abs(kernel).sum(tuple(range(kernel.ndim - 2)))
    records.append(record)
  records[-1]['of_outputs'] = of_outputs
  return records


def _distribution(gradient):
  """std, largest, kurtosis and histogram of the numbers in an array."""
  largest = float(np.abs(gradient).max())
  found = {'std': float(gradient.std()), 'largest': largest}
  if not (np.isfinite(largest) and largest > 0):
    return found | {'kurtosis': float('nan'), 'histogram': None}
  scaled = gradient / largest
  centred = scaled - scaled.mean()
  counts, edges = np.histogram(scaled, BINS, (-1, 1))
  return found | {'kurtosis': float(np.divide((centred**4).mean(), (centred**2).mean() ** 2)),
                  'histogram': {'edges': (largest * edges).tolist(), 'counts': counts.tolist(),
                                'mean': float(gradient.mean()), 'std': found['std']}}


@functools.partial(compiling.jit, static_argnums=0)
def _backward(net, variables, images, labels):
  """dL/dK of all kernels, sum |d| of all as 'terms' in a tree like it, and dL_b/dO of the outputs of the network."""
  kernels = {path: leaf for path, leaf in flatten_dict(variables['params']).items() if path[-1] == 'kernel'}
  zeros = unflatten_dict({(*path[:-1], 'terms'): jnp.zeros_like(leaf) for path, leaf in kernels.items()})

  def loss(params, zeros):
    logits, _ = net.apply(variables | {'params': params, 'probes': zeros}, images, train=True, mutable=['batch_stats'])
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

  with nn.intercept_methods(_sum_absolute_terms):
    (gradient, absolute), logits = jax.grad(loss, (0, 1), has_aux=True)(variables['params'], zeros)
  return gradient, absolute, jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[-1])


def _sum_absolute_terms(call, args, kwargs, context):
  """Has the backward pass of every layer give its sum of |d|, as if it were the gradient of its zeros in 'probes'."""
  module, output = context.module, call(*args, **kwargs)
  if context.method_name != '__call__' or not module.has_variable('probes', 'terms'):
    return output
  wide = jnp.promote_types(output.dtype, jnp.float32)
  linear = module.clone(parent=None, use_bias=False, dtype=wide)

  @jax.custom_vjp
  def attach(output, inputs, zeros):
    del inputs, zeros
    return output

  def forward(output, inputs, zeros):
    return output, (inputs, zeros)

  def backward(saved, slope):
    inputs, zeros = saved
    magnitude = lambda x: jnp.abs(x).astype(wide)
    _, pull = jax.vjp(lambda kernel: linear.apply({'params': {'kernel': kernel}}, magnitude(inputs)), zeros)
    return slope, jnp.zeros_like(inputs), *pull(magnitude(slope))

  attach.defvjp(forward, backward)
  return attach(output, args[0], module.get_variable('probes', 'terms'))


def define():
  command.define()
  command.define_updates()
  command.define_layers()
  flags.DEFINE_integer('histogram', None, 'The layer whose histogram is drawn. Default: the middle one of --layers.', 1)
  flags.DEFINE_integer('heat_map', None, 'The layer whose channels are drawn. Default: the middle one of --layers.', 1)


def main(argv):
  del argv
  who, updates = command.subjects(for_gradients=True), command.updates()
  for subject in who:
    if subject.config.method.kernels != 'plain':
      raise UserError(f'{subject.label} uses its kernels {subject.config.method.kernels}, so that their gradient is no '
                      'sum over examples and positions: choose a method with plain kernels')
  prepared = [snapshots.prepared(subject, updates) for subject in who]
  chosen = [_chosen(net, image_shape(subject.config)) for subject, (net, _) in zip(who, prepared, strict=True)]
  records, notes = [], []
  with command.Measuring(len(who) * len(updates) * FLAGS.draws) as progress:
    for subject, (net, of_draw), shown in zip(who, prepared, chosen, strict=True):
      found = {}  # by the number of updates
      for done, variables, batch in progress.draws(subject, of_draw):
        measured = measure(net, variables, *batch)
        found.setdefault(done, []).append([_kept(record, shown) for record in measured])
      for done, draws in found.items():
        here = [subject.made(net, updates=done) | writing.mean(drawn) for drawn in zip(*draws, strict=True)]
        records += here
        notes += _notes(here)
      notes += command.divergence_notes(subject, found, updates)
  command.need_records(records, notes)
  if FLAGS.draws > 1:
    notes.append('Histograms, channels and outputs are of the first draw, other numbers means over all.')
  configs, nets = [subject.config for subject in who], [net for net, _ in prepared]
  title, settings = writing.title(configs, nets), writing.settings(configs, nets)
  drawn = figure.draw(title, records, bjorck_table1(settings))
  writing.write('channels', title, notes, records, drawn, CAPTION, draws=FLAGS.draws, **settings)


def _chosen(net, shape):
  """{'in_table', 'histogram', 'between_channels': layers of a network whose records have that}.

  Raises UserError where one does not exist.
  """
  found = list(layers.along_depth(net, shape))
  table = command.layer_numbers(net, found)
  center = table[(len(table) - 1) // 2]
  chosen = {'in_table': table, 'histogram': [FLAGS.histogram or center], 'between_channels': [FLAGS.heat_map or center]}
  for flag, (number,) in (('histogram', chosen['histogram']), ('heat_map', chosen['between_channels'])):
    command.need_layer(flag, number, net, len(found))
  return chosen


def _kept(record, chosen):
  """A record as the JSON has it: only some layers with a histogram and channels, and no more of them than one sees."""
  record = record | {'in_table': record['layer'] in chosen['in_table']}
  for field in ('histogram', 'between_channels'):
    if record['layer'] not in chosen[field]:
      del record[field]
  for field in {'between_channels', 'of_outputs'} & record.keys():
    shown = record[field][:MOST, :MOST]
    record[field] = [[float(f'{value:.3g}') for value in row] for row in shown]  # as exact as a colour
  return record


def _notes(records):
  """What a reader of the records or the figure would miss. records: of one network in one state."""
  what = texts.in_state(records[0]['method'], records[0]['updates'])
  zero = [record['layer'] for record in records if record['largest'] == 0]
  lost = [record['layer'] for record in records if not np.isfinite(record['sum_of_absolute'])]
  if zero:
    yield f'{what}: the gradient of {_ranges(zero)} is exactly zero, and a/b, which is 0/0, null in the JSON.'
  if lost:
    yield f'{what}: the gradient of {_ranges(lost)} exceeds float32: null in the JSON.'


def _ranges(numbers):
  """'layer 5', or 'layers 2-9, 12'. numbers: ascending."""
  runs = [[number for _, number in run] for _, run in itertools.groupby(enumerate(numbers), lambda x: x[1] - x[0])]
  text = ', '.join(f'{run[0]}' if len(run) == 1 else f'{run[0]}-{run[-1]}' for run in runs)
  return f'layer{"s" if len(numbers) > 1 else ""} {text}'


def bjorck_table1(settings):
  """{(network, method, layer): {'sum_of_absolute', 'absolute_of_sum', 'ratio'}}: Table 1 of Bjorck et al., 2018.

  settings: as of `writing.settings`; empty where they are not the paper's data and initialization.
  """
  if (settings['dataset'], settings.get('kernel_init')) != ('cifar10', 'xavier'):
    return {}
  fields = {'sum_of_absolute_gradients': 'sum_of_absolute', 'absolute_sum_of_gradients': 'absolute_of_sum',
            'gradient_sum_ratio': 'ratio'}
  found = {}
  for record in published.records(published.BJ, 'Table 1'):
    metric, _, layer = record['metric'].partition('_layer_')
    place = 'ResNet-110', record['method'], int(layer)
    found.setdefault(place, {})[fields[metric]] = record['value']
  return found


def summary(made):
  """A page.Table of the layers that were asked for. made: what channels.json holds."""
  rows, theirs = [], bjorck_table1(made)
  for record in made['records']:
    if record['in_table'] or 'histogram' in record:
      printed = theirs.get((record['network'], record['method'], record['layer']), {}) if record['updates'] == 0 else {}
      rows.append((texts.in_state(record['method'], record['updates']), str(record['layer']),
                   *(texts.number(record[field]) for field in (*FIELDS, 'std', 'kurtosis')),
                   *(texts.number(printed.get(field)) for field in FIELDS)))
  return page.Table(
      'The terms of a gradient: a, the sum of their absolute values, and b, the absolute value of their sum. The '
      'distribution of the gradient over the weights: the kurtosis of a normal distribution is 3. BJ: Bjorck et al., '
      '2018, Table 1.',
      ('method', 'layer', 'a', 'b', 'a/b', 'standard deviation', 'kurtosis', 'a, BJ', 'b, BJ', 'a/b, BJ'), tuple(rows))
