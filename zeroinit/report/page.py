"""A report is a title and blocks; here they become Markdown, one HTML file that needs nothing else, and plain text."""

import base64
import dataclasses
import html as escaping
import re
import textwrap


@dataclasses.dataclass(frozen=True)
class Heading:
  text: str
  level: int = 2


@dataclasses.dataclass(frozen=True)
class Paragraph:
  text: str


@dataclasses.dataclass(frozen=True)
class Items:
  lines: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Table:
  """columns: names; rows: as many texts each, the first of which names the row."""

  caption: str
  columns: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Image:
  """file: name beside the report; text: what the figure shows, also for those who cannot see it."""

  file: str
  text: str
  png: bytes


STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem; }
body { overflow-wrap: break-word; }
h1 { font-size: 1.4rem; line-height: 1.3; }
h2 { font-size: 1.15rem; margin-top: 2rem; }
h3 { font-size: 0.95rem; margin-bottom: 0; }
.scroll { overflow-x: auto; margin: 0.5rem 0 1.5rem; }
table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 1rem 0.3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #8885; }
thead th { vertical-align: bottom; border-bottom: 1px solid; }
tbody th { font-weight: 400; }
tbody th, td { white-space: nowrap; }
tbody .long { white-space: normal; min-width: 14rem; }
figure { margin: 1.5rem 0; }
figure img { max-width: 100%; height: auto; background: white; }
figcaption, li { font-size: 0.875rem; }
"""


def html(title, blocks):
  """One HTML page, as text: images inside, no script, no address outside."""
  body = '\n'.join(_html_block(block) for block in blocks)
  return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
          f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{_html_text(title)}</title>\n'
          f'<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{_html_text(title)}</h1>\n{body}\n</main>\n</body>\n'
          '</html>\n')


def markdown(title, blocks):
  """One Markdown page, as text; its images are files beside it."""
  return '\n\n'.join([f'# {_markdown_text(title)}', *map(_markdown_block, blocks)]) + '\n'


def text(title, blocks, width=120):
  """The page for a terminal. Images are left out."""
  return '\n\n'.join([textwrap.fill(title, width), *(_text_block(block, width) for block in blocks)])


def _html_block(block):
  match block:
    case Heading(text, level):
      return f'<h{level}>{_html_text(text)}</h{level}>'
    case Paragraph(text):
      return f'<p>{_html_text(text)}</p>'
    case Items(lines):
      return '<ul>\n' + '\n'.join(f'<li>{_html_text(line)}</li>' for line in lines) + '\n</ul>'
    case Table(caption, columns, rows):
      head = ''.join(f'<th scope="col">{_html_text(name)}</th>' for name in columns)
      body = '\n'.join(f'<tr><th scope="row"{_long(row[0])}>{_html_text(row[0])}</th>'
                       + ''.join(f'<td{_long(cell)}>{_html_text(cell)}</td>' for cell in row[1:]) + '</tr>'
                       for row in rows)
      # A table is wider than a phone; whoever has no mouse scrolls it with the arrow keys. Its caption is a heading
      # outside, so that it does not scroll away.
      label = f'aria-label="{_html_text(caption)}"'
      return (f'<h3>{_html_text(caption)}</h3>\n<div class="scroll" tabindex="0" role="region" {label}>\n'
              f'<table {label}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>')
    case Image(_, text, png):
      data = base64.b64encode(png).decode()
      return (f'<figure>\n<img src="data:image/png;base64,{data}" alt="{_html_text(text)}">\n'
              f'<figcaption>{_html_text(text)}</figcaption>\n</figure>')


def _markdown_block(block):
  match block:
    case Heading(text, level):
      return f'{"#" * level} {_markdown_text(text)}'
    case Paragraph(text):
      return _markdown_text(text)
    case Items(lines):
      return '\n'.join(f'- {_markdown_text(line)}' for line in lines)
    case Table(caption, columns, rows):
      lines = [columns, ['---'] * len(columns), *rows]
      cells = lambda line: [cell if cell == '---' else _markdown_text(cell) for cell in line]
      return f'**{_markdown_text(caption)}**\n\n' + '\n'.join(f'| {" | ".join(cells(line))} |' for line in lines)
    case Image(file, text, _):
      return f'![{_markdown_text(text)}]({file})\n\n{_markdown_text(text)}'


def _text_block(block, width):
  match block:
    case Heading(text):
      return text.upper()
    case Paragraph(text):
      return textwrap.fill(text, width)
    case Items(lines):
      fill = textwrap.TextWrapper(width, initial_indent='  ', subsequent_indent='    ').fill
      return '\n'.join(map(fill, lines))
    case Table(caption, columns, rows):
      widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
      line = lambda cells: '  '.join(f'{cell:<{n}}' for cell, n in zip(cells, widths, strict=True)).rstrip()
      under = line(['-' * n for n in widths])
      return '\n'.join([textwrap.fill(caption, width), line(columns), under, *map(line, rows)])


def _long(text):
  return ' class="long"' if len(text) > 32 else ''


def _html_text(text):
  return escaping.escape(text)


def _markdown_text(text):
  """Text that Markdown shows as it stands, on one line."""
  return re.sub(r'([\\`*\[\]|])', r'\\\1', escaping.escape(' '.join(text.split()), quote=False))
