"""Which values the fields of a `Method` can have, and which not together."""

import dataclasses
import math

from zeroinit.system.errors import UserError, suggestion
from zeroinit.system.references import reference

# Multipliers of a branch: 1/sqrt(d) and 1/d, d the number of residual blocks (not layers).
INVERSE_SQRT_D, INVERSE_D = 'inverse_sqrt_d', 'inverse_d'

# Values of `norm`, by the examples on which what it makes of one depends.
OVER_THE_BATCH = ('batch', 'batch_renorm')
BY_EXAMPLE = ('none', 'group', 'layer', 'instance', 'filter_response', 'evonorm_s0', 'dynamic_tanh', 'derf')
NORMS = (*OVER_THE_BATCH, 'ghost', *BY_EXAMPLE)
# Of these fields, the values.
CHOICES = {
    'norm': NORMS,
    'activation': ('relu', 'scaled_relu', 'thresholded', 'none'),
    'kernels': ('plain', 'standardized', 'scaled'),
    'biases': ('none', 'channel', 'scalar'),
}
NUMBERS = ('alpha', 'branch_scale')  # fields that may also be words


def check(method):
  """Raises UserError, naming the field and what to do, where a value or a combination of values makes no sense."""
  for field in dataclasses.fields(method):
    value = getattr(method, field.name)
    if field.type in (bool, int, float, str) and not fits(value, field.type):
      raise UserError(f'method.{field.name} is {value!r}; it must be of the type {field.type.__name__}')
  for field, values in CHOICES.items():
    value = getattr(method, field)
    if value not in values and not (field == 'norm' and reference(value)):
      raise UserError(f'method.{field} is {value!r}; it must be one of: {", ".join(values)}'
                      + (', or FILE.py:FUNCTION' if field == 'norm' else '') + suggestion(value, values))
  if method.norm == 'none' and method.last_norm_only:
    raise UserError("method.last_norm_only says where the norm is, and method.norm is 'none': choose a norm")
  if method.norm != 'batch' and method.noisy_norm:
    raise UserError("method.noisy_norm is for method.norm='batch', since its noise is drawn for a whole batch; "
                    f'method.norm is {method.norm!r}')
  for field in ('ghost_size', 'groups'):
    if getattr(method, field) < 1:
      raise UserError(f'method.{field} is {getattr(method, field)}; it must be at least 1')
  if (method.norm == 'evonorm_s0') != (method.activation == 'none'):
    raise UserError(f"method.norm is {method.norm!r} and method.activation {method.activation!r}: 'evonorm_s0' is norm "
                    "and activation in one, so it goes with activation='none', and nothing else does")
  if method.norm == 'evonorm_s0' and method.last_norm_only:
    raise UserError("method.norm='evonorm_s0' is also the activation, so method.last_norm_only would leave a linear "
                    'network: leave it off')
  if method.kernels != 'plain' and (method.zero_init or method.depth_init):
    raise UserError(f'method.kernels is {method.kernels!r}, which undoes the scale at which kernels start, and '
                    "method.zero_init and depth_init are about that: use kernels='plain'")
  if method.kernels == 'standardized' and (method.norm == 'none' or method.last_norm_only):
    raise UserError("method.kernels='standardized' multiplies by the root of fan_in, which a norm must divide by: "
                    "choose a norm, or kernels='scaled'")
  if not 0 <= method.dropout < 1:
    raise UserError(f'method.dropout is {method.dropout}; it is the probability of dropping, from 0 to below 1')
  if not (math.isfinite(method.merge_scale) and method.merge_scale > 0):
    raise UserError(f'method.merge_scale is {method.merge_scale}; it must be a positive number')
  for field in ('scalar_rate', 'clip'):
    if not (math.isfinite(getattr(method, field)) and getattr(method, field) >= 0):
      raise UserError(f'method.{field} is {getattr(method, field)}; it must be zero or a positive number')
  if method.branch_scale not in (INVERSE_SQRT_D, INVERSE_D) and not (_is_number(method.branch_scale)
                                                                     and method.branch_scale):
    raise UserError(f'method.branch_scale is {method.branch_scale!r}; it must be a number other than 0, '
                    f'{INVERSE_SQRT_D} or {INVERSE_D}')
  if method.alpha_per_channel and (method.alpha is None or reference(method.alpha)):
    raise UserError('method.alpha_per_channel is about a trained multiplier: give method.alpha a number')
  if method.alpha not in (None, INVERSE_SQRT_D, INVERSE_D) and not reference(method.alpha):
    if not _is_number(method.alpha):
      raise UserError(f'method.alpha is {method.alpha!r}; it must be a number, {INVERSE_SQRT_D}, {INVERSE_D}, '
                      'FILE.py:FUNCTION, or none')
    if method.alpha == 0 and method.zero_init:
      raise UserError('method.alpha=0 with method.zero_init: each zero hides the other from the gradient, so the '
                      'branches would stay dead for ever; use one of the two')


def fits(value, kind):
  """Whether a value can stand in a field of that type: a whole number also in one of floats, True and False in neither.
  """
  return isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)


def _is_number(value):
  return type(value) is float and math.isfinite(value)
