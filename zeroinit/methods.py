"""What is compared: each method is a row of METHODS. Read this file first.

A row says what a residual network does instead of (or with) batch normalization. The network itself is
one visible line, `shortcut + alpha * h`, in `networks/blocks.py`; what a field does there is in `networks/layers.py`,
and what a norm does in `networks/norms.py`. Adding one's own method is adding a row, in a file of one's own: see
`examples/bounded_alpha.py`.

ZI is De & Smith's ZeroInit paper, SK its later version (arXiv:2002.10444), FX Fixup (arXiv:1901.09321), BJ Bjorck et
al. (arXiv:1806.02375), SA Santurkar et al. (arXiv:1805.11604), NF Brock et al. (arXiv:2101.08692).
"""

import dataclasses
import math

from zeroinit.ranges import BY_EXAMPLE, INVERSE_D, INVERSE_SQRT_D, NUMBERS, check
from zeroinit.system.errors import UserError, suggestion
from zeroinit.system.references import named, reference, short

FUNCTIONS = ('norm', 'alpha')  # fields that may name a function of one's own


@dataclasses.dataclass(frozen=True)
class Method:
  """The choices in which methods differ. `dataclasses.replace(row, field=...)` makes a new ablation.

  Raises:
    UserError: a value outside its range, or a combination that cannot train.
  """

  # Before a convolution: norm and activation, in a V1 network after it.
  # One of `ranges.NORMS`, see `networks/norms.py`; or a function of one's own, f(module, x, train), as
  # 'FILE.py:FUNCTION'.
  norm: str = 'none'
  ghost_size: int = 64  # examples per ghost batch, whatever the device count; only norm='ghost' looks at it
  groups: int = 32  # of channels, or the largest common divisor with these; for norm='group' and 'evonorm_s0'
  last_norm_only: bool = False  # a single norm, after the last block
  noisy_norm: bool = False  # SA: random shifts and scales after every norm, other ones at every update
  # 'relu'; 'scaled_relu': times 1.71, which keeps variance 1; 'thresholded': max(x, t), t of each channel trained from
  # 0; 'none' where the norm is an activation as well.
  activation: str = 'relu'

  # The convolutions. Kernels: as they are ('plain'), or of each output channel (w - mean) / std ('standardized'), the
  # same times gain / sqrt(fan_in), the gain trained from 1 ('scaled').
  kernels: str = 'plain'
  biases: str = 'none'  # 'channel': on every convolution; 'scalar': one number at each ReLU and convolution; 'none'
  zero_init: bool = False  # FX rule 1: the last convolution of every branch and the classifier start at zero
  depth_init: bool = False  # FX rule 2: the other convolutions of a branch start scaled by L^(-1/(2m-2))

  # The sum: merge_scale * (shortcut + branch_scale * alpha * f(x)) + merge_bias.
  # Initial multiplier of every residual branch, trained; or a function, f(module, branch, train), that makes the
  # multiplier; None: no multiplier.
  alpha: float | str | None = None
  alpha_per_channel: bool = False  # one for each channel, not one for each branch
  branch_scale: float | str = 1.0  # fixed factor on every branch, or 'inverse_sqrt_d' or 'inverse_d'
  divide_by_std: bool = False  # NF: f(x / beta), beta the deviation of x that is expected at initialization
  merge_scale: float = 1.0  # fixed factor on (shortcut + branch)
  merge_bias: bool = False  # one trained scalar on (shortcut + branch), before the last ReLU of a V1 block

  # The classifier, and the update.
  dropout: float = 0.0  # probability of dropping a pooled feature before the classifier
  scalar_rate: float = 1.0  # learning rate of alpha and the scalar biases, relative to the rest
  clip: float = 0.0  # largest gradient of a unit over its weights, see `training/clipping.py`; 0: not clipped
  code: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)  # see `own_functions`

  def __post_init__(self):
    for field in FUNCTIONS:  # where a row is written, a function may stand for its name
      if callable(getattr(self, field)):
        object.__setattr__(self, field, named(field, getattr(self, field)))
    for field in NUMBERS:  # so that 0 and 0.0 have one label
      if type(getattr(self, field)) is int:
        object.__setattr__(self, field, float(getattr(self, field)))
    check(self)

  @property
  def functions(self):
    """{field: (file, function)} of the fields that name a function of one's own."""
    found = {field: reference(getattr(self, field)) for field in FUNCTIONS}
    return {field: names for field, names in found.items() if names}

  @property
  def has_batch_norm(self):
    """Whether a norm here is batch normalization, of the whole batch or of ghosts."""
    return self.norm in ('batch', 'ghost')

  def examples_together(self, batch):
    """How many examples of a batch a norm may make depend on each other; one of one's own perhaps all."""
    return 1 if self.norm in BY_EXAMPLE else min(self.ghost_size, batch) if self.norm == 'ghost' else batch

  @property
  def inner(self):
    """The method of everything but the last norm."""
    without = {'norm': 'none', 'last_norm_only': False, 'noisy_norm': False}
    return dataclasses.replace(self, **without) if self.last_norm_only else self

  @property
  def without_randomness(self):
    """The method without what it draws at random in training."""
    return dataclasses.replace(self, dropout=0.0, noisy_norm=False)


NF_RESNET = Method(activation='scaled_relu', kernels='scaled', biases='channel', alpha=0.0, branch_scale=0.2,
                   divide_by_std=True)  # NF: shortcut + 0.2 alpha f(x / beta)

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
    # The successors, see docs/successors.md. ReZero (arXiv:2003.04887) without normalization is `multiplier`.
    'group_norm': Method(norm='group'),  # arXiv:1803.08494
    'layer_norm': Method(norm='layer'),
    'instance_norm': Method(norm='instance'),
    'group_norm_ws': Method(norm='group', kernels='standardized'),  # arXiv:1903.10520, BiT arXiv:1912.11370
    'batch_renorm': Method(norm='batch_renorm'),  # arXiv:1702.03275
    'filter_response_norm': Method(norm='filter_response', activation='thresholded'),  # arXiv:1911.09737
    'evonorm_s0': Method(norm='evonorm_s0', activation='none'),  # arXiv:2004.02967
    'dynamic_tanh': Method(norm='dynamic_tanh'),  # DyT, arXiv:2503.10622
    'derf': Method(norm='derf'),  # arXiv:2512.10938
    'nf_resnet': NF_RESNET,
    # Adaptive gradient clipping, arXiv:2102.06171. With the last two: is it the clipping?
    'nf_resnet_agc': dataclasses.replace(NF_RESNET, clip=0.01),
    'zeroinit_agc': Method(biases='channel', dropout=0.6, alpha=0.0, clip=0.01),
    'none_agc': Method(clip=0.01),
    'layer_scale': Method(biases='channel', alpha=1e-4, alpha_per_channel=True),  # arXiv:2103.17239
    # Rates that carry over from depth to depth: arXiv:2310.02244, arXiv:2505.01618.
    'depth_mup': Method(biases='channel', branch_scale=INVERSE_SQRT_D),
    'completep': Method(biases='channel', branch_scale=INVERSE_D),
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
