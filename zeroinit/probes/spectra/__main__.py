"""The command of this probe."""

from zeroinit.probes import command, spectra

__doc__ = spectra.__doc__  # which --help shows

if __name__ == '__main__':
  spectra.define()
  command.run(spectra.main)
