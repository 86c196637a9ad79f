"""A report is a title and blocks; here they become Markdown, one HTML file that needs nothing else, and plain text."""

import base64
import dataclasses
import hashlib
import html as escaping
import importlib.resources
import io
import itertools
import math
import re
import textwrap

import PIL.Image


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
  """columns: names; rows: as many texts each, the first of which names the row.

  Raises:
    TypeError: a cell is no text, such as a name from a damaged file.
  """

  caption: str
  columns: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]

  def __post_init__(self):
    for cell in itertools.chain(*self.rows):
      if not isinstance(cell, str):
        raise TypeError(f'{cell!r} is no text for the table "{self.caption}"')


@dataclasses.dataclass(frozen=True)
class Value:
  """A value in a figure. x, y: its place, as shares of the width from the left and of the height from the top."""

  x: float
  y: float
  text: str


@dataclasses.dataclass(frozen=True)
class Image:
  """file: name beside the report; text: what the figure shows, also for those who cannot see it.

  values: what HTML says where one points at it, and lists below it.
  """

  file: str
  text: str
  png: bytes
  values: tuple[Value, ...] = ()


@dataclasses.dataclass(frozen=True)
class Progress:
  """How far something is: done of so many. refresh: seconds after which HTML loads itself anew, or None."""

  done: int
  of: int
  text: str
  refresh: float | None = None


STYLE, SCRIPT = (importlib.resources.files(__package__).joinpath(name).read_text() for name in ('page.css', 'page.js'))


def html(title, blocks):
  """One HTML page, as text: images inside, no address outside, and no script but its own."""
  body = '\n'.join(_html_block(block) for block in blocks)
  # A browser that is told so loads nothing else, and runs nothing that was written into a study.
  digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
  policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
  refresh = next((block.refresh for block in blocks if isinstance(block, Progress) and block.refresh), None)
  reload = f'<noscript><meta http-equiv="refresh" content="{refresh:g}"></noscript>\n' if refresh else ''
  return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
          f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
          f'<meta name="viewport" content="width=device-width, initial-scale=1">\n{reload}'
          f'<title>{_html_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n'
          f'<body>\n<main>\n<h1>{_html_text(title)}</h1>\n{body}\n</main>\n<script>{SCRIPT}</script>\n</body>\n'
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
      body = '\n'.join(f'<tr><th scope="row"{_shown(row[0])}</th>'
                       + ''.join(f'<td{_shown(cell)}</td>' for cell in row[1:]) + '</tr>' for row in rows)
      # A table is wider than a phone; whoever has no mouse scrolls it with the arrow keys. Its caption is a heading
      # outside, so that it does not scroll away.
      label = f'aria-label="{_html_text(caption)}"'
      return (f'<h3>{_html_text(caption)}</h3>\n<div class="scroll" tabindex="0" role="group" {label}>\n'
              f'<table {label}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>')
    case Image(_, text, png, values):
      with PIL.Image.open(io.BytesIO(png)) as image:
        # CSS has 96 pixels to an inch, so letters have the size that the figure gives them.
        width, height = (round(pixels * 96 / image.info.get('dpi', (96,))[0]) for pixels in image.size)
      data = base64.b64encode(png).decode()
      listed = ''.join(f'<li data-x="{value.x:.4f}" data-y="{value.y:.4f}">{_html_text(value.text)}</li>\n'
                       for value in values)
      below = (f'<details>\n<summary>Values of the figure: {len(values)}</summary>\n'
               f'<ul class="values">\n{listed}</ul>\n</details>\n') if values else ''
      return (f'<figure>\n<div class="scroll" tabindex="0" role="group" aria-label="Figure">\n<div class="plot">'
              f'<img src="data:image/png;base64,{data}" alt="{_html_text(text)}" width="{width}" height="{height}">'
              f'</div>\n</div>\n'
              f'<figcaption>{_html_text(text)}</figcaption>\n{below}</figure>')
    case Progress(done, of, text, refresh):
      every = f' data-refresh="{refresh:g}"' if refresh else ''
      return (f'<section class="progress" aria-label="Progress"{every}>\n'
              f'<progress max="{of}" value="{done}" aria-label="{done} of {of}"></progress>\n'
              f'<p>{_html_text(text)}</p>\n</section>')


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
    case Image(file, text):
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


def _shown(text):
  """The rest of a table cell's tag, with the number by which its column sorts, and its text."""
  number = _number(text)
  return ((' class="long"' if len(text) > 32 else '') + ('' if number is None else f' data-number="{number:g}"')
          + f'>{_html_text(text)}')


def _number(text):
  """The number that a text begins with, as in '90.95 ± 0.36', '2^-4' and '3 of 15'; None where it begins otherwise."""
  found = re.match(r'([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)(?:\^(-?\d+))?(?![\w.^])', text.replace(',', ''))
  try:
    number = float(found[1]) ** int(found[2] or 1) if found else math.nan
  except (OverflowError, ZeroDivisionError):
    return None
  return number if math.isfinite(number) else None


def _html_text(text):
  return escaping.escape(text)


def _markdown_text(text):
  """Text that Markdown shows as it stands, on one line."""
  return re.sub(r'([\\`*\[\]|])', r'\\\1', escaping.escape(' '.join(text.split()), quote=False))
