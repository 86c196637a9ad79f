"""Looking inside a network: measurements of the papers' explanations, on any method.

    variance.py    how large skip path and branches are at every block: measure(net, variables, images)
    laws.py        how large they should be at initialization
    toys.py        fully connected and convolutional networks of up to a thousand blocks
    gradients.py   how alike the gradients of single examples are: measure(net, variables, images, labels)
    depth.py       Fixup's depth test, accuracy after one epoch: measure(config, recipe)
    stability.py   the largest stable learning rate: measure(config, recipe)
    page.py        all of it on one page
    command.py     what the commands share; training.py: a few updates; figures.py, *_figure.py: the pictures

Each probe is a function, and a command that writes a JSON and a PNG into a directory:

    python -m zeroinit.probes.variance --config=configs/cifar10.py:ghost_norm --workdir=DIR
    python -m zeroinit.probes.gradients --config=configs/digits.py --methods=none,zeroinit --depths=16,100 --workdir=DIR
    python -m zeroinit.probes.depth --config=configs/digits.py --methods=none,fixup --depths=10,100 --workdir=DIR
    python -m zeroinit.probes.stability --config=configs/digits.py --methods=none,fixup --batches=16,64 --workdir=DIR
    python -m zeroinit.probes.page --workdir=DIR

From Python, at initialization or from a run:

    from zeroinit import runs
    from zeroinit.probes import variance

    net, variables = runs.load('runs/fixup_100')
    for record in variance.measure(net, variables, images, running=True):
      print(record['block'], record['share'])

A module that states TITLE and EXPLANATION is a probe: the page finds it by that, and what it has written by the field
`probe` of its JSON.
"""
