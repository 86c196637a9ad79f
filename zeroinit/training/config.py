"""The fields of a run's config, what each means, and whether their values go together."""

import dataclasses
import math
import os

import numpy as np
from ml_collections import ConfigDict, config_dict

from zeroinit import data, methods, ranges
from zeroinit.networks import own_functions
from zeroinit.networks.layers import CLASSIFIER_INITS, KERNEL_INITS
from zeroinit.system import references, settings, users_files
from zeroinit.system.errors import UserError, suggestion
from zeroinit.training.optimizer import WEIGHT_DECAY_ON

NETWORKS = ('wide_resnet', 'cifar_resnet', 'resnet50_v1', 'resnet50_v2', 'vgg')  # see recipe.network

# May differ between a run and its continuation, since they change no number.
NOT_COMPARED = ('data_dir', 'data_workers', 'checkpoint_seconds', 'tensorboard', 'profile')


def base_config(method):
  """Every field of a run, at the ZeroInit paper's protocol for CIFAR-10. `method` is the name of a row of METHODS."""
  config = ConfigDict()

  # Data.
  config.dataset = 'cifar10'  # a file of zeroinit/data, tfds:NAME, folder:PATH, or one's own, FILE.py:FUNCTION
  config.data_dir = ''  # where to look for it; empty: $TFDS_DATA_DIR, then ~/tensorflow_datasets
  config.data_workers = 0  # threads that decode what streams from disk; 0: one for each CPU
  config.image_size = 0  # pixels; 0: as they are stored. ImageNet is cut to any size
  config.crop = 'reflect'  # pad by 4 pixels and crop: 'reflect', 'zero'; ImageNet: 'random_resized'; or 'none'
  config.flip = True  # mirror half of the training images

  # Network, with a method in the place of normalization.
  config.network = 'wide_resnet'  # or another of NETWORKS; or one's own, FILE.py:FUNCTION
  config.depth = 16  # layers; 50 for a ResNet-50, 16 for a VGG
  config.width = 4  # of a Wide-ResNet; 1 for the others
  config.bottleneck_stride = '1x1'  # which convolution of a ResNet-50's block has the stride: the first, or '3x3'
  config.kernel_init = 'he'  # how convolutions start: a row of layers.KERNEL_INITS
  config.classifier_init = 'zero'  # how the classifier starts: a row of layers.CLASSIFIER_INITS
  config.method = method_fields(method)
  config.dtype = 'float32'  # of the computation, or 'bfloat16'; parameters and loss are float32 in both
  config.matmul_precision = 'default'  # of float32 products and convolutions; or 'high', 'highest': settings.PRECISIONS
  config.remat = False  # recompute blocks in the backward pass: less memory, more work

  # Optimization.
  config.batch_size = 64  # examples per update, over all devices
  config.micro_batches = 1  # parts of a batch whose gradients are accumulated; on CPUs at least so many
  config.learning_rate = 0.125
  config.epochs = 200.0
  config.first_drop = 1 / 2  # the rate is constant for so much of the run, then divided by drop_by,
  config.drop_every = 1 / 20  # and again after every further such part of the run
  config.drop_by = 2.0  # He et al. (arXiv:1512.03385): first_drop 1/4, drop_every 1/4, drop_by 10 are three drops
  config.plateau_epochs = 0  # drop it also after so many epochs without a lower training loss; 0: by the calendar only
  config.momentum = 0.9
  # v <- momentum * v + (1 - dampening) * gradient. 0.9: rates are the papers', which are effective ones; 0: the usual
  # heavy ball, in which a tenth of the rate does the same.
  config.dampening = 0.9
  config.weight_decay = 5e-4
  config.weight_decay_on = 'kernels'  # or 'all_but_norm', or 'all'
  config.seed = 0
  config.deterministic = False  # the same numbers to the last bit each time on a GPU too, more slowly

  # Record keeping.
  config.evaluations = 20  # evenly spaced over the run
  config.eval_batch_size = 1000
  config.checkpoint_seconds = 60.0  # at most so much work is lost when a run is killed
  config.tensorboard = True  # write TensorBoard events beside metrics.jsonl
  config.profile = False  # trace a few steps into workdir/profile, for xprof
  return config


def method_fields(name):
  """The `method` part of a config: the row's name and its fields, each of which may be overridden."""
  row = methods.row(name)
  fields = ConfigDict({'name': name, **dataclasses.asdict(row)})
  del fields.code
  for field in ranges.NUMBERS:
    del fields[field]
    fields[field] = config_dict.placeholder(object)
    fields[field] = getattr(row, field)
  return fields


