"""A network of one's own, FILE.py:FUNCTION, with what is asked of a network besides its logits.

FUNCTION, often the class itself, returns a flax module whose __call__(images, train) gives logits. It is called with
those of FIELDS that it names. What is a `ResNet` is used as it is; see examples/plain_network.py.
"""

import dataclasses
import functools
import inspect
import os
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from zeroinit import own
from zeroinit.methods import Method
from zeroinit.networks.resnet import ResNet
from zeroinit.system import users_files
from zeroinit.system.errors import UserError
from zeroinit.system.references import reference

FIELDS = ('method', 'num_classes', 'dtype', 'remat', 'kernel_init', 'classifier_init', 'depth', 'width')
COLLECTIONS = {'params', 'batch_stats'}  # of variables: those that a run keeps


@dataclasses.dataclass(frozen=True)
class OwnNetwork:
  """What stands in the place of a `ResNet`, and is used like it.

  Attributes:
    name: FILE.py:FUNCTION without directories; text: of the file.
    given: {field: value} of all FIELDS, as pairs; what the function does not name makes no difference.
  """

  name: str
  text: str = dataclasses.field(repr=False)
  given: tuple[tuple[str, Any], ...]

  def __getattr__(self, field):  # method, num_classes, dtype and the like
    if field in FIELDS:
      return dict(self.given)[field]
    raise AttributeError(field)

  @property
  def title(self):
    """As WRN-16-4 is called: the function, and the depth and width that it takes."""
    numbers = [str(value) for field, value in self.given if field in ('depth', 'width') and field in self.taken]
    return '-'.join([reference(self.name)[1], *numbers])

  @property
  def taken(self):
    """Those of FIELDS that the function names."""
    return _taken(self.name, self.text)

  @property
  def left(self):
    """The others, whose values change nothing."""
    return tuple(field for field in FIELDS if field not in self.taken)

  @property
  def module(self):
    """The flax module."""
    return _module(self)

  def clone(self, **changed):
    """The same network with other FIELDS."""
    return dataclasses.replace(self, given=tuple({**dict(self.given), **changed}.items()))

  def init(self, key, images, train=False):
    """Its variables. Raises UserError where it fails, or has collections that a run would not keep."""
    with users_files.users_code(self.name):
      variables = self.module.init(key, images, train=train)
    if strange := set(variables) - COLLECTIONS:
      raise UserError(f'{self.name} has variables in {", ".join(sorted(strange))}; a run keeps only those in '
                      f'{" and ".join(sorted(COLLECTIONS))}')
    return variables

  def apply(self, variables, images, train, example=None, **options):
    """Logits, at least float32 [batch, num_classes]; and what has changed, where something is mutable.

    Raises:
      UserError: it fails, or returns something else, or of another shape.
    """
    more = {'example': example} if 'example' in inspect.signature(type(self.module).__call__).parameters else {}
    with users_files.users_code(self.name), nn.intercept_methods(_drop_where_random):
      made = self.module.apply(variables, images, train=train, **more, **options)
    logits, changed = made if options.get('mutable') else (made, None)
    shape = (len(images), self.num_classes)
    if not isinstance(logits, jax.Array):
      raise UserError(f'{self.name} gives a {type(logits).__name__}; it must give one array, logits {list(shape)}')
    if logits.shape != shape:
      raise UserError(f'{self.name} gives {list(logits.shape)} for images {list(images.shape)}; it must give logits '
                      f'{list(shape)}, [batch, classes]')
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return (logits, changed) if options.get('mutable') else logits

  def multiply_adds(self, image_shape):
    """Multiplications with additions for one image (height, width, channels), as XLA counts them."""
    return _multiply_adds(self, tuple(image_shape))

  def activations(self, image_shape):
    """Numbers in the outputs of its layers, for one image (height, width, channels)."""
    image, key = jnp.zeros((1, *image_shape)), jax.random.key(0)
    run = lambda: self.module.apply(self.init(key, image), image, train=False, capture_intermediates=True)[1]
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(jax.eval_shape(run)))


def build(file, function, fields):
  """The network that a function in a file makes: an `OwnNetwork`, or a `ResNet` where it is one.

  fields: {field: value} of all FIELDS.

  Raises:
    UserError: there is no such file or function, it fails, makes no flax module, or takes no method where one is given.
  """
  made = OwnNetwork(f'{os.path.basename(file)}:{function}', users_files.read(file), tuple(fields.items()))
  if 'method' not in made.taken and fields['method'] != Method():
    raise UserError(f'{made.name} takes no method, so that it would be the same network with every one: use the method '
                    'none, or give it a parameter called method')
  return made.module if isinstance(made.module, ResNet) else made


@functools.cache
def _taken(name, text):
  function = own.function(*reference(name), text)
  try:
    parameters = inspect.signature(function).parameters.values()
  except (TypeError, ValueError):
    parameters = ()
  if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
    return FIELDS
  return tuple(parameter.name for parameter in parameters if parameter.name in FIELDS)


@functools.cache
def _module(network):
  function = own.function(*reference(network.name), network.text)
  with users_files.users_code(network.name):
    made = function(**{field: value for field, value in network.given if field in network.taken})
  if not isinstance(made, nn.Module):
    raise UserError(f'{network.name} returns {made!r}; it must return a flax module')
  call = inspect.signature(type(made).__call__)
  try:
    call.bind(made, 'images', train=True)
  except TypeError:
    there = ', '.join(list(call.parameters)[1:]) or 'none'
    raise UserError(f'the __call__ of {network.name} has the parameters {there}; it must take images and train, as in '
                    '__call__(self, images, train)') from None
  return made


def _drop_where_random(call, args, kwargs, context):
  """flax's dropout, which fails without random numbers, lets everything through where there are none, as in probes."""
  module = context.module
  if isinstance(module, nn.Dropout) and context.method_name == '__call__' and not module.has_rng(module.rng_collection):
    return args[0] if args else kwargs['inputs']
  return call(*args, **kwargs)


@functools.cache
def _multiply_adds(network, image_shape):
  image = jnp.zeros((1, *image_shape))
  variables = jax.eval_shape(lambda key: network.init(key, image), jax.random.key(0))
  lowered = jax.jit(lambda variables: network.apply(variables, image, False)).lower(variables)
  return (lowered.cost_analysis() or {}).get('flops', 0.0) / 2
