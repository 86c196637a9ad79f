"""The command of this probe."""

from zeroinit.probes import command, gradients

__doc__ = gradients.__doc__  # which --help shows

if __name__ == '__main__':
  gradients.define()
  command.run(gradients.main)
