"""The command of this probe."""

from zeroinit.probes import command, covariate_shift

__doc__ = covariate_shift.__doc__  # which --help shows

if __name__ == '__main__':
  covariate_shift.define()
  command.run(covariate_shift.main)
