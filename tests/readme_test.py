"""Every command of the README and of docs/ does what it says there.

Quickly: each is read by the flags that it is really given to, with its config file, and a study is expanded. Marked
slow: each that trains or measures is run in a small form. The two commands of the README on the digits, `pytest`,
`ruff` and the making of the site are what .ci/run itself consists of.
"""

import functools
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import typing

import cifar10_copies
import command
import ilsvrc_copies
import imagenet_copies
import other_copies
import pytest
import small_copies

from zeroinit.__main__ import LISTS, VERBS, parsed

ROOT = command.ROOT
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').rglob('*.md'))]
BY_CI = (ROOT / '.ci' / 'run').read_text()
NO_COMMANDS = ('x = shortcut(x)', 'zeroinit/\n')  # how those indented blocks begin that are no commands
OF_OTHERS = ('tensorboard --logdir=runs', 'mkdocs serve')  # what comes with a package that we do not make
OURS = '|'.join(VERBS)
INLINE = rf'`((?:python -m|zeroinit (?:{OURS})\b(?=[^`]*--)|pip install|pytest|ruff|mkdocs|tensorboard|srun --)[^`]*)`'
PLACEHOLDERS = {'HOST:PORT': 'localhost:1234', '--process=I': '--process=0', 'gs://BUCKET': 'gs://bucket'}


class Block(typing.NamedTuple):
  language: str  # 'sh', 'python', or anything else that is shown and not run
  file: str  # the name by which the page's commands know it, '' where they do not
  text: str


