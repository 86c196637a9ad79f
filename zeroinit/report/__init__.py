"""The report of a study: what came out, beside what the papers published.

May import studies and what is below it; measures nothing itself.

    groups.py     cells and results -> settings, and what the paper's rule chooses in each     <- read this first
    published.py  the papers' numbers, and which of our settings each belongs to
    header.py     the title, which says what stands between the numbers and the papers', what was run, and how far
    tables.py     a row per setting; ranking.py: a row per method, in order
    findings/     the papers' claims: which hold; a file for each paper's tables or figures
    figures.py    the papers' figures; curves.py: accuracy along training
    records.py    the same as CSV
    page.py       Markdown, HTML and plain text; page.css, page.js
"""

import contextlib
import shlex
import threading
import time

from zeroinit import command_line
from zeroinit.report import curves, figures, findings, header, page, ranking, records, tables
from zeroinit.report.groups import gather, has_edge
from zeroinit.studies import manifest
from zeroinit.system import objects

LISTED = 20  # missing cells that are named; the rest is counted
WRITING = 0.05  # of the time, at most, is spent on rewriting the report of a running study


@contextlib.contextmanager
def live(workdir):
  """Writes the report of a study anew while open; after an exception once more, so that no reader waits for the next.

  It is written in a thread, so that a signal finds the main thread where it was. What is wrong with the report does not
  stop the study: its end will tell.
  """
  stopping = threading.Event()

  def write():
    pause = 0.0
    while not stopping.wait(pause):
      began = time.monotonic()
      with contextlib.suppress(Exception):
        write_report(workdir, live=True)
      pause = max(header.REFRESH_SECONDS, (time.monotonic() - began) / WRITING)

  thread = threading.Thread(target=write, daemon=True)
  thread.start()
  try:
    try:
      yield
    finally:
      stopping.set()
      thread.join()
  except BaseException:
    with contextlib.suppress(Exception):
      write_report(workdir)
    raise


def watch(workdir):
  """Writes the report of a study anew until every cell has a result or has failed. Raises as `write_report`."""
  while not gather(manifest.load_study(workdir)).over:
    write_report(workdir, live=True)
    time.sleep(header.REFRESH_SECONDS)


def write_report(workdir, live=False):
  """Writes the report of the study in a directory, into that directory.

  Args:
    workdir: path, or an address such as gs://bucket/folder.
    live: whether the caller will write it again, while the study is not over.

  Returns:
    What a terminal shows: the title, the tables and the claims, as plain text.

  Raises:
    UserError: there is no study, a file of it is damaged, or the directory cannot be written.
  """
  return _write(gather(manifest.load_study(workdir)), live)


def print_report(workdir):
  """`write_report`, as a command ends: prints what a terminal shows, where the rest is, and what to do next."""
  gathered = gather(manifest.load_study(workdir))
  print(_write(gathered, live=False), end='\n\n')
  command_line.end(gathered.study.workdir / 'report.html', _then(gathered))


def _write(gathered, live):
  study = gathered.study
  title = header.title(gathered)
  results = tables.results(gathered)
  claims = findings.table(study.name, gathered.groups)
  order = ranking.ranked(gathered)
  images = [ranking.draw(gathered, order)] if order else []
  if order is None or len(order.groups) <= ranking.MANY:
    images += figures.draw(gathered) + curves.draw(gathered)
  blocks = [
      page.Paragraph(header.what_was_run(gathered)),
      *([page.Heading('What must come out'), claims] if claims else []),
      *([page.Heading('In order'), ranking.table(order)] if order else []),
      page.Heading('Results'), *results,
      page.Heading('How it was chosen'), page.Paragraph(tables.how(gathered)),
      page.Heading('What the columns mean'), tables.meanings(results),
      *([page.Heading('Figures'), *images] if images else []),
      *_missing(gathered),
  ]
  for image in images:
    objects.replace(study.workdir / image.file, image.png)
  objects.replace(study.workdir / 'results.csv', records.of_cells(gathered))
  objects.replace(study.workdir / 'summary.csv', records.of_settings(gathered))
  objects.replace(study.workdir / 'report.md', page.markdown(title, blocks))
  progress = [] if gathered.over else [header.progress(gathered, live)]
  objects.replace(study.workdir / 'report.html', page.html(title, progress + blocks))
  shown = [page.Paragraph(header.what_was_run(gathered)), *map(tables.short, results),
           *([findings.short(claims)] if claims else []),
           *_missing(gathered)]
  return page.text(title, shown)


def _then(gathered):
  """What its reader should do next."""
  if gathered.missing:
    return f'the launch command again, for the {len(gathered.missing)} cells that are left'
  if has_edge(gathered):
    return 'the launch command again with --extend, since an optimal learning rate is at an end of its grid'
  return f'open it in a browser, or {shlex.join(["tensorboard", f"--logdir={gathered.study.workdir}"])}'


def _missing(gathered):
  """Blocks that name the cells without a result, and those that failed."""
  missing, failures = gathered.missing, gathered.failures
  if not missing:
    return
  index = {cell.identity: index for index, cell in enumerate(gathered.study.cells)}
  lines = [f'{index[cell.identity]}: {cell.identity}' for cell in missing if cell.identity not in failures]
  if lines:
    yield page.Heading('What is missing')
    yield page.Paragraph(f'{len(lines)} of {len(index)} cells have not finished; the same command goes on with them.'
                         + (f' The first {LISTED}:' if len(lines) > LISTED else ''))
    yield page.Items(tuple(lines[:LISTED]))
  if failures:
    yield page.Heading('What failed')
    yield page.Paragraph(f'Cells that ended with an error: {len(failures)}. The same command tries them again.')
    yield page.Items(tuple(f'{index[cell.identity]}: {cell.identity}: {failures[cell.identity]}'
                           for cell in missing if cell.identity in failures))
