"""The grids behind the papers' tables and figures: each a plain generator, named after what it reproduces.

A study yields its runs as (config:method, overrides). ZI is the ZeroInit paper, SK its later version,
arXiv:2002.10444, BJ Bjorck et al., arXiv:1806.02375, SA Santurkar et al., arXiv:1805.11604. ZI's and SK's learning
rates are powers of two around the published optima; where an optimum still lies at an end of the grid the report says
so, and --extend grows it.

Costs are GPU-hours of an NVIDIA A100 or H200, counted from the networks' operations at an assumed, not measured,
50 TFLOP/s; `--list` counts them for any part of a study.
"""

import inspect

from zeroinit.studies.pocket import pocket_depth, pocket_figure1, pocket_table1  # noqa: F401

SEEDS = range(15)
SUCCESSORS = ('group_norm', 'layer_norm', 'instance_norm', 'group_norm_ws', 'batch_renorm', 'filter_response_norm',
              'evonorm_s0', 'dynamic_tanh', 'derf', 'nf_resnet', 'nf_resnet_agc', 'zeroinit_agc', 'none_agc',
              'layer_scale', 'depth_mup', 'completep')
# How convolutions and the classifier may have started in ZI, which does not say; the first is ours.
STARTS = (('he', 'zero'), ('he', 'lecun'), ('truncated', 'truncated'), ('he', 'small'), ('lecun', 'lecun'))


def names():
  """Of the studies here, then of those in CPU-hours."""
  found = [name for name, value in globals().items() if inspect.isgeneratorfunction(value) and not name.startswith('_')]
  return sorted(found, key=lambda name: globals()[name].__module__ != __name__)


def digits():
  """Does it train at depth 100? The papers' point on scikit-learn's digits: 40 runs, minutes on a laptop.

  Without normalization or initialization depth 100 does not train; with batch norm, Fixup or ZeroInit it does, and
  batch norm stands the largest learning rates.
  """
  for method in ('none', 'batch_norm', 'fixup', 'zeroinit'):
    for depth in (16, 100):
      for log2_rate in range(-4, 5, 2):
        overrides = {'depth': depth, 'evaluations': 5, 'learning_rate': 2.0**log2_rate}
        yield f'digits:{method}', overrides


def successors():
  """What has replaced batch norm since: which rows train depth 100, need a large batch, stand large rates? 900 runs.

  On the digits, half an hour on two CPU cores; --seeds=1 takes 12 minutes. Depth 16 and 100 at batch 64, and depth 16
  at batch 8, where the rates are an eighth.
  """
  for method in ('none', 'batch_norm', 'zeroinit', 'fixup', *SUCCESSORS):
    for depth, batch_size in ((16, 64), (100, 64), (16, 8)):
      for log2_rate in range(-4, 5, 2):
        for seed in range(3):
          yield f'digits:{method}', {'depth': depth, 'batch_size': batch_size, 'evaluations': 1, 'seed': seed,
                                     'learning_rate': 2.0**log2_rate * batch_size / 64}


