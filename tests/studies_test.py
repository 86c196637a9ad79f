"""Studies and their cells: what expands to what, and what a directory accepts."""

import itertools
import json
import re

import command
import jax
import jax.numpy as jnp
import pytest
from rows import few

from zeroinit.launch.begin import ASSUMED_FLOPS, _axis
from zeroinit.methods import METHODS
from zeroinit.networks.resnet import WideResNet
from zeroinit.report.groups import beyond_the_edge, gather
from zeroinit.studies import manifest, named, sweeps
from zeroinit.studies.cells import extended, make_cell
from zeroinit.system.errors import UserError

RUNS = {'digits': 40, 'rates': 105, 'table1': 630, 'table2': 630, 'table3': 630, 'skipinit_depth': 2025,
        'figure1': 1800, 'figure3': 2475, 'table4': 75, 'table5': 60, 'schedules': 420,
        'bjorck_figure1': 30, 'santurkar_figure1': 12, 'santurkar_figure2': 9, 'successors': 900,
        'pocket_table1': 63, 'pocket_figure1': 72, 'pocket_depth': 51}
IN_CPU_HOURS = [name for name in RUNS if name in ('digits', 'successors') or name.startswith('pocket')]


def expand(name, **options):
  return sweeps.expand(sweeps.named_study(name)[0], **options)


@pytest.mark.parametrize('name', named.names())
def test_every_study_says_what_it_is_and_how_much(name):
  generator, document = sweeps.named_study(name)
  assert len(list(generator)) == RUNS[name]
  assert f'{RUNS[name]:,} runs' in document


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in RUNS if name not in IN_CPU_HOURS])
def test_the_cost_in_the_docstring_is_what_the_cells_cost(name):
  _, document = sweeps.named_study(name)
  said = float(re.search(r'([\d.,]+) GPU-hours', document)[1].replace(',', ''))
  assert said == pytest.approx(sum(cell.flop for cell in expand(name)) / ASSUMED_FLOPS / 3600, rel=0.02)


@pytest.mark.parametrize('name', [name for name in RUNS if name.startswith('pocket')])
def test_a_pocket_study_says_what_it_costs_on_cpus(name):
  said = float(re.search(r'([\d.]+) CPU-hours', sweeps.named_study(name)[1])[1])
  assert said == pytest.approx(sum(cell.flop for cell in expand(name)) / 48e9 / 3600, rel=0.02)


@pytest.mark.parametrize('name', few(sorted(RUNS, key=RUNS.get), 8))
def test_every_cell_can_be_trained_and_has_a_name_of_its_own(name):
  cells = expand(name)
  assert len({cell.identity for cell in cells}) == len(cells) == RUNS[name]
  own = lambda cell: cell.dataset == 'digits' or \
      name in ('rates', 'bjorck_figure1', 'santurkar_figure1', 'santurkar_figure2') or \
      'drop_by' in cell.overrides  # other papers', or another schedule
  like_the_papers = 'shortened' if name.startswith('pocket') else 'paper'
  assert all(cell.protocol == ('own' if own(cell) else like_the_papers) for cell in cells)
  programs = [cell.program for cell in cells]
  assert sum(a != b for a, b in itertools.pairwise(programs)) + 1 == len(set(programs))  # together


def test_rates_and_seeds_share_a_program():
  assert len({cell.program for cell in expand('digits')}) == 8  # 4 methods, 2 depths
  assert len({cell.program for cell in expand('table1')}) == 6
  assert len({cell.setting for cell in expand('table1')}) == 6


@pytest.mark.slow
def test_figures_1_and_3_share_their_runs_without_batch_statistics():
  of = lambda name: {cell.identity for cell in expand(name, methods=['none', 'zeroinit'])
                     if 64 <= cell.fields['batch_size'] <= 1024}
  assert of('figure1') == of('figure3')


