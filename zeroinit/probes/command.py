"""What the commands of the probes share: their flags, whom these name, and how far the measurements are."""

import dataclasses
import sys

from absl import flags
from ml_collections import ConfigDict, config_flags

from zeroinit import command_line
from zeroinit.probes import layers, texts
from zeroinit.runs import run_directory
from zeroinit.runs.progress import Progress
from zeroinit.system import objects, settings
from zeroinit.system.errors import UserError, first_line
from zeroinit.training import config_files
from zeroinit.training.config import check, method_label
from zeroinit.training.recipe import network

FLAGS = flags.FLAGS


def define():
  """Defines the flags that all probes have. In a function, so that whoever only imports a probe has none."""
  config_flags.DEFINE_config_file('config', None, 'CONFIG:METHOD, where CONFIG is one of `zeroinit configs`, or your '
                                  'FILE.py with get_config(method).')
  flags.DEFINE_list('methods', None, 'Rows of METHODS to measure side by side. Default: the method of --config.')
  flags.DEFINE_list('checkpoint', None, "Directories of runs, to measure the newest state of each, by its own config.")
  flags.DEFINE_integer('draws', 1, 'Average over so many draws of weights and images, from --config.seed on.', 1)
  flags.DEFINE_integer('batch_size', None, "Images in a batch. Default: the config's batch_size.", 2)
  define_workdir()


def define_workdir():
  """Defines --workdir, for a probe that has no other flag in common."""
  flags.DEFINE_string('workdir', None, 'Directory into which the JSON and the figure are written.')
  flags.mark_flag_as_required('workdir')


def define_depths():
  """Defines --depths, for the probes that vary it."""
  flags.DEFINE_list('depths', None, "Depths of the network, in layers, such as 16,34,100. Default: the config's.")


def define_updates():
  """Defines --updates, for the probes that look at a network while it trains."""
  flags.DEFINE_list('updates', ['0'], 'Measure after so many updates of training, such as 0,10,100.')


def define_layers():
  """Defines --layers, for the probes that look at single layers of a network."""
  flags.DEFINE_list('layers', None, 'Numbers of the layers, counted along the depth, 1 is the first convolution. '
                    'Default: the first one of the middle block of each stage.')


def run(main):
  """`command_line.run`, which also knows what to do where a probe needs more memory than there is."""
  def guarded(argv):
    try:
      with settings.stated(_matmul_precision()):
        main(argv)
    except (RuntimeError, MemoryError) as error:
      if not isinstance(error, MemoryError) and 'RESOURCE_EXHAUSTED' not in str(error):
        raise
      raise UserError('too little memory: use fewer layers, or a smaller --batch_size '
                      f'({first_line(error)})') from error

  for module, defined in FLAGS.flags_by_module_dict().items():
    for flag in defined if module.startswith('zeroinit.probes.') else ():
      FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # so that --help shows it
  command_line.run(guarded)


def _matmul_precision():
  """That of the configs that are measured. Raises UserError where they differ, since it is set for all at once."""
  configs = [FLAGS.config] if 'config' in FLAGS and FLAGS['config'].present else []
  runs = (FLAGS.checkpoint if 'checkpoint' in FLAGS else None) or ()
  paths = [run_directory.Run(directory).workdir / 'config.json' for directory in runs]
  configs += [run_directory.read_config(path) for path in paths if path.exists()]  # the others are refused by the probe
  found = {config.get('matmul_precision', 'default') for config in configs} or {'default'}
  if len(found) > 1:
    raise UserError(f'the networks differ in matmul_precision ({", ".join(sorted(found))}): measure them one by one')
  return found.pop()


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
  """A network to measure.

  Attributes:
    label: what records and figures call it.
    config: of its run, checked.
    checkpoint: directory of the run whose newest state is meant; None is the initialization.
  """

  label: str
  config: ConfigDict
  checkpoint: str | None = None

  def draw(self, index, **fields):
    """The config of one of several draws, which differ in their seed, with other fields replaced."""
    config = ConfigDict(self.config.to_dict())
    config.update(seed=self.config.seed + index, **fields)
    check(config)
    return config

  def made(self, net, **fields):
    """What its records say of it, of its network, and whatever else tells them apart."""
    return {'method': self.label, 'checkpoint': self.checkpoint, 'network': net.title, **fields}


def subjects(for_gradients=False):
  """The networks that --methods, --config and --checkpoint name.

  Args:
    for_gradients: whether the gradient at the start is looked at. Below a classifier that starts at zero, as runs do,
      there is none before the first update: here it then starts as 'lecun', unless --config.classifier_init is given.

  Raises:
    UserError: none is named, a method does not exist, its config makes no sense, or a directory holds no run.
  """
  chosen = [_run(directory) for directory in FLAGS.checkpoint or ()]
  file, _, argument = (FLAGS['config'].config_filename if FLAGS['config'].present else '').partition(':')
  if not chosen or FLAGS.methods or argument:
    if not file:
      raise UserError('say whom to measure: --config=CONFIG:METHOD, or --checkpoint=RUN_DIR')
    others = argument.partition(',')[1:]  # such as ',v2' of imagenet:zeroinit,v2
    for name in FLAGS.methods or [None]:
      config = FLAGS.config
      if name is not None:
        config = config_files.load_config(f'{file}:{name}{"".join(others)}', _overrides())
      if for_gradients and config.get('classifier_init') == 'zero' and 'classifier_init' not in _overrides():
        config.classifier_init = 'lecun'
      chosen.append(Subject(method_label(config), _prepared(config)))
  elif set(_overrides()) - {'data_dir'}:
    raise UserError(f'--config.{min(set(_overrides()) - {"data_dir"})} changes nothing of a checkpoint, which has the '
                    'config of its run; leave it out, or name a method to measure as well: --config=CONFIG:METHOD')
  again = {subject.label for subject in chosen if [other.label for other in chosen].count(subject.label) > 1}
  if again:
    raise UserError(f'{", ".join(sorted(again))} would be measured twice under one name; name each once')
  return chosen


