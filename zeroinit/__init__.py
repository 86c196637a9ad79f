"""What does batch normalization do for residual networks, and what can replace it?

Start with `zeroinit.methods` (what is compared), then follow one run front to back, as the map in README.md does:
`layers`, `blocks`, `resnet`, `config`, `recipe`, `optimizer`, `data`, `batches`, `step`, `feed`, `train`, `runs`.
"""

__version__ = '0.1.0'