def test_the_identity_is_of_the_settings_however_they_are_written():
  one = make_cell('configs/digits.py:zeroinit', {'learning_rate': 0.5, 'depth': 16})
  two = make_cell('configs/digits.py:zeroinit', {'learning_rate': 0.5, 'data_dir': '/elsewhere'})
  three = make_cell('configs/digits.py:zeroinit', {'learning_rate': 0.5, 'momentum': 0.8})
  assert one.identity == two.identity != three.identity and one.program != three.program


def test_an_axis_takes_the_place_of_the_studys_own():
  cells = expand('table1', axes={'learning_rate': [0.1, 0.2], 'seed': [0], 'epochs': [2]}, methods=['none', 'zeroinit'])
  assert [(cell.method, cell.learning_rate) for cell in cells] == [
      ('none', 0.1), ('none', 0.2), ('zeroinit', 0.1), ('zeroinit', 0.2)]
  assert {cell.fields['epochs'] for cell in cells} == {2.0} and {cell.protocol for cell in cells} == {'shortened'}


def test_a_value_that_the_study_has_keeps_what_goes_with_it():
  rates = {cell.learning_rate for cell in expand('figure1', axes={'batch_size': [64]}, methods=['none'])}
  assert rates == {2.0**i for i in range(-5, 0)}


def test_a_field_that_the_study_does_not_vary_becomes_an_axis():
  assert len(expand('digits', axes={'seed': range(3)})) == 120
  cells = expand('digits', axes={'momentum': [0.8, 0.9]})
  assert len(cells) == 80 and len({cell.setting for cell in cells}) == 16


def test_an_axis_that_some_methods_only_have_leaves_none_out():
  cells = expand('table3', axes={'weight_decay': [0.0], 'seed': [0], 'learning_rate': [0.1], 'depth': [16]})
  assert {cell.method for cell in cells} == {'zeroinit', 'multiplier'}
  cells = expand('table3', axes={'weight_decay': [0.0, 5e-4], 'seed': [0], 'learning_rate': [0.1], 'depth': [16]})
  assert len(cells) == 4


def test_a_field_that_some_runs_name_is_a_setting_of_all():
  runs = [('configs/digits.py:none', {'learning_rate': 0.1, 'momentum': 0.9}),
          ('configs/digits.py:none', {'learning_rate': 0.2})]
  assert len({cell.setting for cell in sweeps.expand(runs)}) == 1


def test_equal_methods_have_one_identity_however_they_are_written():
  cells = [make_cell('configs/digits.py:none', {'method.alpha': alpha}) for alpha in (0, 0.0)]
  assert cells[0].identity == cells[1].identity


def test_flags_name_axes():
  assert _axis('learning_rate=2^-3,0.25') == ('learning_rate', [0.125, 0.25])
  assert _axis('batch_size=2^7') == ('batch_size', [128])
  assert _axis('seed=0,1') == ('seed', [0, 1])
  assert _axis('flip=false') == ('flip', [False])
  assert _axis('data_dir=/data/my=dir') == ('data_dir', ['/data/my=dir'])


def test_a_study_grows_but_does_not_change(tmp_path):
  few, many = expand('digits', axes={'seed': [0]}), expand('digits', axes={'seed': [0, 1]})
  begin = lambda cells, name='digits': manifest.begin(tmp_path / 'study', name, 'About it.', cells)
  assert len(begin(few).cells) == 40
  grown = begin(many)
  assert len(grown.cells) == 80
  assert [cell.identity for cell in grown.cells[:40]] == [cell.identity for cell in few]  # an index stays what it was
  assert len(begin(few).cells) == 80  # what is there is gone on with
  with pytest.raises(UserError, match='with other settings, such as method batch_norm, network WRN-100-1'):
    begin(expand('digits', axes={'epochs': [1]}))
  with pytest.raises(UserError, match='holds study digits, and this is table1'):
    begin(many, 'table1')
  again = manifest.load_study(tmp_path / 'study')
  assert [cell.identity for cell in again.cells] == [cell.identity for cell in grown.cells]
  assert again.document == 'About it.'
  written = json.loads((tmp_path / 'study' / 'manifest.json').read_text())
  assert [cell['index'] for cell in written['cells']] == list(range(80))


