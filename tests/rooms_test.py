"""The order of the rooms: each imports only what stands before it, so that a reader never has to turn back."""

import ast

import command
import pytest

# See docs/design.md for what belongs into each.
ORDER = ('system', 'ranges', 'methods', 'own', 'networks', 'data', 'training', 'runs', 'command_line', 'studies',
         'report', 'probes', 'launch', 'main', '__main__')
PACKAGE = command.ROOT / 'zeroinit'


def room(parts):
  """The room of a module, or None of the package itself, which names everything and imports nothing."""
  return parts[1] if len(parts) > 1 else None


def modules():
  for path in sorted(PACKAGE.rglob('*.py')):
    parts = path.relative_to(command.ROOT).with_suffix('').parts
    yield path, parts[:-1] if parts[-1] == '__init__' else parts


def imported(path):
  """(line, parts) of everything of zeroinit that a file imports, inside functions too."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path}:{node.lineno}: a relative import hides where it leads'
      names = [f'{node.module}.{alias.name}' for alias in node.names]
    else:
      continue
    for name in names:
      if name.split('.')[0] == 'zeroinit':
        yield node.lineno, name.split('.')


def test_every_room_has_a_place_in_the_order():
  assert {room(parts) for _, parts in modules()} - {None} == set(ORDER)


@pytest.mark.parametrize('path, parts', list(modules()), ids=str)
def test_imports_go_one_way(path, parts):
  here = room(parts)
  for line, there in imported(path):
    if here and room(there) in ORDER:
      assert ORDER.index(room(there)) <= ORDER.index(here), f'{path}:{line} imports {".".join(there)}'


def test_the_check_sees_an_import_against_the_order(tmp_path):
  file = tmp_path / 'x.py'
  file.write_text('def f():\n  from zeroinit.studies import manifest\nfrom zeroinit import data\n')
  assert sorted((line, room(there)) for line, there in imported(file)) == [(2, 'studies'), (3, 'data')]


def test_every_room_says_what_it_is_for():
  for name in ORDER:
    file = PACKAGE / name / '__init__.py' if (PACKAGE / name).is_dir() else PACKAGE / f'{name}.py'
    assert ast.get_docstring(ast.parse(file.read_text())), name
