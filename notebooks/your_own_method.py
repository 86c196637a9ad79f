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
# # Your own method, in a fair comparison
#
# You have an idea for training deep residual networks. Is it better than batch norm, or than ZeroInit's multiplier?
# Two methods compared at one learning rate say nothing: the rate may suit one of them. So each gets a grid of
# rates, the best rate counts, and it must not lie at an edge of its grid.
#
# As an example we add a **bounded multiplier**, `alpha = tanh(a)`: it starts at zero as ZeroInit's does, but there is
# one for every channel, and none can exceed 1. Change it into your idea. Under two minutes on two CPU cores. A GPU or
# TPU works as it is.

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

# %% [markdown]
# ## One file says it all
#
# - the **function** makes `alpha` in `shortcut + alpha * branch`; a norm is a function, too;
# - the **row** of `METHODS` gives the method its name, here with a bias on every convolution;
# - `get_config` says on what it is trained;
# - `sweep` is the study: which methods, at which rates, powers of two.

# %%
# %%writefile my_method.py
import flax.linen as nn
import jax.numpy as jnp

from zeroinit import METHODS, Method, load_config


def bounded_alpha(module, branch, train):
  """What the branch, [batch, height, width, channels], is multiplied with before it is added to the shortcut."""
  return jnp.tanh(module.param('alpha', nn.initializers.zeros, branch.shape[-1:]))


METHODS['bounded_alpha'] = Method(alpha=bounded_alpha, biases='channel')


def get_config(method='bounded_alpha'):
  return load_config(f'digits:{method}', {'depth': 28, 'epochs': 4.0, 'evaluations': 4, 'tensorboard': False})


def sweep():
  """Does a multiplier that cannot exceed 1 stand larger rates? Digits, depth 28."""
  for method in ('bounded_alpha', 'zeroinit_no_dropout', 'batch_norm'):
    for log2_rate in (-4, -2, 0):
      yield f':{method}', {'learning_rate': 2.0**log2_rate}


# %%
import contextlib
import io
import tempfile

import jax
import treescope
from IPython.display import Image, display

import zeroinit
from zeroinit import report
from zeroinit.report.groups import beyond_the_edge, gather
from zeroinit.studies import manifest, sweeps, worker
from zeroinit.training.recipe import image_shape, network

print(jax.devices())

# %% [markdown]
# ## Is it built as you meant it?
#
# Click to unfold: the first block of the second stage. Its `alpha` must be a vector with one number for each channel.

# %%
config = zeroinit.load_config('my_method.py:bounded_alpha')
net = network(config)
images = jax.numpy.zeros((1, *image_shape(config)))
params = jax.jit(lambda key: net.init(key, images, train=False))(jax.random.key(0))['params']
print(net.title, net.method)
treescope.display(params['stage2']['first'])

# %% [markdown]
# ## The study
#
# Each method at three rates, far apart. The study is a directory, with a run in each of its cells. **The figure** shows
# test accuracy against learning rate, and is drawn anew after each method. A cross says that a run diverged. The large
# marker is the best rate.

# %%
swept, document = sweeps.own_study('my_method.py')
study = manifest.begin(tempfile.mkdtemp(), 'my_method.py', document, sweeps.expand(swept))
shown = display('training', display_id=True)


def work(study):
  """Trains what is left of a study, method by method. Returns the report."""
  for method in dict.fromkeys(cell.method for cell in study.cells):
    with contextlib.redirect_stdout(io.StringIO()):
      worker.work(study.workdir, [i for i, cell in enumerate(study.cells) if cell.method == method])
    text = report.write_report(study.workdir)
    shown.update(Image(study.workdir / 'report_accuracy_rate.png', width=700))
  return text


print(work(study))

# %% [markdown]
# ## The edge of the grid
#
# Look at the remarks in **the table**. Where the best rate is the lowest or highest of its grid, the true one may lie
# beyond, and comparing would be unfair to that method. So the grids grow, by powers of two, until every best rate is
# inside; for test accuracy and for training loss. `zeroinit study --extend` does the same.

# %%
shown = display('training', display_id=True)
while grown := beyond_the_edge(gather(study)):
  print(', '.join(f'{cell.method} at {cell.learning_rate:g}' for cell in grown))
  study = manifest.begin(study.workdir, study.name, study.document, [*study.cells, *grown])
  text = work(study)
print(text)

# %% [markdown]
# Now the rows can be compared. **The figure** says more than the best numbers: how wide the range of good rates is,
# and where a method begins to diverge. Here the multiplier that cannot exceed 1 stands no larger rates than ZeroInit's,
# and batch norm does. These rates are coarse, mostly a factor of four apart: one between may suit a method better. And
# differences below a percent are of no account: one seed, 360 test images, four epochs. For a claim, use every power of
# two and more seeds: the paper takes the best 12 of 15.
#
# **Training loss** is read by the same rule:

# %%
Image(study.workdir / 'report_loss_rate.png', width=700)

# %% [markdown]
# ## For real
#
# The same file goes to any number of machines:
#
#     zeroinit study my_method.py --workdir=runs/mine --seeds=5 --extend
#
# `docs/own_method.md` has norms of your own, what a function may do, clusters, and CIFAR-10. Beside it,
# [look_inside](look_inside.ipynb) shows what a method does to signals and gradients, and
# [the tour](ten_minute_tour.ipynb) is where to begin.