def test_more_seeds_after_more_rates(tmp_path):
  few = expand('digits', axes={'seed': [0]})
  study = manifest.begin(tmp_path / 'study', 'digits', '', few)
  grown = extended([few[0]], [2.0**-9])
  study = manifest.begin(study.workdir, 'digits', '', [*study.cells, *grown])
  assert len(manifest.begin(study.workdir, 'digits', '', expand('digits', axes={'seed': [0, 1]})).cells) == 81


def test_a_config_file_that_has_changed_is_noticed(tmp_path):
  file = tmp_path / 'mine.py'
  file.write_text('from zeroinit import load_config\n'
                  'def get_config(method):\n  return load_config(f"digits:{method}")\n')
  study = manifest.begin(tmp_path / 'study', 'mine', '', [make_cell(f'{file}:none', {})])
  assert study.cells[0].load_config().method.name == 'none'
  file.write_text('import zeroinit\ndef get_config(method):\n  config = zeroinit.load_config(f"digits:{method}")\n'
                  '  config.width = 2\n  return config\n')
  with pytest.raises(UserError, match='now describes another run'):
    study.cells[0].load_config()


OWN = """
from zeroinit.training.config import base_config
from zeroinit.methods import METHODS, Method
METHODS['mine'] = Method(alpha=0.25)

def get_config(method='mine'):
  config = base_config(method)
  config.dataset, config.crop, config.width = 'digits', 'none', 1
  return config
"""
SWEEPS = {
    'overrides': 'def sweep():\n  "Mine."\n  for rate in (0.1, 0.2): yield {"learning_rate": rate}',
    'pairs': 'def sweep():\n  "Mine."\n  for rate in (0.1, 0.2): yield ":mine", {"learning_rate": rate}',
    'add': 'def sweep(add):\n  "Mine."\n  for rate in (0.1, 0.2): add(learning_rate=rate)',
    'add a dict': 'def sweep(add):\n  "Mine."\n  for rate in (0.1, 0.2): add({"learning_rate": rate})',
}


@pytest.mark.parametrize('sweep', SWEEPS.values(), ids=SWEEPS.keys())
def test_a_study_of_ones_own_with_a_method_of_ones_own(tmp_path, monkeypatch, sweep):
  monkeypatch.setattr('zeroinit.methods.METHODS', METHODS)
  file = tmp_path / 'own.py'
  file.write_text(OWN + sweep)
  try:
    runs, document = sweeps.own_study(str(file))
    cells = sweeps.expand(runs)
    assert document == 'Mine.'
    assert [(cell.method, cell.learning_rate) for cell in cells] == [('mine', 0.1), ('mine', 0.2)]
  finally:
    METHODS.pop('mine', None)


@pytest.mark.parametrize('depth, width', [(16, 1), (10, 2)])
def test_the_counted_operations_are_those_of_the_compiled_network(depth, width):
  net = WideResNet(depth=depth, width=width, method=METHODS['none'], num_classes=10)
  images = jnp.zeros((1, 32, 32, 3))
  variables = jax.eval_shape(lambda: net.init(jax.random.key(0), images, train=False))
  kernels = jax.tree.map(lambda x: jnp.zeros(x.shape), variables)
  flop = jax.jit(lambda v: net.apply(v, images, train=False)).lower(kernels).compile().cost_analysis()['flops']
  assert flop / 2 == pytest.approx(net.multiply_adds((32, 32, 3)), rel=0.12)  # XLA leaves out what meets the padding


def finish(study, accuracy, **fields):
  """Results of all cells. accuracy: of a cell, None where it diverges."""
  for cell in study.cells:
    value = accuracy(cell)
    directory = study.directory(cell)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / 'result.json').write_text(json.dumps({
        'status': 'diverged' if value is None else 'done', 'steps': 1, 'test_accuracy': value,
        'train_loss': None if value is None else 1 - value} | fields))


