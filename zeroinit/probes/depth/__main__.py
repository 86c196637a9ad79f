"""The command of this probe."""

from zeroinit.probes import command, depth

__doc__ = depth.__doc__  # which --help shows

if __name__ == '__main__':
  depth.define()
  command.run(depth.main)