def rates():
  """Which learning rates are the paper's, and how do kernels start? 105 runs, 0.0045 GPU-hours.

  ZI prints rates (none stands 2^-3, ZeroInit 2^1, batch norm 2^4; at batch 64 they do best at 2^-3, 2^-2 and 2^-1) and
  not what a rate is or how kernels start. Rates here are damped; those of a heavy ball are a tenth. First the default
  at full width, three seeds, ZeroInit for longer since one of them has hardly learnt by update 200; then every start at
  width 1; then larger batches, and long enough to see a late end.
  """
  def runs(method, log2_rates, updates, seeds=1, batch_size=64, **fields):
    for log2_rate in log2_rates:
      for seed in SEEDS[:seeds]:
        yield f'cifar10:{method}', {
            'batch_size': batch_size, 'epochs': updates / (50_000 // batch_size), 'first_drop': 1.0, 'evaluations': 1,
            'learning_rate': 2.0**log2_rate, 'seed': seed, **fields}

  for method, log2_rate, updates in (
      ('none', -3, 200), ('zeroinit', -2, 400), ('multiplier', -2, 200), ('ghost_norm', -1, 200)):
    yield from runs(method, [log2_rate], updates, seeds=3)
  yield from runs('none', [0], 200)
  for kernel_init, classifier_init in STARTS:
    start = {'width': 1, 'kernel_init': kernel_init, 'classifier_init': classifier_init}
    yield from runs('none', range(-4, 2), 100, **start)
    yield from runs('skipinit_alpha_1', range(-4, 2), 100, **start)
    yield from runs('zeroinit', range(0, 4), 100, **start)
  for method, log2_rates in (('none', (-3, -1, 1)), ('zeroinit', (-1, 1, 2, 3)), ('batch_norm', (1, 3, 5))):
    yield from runs(method, log2_rates, 30, batch_size=1024, width=1)
  for width in (1, 2):
    yield from runs('zeroinit', [-2], 4000, width=width)


def table1():
  """ZI, Table 1: without batch norm, which modification matters? WRN-16-4, batch 64: 630 runs, 82 GPU-hours."""
  for method in ('none', 'biases', 'dropout', 'multiplier', 'biases_dropout', 'zeroinit'):
    for log2_rate in range(-5, 2):
      for seed in SEEDS:
        yield f'cifar10:{method}', {'learning_rate': 2.0**log2_rate, 'seed': seed}


def table2():
  """ZI, Table 2: batch norm and ZeroInit at depth 16, 100 and 1000. WRN-d-2, batch 64: 630 runs, 730 GPU-hours."""
  for method in ('ghost_norm', 'zeroinit'):
    yield from _depths(method, range(-5, 2))


def table3():
  """ZI, Table 3: ZeroInit without L2, and the multiplier alone, at the same depths: 630 runs, 730 GPU-hours."""
  yield from _depths('zeroinit', range(-5, 2), weight_decay=0.0)
  yield from _depths('multiplier', range(-5, 2))


def skipinit_depth():
  """SK, the CIFAR-10 tables of depth and variations: how must alpha start? WRN-d-2: 2,025 runs, 2,300 GPU-hours."""
  for method in ('ghost_norm', 'skipinit_alpha_inverse_sqrt_d', 'multiplier', 'skipinit_alpha_1'):
    yield from _depths(method, range(-5, 2))
  yield from _depths('divide_by_sqrt2', range(-8, 2))
  yield from _depths('multiplier', range(-5, 2), weight_decay=0.0)


def figure1():
  """ZI, Figures 1 and 2: accuracy, loss and optimal rate against batch size, 64 to 8192. WRN-16-4.

  Batch norm is over ghost batches of 64. 1,800 runs, 230 GPU-hours.
  """
  for method in ('ghost_norm', 'none', 'zeroinit'):
    for log2_batch in range(6, 14):
      yield from _around_the_expected_rate(method, log2_batch)


def schedules():
  """ZI, section 3: is halving the rate every 10 epochs from the 100th on better than three drops, as of He et al.?

  WRN-16-4, batch 64; the three drops divide the rate by 10 after each quarter of the run. 420 runs, 55 GPU-hours.
  """
  for method in ('ghost_norm', 'zeroinit'):
    for schedule in ({}, {'first_drop': 1 / 4, 'drop_every': 1 / 4, 'drop_by': 10.0}):
      for log2_rate in range(-5, 2):
        for seed in SEEDS:
          yield f'cifar10:{method}', {**schedule, 'learning_rate': 2.0**log2_rate, 'seed': seed}


def figure3():
  """ZI, Figures 3 and 4: the same for batch size 1 to 1024, with batch norm over the whole batch.

  2,475 runs, 320 GPU-hours by operations; a GPU that computes one image at a time takes far longer.
  """
  for method in ('batch_norm', 'none', 'zeroinit'):
    for log2_batch in range(11):
      yield from _around_the_expected_rate(method, log2_batch)


def table4():
  """ZI, Table 4, and SK's Fixup with dropout: ResNet-50 V2 on ImageNet, 256, 1024, 4096.

  One run per rate, the best top-1 with its own top-5: 75 runs, 1,110 GPU-hours.
  """
  for method in ('ghost_norm', 'fixup', 'fixup_dropout', 'zeroinit_no_dropout', 'zeroinit'):
    yield from _imagenet(method, 'v2')


def table5():
  """ZI, Table 5: ResNet-50 V1 on ImageNet, batch 256, 1024, 4096.

  One run per rate, the best top-1 with its own top-5: 60 runs, 890 GPU-hours.
  """
  for method in ('ghost_norm', 'fixup', 'zeroinit', 'zeroinit_scalar_bias'):
    yield from _imagenet(method, 'v1')


def bjorck_figure1():
  """BJ, Figure 1: what does batch norm gain at a small learning rate? ResNet-110, batch 128, rates 0.1 to 0.0001.

  Xavier's initialization; a rate that drops where the loss has a plateau. The last row has a single batch norm, after
  the last block. 30 runs, 14 GPU-hours.
  """
  setting = {'network': 'cifar_resnet', 'depth': 110, 'width': 1, 'kernel_init': 'xavier', 'classifier_init': 'xavier',
             'dampening': 0.0, 'batch_size': 128, 'crop': 'zero', 'weight_decay': 1e-4, 'first_drop': 1.0,
             'drop_by': 10.0}
  for method, rate, epochs in (
      ('batch_norm', 0.1, 165), ('batch_norm', 0.003, 1320), ('batch_norm', 0.0001, 2400), ('none', 0.0001, 2400),
      ('none', 0.1, 165), ('batch_norm_last', 0.03, 165)):
    for seed in SEEDS[:5]:
      yield f'cifar10:{method}', setting | {
          'epochs': float(epochs), 'plateau_epochs': epochs // 16, 'learning_rate': rate, 'seed': seed}


def santurkar_figure1():
  """SA, Figure 1: does VGG train with and without batch norm, at a rate of 0.1 and of 0.5? 12 runs, 0.24 GPU-hours."""
  for method in ('biases', 'batch_norm'):
    for rate in (0.1, 0.5):
      yield from _vgg(method, rate)


def santurkar_figure2():
  """SA, Figure 2: does batch norm still help where noise makes its outputs unstable? VGG: 9 runs, 0.18 GPU-hours."""
  for method in ('biases', 'batch_norm', 'noisy_batch_norm'):
    yield from _vgg(method, 0.1)


def _vgg(method, rate):
  """15,000 updates of plain gradient descent at a constant rate; SA do not state momentum, L2 or augmentation."""
  for seed in SEEDS[:3]:
    yield f'cifar10:{method}', {
        'network': 'vgg', 'width': 1, 'classifier_init': 'lecun', 'batch_size': 128, 'crop': 'none', 'flip': False,
        'weight_decay': 0.0, 'momentum': 0.0, 'dampening': 0.0, 'epochs': 15_000 / 390, 'first_drop': 1.0,
        'learning_rate': rate, 'seed': seed}


def _depths(method, log2_rates, **fields):
  for depth in (16, 100, 1000):
    for log2_rate in log2_rates:
      for seed in SEEDS:
        rate = {'learning_rate': 2.0**log2_rate, 'seed': seed}
        yield f'cifar10:{method}', {'depth': depth, 'width': 2, **fields, **rate}


def _around_the_expected_rate(method, log2_batch):
  """Five rates around what ZI found: proportional to the batch size, up to the method's largest stable rate."""
  at_64, largest = {'none': (-3, -3), 'zeroinit': (-2, 1)}.get(method, (-1, 4))
  expected = min(at_64 + log2_batch - 6, largest)
  for log2_rate in range(expected - 2, expected + 3):
    for seed in SEEDS:
      overrides = {'batch_size': 2**log2_batch, 'learning_rate': 2.0**log2_rate, 'seed': seed}
      yield f'cifar10:{method}', overrides


def _imagenet(method, version):
  """Five rates around a damped 2^0 at batch 256, a heavy ball's 0.1: ZI print none."""
  for log2_batch in (8, 10, 12):
    for log2_rate in range(log2_batch - 10, log2_batch - 5):
      overrides = {'batch_size': 2**log2_batch, 'learning_rate': 2.0**log2_rate}
      yield f'imagenet:{method},{version}', overrides