def blocks(page):
  """The fenced blocks of a page, and outside docs/, where nothing else is indented, the indented ones."""
  text = page.read_text()
  fence = re.compile(r'^( *)```(\w*)(?: title="([^"\n]*)")?\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)
  for _, language, file, content in fence.findall(text):
    yield Block(language, file, textwrap.dedent(content))
  if (ROOT / 'docs') not in page.parents:
    for content in re.findall(r'(?<=\n\n)(?: {4}.*\n|\n(?= {4}))+', fence.sub('', text)):
      if not content.strip().startswith(NO_COMMANDS):
        yield Block('sh', '', textwrap.dedent(content))


def commands(page):
  """The commands of a page, each a line without its comment."""
  lines = re.findall(INLINE, page.read_text())
  for block in blocks(page):
    if block.language == 'sh':
      lines += re.sub(r'\\\n', '', block.text).splitlines()
  for line in lines:
    yield from filter(None, (' '.join(part.split()) for part in re.sub(r'\s+#.*', '', line).split('&&')))


def words_of(line):
  """[module, flag, ...] of a command that is ours, or None of another."""
  for placeholder, value in PLACEHOLDERS.items():
    line = line.replace(placeholder, value)
  words = shlex.split(line)
  if words[0] == 'srun':
    words = words[words.index('zeroinit'):]
  if words[0] == 'zeroinit' and words[1:] not in [[listed] for listed in LISTS]:
    module, rest = parsed(words[1:])
    return [module, *rest]
  return words[2:] if words[:2] == ['python', '-m'] else None


def everywhere():
  """{command: [names of the pages that have it]}"""
  found = {}
  for page in PAGES:
    for line in commands(page):
      found.setdefault(line, []).append(page.name)
  return found


@pytest.fixture(scope='module')
def surroundings(tmp_path_factory):
  """A directory that looks like the checkout, with the files that the pages show, and a small CIFAR-10 in DATA."""
  folder = tmp_path_factory.mktemp('checkout')
  for name in ('zeroinit', 'benchmarks', 'examples', 'results', 'tests'):
    if (ROOT / name).exists():
      (folder / name).symlink_to(ROOT / name)
  for page in PAGES:
    for block in blocks(page):
      if block.file:
        (folder / block.file).write_text(block.text)
  cifar10_copies.write(folder / 'DATA', 'py', cifar10_copies.pictures())
  small_copies.write(folder / 'DATA', 'cifar100', 'tfds', small_copies.pictures(100))
  small_copies.write(folder / 'DATA', 'svhn', 'tfds', small_copies.pictures(10))
  other_copies.write_tfds(folder / 'DATA')
  other_copies.write_folder(folder / 'flowers', train=30)
  return folder


def test_every_command_is_known_and_its_flags_exist(surroundings):
  ours = {}
  for line, pages in everywhere().items():
    words = words_of(line)
    if words:
      # --list does all but train; a word that is no flag is what a command complains about last, after its config.
      ours[line] = words + (['--list', '--seeds=1'] if words[0].startswith('zeroinit.launch.') else ['here'])
    elif line.startswith('pip install'):
      assert_installs(line)
    else:
      by_ci = re.search(rf'\b{re.escape(line)}\b|{re.escape(line)}$', BY_CI, re.MULTILINE)
      assert by_ci or line in OF_OTHERS or line.removeprefix('zeroinit ') in LISTS, (
          f'{", ".join(pages)}: no test knows how to run {line!r}')
  assert len(ours) > 30  # that the pages have been read at all
  wrong = {}
  for (line, words), (code, said) in zip(ours.items(), one_after_another(surroundings, ours.values()), strict=True):
    if not (code == 0 if '--list' in words else re.search("unexpected argument 'here'|arguments: here", said)):
      wrong[line] = said[-500:]
  assert not wrong


def assert_installs(line):
  """The extras and the file of versions that a pip command names exist."""
  extras = re.findall(r'\.\[(\w+)\]', line)
  assert all(f"'{extra}': [" in (ROOT / 'setup.py').read_text() for extra in extras), line
  assert all((ROOT / file).exists() for file in re.findall(r'-c (\S+)', line)), line


# What makes a command small. Later flags replace earlier ones.
SMALL = {
    'zeroinit.main': '--config.batch_size=16 --config.epochs=1 --config.evaluations=1 --config.tensorboard=false '
                     '--config.width=1',
    'zeroinit.launch.local': '--seeds=1 --set=epochs=0.3 --set=evaluations=1 --set=learning_rate=2^-5 --set=depth=10 '
                             '--slots=1',
    'zeroinit.probes.variance': '--batch_size=16 --draws=1',
    'zeroinit.probes.gradients': '--batch_size=4 --draws=1 --depths=10',
    'zeroinit.probes.depth': '--epochs=0.05 --draws=1 --depths=10',
    'zeroinit.probes.stability': '--length=4 --width=4 --depths=10 --methods=none',
    'zeroinit.probes.channels': '--batch_size=8 --draws=1 --updates=0 --methods=none --config.depth=10',
    'zeroinit.probes.divergence': '--points=2 --methods=none --config.learning_rate=8 --layers=4',
    'zeroinit.probes.landscape': '--updates=0 --points=2 --methods=none --config.batch_size=8 --config.depth=10',
    'zeroinit.probes.covariate_shift': '--updates=0 --methods=none --config.depth=10',
    'zeroinit.probes.bound': '--updates=0 --draws=1 --config.depth=10',
    'zeroinit.probes.spectra': '--size=20 --draws=1',
    'zeroinit.probes.page': '',
}


def small_commands(page):
  """(command, its words in a small form) of those that need no cluster and no ImageNet; of each probe one or two."""
  for line in commands(page):
    words = words_of(line)
    here = words and words[0] in SMALL and not re.search('imagenet|://', line) and f"{line}'" not in BY_CI
    here = here and not any(word.startswith('--study=') for word in words)  # those of the papers are not small
    here = here and not (page.stem == 'own_method' and '.local' in words[0])  # own_method_test.py walks that page
    if here and ('.probes.' not in words[0] or line == probed().get(kind(words))):
      yield line, [*words, *SMALL[words[0]].split()]


def kind(words):
  """Of a probe, which probe it is, and whether it looks at a run."""
  return words[0], any(word.startswith('--checkpoint') for word in words)


@functools.cache
def probed():
  """{kind: the command that is run}: the one of the page about the probes, where all are on the digits."""
  lines = [line for page in PAGES if page.stem == 'probes' for line in commands(page)]
  return {kind(words): line for line in reversed(lines) if (words := words_of(line))}


def python(surroundings, *words, **options):
  """Runs Python in a copy of the checkout that has what the pages show."""
  return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, cwd=surroundings,
                        env=os.environ | {'PYTHONPATH': str(surroundings)}, **options)


