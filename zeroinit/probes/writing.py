"""Writing down what a probe has measured: means over draws, what it was measured on, a JSON and a figure."""

import io
import json
import shlex
import sys

import jax
import matplotlib
import numpy as np
from absl import flags

from zeroinit import command_line, data
from zeroinit.probes import inputs
from zeroinit.report.figures import STYLE
from zeroinit.system import environment, json_files, objects
from zeroinit.training.recipe import image_shape

FLAGS = flags.FLAGS


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


def title(configs, nets, data=None):
  """What was measured on what; each named once. data: its name, where it is not the data set of the configs."""
  def once(names):
    *others, last = dict.fromkeys(names)
    return f'{", ".join(others)} and {last}' if others else last

  return f'{once(net.title for net in nets)} on {data or once(inputs.dataset_of(config).title for config in configs)}'


def settings(configs, nets):
  """What a JSON says of the configs and networks it comes from; lists where they differ.

  A network of one's own says nothing of what it does not take.
  """
  once = lambda values: found[0] if len(found := list(dict.fromkeys(values))) == 1 else found
  taken = lambda name: [(config, net) for config, net in zip(configs, nets, strict=True)
                        if name not in getattr(net, 'left', ())]
  fields = ('batch_size', 'learning_rate', 'momentum', 'dampening', 'weight_decay', 'classifier_init',
            'seed', 'dtype')
  made = {'dataset': once(data.short(config.dataset) for config in configs),
          **{name: once(config[name] for config, _ in taken(name)) for name in fields},
          'image_size': once(image_shape(config)[0] for config in configs),
          'kernel_init': once(net.kernel_init for _, net in taken('kernel_init')),
          'matmul_precision': once(config.matmul_precision for config in configs)}
  return {name: value for name, value in made.items() if value != []}


def write(probe, title, notes, records, figure, caption, **settings):
  """Writes the JSON and the PNG of a probe into the workdir, and says where they are.

  Args:
    probe: name of its module in this package.
    title: what was measured on what; notes: lines that a reader of the figure must know.
    records: list of dicts; numbers that are not finite become null.
    figure: matplotlib figure; caption: what it shows, also for those who cannot see it.
    settings: what else the JSON says of how it was made.
  """
  workdir = objects.absolute(FLAGS.workdir)
  image = io.BytesIO()
  with matplotlib.rc_context(STYLE):
    figure.savefig(image, format='png')
  objects.replace(workdir / f'{probe}.png', image.getvalue())
  words = ' '.join(['zeroinit probe', probe, *sys.argv[1:]])
  made = {'probe': probe, 'title': title, 'caption': caption, 'figure': f'{probe}.png', 'notes': notes,
          'command': words, **settings, **environment.of(jax.devices()[:1])}
  lines = ',\n    '.join(json.dumps(_rounded(json_files.finite(record)), allow_nan=False) for record in records)
  head = json.dumps(json_files.finite(made), indent=2, allow_nan=False).removesuffix('\n}')
  objects.replace(workdir / f'{probe}.json', f'{head},\n  "records": [\n    {lines}\n  ]\n}}\n')
  for note in notes:
    print(note)
  print(title)
  command_line.end(f'{workdir / probe}.json and .png',
                   shlex.join(['zeroinit', 'probe', 'page', f'--workdir={workdir}']))


def _rounded(value):
  """A record, or what is in one, with six significant digits, about what float32 has."""
  if isinstance(value, dict):
    return {name: _rounded(part) for name, part in value.items()}
  if isinstance(value, list):
    return [_rounded(part) for part in value]
  return float(f'{value:.6g}') if isinstance(value, float) else value
