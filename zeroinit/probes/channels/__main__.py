"""The command of this probe."""

from zeroinit.probes import channels, command

__doc__ = channels.__doc__  # which --help shows

if __name__ == '__main__':
  channels.define()
  command.run(channels.main)
