"""What the files of 0.1.0 lack, or call otherwise: they are read as what they meant."""

from zeroinit import data


def config_fields(fields):
  """The fields of a config.json, or of a cell of a manifest, with those that were added since.

  Rates were a heavy ball's, and the classifier started as LeCun's, or as the convolutions where these were not He's.
  """
  kernel_init = fields.get('kernel_init', 'he')
  since = {'momentum': 0.9, 'dampening': 0.0, 'kernel_init': kernel_init,
           'classifier_init': 'lecun' if kernel_init == 'he' else kernel_init}
  return fields | {name: value for name, value in since.items() if name not in fields}


def cell(found):
  """The fields of a cell of a manifest, with the number of classes, which the name of the data set says."""
  if 'classes' in found or found.get('dataset') not in ('cifar10', 'digits', 'imagenet'):  # all there were
    return found
  return found | {'classes': data.info(found['dataset']).num_classes}


def result(found):
  """What a result.json holds, with the names of today."""
  return {'test_cross_entropy' if name == 'test_loss' else name: value for name, value in found.items()}
