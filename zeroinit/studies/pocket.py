"""The papers' claims in CPU-hours: real CIFAR-10, the narrowest network, a few hundred updates, several seeds.

What such a study can show is order and shape: which row is ahead, which does not train, how the best rate moves. It
cannot show the papers' accuracies. The schedule is the paper's in proportion: constant for half of the run, then halved
ten times. CPU-hours are counted from operations, at the 48 GFLOP/s, 300 images/s, that WRN-16-1 made of one thread.
"""

WIDTH = {'width': 1, 'evaluations': 1}
# log2 of the best rates of so short a run. Those of alpha = 0 and of batch norm are larger than ZI's at 200 epochs.
BEST = {'none': -3, 'biases': -3, 'dropout': -3, 'biases_dropout': -2, 'multiplier': 0, 'zeroinit': 0, 'ghost_norm': 1}


def pocket_table1():
  """ZI, Table 1, in two epochs of WRN-16-1, with batch norm beside it: 63 runs, 5.8 CPU-hours."""
  for method, best in BEST.items():
    for log2_rate in (best - 1, best, best + 1):
      for seed in range(3):
        yield f'cifar10:{method}', {**WIDTH, 'epochs': 2.0, 'evaluations': 2, 'learning_rate': 2.0**log2_rate,
                                    'seed': seed}


def pocket_figure1():
  """ZI, Figures 1 and 2, in one epoch of WRN-16-1: batch size 16, 64, 256 and 1024, 72 runs, 3.3 CPU-hours.

  Batch norm is over the whole batch. The number of epochs is fixed, so a large batch makes few updates.
  """
  best = {'none': (-4, -3, -3, -3), 'zeroinit': (-1, 0, 1, 2), 'batch_norm': (-1, 1, 2, 2)}  # log2
  for method, of_batches in best.items():
    for batch_size, middle in zip((16, 64, 256, 1024), of_batches, strict=True):
      for log2_rate in (middle - 1, middle, middle + 1):
        for seed in range(2):
          yield f'cifar10:{method}', {**WIDTH, 'epochs': 1.0, 'batch_size': batch_size,
                                      'learning_rate': 2.0**log2_rate, 'seed': seed}


def pocket_depth():
  """ZI, Table 2, in 156 updates of WRN-d-1: does it train at depth 16, 100 and 1000? 51 runs, 4.6 CPU-hours.

  Depth 1000, most of it, is for what trains at depth 100, at a low rate, with one seed.
  """
  for method, best in (('none', -3), ('ghost_norm', 1), ('zeroinit', 0), ('fixup', 0)):
    for depth in (16, 100):
      for log2_rate in (best - 2, best, best + 2):
        for seed in range(2):
          yield _of_depth(method, depth, log2_rate, seed)
    if method != 'none':
      yield _of_depth(method, 1000, best - 2, 0)


def _of_depth(method, depth, log2_rate, seed):
  return f'cifar10:{method}', {**WIDTH, 'depth': depth, 'epochs': 0.2, 'learning_rate': 2.0**log2_rate, 'seed': seed}
