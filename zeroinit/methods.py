"""What is compared: each method is a row of METHODS. Read this file first.

A row says what a residual network does instead of (or with) batch normalization. The network itself is
one visible line, `shortcut + alpha * h`, in `networks/blocks.py`; what a field does there is in `networks/layers.py`.
Adding one's own method is adding a row, in a file of one's own: see `examples/layer_scale.py`.

ZI is De & Smith's ZeroInit paper, SK its later version (arXiv:2002.10444), FX Fixup (arXiv:1901.09321), BJ Bjorck et
al. (arXiv:1806.02375), SA Santurkar et al. (arXiv:1805.11604).
"""

import dataclasses
import math

from zeroinit.system.errors import UserError, suggestion
from zeroinit.system.references import named, reference, short

INVERSE_SQRT_D = 'inverse_sqrt_d'  # alpha = 1/sqrt(d), d the number of residual blocks (not layers)
FUNCTIONS = ('norm', 'alpha')  # fields that may name a function of one's own


@dataclasses.dataclass(frozen=True)
class Method:
  """The choices in which methods differ. `dataclasses.replace(row, field=...)` makes a new ablation.

  Raises:
    UserError: a value outside its range, or a combination that cannot train.
  """

  # Before each ReLU, in a V1 network after each convolution: 'batch' (statistics over the whole global batch), 'ghost'
  # (over groups of ghost_size), 'none'; or a function of one's own, f(module, x, train), as 'FILE.py:FUNCTION'.
  norm: str = 'none'
  ghost_size: int = 64  # examples per ghost batch, whatever the device count; only norm='ghost' looks at it
  last_norm_only: bool = False  # a single norm, after the last block
  noisy_norm: bool = False  # SA: random shifts and scales after every norm, other ones at every update
  biases: str = 'none'  # 'channel': on every convolution; 'scalar': one number at each ReLU and convolution; 'none'
  # Initial multiplier of every residual branch, trained; or a function, f(module, branch, train), that makes the
  # multiplier; None: no multiplier.
  alpha: float | str | None = None
  merge_scale: float = 1.0  # fixed factor on (shortcut + branch)
  merge_bias: bool = False  # one trained scalar on (shortcut + branch), before the last ReLU of a V1 block
  dropout: float = 0.0  # probability of dropping a pooled feature before the classifier
  zero_init: bool = False  # FX rule 1: the last convolution of every branch and the classifier start at zero
  depth_init: bool = False  # FX rule 2: the other convolutions of a branch start scaled by L^(-1/(2m-2))
  scalar_rate: float = 1.0  # learning rate of alpha and the scalar biases, relative to the rest
  code: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)  # see `own_functions`

  def __post_init__(self):
    for field in FUNCTIONS:  # where a row is written, a function may stand for its name
      if callable(getattr(self, field)):
        object.__setattr__(self, field, named(field, getattr(self, field)))
    if self.norm not in ('none', 'batch', 'ghost') and not reference(self.norm):
      raise UserError(f"method.norm is {self.norm!r}; it must be 'none', 'batch', 'ghost', or FILE.py:FUNCTION")
    if self.biases not in ('none', 'channel', 'scalar'):
      raise UserError(f"method.biases is {self.biases!r}; it must be 'none', 'channel' or 'scalar'")
    if self.norm == 'none' and self.last_norm_only:
      raise UserError("method.last_norm_only says where the norm is, and method.norm is 'none': choose a norm")
    if self.norm != 'batch' and self.noisy_norm:
      raise UserError("method.noisy_norm is for method.norm='batch', since its noise is drawn for a whole batch; "
                      f'method.norm is {self.norm!r}')
    if self.ghost_size < 1:
      raise UserError(f'method.ghost_size is {self.ghost_size}; it must be at least 1')
    if not 0 <= self.dropout < 1:
      raise UserError(f'method.dropout is {self.dropout}; it is the probability of dropping, from 0 to below 1')
    if not (math.isfinite(self.merge_scale) and self.merge_scale > 0):
      raise UserError(f'method.merge_scale is {self.merge_scale}; it must be a positive number')
    if not (math.isfinite(self.scalar_rate) and self.scalar_rate >= 0):
      raise UserError(f'method.scalar_rate is {self.scalar_rate}; it must be zero or a positive number')
    if self.alpha not in (None, INVERSE_SQRT_D) and not reference(self.alpha):
      if type(self.alpha) not in (int, float) or not math.isfinite(self.alpha):
        raise UserError(f'method.alpha is {self.alpha!r}; it must be a number, {INVERSE_SQRT_D}, '
                        'FILE.py:FUNCTION, or none')
      object.__setattr__(self, 'alpha', float(self.alpha))  # so that 0 and 0.0 have one label
      if self.alpha == 0 and self.zero_init:
        raise UserError('method.alpha=0 with method.zero_init: each zero hides the other from the gradient, so the '
                        'branches would stay dead for ever; use one of the two')

  @property
  def functions(self):
    """{field: (file, function)} of the fields that name a function of one's own."""
    found = {field: reference(getattr(self, field)) for field in FUNCTIONS}
    return {field: names for field, names in found.items() if names}

  @property
  def has_batch_statistics(self):
    """Whether a norm here takes statistics over examples; what one of one's own does is not known."""
    return self.norm in ('batch', 'ghost')

  @property
  def inner(self):
    """The method of everything but the last norm."""
    without = {'norm': 'none', 'last_norm_only': False, 'noisy_norm': False}
    return dataclasses.replace(self, **without) if self.last_norm_only else self

  @property
  def without_randomness(self):
    """The method without what it draws at random in training."""
    return dataclasses.replace(self, dropout=0.0, noisy_norm=False)