def test_a_grid_grows_until_the_optimum_is_inside(tmp_path):
  study = manifest.begin(tmp_path / 'study', 'digits', '', expand('digits', methods=['none', 'zeroinit'],
                                                                axes={'depth': [16], 'seed': [0, 1]}))
  best_at = {'none': 2.0**-6, 'zeroinit': 2.0**-2}
  accuracy = lambda cell: 0.9 / (1 + abs(cell.learning_rate / best_at[cell.method] - 1))
  added = []
  for _ in range(10):
    finish(study, accuracy)
    grown = beyond_the_edge(gather(study))
    if not grown:
      break
    added += [(cell.method, cell.learning_rate, cell.seed) for cell in grown]
    study = manifest.begin(study.workdir, study.name, study.document, [*study.cells, *grown])
  assert added == [('none', 2.0**-i, seed) for i in (5, 6, 7) for seed in (0, 1)]


def test_a_method_that_never_trains_is_not_searched_for_ever(tmp_path):
  study = manifest.begin(tmp_path / 'study', 'digits', '', expand('digits', methods=['none'], axes={'depth': [100]}))
  finish(study, lambda cell: 0.1 if cell.learning_rate < 0.1 else None, classes=10, last_quarter_cross_entropy=2.3)
  assert beyond_the_edge(gather(study)) == []


BROKEN = {
    'get_config': ('def get_config():\n  pass\ndef sweep():\n  yield ":x", {}', 'fails: TypeError'),
    'sweep': ('def get_config():\n  pass\ndef sweep():\n  yield 1 / 0', 'fails: ZeroDivisionError'),
    'yield': ('def get_config():\n  pass\ndef sweep():\n  yield 3', 'sweep yields 3'),
}


@pytest.mark.parametrize('text, expected', BROKEN.values(), ids=BROKEN.keys())
def test_what_is_wrong_in_a_file_of_ones_own_is_one_line(tmp_path, text, expected):
  file = tmp_path / 'broken.py'
  file.write_text(text)
  with pytest.raises(UserError, match=f'broken.py.*{expected}'):
    sweeps.expand(sweeps.own_study(str(file))[0])


MISTAKES = [
    ('--study=digits --workdir=W --set=depth=10 --set=depth=16', 'set twice'),
    ('--study=digits --workdir=W --set=method.name=none', 'no field method.name'),
    ('', 'say which study'),
    ('--study=table1 --config=my.py --workdir=W', 'say which study'),
    ('--study=tabel1 --workdir=W', "no study 'tabel1'; there are: digits, successors, rates, table1"),
    ('--study=digits', '--workdir'),
    ('--study=digits --workdir=W --methods=dropuot', 'the study has no method dropuot; it has: none, batch_norm'),
    ('--study=digits --workdir=W --set=lerning_rate=1', "no field lerning_rate; did you mean 'learning_rate'?"),
    ('--study=digits --workdir=W --set=learning_rate=fast', 'learning_rate'),
    ('--study=digits --workdir=W --set=depth', 'write --set=FIELD=VALUE'),
    ('--study=digits --workdir=W --set=depth=17', 'depth is 17'),
    ('--study=digits --workdir=W --set=batch_size=2000', 'more than the 1,437 training images'),
    ('--study=digits --workdir=W --seeds=0', 'seeds'),
    ('--study=digits --workdir=W --slots=0', 'slots'),
    ('--config=nothing.py --workdir=W', 'no file nothing.py'),
    ('--config=configs/digits.py --workdir=W', 'has no function sweep'),
]


def test_mistakes(tmp_path):
  lines = [line.replace('=W', f'={tmp_path}/study').split() for line, _ in MISTAKES]
  for (line, expected), (code, said) in zip(
      MISTAKES, command.run_all([['zeroinit.launch.local', *words] for words in lines]), strict=True):
    assert code not in (0, None) and expected in said and 'Traceback' not in said, (line, said)
  assert not (tmp_path / 'study').exists()


def test_the_list_ends_with_the_number_of_cells():
  code, output, errors = command.run('zeroinit.launch.local', '--study=digits', '--list')
  assert code == 0, errors
  assert output.splitlines()[-1] == '40 cells' and 'training images' in output
  assert 'zeroinit' in output and 'learning_rate 0.0625' in output
