"""What the commands of the probes share: whom to measure, in which state, on which images; and writing it down."""

import contextlib
import dataclasses
import functools
import io
import json
import os
import shlex
import sys

import jax
import matplotlib
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from zeroinit import batch as batches
from zeroinit import command_line, data, loader, objects, runs, studies
from zeroinit.config import check, method_label
from zeroinit.errors import UserError, first_line
from zeroinit.probes import texts
from zeroinit.progress import Progress
from zeroinit.recipe import image_shape, make_recipe
from zeroinit.report.figures import STYLE

FLAGS = flags.FLAGS


def define():
  """Defines the flags that all probes have. In a function, so that whoever only imports a probe has none."""
  config_flags.DEFINE_config_file('config', None, 'File with get_config(method), and a method: FILE.py:METHOD.')
  flags.DEFINE_list('methods', None, 'Rows of METHODS to measure side by side. Default: the method of --config.')
  flags.DEFINE_list('checkpoint', None, "Directories of runs, to measure the newest state of each, by its own config.")
  flags.DEFINE_integer('draws', 1, 'Average over so many draws of weights and images, from --config.seed on.', 1)
  flags.DEFINE_integer('batch', None, "Images in a batch. Default: the config's batch_size.", 2)
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
      main(argv)
    except (RuntimeError, MemoryError) as error:
      if not isinstance(error, MemoryError) and 'RESOURCE_EXHAUSTED' not in str(error):
        raise
      raise UserError(f'too little memory: use fewer layers, or a smaller --batch ({first_line(error)})') from error

  for module, defined in FLAGS.flags_by_module_dict().items():
    for flag in defined if module.startswith('zeroinit.probes.') else ():
      FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # so that --help shows it
  command_line.run(guarded)


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


def subjects():
  """The networks that --methods, --config and --checkpoint name.

  Raises:
    UserError: none is named, a method does not exist, its config makes no sense, or a directory holds no run.
  """
  chosen = [_run(directory) for directory in FLAGS.checkpoint or ()]
  file, _, argument = (FLAGS['config'].config_filename if FLAGS['config'].present else '').partition(':')
  if not chosen or FLAGS.methods or argument:
    if not file:
      raise UserError('say whom to measure: --config=FILE.py:METHOD, or --checkpoint=RUN_DIR')
    others = argument.partition(',')[1:]  # such as ',v2' of configs/imagenet.py:zeroinit,v2
    for name in FLAGS.methods or [None]:
      config = FLAGS.config
      if name is not None:
        config = studies.load_config(f'{file}:{name}{"".join(others)}', _overrides())
      chosen.append(Subject(method_label(config), _prepared(config)))
  elif set(_overrides()) - {'data_dir'}:
    raise UserError(f'--config.{min(set(_overrides()) - {"data_dir"})} changes nothing of a checkpoint, which has the '
                    'config of its run; leave it out, or name a method to measure as well: --config=FILE.py:METHOD')
  again = {subject.label for subject in chosen if [other.label for other in chosen].count(subject.label) > 1}
  if again:
    raise UserError(f'{", ".join(sorted(again))} would be measured twice under one name; name each once')
  return chosen


def at_depths(subject):
  """The configs of a subject at every depth of --depths; its own where none is given.

  Raises:
    UserError: a depth does not exist, or the subject is a checkpoint, which has its own.
  """
  if not FLAGS.depths:
    return [subject.config]
  if subject.checkpoint:
    raise UserError('a checkpoint has the depth of its run: leave out --depths, or --checkpoint')
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


def layers(net, count, default):
  """The numbers of --layers for a network that has so many; `default` where none is given.

  Raises:
    UserError: one is no number of a layer.
  """
  numbers = integers('layers') if FLAGS.layers else default
  need_layer('layers', max(numbers), net, count)
  return numbers


def need_layer(flag, number, net, count):
  """Raises UserError where a network, which has so many layers, has none of that number."""
  if number > count:
    raise UserError(f'--{flag}={number} does not exist: {net.title} has the layers 1 to {count}')