def method_of(config):
  """The `Method` that config.method describes, with the code of its functions: see `own_functions`.

  Raises:
    UserError: a value is none it can have, or there is no such function.
  """
  fields = config.method.to_dict()
  del fields['name']
  if fields['alpha'] == 'none':  # as a flag says it
    fields['alpha'] = None
  return own_functions.complete(methods.Method(**fields))


def functions(config):
  """{field: (file, function)} of the fields that name a function of one's own, such as 'dataset', 'method.norm'"""
  fields = {'dataset': config.dataset, 'network': config.network,
            **{f'method.{field}': config.method[field] for field in methods.FUNCTIONS}}
  found = {field: references.reference(value) for field, value in fields.items()}
  return {field: named for field, named in found.items() if named}


def code_of(config):
  """[(name, text)] of the files in which these functions are. Raises UserError where two have one name."""
  return sorted(users_files.texts(file for file, _ in functions(config).values()).items())


def move(config, directory):
  """Has the functions of a config looked for in a directory, where copies of their files are."""
  for field, (file, function) in functions(config).items():
    *group, name = field.split('.')
    (config[group[0]] if group else config)[name] = f'{directory / os.path.basename(file)}:{function}'


def described(config):
  """Every field as a nested dict, as config.json has it: a function of one's own is named without directories."""
  fields = config.to_dict()
  for group in (fields, fields['method']):
    group.update({name: references.short(value) for name, value in group.items()})
  return fields | {'dataset': data.located(fields['dataset'])}


def compared_fields(config, prefix=''):
  """{'method.alpha': 0.0, ...} of a nested config, without the fields that change no number."""
  flat = {}
  for name, value in config.items():
    if isinstance(value, dict):
      flat |= compared_fields(value, f'{prefix}{name}.')
    elif prefix + name not in NOT_COMPARED:
      flat[prefix + name] = data.short(value) if prefix + name == 'dataset' else value
  return flat


def method_label(config):
  """The row's name, and the fields in which the config departs from it."""
  return methods.label(config.method.name, method_of(config))


