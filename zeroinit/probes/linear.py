"""Santurkar et al.'s deep linear network (arXiv:1805.11604), which `landscape` and `covariate_shift` can look at.

A chain of linear maps, with a norm between them or without, learns a linear function of Gaussian inputs by gradient
descent: no ReLU, no minibatches, and no residual branches. What a norm changes here has nothing to do with any of them.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import flags

from zeroinit.methods import Method
from zeroinit.networks.layers import kernel_initializer
from zeroinit.networks.norms import normalize
from zeroinit.probes import memory, snapshots, writing
from zeroinit.system import compiling
from zeroinit.system.errors import UserError
from zeroinit.training.config import method_of

FLAGS = flags.FLAGS


class DeepLinear(nn.Module):
  """x W_1 N ... W_{n-1} N W_n, N being the norm of the method, if it has one.

  Attributes:
    method: a row of METHODS that speaks of norms only.
    depth: n.
    width: of the input and of every layer.

  Raises:
    UserError: the method has more than a norm.
  """

  method: Method
  depth: int = 25
  width: int = 32

  kernel_init = 'lecun'  # keeps the second moment

  def __post_init__(self):
    linear = self.method.norm == 'none' or self.method.has_batch_norm
    if not linear or self.method != Method(norm=self.method.norm, ghost_size=self.method.ghost_size):
      raise UserError('--network=deep_linear has neither residual branches nor biases, so of the rows of METHODS it '
                      'takes those that are about norms only: none, batch_norm and ghost_norm')
    super().__post_init__()

  @property
  def title(self):
    return f'Linear network of {self.depth} layers and {self.width} channels'

  @nn.compact
  def __call__(self, x, train):
    """x: float32 [batch, width] -> the same shape."""
    for i in range(1, self.depth + 1):
      x = nn.Dense(self.width, use_bias=False, kernel_init=kernel_initializer(self.kernel_init), name=f'layer{i}')(x)
      if i < self.depth:
        x = normalize(self.method, x, train, name=f'norm{i}')
    return x


def task(key, examples, width):
  """Inputs, standard Gaussian, and a random linear function of them of the same second moment: [examples, width]."""
  inputs, teacher = jax.random.split(key)
  inputs = jax.random.normal(inputs, (examples, width))
  return inputs, inputs @ jax.random.normal(teacher, (width, width)) / width**0.5


def descend(net, rate, seed, examples, updates):
  """Plain gradient descent on the mean squared error over all examples, from the initialization.

  Args:
    net: a DeepLinear; rate: the learning rate; seed: of weights and task; examples: how many there are.
    updates: int, ascending.

  Yields:
    For each of `updates`, up to the last at which the parameters are finite: updates done, variables, the parameters
    one update later, and the batch, which is always the same.
  """
  weights, data = jax.random.split(jax.random.key(seed))
  batch, done = task(data, examples, net.width), 0
  variables = {'batch_stats': {}} | jax.jit(partial(net.init, train=False))(weights, batch[0][:1])
  for until in updates:
    params = _descended(net, variables, batch, rate, until - done)
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params)):
      return
    variables, done = variables | {'params': params}, until
    yield until, variables, _descended(net, variables, batch, rate, 1), batch


@partial(compiling.jit, static_argnums=0)
def _descended(net, variables, batch, rate, updates):
  """The parameters after so many updates."""
  def update(_, params):
    gradient = jax.grad(lambda params: snapshots.loss(net, variables | {'params': params}, *batch))(params)
    return jax.tree.map(lambda w, g: w - rate * g, params, gradient)

  return jax.lax.fori_loop(0, updates, update, variables['params'])


def define():
  """Defines the flags that choose this network."""
  flags.DEFINE_enum('network', 'own', ['own', 'deep_linear'], "The config's own network, or a deep linear one with the "
                    'method, rate, seed and batch size of the config.')
  flags.DEFINE_integer('linear_depth', 25, 'Layers of the deep linear network.', 2, 10_000)
  flags.DEFINE_integer('linear_width', 32, 'Width of the deep linear network.', 1, 10_000)


def title(configs, nets):
  """`writing.title`, of whichever network the flags choose."""
  return writing.title(configs, nets, None if FLAGS.network == 'own' else 'Gaussian inputs')


def settings(configs, nets):
  """`writing.settings`, of whichever network the flags choose."""
  made = writing.settings(configs, nets)
  return made if FLAGS.network == 'own' else made | {
      **dict.fromkeys(('image_size', 'momentum', 'dampening', 'weight_decay', 'classifier_init')),
      'dataset': 'Gaussian inputs'}


def prepared(subject, updates, states_of=snapshots.states):
  """`snapshots.prepared`, of whichever network the flags choose; of the linear one, its snapshots are of `descend`."""
  if FLAGS.network == 'own':
    return snapshots.prepared(subject, updates, states_of)
  if subject.checkpoint:
    raise UserError('--network=deep_linear begins at its initialization: leave out --checkpoint')
  net = DeepLinear(method_of(subject.config), FLAGS.linear_depth, FLAGS.linear_width)
  memory.need(net.title, 5 * memory.parameter_bytes(net, (net.width,)))

  def of_draw(index):
    config = subject.draw(index)
    return descend(net, config.learning_rate, config.seed, config.batch_size, updates)

  return net, of_draw
