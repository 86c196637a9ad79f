"""ResNet-50 on ImageNet by the ZeroInit paper's protocol, its section 5; after the method stands the network, v1 or v2.

  zeroinit train imagenet:zeroinit,v2 --workdir=runs/imagenet --config.data_dir=DATA

90 epochs; at batch size 256 they are 450,360 updates. The paper's top-1 there, each at its own best rate: on V2 75.56 %
for zeroinit, 74.97 for batch norm over ghost batches of 256 (ghost_norm), 74.81 for fixup; on V1 75.23 for
zeroinit_scalar_bias (its Tables 4 and 5). Rates grow with the batch size: 2^-1 at 256 becomes 2^1 at 1024.

DATA holds train and val, their archives, or a copy of TFDS. A larger batch is cut into micro-batches of 256, so that it
needs little more memory (40 GB will do; with --config.remat 16); where there is more, or there are more devices,
--config.micro_batches=1 is faster. A shortened run need not be scored 90 times: --config.evaluations=1.
"""

from zeroinit.system.errors import UserError
from zeroinit.training.config import base_config


def get_config(argument='zeroinit,v2'):
  method, _, version = argument.partition(',')
  if version not in ('', 'v1', 'v2'):
    raise UserError(f'the network is {version!r}; it must be v1 or v2, as in imagenet:zeroinit,v2')
  config = base_config(method)
  config.dataset = 'imagenet'
  config.image_size = 224
  config.crop = 'random_resized'
  config.network = f'resnet50_{version or "v2"}'
  config.depth = 50
  config.width = 1
  config.dtype = 'bfloat16'
  config.batch_size = 256
  config.micro_batches = (config.get_ref('batch_size') + 255) // 256
  config.learning_rate = 2.0**-1
  config.epochs = 90.0
  config.drop_every = 1 / 18
  config.weight_decay = 1e-4
  config.evaluations = 90
  config.checkpoint_seconds = 600.0
  if config.method.norm == 'ghost':
    config.method.ghost_size = 256
  if config.method.dropout:
    config.method.dropout = 0.2
  return config