def _run(directory):
  path = runs.absolute(directory) / 'config.json'
  if not path.exists():
    raise UserError(f'{path.parent} is not the directory of a run: it holds no config.json')
  config = runs.read_config(path)
  if 'data_dir' in _overrides():  # where the data is now
    config.data_dir = _overrides()['data_dir']
  names = [runs.absolute(other).name for other in FLAGS.checkpoint]
  name = path.parent.name if names.count(path.parent.name) == 1 else f'{path.parent.parent.name}/{path.parent.name}'
  return Subject(f'{method_label(config)} in {name}', _prepared(config), str(path.parent))


def _overrides():
  return config_flags.get_override_values(FLAGS['config']) if FLAGS['config'].present else {}


def _prepared(config):
  """The config with the batch of the probe, which is never cut into micro-batches."""
  config = ConfigDict(config.to_dict())
  config.update(batch_size=FLAGS.batch or config.batch_size, micro_batches=1)
  check(config)
  return config


def recipe_of(config):
  """The recipe of a config on one device. Raises UserError where the data set is missing, or smaller than a batch."""
  return make_recipe(config, dataset_of(config).train_examples, jax.devices()[:1])


def dataset_of(config):
  """The data set of a config, read once."""
  return _dataset(config.dataset, config.data_dir)


@functools.cache
def _dataset(name, data_dir):
  return data.source(name).load(data_dir)


def first_batch(config):
  """The first batch of a run of that config, see `batch_at`."""
  return batch_at(config, 0)


def batch_at(config, step):
  """The batch of an update of a run of that config, counted from 0, as the run draws it.

  Returns:
    images, float32 [batch, ...], standardized, and labels, int32 [batch].
  """
  source, dataset = data.source(config.dataset), dataset_of(config)
  if isinstance(dataset, data.StreamedDataset):
    drawn = loader.training_batches(
        dataset.train, seed=config.seed, batch_size=config.batch_size, rows=np.arange(config.batch_size),
        size=config.image_size, crop=config.crop, flip=config.flip, num_classes=source.NUM_CLASSES,
        workers=config.data_workers or runs.threads(), begin=step)
    with contextlib.closing(drawn):
      batch = next(drawn)
  else:
    seed, (epoch, place) = np.uint32(config.seed), divmod(step, dataset.train_examples // config.batch_size)
    order = batches.epoch_order(seed, epoch, dataset.train_examples)
    example = order[place * config.batch_size : (place + 1) * config.batch_size]
    batch = batches.draw(*jax.device_put((dataset.train_images, dataset.train_labels)), example, seed, epoch,
                         config.crop, config.flip)
  return batches.standardize(batch['image'], source.MEAN, source.STD), batch['label']


def need_memory(title, size):
  """Raises UserError where a probe of so many bytes does not fit into the memory of the device."""
  device = jax.devices()[0]
  there = (device.memory_stats() or {}).get('bytes_limit')
  if there is None and hasattr(os, 'sysconf'):
    there = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  if there is not None and size > there:
    raise UserError(f'{title} needs about {size / 1e9:,.0f} GB, and there are {there / 1e9:,.0f} GB of memory: use '
                    'fewer layers, a narrower network, or a smaller --batch')


def parameter_bytes(net, shape):
  """Bytes of a network's parameters. shape: of one input."""
  init = lambda key: net.init(key, np.zeros((1, *shape), np.float32), train=False)
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0))))


def activation_bytes(recipe, examples):
  """Bytes that a backward pass through so many examples looks back on, about.

  Each convolution keeps its input and, of the ReLU or norm before it, as much again; with remat a third is left.
  """
  floats = 2 * float(recipe.net.activations(recipe.image_shape)) * examples
  return floats * np.dtype(recipe.net.dtype).itemsize / (3 if getattr(recipe.net, 'remat', False) else 1)


def need_memory_to_train(config, recipe):
  """Raises UserError where updates of a network do not fit into memory: parameters, momentum, gradient, activations."""
  parameters = parameter_bytes(recipe.net, recipe.image_shape)
  need_memory(recipe.net.title, 5 * parameters + activation_bytes(recipe, config.batch_size))


