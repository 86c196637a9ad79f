"""What does batch normalization do for residual networks, and what can replace it?

Start with `zeroinit.methods` (what is compared), then follow one run front to back:
`layers`, `blocks`, `resnet`, `optimizer`, `step`, `resident` and `stream`, `train`, `runs`.
"""

__version__ = '0.1.0'
