"""The command of this probe."""

from zeroinit.probes import command, landscape

__doc__ = landscape.__doc__  # which --help shows

if __name__ == '__main__':
  landscape.define()
  command.run(landscape.main)