def at_depths(subject):
  """The configs of a subject at every depth of --depths; its own where none is given.

  Raises:
    UserError: a depth does not exist; the subject is a checkpoint, which has its own; or its network takes none.
  """
  if not FLAGS.depths:
    return [subject.config]
  if subject.checkpoint:
    raise UserError('a checkpoint has the depth of its run: leave out --depths, or --checkpoint')
  net = network(subject.config)
  if 'depth' in getattr(net, 'left', ()):
    raise UserError(f'{net.name} takes no depth: leave out --depths, or give it a parameter called depth')
  return [subject.draw(0, depth=depth) for depth in integers('depths')]


def integers(flag):
  """The numbers that a flag lists, each once. Raises UserError where one is no positive number."""
  try:
    values = [int(text) for text in FLAGS[flag].value]
  except ValueError:
    values = [0]
  if not values or min(values) < 1:
    raise UserError(f'--{flag}={",".join(FLAGS[flag].value)}: write positive numbers, such as --{flag}=16,34,100')
  return list(dict.fromkeys(values))


def updates():
  """The numbers of --updates, ascending. Raises UserError where one is no number of updates."""
  try:
    found = sorted({int(text) for text in FLAGS.updates})
  except ValueError:
    found = [-1]
  if not found or found[0] < 0:
    raise UserError(f'--updates={",".join(FLAGS.updates)}: write numbers of updates, such as 0,10,100')
  return found


def check_updates(subject, recipe, wanted):
  """Raises UserError where a subject has no state after so many updates. wanted: as of `updates`."""
  if subject.checkpoint and wanted != [0]:
    raise UserError('a checkpoint stands where its run left it: leave out --updates, or --checkpoint')
  if wanted[-1] > recipe.schedule.steps:
    raise UserError(f'--updates={wanted[-1]} is more than the {recipe.schedule.steps} updates of the run')


def divergence_notes(subject, found, updates):
  """Lines that say which of the states after so many updates are missing. found: {updates: a list with a draw each}."""
  for wanted in updates if subject.checkpoint is None else ():
    missing = FLAGS.draws - len(found.get(wanted, ()))
    if missing:
      yield f'{subject.label}: {missing} of {FLAGS.draws} draws diverged before {wanted} updates; left out there.'


def need_records(records, notes):
  """Raises UserError where there are none, since all training diverged, as notes say, before the first measurement."""
  if not records:
    raise UserError(f'no network is left to measure: {" ".join(notes)}')


def layer_numbers(net, found):
  """The numbers of --layers; those of `layers.middle` where none is given. found: all `layers.along_depth`.

  Raises:
    UserError: one is no number of a layer.
  """
  numbers = integers('layers') if FLAGS.layers else layers.middle(found)
  need_layer('layers', max(numbers), net, len(found))
  return numbers


def need_layer(flag, number, net, count):
  """Raises UserError where a network, which has so many layers, has none of that number."""
  if number > count:
    raise UserError(f'--{flag}={number} does not exist: {net.title} has the layers 1 to {count}')


def _run(directory):
  path = objects.absolute(directory) / 'config.json'
  if not path.exists():
    raise UserError(f'{path.parent} is not the directory of a run: it holds no config.json')
  config = run_directory.read_config(path)
  if 'data_dir' in _overrides():  # where the data is now
    config.data_dir = _overrides()['data_dir']
  names = [objects.absolute(other).name for other in FLAGS.checkpoint]
  name = path.parent.name if names.count(path.parent.name) == 1 else f'{path.parent.parent.name}/{path.parent.name}'
  return Subject(f'{method_label(config)} in {name}', _prepared(config), str(path.parent))


def _overrides():
  return config_flags.get_override_values(FLAGS['config']) if FLAGS['config'].present else {}


def _prepared(config):
  """The config with the batch of the probe, which is measured in one piece."""
  config = ConfigDict(config.to_dict())
  config.update(batch_size=FLAGS.batch_size or config.batch_size, micro_batches=1)
  check(config)
  return config


class Measuring(Progress):
  """Says which of so many measurements are done, and how much time is left."""

  def __init__(self, measurements):
    """Makes the workdir, so that a directory that cannot be made is noticed before anything is computed."""
    objects.make_directory(objects.absolute(FLAGS.workdir))
    super().__init__(measurements, 1)
    self._done = 0

  def __enter__(self):
    super().__enter__()
    self.start(0)
    self.doing('compiling')
    return self

  def done(self, what):
    """To be called after each measurement, with a line that says which it was."""
    self._done += 1
    self.say(f'{what}  {self.time_left(self._done)}')

  def draws(self, subject, snapshots):
    """What is to be measured of a network in every draw and state; each is done when the next one is asked for.

    snapshots: function of the number of a draw that yields tuples (updates done, ...), see `snapshots.snapshots`.
    """
    for index in range(FLAGS.draws):
      for done, *snapshot in snapshots(index):
        yield done, *snapshot
        self.done(f'{texts.in_state(subject.label, done)}, draw {index + 1} of {FLAGS.draws}')
