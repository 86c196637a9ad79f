"""Writes the report of a study: tables, figures and the papers' claims, ours beside theirs.

  python -m zeroinit.report --workdir=runs/table1

It may be asked for at any time, also while the study is running, and says what is missing. Into the workdir go
report.md, report.html (one file that needs nothing else), report_*.png, results.csv (a row per cell) and summary.csv (a
row per setting and metric). Exit codes: 0, or 2 for a mistake in the command or its surroundings.
"""

from absl import flags

from zeroinit import command_line

WORKDIR = flags.DEFINE_string('workdir', None, 'Directory of the study.')


def main(argv):
  from zeroinit.report import write_report  # takes a second to import, and --help need not wait for it

  print(write_report(WORKDIR.value))


if __name__ == '__main__':
  flags.mark_flag_as_required('workdir')
  command_line.run(main)
