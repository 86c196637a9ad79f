"""One WRN-16-4 on CIFAR-10 by the ZeroInit paper's protocol; the network's method is a row of METHODS.

  zeroinit train cifar10:zeroinit --workdir=runs/zeroinit --config.learning_rate=0.25

200 epochs at batch size 64 are 156,200 updates. The paper's numbers at that batch size, each at its own best rate:
94.4 ± 0.1 % for zeroinit, 94.0 ± 0.1 for multiplier, 92.3 ± 0.3 for none (its Table 1). Where no rate is given the
run uses 2^-3, which every row stands; the best rate of a row is found by a study, not here.
"""

from zeroinit.training.config import base_config


def get_config(method='zeroinit'):
  return base_config(method)
