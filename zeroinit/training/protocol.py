"""How a run's numbers may be compared with those of the ZeroInit paper: what they must agree in."""

# What a run must share with the ZeroInit paper's to stand beside its numbers; the rest is what the paper varies.
# Several values where the paper does not say which. A run that is only shorter is called 'shortened', any other 'own'.
PROTOCOLS = {
    'cifar10': {  # ZI, sections 3 and 4
        'network': ('wide_resnet',),
        'kernel_init': ('he',),
        'classifier_init': ('zero',),
        'epochs': (200.0,),
        'first_drop': (1 / 2,),
        'drop_every': (1 / 20,),
        'drop_by': (2.0,),
        'plateau_epochs': (0,),
        'momentum': (0.9,),
        'dampening': (0.9,),
        'weight_decay': (5e-4, 0.0),  # without L2 is a column of Table 2
        'weight_decay_on': ('kernels',),
        'crop': ('reflect', 'zero'),
        'flip': (True,),
        'dtype': ('float32',),
    },
    'imagenet': {  # ZI, section 5
        'network': ('resnet50_v1', 'resnet50_v2'),
        'bottleneck_stride': ('1x1', '3x3'),
        'kernel_init': ('he',),
        'classifier_init': ('zero',),
        'image_size': (224,),
        'epochs': (90.0,),
        'first_drop': (1 / 2,),
        'drop_every': (1 / 18,),
        'drop_by': (2.0,),
        'plateau_epochs': (0,),
        'momentum': (0.9,),
        'dampening': (0.9,),
        'weight_decay': (1e-4,),
        'weight_decay_on': ('kernels',),
        'crop': ('random_resized',),
        'flip': (True,),
        'dtype': ('float32', 'bfloat16'),
    },
}


def protocol(config, complete):
  """'paper', 'shortened' (the paper's in fewer epochs) or 'own': how a run's numbers may be compared.

  complete: whether the data set is whole.
  """
  expected = PROTOCOLS.get(config.dataset)
  if not expected or not complete:
    return 'own'
  departs = {field for field, values in expected.items() if config[field] not in values}
  if departs == {'epochs'} and config.epochs < max(expected['epochs']):
    return 'shortened'
  return 'own' if departs else 'paper'