METHODS = {
    # With normalization. ZI's "batch normalization" is ghost_norm everywhere but in its Figures 3 and 4.
    'batch_norm': Method(norm='batch'),
    'ghost_norm': Method(norm='ghost', ghost_size=64),
    'batch_norm_last': Method(norm='batch', last_norm_only=True),  # BJ, section 4: two thirds of the gain
    'noisy_batch_norm': Method(norm='batch', noisy_norm=True),  # SA, Figure 2: is it the stable distributions?
    # Without: ZI, Table 1.
    'none': Method(),
    'biases': Method(biases='channel'),
    'dropout': Method(dropout=0.6),
    'multiplier': Method(alpha=0.0),  # SK calls it SkipInit (alpha = 0)
    'biases_dropout': Method(biases='channel', dropout=0.6),
    'zeroinit': Method(biases='channel', dropout=0.6, alpha=0.0),  # SK: regularized SkipInit
    'zeroinit_no_dropout': Method(biases='channel', alpha=0.0),
    # ZI, Table 5: what ZeroInit lacks in a V1 network, whose shortcut is not linear.
    'zeroinit_scalar_bias': Method(biases='channel', dropout=0.6, alpha=0.0, merge_bias=True),
    # SK: is it the multiplier, or that the branch starts small?
    'skipinit_alpha_1': Method(alpha=1.0),
    'skipinit_alpha_inverse_sqrt_d': Method(alpha=INVERSE_SQRT_D),
    'divide_by_sqrt2': Method(merge_scale=math.sqrt(0.5)),
    # FX: four rules. The last two rows keep its scalars (rules 3 and 4) and only one of the rules of initialization.
    'fixup': Method(biases='scalar', alpha=1.0, zero_init=True, depth_init=True),
    'fixup_dropout': Method(biases='scalar', alpha=1.0, zero_init=True, depth_init=True, dropout=0.6),
    'fixup_zero_only': Method(biases='scalar', alpha=1.0, zero_init=True),
    'fixup_rescale_only': Method(biases='scalar', alpha=1.0, depth_init=True),
}


def row(name):
  """The method of that name. Raises UserError, listing the names, where there is none."""
  if name not in METHODS:
    raise UserError(f'unknown method {name!r}; the rows of METHODS are: {", ".join(METHODS)}'
                    + suggestion(name, METHODS))
  return METHODS[name]


def label(name, method):
  """The row's name, followed by the fields in which `method` departs from it: 'zeroinit(dropout=0.2)'.

  The name alone where there is no such row, as for a run of a method of one's own whose file was not named.
  """
  fields = lambda of: {field.name: short(getattr(of, field.name))
                       for field in dataclasses.fields(Method) if field.name != 'code'}
  here, there = fields(method), fields(METHODS.get(name, method))
  changed = [f'{field}={value}' for field, value in here.items() if value != there[field]]
  return f'{name}({", ".join(changed)})' if changed else name