def check(config):
  """Raises UserError, naming the field and what to do, where a value or a combination of values makes no sense."""
  def need(condition, message):
    if not condition:
      raise UserError(message)

  def positive(field):
    need(math.isfinite(config[field]) and config[field] > 0, f'{field} is {config[field]}; it must be positive')

  def one_of(field, *values):
    if config[field] not in values:
      raise UserError(f'{field} is {config[field]!r}; it must be one of: {", ".join(values)}'
                      + suggestion(config[field], values))

  _check_fields(config)
  limits = np.finfo(np.float32)
  need(float(limits.tiny) <= config.learning_rate <= float(limits.max),
       f'learning_rate is {config.learning_rate}; it must be a positive number that float32 can hold')
  for field in ('batch_size', 'micro_batches', 'epochs', 'evaluations', 'eval_batch_size'):
    positive(field)
  info = data.info(config.dataset, config.data_dir)
  images = f'the images of {data.short(config.dataset)}'
  if info.image_size is None:
    need(config.crop in info.crops, f'crop is {config.crop!r}; {images} are of several sizes: pass '
         '--config.crop=random_resized, or none, and as --config.image_size the size to which they are cut')
    need(1 <= config.image_size <= 4096, f'image_size is {config.image_size}; it must be from 1 to 4096, to which '
         f'{images}, of several sizes, are cut')
  else:
    need(config.image_size in (0, info.image_size), f'image_size is {config.image_size}; {images} have '
         f'{info.image_size} pixels')
    need(config.crop in info.crops, f'crop is {config.crop!r}; for {images}, of {info.image_size} pixels, it must be '
         f'one of: {", ".join(info.crops)}' + suggestion(config.crop, info.crops))
  need(0 <= config.data_workers <= 1024, f'data_workers is {config.data_workers}; it must be from 0 to 1024')
  own_network = 'network' in functions(config)
  need(own_network or config.network in NETWORKS, f'network is {config.network!r}; it must be one of: '
       f'{", ".join(NETWORKS)}; or FILE.py:FUNCTION' + suggestion(config.network, NETWORKS))
  one_of('bottleneck_stride', '1x1', '3x3')
  one_of('kernel_init', *KERNEL_INITS)
  one_of('classifier_init', *CLASSIFIER_INITS)
  bottlenecks = config.network.startswith('resnet50')
  need(config.depth == 50 or not bottlenecks, f'depth is {config.depth}; a {config.network} has 50 layers')
  if config.network == 'vgg':
    need(config.depth == 16, f'depth is {config.depth}; a vgg has 16 layers: use depth=16')
    need(not config.remat, 'remat recomputes residual blocks, and a vgg has none: leave it off')
  need(config.width == 1 or config.network == 'wide_resnet' or own_network,
       f'width is {config.width}; a {config.network} has one width: use width=1')
  need(config.bottleneck_stride == '1x1' or bottlenecks,
       f'bottleneck_stride is {config.bottleneck_stride}; a {config.network} has no bottlenecks: leave it at 1x1')
  one_of('dtype', 'float32', 'bfloat16')
  one_of('matmul_precision', *settings.PRECISIONS)
  one_of('weight_decay_on', *WEIGHT_DECAY_ON)
  need(0 <= config.momentum < 1, f'momentum is {config.momentum}; it must be at least 0 and below 1')
  need(0 <= config.dampening < 1, f'dampening is {config.dampening}; it must be at least 0 and below 1')
  need(config.momentum or not config.dampening,
       f'momentum is 0, so a dampening of {config.dampening:g} would only make the rate smaller: use dampening=0')
  for field in ('first_drop', 'drop_every'):
    need(0.001 <= config[field] <= 1, f'{field} is {config[field]}; it is a fraction of the run, from 0.001 to 1')
  need(0 <= config.plateau_epochs < 2**31, f'plateau_epochs is {config.plateau_epochs}; it must be from 0 to 2^31 - 1')
  need(config.evaluations <= 10**6, f'evaluations is {config.evaluations}; a million is the most that can be recorded')
  need(config.drop_by > 1 or not config.plateau_epochs, 'plateau_epochs needs a drop_by above 1')
  need(1 <= config.drop_by <= 1e6, f'drop_by is {config.drop_by}; it must be from 1 to 1e6')
  need(math.isfinite(config.weight_decay) and config.weight_decay >= 0,
       f'weight_decay is {config.weight_decay}; it must be zero or positive')
  need(0 <= config.seed < 2**32, f'seed is {config.seed}; it must be from 0 to 2^32 - 1')
  need(config.checkpoint_seconds >= 0,
       f'checkpoint_seconds is {config.checkpoint_seconds}; it must be zero or positive')

  method = method_of(config)
  batch, parts = config.batch_size, config.micro_batches
  need(batch % parts == 0, f'micro_batches is {parts}, which does not divide batch_size {batch}')
  need(method.norm not in ranges.OVER_THE_BATCH or parts == 1,
       f'a norm like {method.norm!r} takes its statistics over the whole batch, which micro_batches={parts} never has '
       'in one piece; use micro_batches=1, or ghost_norm with a ghost_size that divides the micro-batch')
  ghost = min(method.ghost_size, batch)
  need(method.norm != 'ghost' or (batch // parts) % ghost == 0,
       f'method.ghost_size is {method.ghost_size}, which does not divide '
       + (f'the micro-batch of {batch // parts} (batch_size {batch} / micro_batches {parts})' if parts > 1
          else f'batch_size {batch}'))


def _check_fields(config):
  """Raises UserError where a field is missing, unknown or of another type, as a user's own file may have it."""
  if not isinstance(config, ConfigDict):
    raise UserError(f'get_config must return a config, as base_config makes it, and returned {config!r}')
  for reference, group, prefix in ((_REFERENCE, config, ''), (_REFERENCE.method, config.get('method'), 'method.')):
    if not isinstance(group, ConfigDict):
      raise UserError(f'{prefix[:-1]} is {group!r}; it must be the fields of a row of METHODS')
    unknown = sorted(map(str, set(group) - set(reference)))
    if unknown:
      raise UserError(f'there is no field {prefix}{unknown[0]}{suggestion(unknown[0], reference)}')
    for name, kind in ((name, type(expected)) for name, expected in reference.items()):
      value = group.get(name)
      if not ranges.fits(value, kind) and name not in ranges.NUMBERS:
        raise UserError(f'{prefix}{name} is {value!r}; it must be {_KINDS[kind]}')
      if isinstance(value, int) and abs(value) >= 2**63:
        raise UserError(f'{prefix}{name} is too large: 2^63 is more than can be reckoned with')


_REFERENCE = base_config('none')
_KINDS = {int: 'a whole number', float: 'a number', bool: 'True or False', str: 'a text',
          ConfigDict: 'a row of METHODS'}


def notes(config):
  """Lines to say at the start of a run: what a config means where that is not what its words say."""
  method = method_of(config)
  if method.norm == 'ghost' and method.ghost_size > config.batch_size:
    yield (f'ghost_size {method.ghost_size} is larger than batch_size {config.batch_size}: '
           f'one ghost batch of {config.batch_size}')
