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
# # Look inside: why batch norm lets networks be deep
#
# Three networks of depth 100 that have not been trained yet: with **batch norm**, with nothing (**none**), and with
# **ZeroInit**, a multiplier of zero at the end of each residual branch. What is different at the very start?
#
# Three probes answer: how large signals are along depth, how alike the gradients of different images are, and how far
# one can step along the gradient. They are functions; each takes any network and any batch. A minute or two on two CPU
# cores. A GPU or TPU works as it is.

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
import itertools

import jax
import numpy as np
import treescope
from IPython.display import display

from zeroinit import load_config
from zeroinit.probes import gradients, inputs, landscape, snapshots, variance
from zeroinit.training.optimizer import l2_penalty

print(jax.devices())

# %% [markdown]
# ## Three networks, one batch
#
# 64 of scikit-learn's handwritten digits, the first batch that a run would take. `snapshots.states` initializes a
# network as a run does; it would train it, too.


# %%
def config_of(method, depth=100):
  # Runs start with a classifier at zero, below which there is no gradient before the first update.
  return load_config(f'digits:{method}', {'depth': depth, 'classifier_init': 'lecun'})


def at_start(config):
  recipe = inputs.recipe_of(config)
  (_, variables), = snapshots.states(config, recipe)
  return recipe.net, variables


methods = ['none', 'batch_norm', 'zeroinit']
networks = {method: at_start(config_of(method)) for method in methods}
images, labels = inputs.first_batch(config_of('none'))
net, variables = networks['none']
print(net.title, 'reads', images.shape)

# %% [markdown]
# Layer by layer, this is the first block of the second stage with batch norm. Click to unfold; arrays are drawn.

# %%
with treescope.active_autovisualizer.set_scoped(treescope.ArrayAutovisualizer()):
  treescope.display(networks['batch_norm'][1]['params']['stage2']['first'])

# %% [markdown]
# ## How large are signals along depth?
#
# A block adds a branch to the skip path. `variance.measure` takes the mean square of both, at every block.

# %%
records, formulas = [], {}
for method, (net, variables) in networks.items():
  found = variance.measure(net, variables, images)
  expected = variance.laws.expected(net, found[0]['input_second_moment'])
  for record, law in zip(found, expected, strict=True):
    theory = {'law_output_second_moment': law.output, 'law_branch_second_moment': law.branch, 'law_share': law.share}
    records.append({'method': method, 'updates': 0} | record | theory)
  formulas[method] = variance.laws.formula(net)
display(variance.figure.draw('Depth 100 at initialization, digits', records, formulas))

# %% [markdown]
# **Above**: the mean square of skip path and branch. With `none` it grows exponentially, to more than a million. With
# `batch_norm` the skip path grows by about one per block, and starts again in each stage. With `zeroinit` nothing
# grows.
#
# **Middle**: the share of the branch in a block's output. With `batch_norm` it falls as 1 / depth within each stage:
# *deep blocks are nearly the identity*. With `zeroinit` they start exactly there.
#
# **Below**: the skip path in two parts, the variance of its channels and the square of their means. Circles are what
# the norm sees. A dotted vertical line is where the next stage begins.
#
# Dashed lines are the theory. Here `none` stays below it: the zeros around images as small as these, 8x8 pixels and 2x2
# in the last stage, take a part of every convolution's output.
#
# ## Are the gradients of different images all the same?
#
# If so, a batch says no more than one image. `gradients.measure` has the mean cosine between the gradients of two
# images: 0 where they are unrelated, 1 where all are parallel.

# %%
records = []
for method in methods:
  for depth in (16, 100):
    config = config_of(method, depth)
    net, variables = networks[method] if depth == 100 else at_start(config)
    found = gradients.measure(net, variables, images[:32], labels[:32])
    l2 = float(l2_penalty(variables['params'], config.weight_decay, config.weight_decay_on))
    records.append({'method': method, 'depth': depth, 'l2': l2, 'l2_share': l2 / (l2 + found['cross_entropy'])} | found)
display(gradients.figure.draw('Gradients at initialization, digits', records))

# %% [markdown]
# **Left**: the mean cosine against depth. With `none` gradients are more alike. **Middle**: the cross-entropy (solid)
# and L2 (dashed). Guessing among ten digits costs ln 10 = 2.3; at depth 100 `none` starts far above, since its outputs
# have exploded. **Right**: the share of L2 in the loss.
#
# ## How far can one step?
#
# An update follows the gradient for as far as the learning rate says. `landscape.measure` goes along the gradient in
# steps of many sizes, and looks at the loss there.

# %%
step_sizes = 2.0 ** np.arange(-12, 4, 2)
records = [{'method': method, 'updates': 0} | landscape.measure(net, variables, images, labels, step_sizes)
           for method, (net, variables) in networks.items()]
display(landscape.figure.draw('Along the gradient at initialization, depth 100, digits', records))

# %% [markdown]
# **Left**: the loss after a step, over the loss before. Below 1 the step helps. With `batch_norm` and `zeroinit` it
# does up to large steps. With `none` small steps already make the loss explode; after larger ones it is that of
# guessing, below 1 only because it was so high before. **Middle**: how much the gradient has changed on the way.
# **Right**: how fast it changes, β. Low is smooth. What float32 cannot hold is left out.

# %%
for record in records:
  first = itertools.takewhile(lambda point: point['relative_loss'] < 1, record['along'])
  helps = [f'{point["step_size"]:.2g}' for point in first]
  print(f'{record["method"]:12} loss {record["loss"]:.3g}; '
        f'the largest step that helps: {helps[-1] if helps else "none"}')

# %% [markdown]
# So batch norm and ZeroInit agree at the start where it matters: small branches, signals that do not explode, and a
# loss along which one can walk.
#
# There are seven more probes, and commands for all of them:
#
#     zeroinit probe variance digits --methods=none,fixup,zeroinit --workdir=probes/v
#
# `zeroinit.load(DIRECTORY)` gives the network and the variables of a run: measure them the same way. Next:
# [a method of your own](your_own_method.ipynb), or back to [the tour](ten_minute_tour.ipynb).
