# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/)
#
# # Ten minutes: depth 100 without batch normalization
#
# A residual network adds to its input, block by block, what a branch of convolutions makes of it. With **batch norm**
# on the branches one trains hundreds of layers. Without, it fails. Why, and what else would do?
#
# De & Smith ([arXiv:2002.10444](https://arxiv.org/abs/2002.10444)) answer: batch norm makes every branch small beside
# the input that skips it, so that a deep network starts close to the identity. One scalar per block does the same:
#
#     x = shortcut(x) + alpha * branch(x)        # alpha = 0 at the start, and trained
#
# Here you see it happen on real handwritten digits, in a minute or two on two CPU cores. A GPU or TPU works as it is.

# %%
# Installs zeroinit where it is missing, from the checkout around this notebook or from where it is published.
import importlib.util
import pathlib
import shutil
import subprocess
import sys

REPOSITORY = ''  # repository-code of CITATION.cff

if importlib.util.find_spec('zeroinit') is None:
  around = [folder for folder in pathlib.Path.cwd().parents if (folder / 'zeroinit' / '__init__.py').exists()]
  if not (around or REPOSITORY):
    raise SystemExit('No zeroinit here: open this notebook in the notebooks/ folder of a checkout.')
  devices = '[cuda]' if shutil.which('nvidia-smi') else '[tpu]' if any(pathlib.Path('/dev').glob('accel*')) else ''
  source = around[0].as_uri() if around else f'git+{REPOSITORY}'
  subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', f'zeroinit{devices} @ {source}'], check=True)

# %%
# %matplotlib inline
import contextlib
import io
import tempfile

import jax
import matplotlib
import treescope
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from zeroinit import load, load_config, train
from zeroinit.report.figures import LOOKS, STYLE
from zeroinit.training.recipe import image_shape, network

print(jax.devices())

# %% [markdown]
# ## The experiment
#
# Three methods, everything else equal: a Wide-ResNet of depth 100, SGD with momentum, four epochs, one learning rate.
# A config has every field of a run. That of the digits, 1,437 images of 8x8 pixels which come with scikit-learn, is
# the paper's but for what follows from such small images; here is what differs from it.


# %%
def config_of(method):
  return load_config(f'digits:{method}', {
      'depth': 100, 'epochs': 4.0, 'learning_rate': 2.0**-1, 'evaluations': 11, 'tensorboard': False})


methods = ['none', 'batch_norm', 'zeroinit']

# %% [markdown]
# A method is a record, a row of the table `METHODS`. `zeroinit` differs from `none` in three fields: `alpha`, a bias on
# every convolution, and dropout before the classifier.

# %%
net = network(config_of('zeroinit'))
print(net.method)

# %% [markdown]
# ## The network
#
# Click to unfold. Each stage has a first block, and the rest of its blocks as one program that is applied in a loop:
# so their parameters are stacked, and each `alpha` of `rest` is a vector with one number for every block.

# %%
shape = (1, *image_shape(config_of('zeroinit')))
variables = jax.jit(lambda key: net.init(key, jax.numpy.zeros(shape), train=False))(jax.random.key(0))
with treescope.active_autovisualizer.set_scoped(treescope.ArrayAutovisualizer()):
  treescope.display(variables['params'])

# %% [markdown]
# ## Train, and watch
#
# `train` calls `evaluated` with the record of each evaluation. **The figure** shows accuracy on the 360 test images
# against epochs, and grows while you wait. A method without a line diverged before its first evaluation.

# %%
curves = {method: [] for method in methods}
results = {}


def figure():
  with matplotlib.rc_context(STYLE):
    made = Figure(figsize=(7, 3.6))
    ax = made.subplots()
    for method, records in curves.items():
      colour, marker = LOOKS[method]
      diverged = method in results and results[method]['status'] == 'diverged'
      ax.plot([record['epoch'] for record in records], [100 * record['test_accuracy'] for record in records],
              color=colour, marker=marker,
              label=f'{method}: diverged after {results[method]["steps"]} updates' if diverged else method)
    ax.axhline(10, color='#808080', linewidth=0.8, linestyle=':', label='guessing')
    ax.set(xlim=(0, 4), ylim=(0, 102), xlabel='epoch', ylabel='test accuracy, %')
    ax.legend(loc='lower right')
  return made


shown = display(figure(), display_id=True)
directory = pathlib.Path(tempfile.mkdtemp())
for method in methods:

  def evaluated(record, method=method):
    curves[method].append(record)
    shown.update(figure())

  with contextlib.redirect_stdout(io.StringIO()) as said:
    results[method] = train(config_of(method), directory / method, evaluated=evaluated)
  shown.update(figure())

# %% [markdown]
# What a run says is what the command line says too. These are the last lines of the last one:

# %%
print(*said.getvalue().replace(str(directory), 'runs').splitlines()[-3:], sep='\n')

# %% [markdown]
# ## The outcome
#
# **The table** has the last epoch of each run, never its best one. Training loss is cross-entropy plus L2.

# %%
rows = ['| method | outcome | updates | test accuracy | training loss | seconds |', '|---|---|--:|--:|--:|--:|']
for method, result in results.items():
  done = result['status'] == 'done'
  accuracy = f'{result["test_accuracy"]:.1%}' if done else ''
  loss = f'{result["train_loss"]:.3f}' if done else ''
  rows.append(f'| `{method}` | {result["status"]} | {result["steps"]} | {accuracy} | {loss} | '
              f'{result["seconds"]:.0f} |')
display(Markdown('\n'.join(rows)))

# %% [markdown]
# Without normalization depth 100 does not train at this rate. One multiplier per block, started at zero, is enough.
#
# How far have the multipliers gone? A run is a directory, and `zeroinit.load` gives its network back. **The figure**
# shows every `alpha` along depth after training. They take both signs, and all stay well below 1.

# %%
_, trained = load(directory / 'zeroinit')
alphas = []
for stage in sorted(name for name in trained['params'] if name.startswith('stage')):
  blocks = trained['params'][stage]
  alphas += [float(blocks['first']['alpha']), *map(float, blocks['rest']['alpha'].ravel())]
with matplotlib.rc_context(STYLE):
  made = Figure(figsize=(7, 2.4))
  ax = made.subplots()
  ax.plot(range(1, len(alphas) + 1), alphas, '.', color=LOOKS['zeroinit'][0])
  ax.axhline(0, color='#808080', linewidth=0.8)
  ax.set(xlabel='block', ylabel='alpha after training')
display(made)

# %% [markdown]
# ## Is that fair?
#
# Not yet. This was one rate and one seed, and methods differ in the rates that they need: batch norm stands far larger
# ones. The papers' comparison tunes the rate for every method, over a grid, and reports how wide the good range is.
# That is what this project is for:
#
# - [your_own_method](your_own_method.ipynb) takes a method of yours through the fair comparison;
# - [look_inside](look_inside.ipynb) shows *why* these three behave so;
# - `zeroinit study digits --workdir=runs/digits` is this, done fairly, in 40 runs.
