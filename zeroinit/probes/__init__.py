"""Looking inside a network: measurements of the papers' explanations, on any method. One folder a probe.

    variance         how large skip path and branches are at every block: measure(net, variables, images)
    gradients        how alike the gradients of single examples are: measure(net, variables, images, labels)
    channels         whether the terms of the gradients of layers cancel: measure(net, variables, images, labels)
    depth            Fixup's depth test, accuracy after one epoch: measure(config, recipe)
    stability        the largest stable learning rate: measure(config, recipe)
    landscape        the loss along the gradient: measure(net, variables, images, labels, step_sizes)
    covariate_shift  how a layer's gradient changes with the layers before it: measure(net, variables, updated, ...)
    divergence       channels along the update at which a run diverges: measure(net, params, updated, ...)
    bound            what norms do to the gradient, and a bound on it: measure(net, variables, images, labels)
    spectra          singular values of products of random matrices: measure(squares, factors)

In each folder `__init__.py` measures, figure.py draws, and __main__.py is the command; variance has its laws and toy
networks beside it, spectra its law. What they share:

    page.py          all of it on one page
    command.py       the flags that the commands share, and whom they name
    inputs.py        recipe, data set and batches of a config
    snapshots.py     a few updates, and the states that are measured on the way
    layers.py        the layers of a network along its depth, and what modules leave behind
    linear.py        a deep linear network, for the landscape and the covariate shift
    scaling.py       against overflow
    memory.py        whether a measurement fits into memory
    writing.py       means over draws; the JSON and the PNG
    texts.py         what notes, tables and progress share
    figures.py       what the pictures share

May import report, for how tables and pictures look, and what is below it; knows nothing of studies' results.

Each probe is a function, and a command that writes a JSON and a PNG into a directory:

    zeroinit probe variance cifar10:ghost_norm --workdir=DIR
    zeroinit probe gradients digits --methods=none,zeroinit --depths=16,100 --workdir=DIR
    zeroinit probe depth digits --methods=none,fixup --depths=10,100 --workdir=DIR
    zeroinit probe stability digits --methods=none,fixup --batch_sizes=16,64 --workdir=DIR
    zeroinit probe landscape digits --methods=none,fixup --updates=0,8,16 --workdir=DIR
    zeroinit probe covariate_shift digits --methods=none,fixup --layers=4,8 --workdir=DIR
    zeroinit probe divergence digits:none --config.learning_rate=5 --workdir=DIR
    zeroinit probe bound digits:batch_norm --updates=0,80 --workdir=DIR
    zeroinit probe spectra --workdir=DIR
    zeroinit probe page --workdir=DIR

From Python, at initialization or from a run:

    from zeroinit import load
    from zeroinit.probes import variance

    net, variables = load('runs/fixup_100')
    for record in variance.measure(net, variables, images):
      print(record['block'], record['share'])

A folder whose module states TITLE and EXPLANATION is a probe: the page finds it by that, and what it has written by the
field `probe` of its JSON.
"""
