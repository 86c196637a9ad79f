"""The report of a study: what came out, beside what the papers published.

    groups.py     cells and results -> settings, and what the paper's rule chooses in each     <- read this first
    published.py  the papers' numbers, and which of our settings each belongs to
    header.py     the title, which says what stands between the numbers and the papers', and what was run
    tables.py     a row per setting
    findings.py   the papers' claims: which hold
    figures.py    the papers' figures; curves.py: accuracy along training
    records.py    the same as CSV
    page.py       Markdown, HTML and plain text
"""

from zeroinit import objects, studies
from zeroinit.report import curves, figures, findings, header, page, records, tables
from zeroinit.report.groups import gather

LISTED = 20  # missing cells that are named; the rest is counted


def write_report(workdir):
  """Writes the report of the study in a directory, into that directory.

  Args:
    workdir: path, or an address such as gs://bucket/folder.

  Returns:
    What a terminal shows: the title, the tables and the claims, as plain text.

  Raises:
    UserError: there is no study, a file of it is damaged, or the directory cannot be written.
  """
  gathered = gather(studies.load_study(workdir))
  study = gathered.study
  title = header.title(gathered)
  results = tables.results(gathered)
  claims = findings.table(study.name, gathered.groups)
  images = figures.draw(gathered) + curves.draw(gathered)
  blocks = [
      page.Paragraph(header.what_was_run(gathered)),
      *([page.Heading('What must come out'), claims] if claims else []),
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
  objects.replace(study.workdir / 'report.html', page.html(title, blocks))
  shown = [page.Paragraph(header.what_was_run(gathered)), *map(tables.short, results),
           *([findings.short(claims)] if claims else []),
           *_missing(gathered), page.Paragraph(f'The whole report: {study.workdir / "report.html"}')]
  return page.text(title, shown)


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
