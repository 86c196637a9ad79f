"""What users name, and what files hold, is shown and passed on as it stands: in HTML, to shells, Slurm and gcloud."""

import html.parser
import json
import pathlib
import shlex
import stat
import subprocess
import sys
import types
from unittest import mock

import pytest
from absl import flags
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests import parsers
from tests.mutations import MARKUP, WORDS
from zeroinit.report import page
from zeroinit.system.errors import UserError, one_line

pytest.importorskip('submitit', reason='needs submitit: pip install -e ".[slurm]"')
slurm, tpu = parsers.slurm, parsers.command('zeroinit.launch.tpu')

HOSTILE = (*WORDS, '-x', '--', "it's", 'a  b', '"', '\\', '`touch evil`', '$(touch evil)', '; touch evil',
           'a\n#SBATCH --x', '~', '*', '{a,b}', '&& touch evil', '<!--', '</title>', '</script>', '&lt;', "' onload='x",
           'javascript:x', '![x](y)')
hostile = st.one_of(st.sampled_from(HOSTILE),
                    st.text(st.characters(exclude_characters='\0', codec='utf-8'), max_size=20))
few = settings(max_examples=25, derandomize=True, database=None, deadline=None,
               suppress_health_check=list(HealthCheck))


@pytest.fixture(scope='module', autouse=True)
def parsed_flags():
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope='module')
def says_its_words(tmp_path_factory):
  """A program that prints the words that it is given, as JSON."""
  program = tmp_path_factory.mktemp('bin') / "it's a; program"
  program.write_text(f'#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n')
  program.chmod(program.stat().st_mode | stat.S_IEXEC)
  return program


def said(module, **values):
  """While open, the flags of a command's module have these values."""
  return mock.patch.multiple(module, **{name: types.SimpleNamespace(value=value) for name, value in values.items()})


def words_in(shell, command, directory):
  """What a program that is started by a shell is given."""
  ran = subprocess.run([shell, '-c', command], cwd=directory, capture_output=True, text=True)
  assert ran.returncode == 0, (command, ran.stderr)
  return json.loads(ran.stdout)


# HTML.


class Page(html.parser.HTMLParser):
  """The tags of a page, with the names of their attributes, and its texts."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.texts, self.values = [], [], []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attributes):
    self.tags.append((tag, *(name for name, _ in attributes if name not in ('class', 'data-number'))))
    self.values += [value for _, value in attributes]

  def handle_data(self, text):
    self.texts.append(text)

  def handle_comment(self, text):
    raise AssertionError(text)


@few
@given(st.lists(hostile, min_size=8, max_size=8))
def test_html_shows_every_text_and_has_no_other_tags(texts):
  def made(title, heading, paragraph, line, caption, column, row, cell):
    blocks = [page.Heading(heading), page.Paragraph(paragraph), page.Items((line,)),
              page.Table(caption, (column, 'x'), ((row, cell),)), page.Progress(1, 2, paragraph)]
    return Page(page.html(title, blocks))

  shown, plain = made(*texts), made(*['plain'] * 8)
  assert shown.tags == plain.tags
  # HTML reads every line break as \n, and has no place for NUL and the other control characters
  whole = ''.join(shown.texts)
  for text in texts:
    if text.isprintable():
      assert text in whole
  assert texts[4] in shown.values or not texts[4].isprintable()


def test_a_report_shows_what_names_contain_and_runs_nothing(tmp_path):
  """From a manifest in which every text is markup."""
  study = parsers._study()
  workdir = parsers._copy_of_study(tmp_path)
  for name in (MARKUP, '$x$ \\frac{'):
    manifest = json.loads((study.workdir / 'manifest.json').read_text())
    manifest |= {'study': name, 'document': name}
    for cell in manifest['cells']:
      cell |= {'method': f'{name} {cell["method"]}', 'network': name}
      cell['fields']['crop'] = name + cell['identity']
    (workdir / 'manifest.json').write_text(json.dumps(manifest))
    for cell in study.cells[1:]:
      path = workdir / 'cells' / cell.identity
      result = json.loads((path / 'result.json').read_text()) | {'data': name, 'device': name, 'git_revision': name}
      (path / 'result.json').write_text(json.dumps(result))
    (workdir / 'cells' / study.cells[0].identity / 'result.json').unlink(missing_ok=True)
    (workdir / 'cells' / study.cells[0].identity / 'failure.json').write_text(json.dumps({'message': name}))
    parsers.write_report(workdir)
    shown = Page((workdir / 'report.html').read_text())
    assert [tag for tag, *_ in shown.tags].count('script') == 1
    assert not any(attribute.startswith('on') for _, *attributes in shown.tags for attribute in attributes)
    assert name in ''.join(shown.texts)
    assert '<script' not in (workdir / 'report.md').read_text()


# Shells.


@few
@given(hostile, hostile, hostile)
def test_a_tpu_host_gets_the_words_that_were_meant(says_its_words, tmp_path_factory, workdir, directory, zone):
  here = tmp_path_factory.mktemp('host')
  directory = directory.replace('/', '_')
  assume(directory not in ('', '.', '..') and len(directory.encode()) < 200)
  (here / directory).mkdir()
  study = types.SimpleNamespace(workdir=workdir)
  with said(tpu, _DIRECTORY=directory, _PYTHON=str(says_its_words), _ZONE=zone, _INSTALL=False, _PROJECT=None), \
      said(parsers.begin, KEEP_CHECKPOINTS=False):
    work, = tpu.commands('slice', study)
  expected = ['-m', 'zeroinit.studies.worker', f'--workdir={workdir}', '--distributed']
  for shell in ('sh', 'bash'):
    assert words_in(shell, work[6].removeprefix('--command='), here) == expected
  assert work[8] == f'--zone={zone}'
  # and the line that a dry run prints is the command
  assert words_in('bash', shlex.join([str(says_its_words), *work]), here) == work
  assert {path.name for path in here.iterdir()} == {directory}


@few
@given(workdir=hostile, partition=hostile, key=st.one_of(st.just('account'), hostile), value=hostile)
def test_a_script_for_slurm_has_the_options_and_words_that_were_meant(says_its_words, tmp_path_factory, workdir,
                                                                     partition, key, value):
  here = tmp_path_factory.mktemp('slurm')
  options = {'_PARTITION': partition, '_SLURM': [f'{key}={value}'], '_DRY_RUN': True, '_GPUS': 1, '_CPUS': 8,
             '_MEMORY': None, '_HOURS': 24.0, '_ARRAY': 2}
  with said(slurm, **options), said(parsers.begin, WORKDIR=workdir):
    try:
      slurm._check_surroundings()
      folder = pathlib.Path('/studies') / workdir.lstrip('/') / 'slurm'
      lines = slurm._script(folder, 3).splitlines()
    except UserError as error:
      assert not all(word.isprintable() for word in (workdir, partition, key, value)) or '%' in workdir \
          or '://' in workdir or not value or (key != 'account' and one_line(str(error)))
      return
  *options, command = lines
  assert all(not line or line.startswith('#') or line.startswith('export ') for line in options)
  named = [shlex.split(line)[1] for line in options if line.startswith('#SBATCH')]
  assert {f'--partition={partition}', f'--{key.replace("_", "-")}={value}', '--array=0-2%2'} <= set(named)
  program, *words = shlex.split(command)
  assert program == 'srun' and words[-1] == str(folder)
  assert words_in('bash', command.replace('srun', shlex.quote(str(says_its_words)), 1), here) == words
  assert not list(here.iterdir())
