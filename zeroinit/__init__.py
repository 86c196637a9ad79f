"""What does batch normalization do for residual networks, and what can replace it?

Start with `zeroinit.methods` (what is compared), then follow the rooms in the order in which data goes through them,
which is also the order in which they may import each other:

    system        the machine around a run
    methods       what is compared: the record Method, the table METHODS
    networks      what a method does inside a network
    data          what is trained on
    training      one update of one network
    runs          one run, and its directory
    command_line  how every command starts, fails and ends
    studies       many runs
    report        what came out, beside what was published
    probes        what happens inside a network
    launch        where the workers of a study run

What is named here can be imported from `zeroinit`, and is loaded when it is first used.
"""

import importlib

__version__ = '0.2.0'

_PUBLIC = {
    'METHODS': 'methods', 'Method': 'methods',
    'WideResNet': 'networks.resnet', 'ResNet50V1': 'networks.resnet', 'ResNet50V2': 'networks.resnet',
    'CifarResNet': 'networks.resnet', 'VGG': 'networks.vgg',
    'base_config': 'training.config', 'load_config': 'training.config_files',
    'train': 'runs.train', 'load': 'runs.run_directory',
    'UserError': 'system.errors',
}
__all__ = sorted(_PUBLIC)


def __getattr__(name):
  if name not in _PUBLIC:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(f'{__name__}.{_PUBLIC[name]}'), name)


def __dir__():
  return sorted({*globals(), *__all__})