def one_after_another(surroundings, commands):
  """[exit code, all that it said] of each command of ours."""
  ran = python(surroundings, ROOT / 'tests' / 'forked.py', input=json.dumps(list(commands)))
  assert not ran.returncode, ran.stderr
  return json.loads(ran.stdout)


def python_of(page):
  """What a page shows of Python, but files that commands run, and parts of examples/, which have tests of their own."""
  elsewhere = [path.read_text() for path in (ROOT / 'examples').glob('*.py')]
  shown_only = lambda block: block.file or any(block.text in text for text in elsewhere)
  return '\n'.join(block.text for block in blocks(page) if block.language == 'python' and not shown_only(block))


@pytest.fixture(scope='module')
def first_run(surroundings):
  """The run of the first command of all, at which others look."""
  ran = python(surroundings, '-m', 'zeroinit.main', '--config=digits', '--workdir=runs/first',
               '--config.epochs=0.3')
  assert not ran.returncode, ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize('page', [page for page in PAGES if any(small_commands(page)) or python_of(page)],
                         ids=lambda page: page.stem)
def test_what_a_page_runs(page, surroundings, first_run):
  """Its commands in a small form, one after another, then its Python."""
  lines = dict(small_commands(page))
  for line, (code, said) in zip(lines, one_after_another(surroundings, lines.values()), strict=True):
    assert code == 0 and 'Traceback' not in said, f'{line}: {said[-1000:]}'
  ran = python(surroundings, '-c', python_of(page))
  assert not ran.returncode, ran.stderr


@pytest.mark.slow
def test_the_command_for_imagenet_trains_on_folders(surroundings):
  """That of the table of data, with a network that fits a few images."""
  line, = (line for line in commands(ROOT / 'docs' / 'runs.md') if line.startswith('zeroinit train imagenet '))
  validation = [(f'ILSVRC2012_val_{i:08d}.JPEG', *of) for i, (_, *of) in enumerate(imagenet_copies.examples(50, 4), 1)]
  ilsvrc_copies.write(surroundings / 'IMAGENET', 'flat and devkit', imagenet_copies.examples(0, 20), validation)
  small = ('--config.network=cifar_resnet --config.depth=8 --config.image_size=16 --config.batch_size=8 '
           '--config.epochs=1 --config.evaluations=1 --config.tensorboard=false')
  words = [*words_of(line.replace('=DATA', '=IMAGENET')), *small.split()]
  (code, said), = one_after_another(surroundings, [words])
  assert code == 0 and 'ImageNet, 20 of 1,281,167 train images' in said and 'after 2 steps' in said, said[-1000:]


def test_every_file_is_in_the_map():
  """The README names every room of the package."""
  text = (ROOT / 'README.md').read_text()
  for path in (ROOT / 'zeroinit').iterdir():
    if path.name not in ('__init__.py', '__pycache__'):
      assert path.name in text, path.name
  for name in ('configs', 'launch', 'docs', 'examples', 'notebooks', 'tests', 'benchmarks', 'results'):
    assert f'    {name}/' in text or not list((ROOT / name).glob('*')), name


def test_what_the_readme_says_is_done_with_the_wheel_as_well():
  """By what it is done: the verb, and what stands after it, of every command of ours."""
  by_wheel = (ROOT / '.ci' / 'wheel').read_text()
  said = [' '.join(line.split()[:4 if 'probe' in line else 3]) for line in commands(ROOT / 'README.md')
          if line.startswith('zeroinit ')]
  assert len(said) > 8
  for command_of_ours in said:
    assert command_of_ours.split(' --')[0] in by_wheel, command_of_ours


def test_links_between_pages_and_files_lead_somewhere():
  for page in PAGES:
    for target in re.findall(r'\]\((?!https?:)([^)#]+)', page.read_text()):
      assert (page.parent / target).exists(), f'{page.name}: {target}'
