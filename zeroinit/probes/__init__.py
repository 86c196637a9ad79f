"""Looking inside a network: measurements of the papers' explanations, on any method.

    variance.py         how large skip path and branches are at every block: measure(net, variables, images)
    gradients.py        how alike the gradients of single examples are: measure(net, variables, images, labels)
    channels.py         whether the terms of the gradients of layers cancel: measure(net, variables, images, labels)
    depth.py            Fixup's depth test, accuracy after one epoch: measure(config, recipe)
    stability.py        the largest stable learning rate: measure(config, recipe)
    landscape.py        the loss along the gradient: measure(net, variables, images, labels, step_sizes)
    covariate_shift.py  how a layer's gradient changes with the layers before it: measure(net, variables, updated, ...)
    divergence.py       channels along the update at which a run diverges: measure(net, params, updated, ...)
    bound.py            what norms do to the gradient, and a bound on it: measure(net, variables, images, labels)
    spectra.py          singular values of products of random matrices: measure(squares, factors)
    page.py             all of it on one page

Beneath them:

    variance_laws.py    how large the parts of a block should be at initialization
    spectra_law.py      what the singular values should be
    toys.py             fully connected and convolutional networks of up to a thousand blocks
    linear.py           a deep linear network, for the landscape and the covariate shift
    layers.py           the layers of a network along its depth, and what modules leave behind
    inputs.py           recipe, data set and batches of a config
    training.py         a few updates, and the snapshots that are measured on the way
    scaling.py          against overflow
    command.py          the flags that the commands share, and whom they name
    memory.py           whether a measurement fits into memory
    writing.py          means over draws; the JSON and the PNG
    texts.py            what notes, tables and progress share
    figures.py          what the pictures share; *_figure.py: the pictures

Each probe is a function, and a command that writes a JSON and a PNG into a directory:

    python -m zeroinit.probes.variance --config=configs/cifar10.py:ghost_norm --workdir=DIR
    python -m zeroinit.probes.gradients --config=configs/digits.py --methods=none,zeroinit --depths=16,100 --workdir=DIR
    python -m zeroinit.probes.depth --config=configs/digits.py --methods=none,fixup --depths=10,100 --workdir=DIR
    python -m zeroinit.probes.stability --config=configs/digits.py --methods=none,fixup --batches=16,64 --workdir=DIR
    python -m zeroinit.probes.landscape --config=configs/digits.py --methods=none,fixup --updates=0,8,16 --workdir=DIR
    python -m zeroinit.probes.covariate_shift --config=configs/digits.py --methods=none,fixup --layers=4,8 --workdir=DIR
    python -m zeroinit.probes.divergence --config=configs/digits.py:none --config.learning_rate=0.5 --workdir=DIR
    python -m zeroinit.probes.bound --config=configs/digits.py:batch_norm --updates=0,80 --workdir=DIR
    python -m zeroinit.probes.spectra --workdir=DIR
    python -m zeroinit.probes.page --workdir=DIR

From Python, at initialization or from a run:

    from zeroinit import runs
    from zeroinit.probes import variance

    net, variables = runs.load('runs/fixup_100')
    for record in variance.measure(net, variables, images):
      print(record['block'], record['share'])

A module that states TITLE and EXPLANATION is a probe: the page finds it by that, and what it has written by the field
`probe` of its JSON.
"""
