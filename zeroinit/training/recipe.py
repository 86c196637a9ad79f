"""From a config to what a training step is made of: the network, the schedule, and the devices."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from zeroinit import data
from zeroinit.networks.own_network import build
from zeroinit.networks.resnet import CifarResNet, ResNet50V1, ResNet50V2, WideResNet
from zeroinit.networks.vgg import VGG
from zeroinit.system import environment, processes
from zeroinit.system.errors import UserError
from zeroinit.training.config import functions, method_of
from zeroinit.training.optimizer import Plateau, Schedule, stepwise

CACHE = 2**20  # bytes of one activation that a thread keeps near


class DoesNotDivide(UserError):
  """The devices of several processes do not divide a batch; every one of the processes sees it."""


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Everything in which one compiled program differs from another. Learning rate and seed are not in it.

  Attributes:
    net: the network.
    schedule: the learning rate as a factor on the one that is tuned.
    batch_size: examples per update, over all devices.
    micro_batches: parts into which a batch is cut, whose gradients are accumulated; on CPUs see `in_the_cache`.
    plateau: what else lowers the rate, or None.
    momentum, dampening, weight_decay, weight_decay_on: see `optimizer`.
    crop, flip, mean, std: see `batches`.
    image_shape: (height, width, channels).
    deterministic: whether a GPU must give the same numbers each time, see `compiling.DETERMINISTIC`.
    mesh: the devices, on one axis 'data' along which a batch is divided.
  """

  net: nn.Module
  schedule: Schedule
  plateau: Plateau | None
  batch_size: int
  micro_batches: int
  momentum: float
  dampening: float
  weight_decay: float
  weight_decay_on: str
  crop: str
  flip: bool
  mean: tuple[float, ...]
  std: tuple[float, ...]
  image_shape: tuple[int, int, int]
  deterministic: bool
  mesh: Mesh

  @property
  def replicated(self):
    """The sharding of what every device holds whole."""
    return NamedSharding(self.mesh, PartitionSpec())

  def divided(self, axis=0):
    """The sharding of a batch whose examples lie along `axis`."""
    return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, 'data'))


def is_deterministic(recipe, *args, **kwargs):
  """Of the arguments of a training step or an evaluation, for `compiling.jit`."""
  return recipe.deterministic


def network(config):
  """The network that a config describes."""
  shared = {'method': method_of(config), 'num_classes': data.info(config.dataset, config.data_dir).num_classes,
            'dtype': {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}[config.dtype], 'remat': config.remat,
            'kernel_init': config.kernel_init, 'classifier_init': config.classifier_init}
  if named := functions(config).get('network'):
    return build(*named, {**shared, 'depth': config.depth, 'width': config.width})
  match config.network:
    case 'wide_resnet':
      return WideResNet(depth=config.depth, width=config.width, **shared)
    case 'cifar_resnet':
      return CifarResNet(depth=config.depth, **shared)
    case 'resnet50_v1':
      return ResNet50V1(bottleneck_stride=config.bottleneck_stride, **shared)
    case 'resnet50_v2':
      return ResNet50V2(bottleneck_stride=config.bottleneck_stride, **shared)
    case 'vgg':
      del shared['remat']  # there are no blocks
      return VGG(**shared)


def schedule(config, train_examples):
  """The learning rate's course over a run on a training set of that size, as a factor."""
  return stepwise(config.epochs, config.batch_size, train_examples,
                  config.first_drop, config.drop_every, config.drop_by)


def _plateau(config, train_examples):
  return Plateau(config.plateau_epochs, train_examples // config.batch_size, config.drop_by) \
      if config.plateau_epochs else None


def image_shape(config):
  """(height, width, channels) of what the network sees."""
  info = data.info(config.dataset, config.data_dir)
  size = config.image_size or info.image_size
  return size, size, info.channels


def make_recipe(config, train_examples, devices=None):
  """The recipe that a config describes, for a training set of that size.

  A (micro-)batch that the device count does not divide uses the largest number of devices that divides it.
  devices: those to use; default all.

  Raises:
    DoesNotDivide: that would leave out devices where several processes train together.
  """
  devices = devices or jax.devices()
  micro_batch = config.batch_size // config.micro_batches
  used = next(n for n in range(len(devices), 0, -1) if micro_batch % n == 0)
  if used < len(devices) and processes.count() > 1:
    raise DoesNotDivide(f'{len(devices)} devices in {processes.count()} processes do not divide a (micro-)batch of '
                        f'{micro_batch}; use another batch_size or micro_batches, or fewer processes')
  info, net = data.info(config.dataset, config.data_dir), network(config)
  parts = config.micro_batches
  # Not where code of one's own may look at the batch, nor where several hosts would have to agree.
  cut = config.network in ('wide_resnet', 'cifar_resnet') and functions(config).keys() <= {'dataset'}
  if cut and devices[0].platform == 'cpu' and processes.count() == 1:
    parts = config.batch_size // in_the_cache(micro_batch, used, net.method, config.width, image_shape(config))
  return Recipe(
      net=net,
      schedule=schedule(config, train_examples), plateau=_plateau(config, train_examples),
      batch_size=config.batch_size, micro_batches=parts,
      momentum=config.momentum, dampening=config.dampening,
      weight_decay=config.weight_decay, weight_decay_on=config.weight_decay_on,
      crop=config.crop, flip=config.flip, mean=info.mean, std=info.std, image_shape=image_shape(config),
      deterministic=config.deterministic,
      # Not jax.make_mesh, which on a TPU refuses some numbers of chips.
      mesh=Mesh(np.array(devices[:used]), ('data',), axis_types=(AxisType.Auto,)))


def in_the_cache(examples, devices, method, width, image_shape):
  """Into parts of how many examples CPUs best cut a (micro-)batch: docs/speed.md, "In parts that fit the cache".

  As nearly as they divide it, parts of which an activation of the first stage, float32 [examples, height, width,
  16 * width], is CACHE bytes for each thread, but 4 examples at least: every part adds to all gradients once more.
  Parts change no statistic: each device has whole groups of the examples that a norm lets depend on each other, or the
  batch is not cut.
  """
  together = devices * method.examples_together(examples)
  height, across, _ = image_shape
  threads = max(environment.threads() // jax.local_device_count(), 1) * devices
  room = threads * max(CACHE / (height * across * 16 * width * 4), 4)
  sizes = [size for size in range(together, examples, together) if examples % size == 0] + [examples]
  return min(sizes, key=lambda size: abs(math.log(size / room)))
