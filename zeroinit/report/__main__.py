"""Writes the report of a study: tables, figures and the papers' claims, ours beside theirs.

  zeroinit report --workdir=runs/table1
  zeroinit report --workdir=runs/table1 --watch

It may be asked for at any time, also while the study is running, and says what is missing; with --watch it is written
anew until the study is over, and report.html, open in a browser, follows. (`zeroinit study` does so by itself.) Into
the workdir go report.md, report.html (one file that needs nothing else), report_*.png, results.csv (a row per cell) and
summary.csv (a row per setting and metric). Exit codes: 0, or 2 for a mistake in the command or its surroundings.
"""

from absl import flags

from zeroinit import command_line

WORKDIR = flags.DEFINE_string('workdir', None, 'Directory of the study.')
WATCH = flags.DEFINE_boolean('watch', False, 'Write it anew until the study is over.')


def main(argv):
  from zeroinit.report import print_report, watch  # takes a second to import, and --help need not wait for it

  if WATCH.value:
    watch(WORKDIR.value)
  print_report(WORKDIR.value)


if __name__ == '__main__':
  flags.mark_flag_as_required('workdir')
  command_line.run(main)
