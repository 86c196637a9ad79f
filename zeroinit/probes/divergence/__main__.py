"""The command of this probe."""

from zeroinit.probes import command, divergence

__doc__ = divergence.__doc__  # which --help shows

if __name__ == '__main__':
  divergence.define()
  command.run(divergence.main)
