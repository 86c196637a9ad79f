"""The command of this probe."""

from zeroinit.probes import bound, command

__doc__ = bound.__doc__  # which --help shows

if __name__ == '__main__':
  bound.define()
  command.run(bound.main)
