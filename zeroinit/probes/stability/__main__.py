"""The command of this probe."""

from zeroinit.probes import command, stability

__doc__ = stability.__doc__  # which --help shows

if __name__ == '__main__':
  stability.define()
  command.run(stability.main)