class Measuring(Progress):
  """Says which of so many measurements are done, and how much time is left."""

  def __init__(self, measurements):
    """Makes the workdir, so that a directory that cannot be made is noticed before anything is computed."""
    runs.make_directory(runs.absolute(FLAGS.workdir))
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

  def draws(self, subject, moments):
    """What is to be measured of a network in every draw and state; each is done when the next one is asked for.

    moments: function of the number of a draw that yields tuples (updates done, ...), see `training.moments`.
    """
    for index in range(FLAGS.draws):
      for updates, *moment in moments(index):
        yield updates, *moment
        self.done(f'{texts.in_state(subject.label, updates)}, draw {index + 1} of {FLAGS.draws}')


def mean(drawn):
  """One record of several that differ in their draw: means of the measured floats, and their standard errors.

  drawn: list of dicts with the same keys. Numbers that are not floats must agree.
  """
  record, errors = {}, {}
  for name, value in drawn[0].items():
    values = [one[name] for one in drawn]
    if not isinstance(value, float):
      record[name] = value
      continue
    with np.errstate(all='ignore'):
      record[name] = float(np.mean(values))
      if len(values) > 1:
        errors[name] = float(np.std(values, ddof=1) / np.sqrt(len(values)))
  return record | ({'standard_error': errors} if errors else {})


def need_records(records, notes):
  """Raises UserError where there are none, since all training diverged, as notes say, before the first measurement."""
  if not records:
    raise UserError(f'no network is left to measure: {" ".join(notes)}')


def title(configs, nets, data=None):
  """What was measured on what; each named once. data: its name, where it is not the data set of the configs."""
  def once(names):
    *others, last = dict.fromkeys(names)
    return f'{", ".join(others)} and {last}' if others else last

  return f'{once(net.title for net in nets)} on {data or once(dataset_of(config).title for config in configs)}'


def settings(configs, nets):
  """What a JSON says of the configs and networks it comes from; lists where they differ."""
  once = lambda values: found[0] if len(found := list(dict.fromkeys(values))) == 1 else found
  fields = ('dataset', 'batch_size', 'weight_decay', 'seed', 'dtype')
  return {**{name: once(config[name] for config in configs) for name in fields},
          'image_size': once(image_shape(config)[0] for config in configs),
          'kernel_init': once(net.kernel_init for net in nets)}


def write(probe, title, notes, records, figure, caption, **settings):
  """Writes the JSON and the PNG of a probe into the workdir, and says where they are.

  Args:
    probe: name of its module in this package.
    title: what was measured on what; notes: lines that a reader of the figure must know.
    records: list of dicts; numbers that are not finite become null.
    figure: matplotlib figure; caption: what it shows, also for those who cannot see it.
    settings: what else the JSON says of how it was made.
  """
  workdir = runs.absolute(FLAGS.workdir)
  image = io.BytesIO()
  with matplotlib.rc_context(STYLE):
    figure.savefig(image, format='png')
  objects.replace(workdir / f'{probe}.png', image.getvalue())
  words = ' '.join(['python -m', f'zeroinit.probes.{probe}', *sys.argv[1:]])
  made = {'probe': probe, 'title': title, 'caption': caption, 'figure': f'{probe}.png', 'notes': notes,
          'command': words, **settings, **runs.environment(jax.devices()[:1])}
  lines = ',\n    '.join(json.dumps(_rounded(runs.finite(record)), allow_nan=False) for record in records)
  head = json.dumps(runs.finite(made), indent=2, allow_nan=False).removesuffix('\n}')
  objects.replace(workdir / f'{probe}.json', f'{head},\n  "records": [\n    {lines}\n  ]\n}}\n')
  for note in notes:
    print(note)
  print(title)
  command_line.end(f'{workdir / probe}.json and .png',
                   shlex.join(['python', '-m', 'zeroinit.probes.page', f'--workdir={workdir}']))


def _rounded(value):
  """A record, or what is in one, with six significant digits, about what float32 has."""
  if isinstance(value, dict):
    return {name: _rounded(part) for name, part in value.items()}
  if isinstance(value, list):
    return [_rounded(part) for part in value]
  return float(f'{value:.6g}') if isinstance(value, float) else value
