"""The command of this probe."""

from zeroinit.probes import command, variance

__doc__ = variance.__doc__  # which --help shows

if __name__ == '__main__':
  variance.define()
  command.run(variance.main)
