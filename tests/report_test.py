"""The report, on studies whose results are made up so that the answer is known."""

import base64
import csv
import dataclasses
import hashlib
import html.parser
import io
import itertools
import json
import math
import re
import shutil
import statistics
import subprocess
import time

import command
import matplotlib
import numpy as np
import PIL.Image
import pytest
from matplotlib.figure import Figure

from zeroinit.methods import METHODS
from zeroinit.report import figures, findings, groups, header, live, page, print_report, ranking, tables, write_report
from zeroinit.report.findings import pocket, rates, santurkar
from zeroinit.report.findings.batch_size import FIGURE_1_BATCHES, FIGURE_3_BATCHES
from zeroinit.report.findings.judging import DOES_NOT_HOLD, HOLDS, TOO_FEW, Setting, judge
from zeroinit.report.published import OURS, SOURCES, published
from zeroinit.runs import locks
from zeroinit.studies import manifest, named, sweeps
from zeroinit.studies.cells import Cell
from zeroinit.studies.selection import Choice, Score
from zeroinit.system import json_files, objects
from zeroinit.system.errors import UserError

# 15 values whose best 12 are the integers 4 ... 15 (3 worst first), in units that the tests choose.
FIFTEEN = tuple(range(1, 16))


def make_study(workdir, name='table1', outcome=None, axes=None, methods=None, **fields):
  """Writes a named study and the results of its cells.

  outcome: cell -> (test accuracy, training loss), None where it diverged, or 'missing'; None: no cell has finished.
  fields: of every result.json.
  """
  pairs, document = sweeps.named_study(name)
  return fill(manifest.begin(workdir, name, document, sweeps.expand(pairs, axes, methods)), outcome, **fields)


def fill(study, outcome, **fields):
  for cell in study.cells if outcome else ():
    objects.make_directory(study.directory(cell))
    came_out = outcome(cell)
    if came_out == 'missing':
      continue
    accuracy, loss = came_out or (None, None)
    json_files.write(study.directory(cell) / 'result.json', {
        'status': 'done' if came_out else 'diverged', 'method': cell.method, 'dataset': cell.dataset,
        'data': 'CIFAR-10', 'test_accuracy': accuracy, 'train_loss': loss, 'steps': 10, 'seconds': 60.0,
        'protocol': cell.protocol, 'device': '1 x cpu', 'threads': 2, 'versions': {'jax': '0.10.2'},
        'git_revision': 'abc'} | fields)
  return study


def row(table, **where):
  """The one row of a page.Table with these texts, as a dict."""
  rows = [dict(zip(table.columns, texts, strict=True)) for texts in table.rows]
  found = [row for row in rows if all(row[name] == text for name, text in where.items())]
  assert len(found) == 1, (where, rows)
  return found[0]


def accuracy_table(study):
  return tables.results(groups.gather(study))[0]


def one_group(method, network, batch_size=64, l2=True, dataset='cifar10'):
  fields = {'batch_size': batch_size, 'weight_decay': 5e-4 if l2 else 0.0, 'learning_rate': 0.1, 'seed': 0}
  cell = Cell('x', '', {}, method, network, dataset, 10, fields, '', 'paper', 200.0, 0.0, 0.0)
  return groups.Group((cell,), {}, {})


# The tables.


def best_12_of_15(cell):
  """At 2^-3 accuracies of 90.1 ... 91.5 %, at other rates less; losses 0.21 ... 0.35, and lower at 2^-2."""
  n = FIFTEEN[cell.seed]
  at_best = cell.learning_rate == 2**-3
  return 0.9 + n / 1000 - (not at_best) * 0.05, 0.2 + n / 100 - (cell.learning_rate == 2**-2) * 0.1


@pytest.mark.parametrize('says', ['none', 'batch_norm, depth 100, rate 0.0625', 'none, '+'a long name '*4])
def test_a_legend_fits_below_its_figure(says):
  with matplotlib.rc_context(figures.STYLE):
    figure = Figure(figsize=(8.4, 3.9))
    figure.subplots()
    figures.finish(figure, 'A title', [{'label': says}] * 8, columns=4)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
  assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1


def test_numbers_agree_with_a_calculation_by_hand(tmp_path):
  rates = [2**-4, 2**-3, 2**-2, 2**-1]
  study = make_study(tmp_path, outcome=best_12_of_15, methods=['none'], axes={'learning_rate': rates})
  accuracies, losses = tables.results(groups.gather(study))
  mean = 90 + 9.5 / 10  # of 90.4 ... 91.5
  std = statistics.stdev(range(12)) / 10
  found = row(accuracies, method='none')
  assert found['ours'] == f'{mean:.2f} ± {std:.2f}' == '90.95 ± 0.36'
  assert (found['published'], found['table'], found['kept']) == ('92.3 ± 0.3', 'ZI Table 1', 'best 12 of 15')
  assert found['difference'] == '-1.35 points'
  assert found['in standard errors'] == f'{-1.35 / math.sqrt(std**2 / 12 + 0.3**2 / 12):+.1f}' == '-10.0'
  assert (found['best rate'], found['within the error bar']) == ('2^-3', '2^-3')
  assert 'remark' not in found  # the optimum is inside the grid
  assert (found['diverged'], found['cells']) == ('0 of 60', '60 of 60')
  loss = row(losses, method='none')
  assert (loss['ours'], loss['published']) == ('0.1650 ± 0.0361', '0.212 ± 0.004')  # of 0.11 ... 0.22, at its own rate
  assert (loss['best rate'], loss['difference']) == ('2^-2', '-0.0470')


@pytest.mark.parametrize('best, remark', [(0, 'lowest'), (1, ''), (2, 'highest')])
def test_an_optimum_at_an_end_of_the_grid_is_marked(tmp_path, best, remark):
  rates = [2**-4, 2**-3, 2**-2]
  study = make_study(tmp_path, methods=['none'], axes={'learning_rate': rates, 'seed': [0]},
                     outcome=lambda cell: (0.9 - 0.1 * (cell.learning_rate != rates[best]), 0.2))
  found = row(accuracy_table(study), method='none').get('remark', '')
  assert found == (f'{remark} rate of the grid: the optimum may lie beyond' if remark else '')


def test_diverged_runs_are_counted_and_bound_the_largest_stable_rate(tmp_path):
  rates = [2**-4, 2**-3, 2**-2, 2**-1]
  study = make_study(tmp_path, methods=['none'], axes={'learning_rate': rates, 'seed': [0, 1]},
                     outcome=lambda cell: None if (cell.learning_rate, cell.seed) == (2**-2, 1) else (0.9, 0.2))
  found = row(accuracy_table(study), method='none')
  assert (found['diverged'], found['largest stable rate']) == ('1 of 8', '2^-3')  # 2^-1 is above one that diverged


def test_runs_at_chance_are_told_from_those_that_diverge(tmp_path):
  """They are no optimum, and no largest stable rate; nor are they hidden, in any of the places that count them."""
  rates = [2**-4, 2**-3, 2**-2, 2**-1]
  study = make_study(tmp_path, methods=['none'], axes={'learning_rate': rates, 'seed': [0]},
                     outcome=lambda cell: None if cell.learning_rate == 2**-1 else (0.1, 0.2))
  for cell in study.cells:
    path = study.directory(cell) / 'result.json'
    late = {2**-4: 2.31, 2**-3: 1.5, 2**-2: 2.3}.get(cell.learning_rate)
    json_files.write(path, json.loads(path.read_text()) | {'last_quarter_cross_entropy': late, 'classes': 10})
  found = row(accuracy_table(study), method='none')
  assert (found['best rate'], found['largest stable rate'], found['diverged'], found['at chance']) == (
      '2^-3', '2^-3', '1 of 4', '2 of 4')
  assert '1 done, 2 at chance, 1 diverged' in write_report(tmp_path)
  statuses = [line['status'] for line in csv.DictReader(io.StringIO((tmp_path / 'results.csv').read_text()))]
  assert statuses == ['at chance', 'done', 'at chance', 'diverged']
  assert '1 of 1 ended at chance' in (tmp_path / 'report.html').read_text()


@pytest.mark.parametrize('name, axes, said', [
    ('rates', {}, '1 to 3 runs per rate, of 3 or more the best'), ('digits', {}, 'one run per rate'),
    ('digits', {'seed': [0, 1, 2]}, 'best 2 of 3 runs per rate')])
def test_the_caption_says_how_many_runs_count(name, axes, said, tmp_path):
  study = make_study(tmp_path, name, axes=axes)
  assert [said in table.caption for table in tables.results(groups.gather(study))] == [True, True]


def test_where_everything_stays_at_chance_or_diverges(tmp_path):
  study = make_study(tmp_path, methods=['none'], axes={'seed': [0]}, classes=10, last_quarter_cross_entropy=2.3,
                     outcome=lambda cell: None if cell.learning_rate > 0.1 else (0.1, 2.3))
  found = row(accuracy_table(study), method='none')
  assert (found['ours'], found['largest stable rate']) == ('at chance or diverged at every rate', 'none')
  assert not groups.has_edge(groups.gather(study))


def test_where_everything_diverges(tmp_path):
  study = make_study(tmp_path, methods=['none'], axes={'seed': [0]}, outcome=lambda cell: None)
  found = row(accuracy_table(study), method='none')
  assert (found['ours'], found['largest stable rate']) == ('diverged at every rate', 'none')
  assert 'difference' not in found
  assert 'diverged at every rate' in write_report(tmp_path)


def test_a_single_run_has_no_deviation(tmp_path):
  study = make_study(tmp_path, methods=['none'], axes={'seed': [0]}, outcome=lambda cell: (0.9, 0.2))
  found = row(accuracy_table(study), method='none')
  assert found['ours'] == '90.00' and found['kept'] == 'best 1 of 1' and 'in standard errors' not in found


def test_columns_are_those_that_vary(tmp_path):
  study = make_study(tmp_path, 'digits', lambda cell: (0.9, 0.2), data='scikit-learn digits')
  columns = accuracy_table(study).columns
  assert columns[:3] == ('method', 'depth', 'ours') and 'published' not in columns


@pytest.mark.parametrize('study, method, network, batch_size, l2, printed', [
    ('table1', 'multiplier', 'WRN-16-4', 64, True, '94.0 ± 0.1'),
    ('table1', 'multiplier', 'WRN-16-4', 128, True, None),
    ('table1', 'multiplier', 'WRN-16-4', 64, False, None),
    ('table1', 'multiplier(alpha=0.1)', 'WRN-16-4', 64, True, None),
    ('table1', 'multiplier', 'WRN-16-2', 64, True, None),
    ('table2', 'ghost_norm', 'WRN-1000-2', 64, True, '94.6 ± 0.1'),
    ('table2', 'batch_norm', 'WRN-1000-2', 64, True, None),
    ('table2', 'zeroinit', 'WRN-16-2', 64, True, '93.3 ± 0.1'),
    ('table3', 'zeroinit', 'WRN-16-2', 64, False, '91.0'),
    ('table3', 'zeroinit', 'WRN-16-2', 64, True, None),
    ('table3', 'multiplier', 'WRN-1000-2', 64, True, '94.2 ± 0.1'),
    ('skipinit_depth', 'multiplier', 'WRN-1000-2', 64, True, '94.3 ± 0.2'),
    ('skipinit_depth', 'multiplier', 'WRN-100-2', 64, False, '91.7 ± 0.2'),
    ('skipinit_depth', 'ghost_norm', 'WRN-16-2', 64, True, '93.5 ± 0.1'),
    ('skipinit_depth', 'divide_by_sqrt2', 'WRN-100-2', 64, True, '88.9 ± 0.4'),
    ('skipinit_depth', 'skipinit_alpha_1', 'WRN-1000-2', 64, True, 'does not train'),
    ('figure1', 'zeroinit', 'WRN-16-4', 64, True, '94.4 ± 0.1'),
    ('figure1', 'zeroinit', 'WRN-16-4', 256, True, None),
    ('figure3', 'none', 'WRN-16-4', 64, True, '92.3 ± 0.3'),
    ('digits', 'none', 'WRN-16-1', 64, True, None),
    ('mine', 'none', 'WRN-16-4', 64, True, None),
])
def test_published_numbers_are_at_their_settings(study, method, network, batch_size, l2, printed):
  found = published(study, one_group(method, network, batch_size, l2), 'test_accuracy')
  assert (found and str(found)) == printed


@pytest.mark.parametrize('study, method, network, batch_size, top1, top5, table', [
    ('table4', 'ghost_norm(ghost_size=256)', 'ResNet-50-V2', 4096, '74.88', '91.93', 'ZI Table 4'),
    ('table4', 'fixup', 'ResNet-50-V2', 1024, '74.60', '91.69', 'ZI Table 4'),
    ('table4', 'zeroinit_no_dropout', 'ResNet-50-V2', 4096, '70.76', '89.15', 'ZI Table 4'),
    ('table4', 'fixup_dropout(dropout=0.2)', 'ResNet-50-V2', 4096, '74.8', '91.8', 'SK ImageNet batch-size table'),
    ('table5', 'zeroinit_scalar_bias', 'ResNet-50-V1', 256, '75.23', '92.37', 'ZI Table 5'),
])
def test_published_imagenet_numbers(study, method, network, batch_size, top1, top5, table):
  group = one_group(method, network, batch_size, dataset='imagenet')
  first, fifth = (published(study, group, metric) for metric in ('test_accuracy', 'test_top5_accuracy'))
  assert (str(first), str(fifth), first.table) == (top1, top5, table)


def test_the_data_set_must_be_the_same():
  assert published('table1', one_group('none', 'WRN-16-4', dataset='digits'), 'test_accuracy') is None


def test_published_rates_and_their_ranges(tmp_path):
  study = make_study(tmp_path, 'table2', lambda cell: (0.9, 0.2), axes={'seed': [0]})
  assert row(accuracy_table(study), method='ghost_norm', depth='100')['published rate'] == '2^-1 (2^-2 to 2^0)'
  assert row(accuracy_table(study), method='zeroinit', depth='16')['published rate'] == '2^-2'


def test_every_source_and_every_name_is_in_the_file():
  path = page.__file__.replace('page.py', 'paper_results.json')
  with open(path) as file:
    records = json.load(file)
  for sources in SOURCES.values():
    for paper, table, _ in sources:
      assert any(record['paper'].startswith(paper) and record['table'] == table for record in records)
  assert {record['method'] for record in records} >= OURS.keys()


def test_top5_is_that_of_the_chosen_run(tmp_path):
  config, cells = 'configs/imagenet.py:ghost_norm,v2', []
  for i, rate in enumerate((0.25, 0.5, 1.0)):
    fields = {'batch_size': 256, 'weight_decay': 1e-4, 'epochs': 90.0, 'learning_rate': rate, 'seed': 0}
    cells.append(Cell(f'cell{i}', config, {}, 'ghost_norm(ghost_size=256)', 'ResNet-50-V2', 'imagenet', 1000, fields,
                              '', 'paper', 90.0, 0.0, 0.0))
  study = manifest.begin(tmp_path, 'table4', 'ImageNet', cells)
  for cell, top1, top5 in zip(cells, (0.70, 0.75, 0.74), (0.90, 0.92, 0.93), strict=True):
    fill(dataclasses.replace(study, cells=(cell,)), lambda _, top1=top1: (top1, 2.0), test_top5_accuracy=top5)
  found = row(accuracy_table(study))
  assert (found['ours'], found['published']) == ('75.00', '74.97')
  assert (found['top-5'], found['published top-5']) == ('92.00', '92.20')
  assert 'own protocol' not in header.title(groups.gather(study))


# The title.


def test_the_title_of_a_complete_study_says_nothing_more(tmp_path):
  study = make_study(tmp_path, outcome=best_12_of_15, methods=['none'])
  assert header.title(groups.gather(study)) == f'table1: {study.document.splitlines()[0]}'


@pytest.mark.parametrize('axes, fields, says', [
    ({'epochs': [2.0]}, {}, 'SHORTENED to 2 epochs'),
    ({'seed': range(3)}, {}, '3 seeds of 15'),
    ({'momentum': [0.8]}, {}, 'own protocol'), ({'dampening': [0.0]}, {}, 'own protocol'),
    ({}, {'protocol': 'own', 'data': 'CIFAR-10, 45,000 of 50,000 train images'},
     'own protocol; partial data: CIFAR-10, 45,000 of 50,000 train images'),
    ({}, {'data': 'CIFAR-10, JPEG q75 copy'}, 'lossy data: CIFAR-10, JPEG q75 copy'),
])
def test_title_and_caption_say_what_departs_from_the_paper(tmp_path, axes, fields, says):
  study = make_study(tmp_path, outcome=lambda cell: (0.9, 0.2), methods=['none'], axes={'learning_rate': [0.1]} | axes,
                     **fields)
  assert f'({says})' in header.title(groups.gather(study))
  assert f'Not comparable with the published values as it stands: {says}.' in accuracy_table(study).caption
  write_report(tmp_path)
  assert says in (tmp_path / 'report.md').read_text() and says in (tmp_path / 'report.html').read_text()


def test_a_pocket_study_stands_beside_the_papers_network_and_says_so(tmp_path):
  study = make_study(tmp_path, 'pocket_table1', outcome=lambda cell: (0.45, 1.5), methods=['ghost_norm', 'multiplier'])
  assert header.departures(groups.gather(study)) == ['SHORTENED to 2 epochs', 'WRN-16-1 for WRN-16-4']
  assert row(accuracy_table(study), method='multiplier')['published'] == '94.0 ± 0.1'
  assert 'Not comparable' in accuracy_table(study).caption


def test_the_digits_depart_from_nothing(tmp_path):
  study = make_study(tmp_path, 'digits', lambda cell: (0.9, 0.2))
  assert header.departures(groups.gather(study)) == []


def test_cells_that_differ_in_threads_and_versions_are_named(tmp_path):
  study = make_study(tmp_path, 'digits', lambda cell: (0.9, 0.2))
  first = dataclasses.replace(study, cells=study.cells[:1])
  assert 'Settings' not in header.what_was_run(groups.gather(study))
  fill(first, lambda cell: (0.9, 0.2), threads=16, versions={'jax': '0.11.0'}, settings={'XLA_FLAGS': '--x=1'})
  says = header.what_was_run(groups.gather(study))
  assert 'CPU threads: 16 and 2 (cells differ)' in says and 'jax 0.11.0 and 0.10.2' in says and '40:00' in says
  assert 'Settings of XLA and JAX: XLA_FLAGS=--x=1 and none (cells differ)' in says


# The methods in order.


def test_methods_stand_in_the_order_of_their_accuracy_over_the_settings(tmp_path):
  def outcome(cell):
    if cell.method == 'none' and cell.fields['depth'] == 100:
      return None  # diverged
    at = {'batch_norm': 0.97, 'zeroinit': 0.95, 'fixup': 0.96, 'none': 0.99}[cell.method]
    return (at, 0.2) if cell.learning_rate <= 1 else None

  study = make_study(tmp_path, 'digits', outcome)
  table = ranking.table(ranking.ranked(groups.gather(study)))
  assert table.columns == ('method', 'depth 16', 'depth 100', 'mean')
  assert table.rows == (
      ('batch_norm', '97.00 (2^0)', '97.00 (2^0)', '97.00'), ('fixup', '96.00 (2^0)', '96.00 (2^0)', '96.00'),
      ('zeroinit', '95.00 (2^0)', '95.00 (2^0)', '95.00'), ('none', '99.00 (2^0)', 'does not train', '54.50'))
  assert 'In order' in (write_report(tmp_path), (tmp_path / 'report.md').read_text())[1]
  assert PIL.Image.open(tmp_path / 'report_order.png').width > 500


def test_one_setting_has_no_order_of_its_own(tmp_path):
  assert ranking.ranked(groups.gather(make_study(tmp_path, outcome=lambda cell: (0.9, 0.2)))) is None


# The claims.


def world(study):
  """{Setting: [accuracy, std, rate, loss]} in which every claim about a study holds."""
  if study == 'digits':
    return {Setting(method, 100, 64, True): [accuracy, None, rate, 1.0] for method, accuracy, rate in
            (('none', 0.12, 2**-8), ('batch_norm', 0.98, 2**-2), ('fixup', 0.97, 2**-4), ('zeroinit', 0.97, 2**-4))}
  if study.startswith('pocket') or study == 'successors':
    return small_world(study)
  if study == 'table1':
    rows = {'none': (92.3, 0.212), 'biases': (91.9, 0.205), 'dropout': (93.2, 0.226), 'multiplier': (94.0, 0.181),
            'biases_dropout': (93.6, 0.212), 'zeroinit': (94.4, 0.189)}
    return {Setting(method, 16, 64, True): [accuracy / 100, 0.001, 2**-3, loss]
            for method, (accuracy, loss) in rows.items()}
  if study in ('table2', 'table3', 'skipinit_depth'):
    rows = {'table2': {('ghost_norm', True): (93.5, 94.7, 94.6), ('zeroinit', True): (93.3, 94.2, 94.3)},
            'table3': {('zeroinit', False): (91.0, 92.2, 92.5), ('multiplier', True): (93.1, 94.1, 94.2)},
            'skipinit_depth': {
                ('ghost_norm', True): (93.5, 94.7, 94.6), ('multiplier', True): (93.3, 94.2, 94.3),
                ('skipinit_alpha_inverse_sqrt_d', True): (93.0, 94.2, 94.2), ('skipinit_alpha_1', True): (93.0, 10, 10),
                ('divide_by_sqrt2', True): (92.4, 88.9, 10), ('multiplier', False): (89.8, 91.7, 92.1)}}[study]
    return {Setting(method, depth, 64, l2): [accuracy / 100, 0.001, 2**-2, 0.2]
            for (method, l2), accuracies in rows.items()
            for depth, accuracy in zip((16, 100, 1000), accuracies, strict=True)}
  if study == 'bjorck_figure1':
    rows = {('batch_norm', 165): 93.4, ('batch_norm', 1320): 91.0, ('batch_norm', 2400): 84.0, ('none', 2400): 83.5,
            ('none', 165): 10.0, ('batch_norm_last', 165): 90.1}
    return {Setting(method, 110, 128, True, 10.0, float(epochs)): [accuracy / 100, 0.001, 0.1, 0.2]
            for (method, epochs), accuracy in rows.items()}
  if study.startswith('santurkar'):
    rows = {'biases': 80.5, 'batch_norm': 83.0, 'noisy_batch_norm': 82.5}
    return {Setting(method, 16, 128, False): [accuracy / 100, 0.001, 0.1, 0.2] for method, accuracy in rows.items()}
  if study == 'schedules':
    return {Setting(method, 16, 64, True, drop_by): [accuracy, 0.001, 2**-2, 0.2]
            for method in ('ghost_norm', 'zeroinit') for drop_by, accuracy in ((2.0, 0.944), (10.0, 0.940))}
  if study in ('table4', 'table5'):
    rows = {'table4': {'ghost_norm': (74.97, 74.93, 74.88), 'fixup': (74.81, 74.60, 73.02),
                       'zeroinit_no_dropout': (74.93, 74.61, 70.76), 'zeroinit': (75.56, 75.46, 72.65),
                       'fixup_dropout': (75.8, 75.6, 74.8)},
            'table5': {'ghost_norm': (75.57, 75.32, 75.37), 'fixup': (74.41, 74.43, 72.37),
                       'zeroinit': (70.05, 68.40, 68.19), 'zeroinit_scalar_bias': (75.23, 74.94, 70.82)}}[study]
    return {Setting(method, 50, batch, True): [accuracy / 100, None, 0.5, 2.0]
            for method, accuracies in rows.items()
            for batch, accuracy in zip((256, 1024, 4096), accuracies, strict=True)}
  norm, batches = {'figure1': ('ghost_norm', FIGURE_1_BATCHES),
                   'figure3': ('batch_norm', FIGURE_3_BATCHES)}[study]
  made = {}
  for method, accuracy, log2_rate, cap, efficient, loss in (
      (norm, 94.5, -1, 4, 2048, 0.15), ('none', 92.3, -3, -3, 128, 0.21), ('zeroinit', 94.5, -2, 1, 256, 0.19)):
    for batch in batches:
      rate = 2 ** min(log2_rate + math.log2(batch / 64), cap)
      too_large = max(0, math.log2(batch / efficient))
      too_small = max(0, math.log2(32 / batch)) if method == 'batch_norm' else 0
      made[Setting(method, 16, batch, True)] = [(accuracy - 1.2 * too_large - 0.3 * too_small) / 100, 0.001, rate,
                                                loss * (1 + too_large / 4)]
  return made


def small_world(study):
  """The same, of studies in CPU-hours."""
  if study == 'pocket_table1':
    rows = {'none': (0.40, 1.7), 'biases': (0.41, 1.7), 'dropout': (0.42, 1.8), 'multiplier': (0.45, 1.5),
            'biases_dropout': (0.42, 1.8), 'zeroinit': (0.45, 1.6), 'ghost_norm': (0.6, 1.2)}
    return {Setting(method, 16, 64, True): [accuracy, 0.01, 2**-2, loss] for method, (accuracy, loss) in rows.items()}
  if study == 'pocket_figure1':
    return {Setting(method, 16, batch, True): [accuracy - (2**-10 * batch if method == 'zeroinit' else 0), 0.01,
                                               min(largest, 2**-2 * batch / 64), 1.5]
            for method, accuracy, largest in (('none', 0.4, 2**-2), ('zeroinit', 0.62, 1.0), ('batch_norm', 0.6, 4.0))
            for batch in pocket.BATCHES}
  if study == 'pocket_depth':
    return {Setting(method, depth, 64, True): [0.1 if method == 'none' and depth > 16 else 0.3, None, 0.25, 1.9]
            for method in ('none', 'ghost_norm', 'zeroinit', 'fixup') for depth in (16, 100, 1000)}
  return {Setting(method, depth, batch, True): [0.1 if method == 'none_agc' and depth > 16 else 0.95, 0.01, 1.0, 0.5]
          for method in ('batch_norm', 'none', 'zeroinit', *named.SUCCESSORS)
          for depth, batch in ((16, 64), (100, 64), (16, 8))}


def choices(settings):
  """{Setting: {metric: Choice}} of one rate, and above it one at which every run diverged."""
  made = {}
  for setting, (accuracy, std, rate, loss) in settings.items():
    made[setting] = {}
    for metric, mean in (('test_accuracy', accuracy), ('train_loss', loss)):
      best = Score(rate, mean, std, 1 if std is None else 12, 1 if std is None else 15, 0)
      beyond = Score(2 * rate, 0.1, None, 1, 1, 1)
      made[setting][metric] = Choice(best, (best, beyond), (rate,), None)
  return made


# Those about single rates have tests of their own.
CASES = [(study, claim) for study, claims in findings.CLAIMS.items() for claim in claims
         if claim not in (santurkar.batch_norm_stands_both_rates, *rates.CLAIMS['rates'])]
ACCURACY, RATE, LOSS = 0, 2, 3
name = lambda value: getattr(value, '__name__', value)
# Claim -> (which settings, what of them, to which value) so that it fails.
FAILING = {
    'multiplier_gains_most': ({'method': 'dropout'}, ACCURACY, 0.46),
    'dropout_costs_loss': ({'method': 'biases_dropout'}, LOSS, 1.6),
    'batch_norm_is_ahead_of_none': ({'method': 'ghost_norm'}, ACCURACY, 0.405),
    'rates_grow_and_then_saturate': ({'method': 'none', 'batch_size': 16}, RATE, 2**-2),
    'rates_saturate_in_order': ({'method': 'zeroinit'}, RATE, 2**-2),
    'zeroinit_equals_batch_norm_at_the_smallest_batch': ({'method': 'zeroinit', 'batch_size': 16}, ACCURACY, 0.58),
    'batch_norm_is_ahead_where_the_batch_is_large': ({'method': 'zeroinit', 'batch_size': 1024}, ACCURACY, 0.7),
    'none_fails_with_depth': ({'method': 'none', 'depth': 100}, ACCURACY, 0.3),
    'depth_100_trains': ({'method': 'fixup', 'depth': 100}, ACCURACY, 0.1),
    'depth_1000_trains': ({'method': 'zeroinit', 'depth': 1000}, ACCURACY, 0.1),
    'norms_of_one_example_train_depth_100': ({'method': 'instance_norm', 'depth': 100}, ACCURACY, 0.8),
    'functions_in_the_place_of_a_norm_train_depth_100': ({'method': 'derf', 'depth': 100}, ACCURACY, 0.8),
    'networks_without_norm_train_depth_100': ({'method': 'completep', 'depth': 100}, ACCURACY, 0.8),
    'clipping_alone_does_not_train_depth_100': ({'method': 'none_agc', 'depth': 100}, ACCURACY, 0.8),
    'clipping_stands_larger_rates': ({'method': 'nf_resnet_agc', 'depth': 16, 'batch_size': 64}, RATE, 2**-3),
    'norms_of_one_example_do_not_depend_on_the_batch': ({'method': 'group_norm', 'batch_size': 8}, ACCURACY, 0.93),
    'rates_carry_over_depth': ({'method': 'depth_mup', 'depth': 100}, RATE, 2**-2),
    'depth_100_does_not_train_with_none': ({'method': 'none'}, ACCURACY, 0.6),
    'depth_100_trains_otherwise': ({'method': 'fixup'}, ACCURACY, 0.8),
    'batch_norm_stands_the_largest_rates': ({'method': 'zeroinit'}, RATE, 1.0),
    'multiplier_gains': ({'method': 'multiplier'}, ACCURACY, 0.932),
    'multiplier_has_the_lowest_loss': ({'method': 'zeroinit'}, LOSS, 0.18),
    'biases_hurt_slightly': ({'method': 'biases'}, ACCURACY, 0.93),
    'dropout_helps_and_raises_the_loss': ({'method': 'dropout'}, LOSS, 0.2),
    'all_three_parts_are_best': ({'method': 'zeroinit'}, ACCURACY, 0.939),
    'table_2_trains_at_depth_1000': ({'method': 'zeroinit', 'depth': 1000}, ACCURACY, 0.92),
    'table_2_rates_do_not_depend_on_depth': ({'method': 'ghost_norm', 'depth': 1000}, RATE, 2**-4),
    'batch_norm_is_slightly_ahead': ({'method': 'zeroinit', 'depth': 100}, ACCURACY, 0.948),
    'table_3_trains_at_depth_1000': ({'l2': False, 'depth': 1000}, ACCURACY, 0.5),
    'table_3_rates_do_not_depend_on_depth': ({'l2': False, 'depth': 16}, RATE, 1.0),
    'table_3_needs_l2_for_accuracy': ({'l2': False, 'depth': 100}, ACCURACY, 0.935),
    'small_alpha_trains_at_depth_1000': ({'method': 'skipinit_alpha_inverse_sqrt_d', 'depth': 1000}, ACCURACY, 0.1),
    'alpha_1_fails_with_depth': ({'method': 'skipinit_alpha_1', 'depth': 100}, ACCURACY, 0.9),
    'sqrt2_is_no_cure_for_depth': ({'method': 'divide_by_sqrt2', 'depth': 100}, ACCURACY, 0.935),
    'l2_is_not_what_trains_depth': ({'l2': False, 'depth': 1000}, ACCURACY, 0.1),
    'batch_norm_is_well_above_none': ({'method': 'ghost_norm'}, ACCURACY, 0.93),
    'flat_and_then_falling': ({'method': 'none', 'batch_size': 8192}, ACCURACY, 0.93),
    'batch_norm_is_efficient_up_to_larger_batches': ({'method': 'zeroinit', 'batch_size': 512}, ACCURACY, 0.945),
    'zeroinit_equals_batch_norm_at_small_batches': ({'method': 'zeroinit', 'batch_size': 128}, ACCURACY, 0.942),
    'zeroinit_is_below_batch_norm_at_large_batches': ({'method': 'zeroinit', 'batch_size': 4096}, ACCURACY, 0.95),
    'batch_norm_has_the_lowest_loss': ({'method': 'none', 'batch_size': 64}, LOSS, 0.1),
    'none_degrades_with_batch_size': ({'method': 'none'}, LOSS, 0.2),
    'rates_grow_with_the_batch': ({'method': 'zeroinit', 'batch_size': 256}, RATE, 2**-2),
    'rates_are_similar_where_they_grow': ({'method': 'none', 'batch_size': 64}, RATE, 2**-5),
    'rates_saturate': ({'method': 'ghost_norm'}, RATE, 2**1),
    'zeroinit_is_flat_at_small_batches': ({'method': 'zeroinit', 'batch_size': 2}, ACCURACY, 0.94),
    'batch_norm_drops_at_small_batches': ({'method': 'batch_norm', 'batch_size': 1}, ACCURACY, 0.945),
    'batch_norm_is_better_at_large_batches': ({'method': 'zeroinit', 'batch_size': 1024}, ACCURACY, 0.95),
    'batch_norm_is_better_on_the_loss': ({'method': 'batch_norm', 'batch_size': 1}, LOSS, 0.3),
    'small_rates_grow_with_the_batch': ({'method': 'none', 'batch_size': 16}, RATE, 2**-9),
    'small_rates_are_similar': ({'method': 'none', 'batch_size': 4}, RATE, 2**-10),
    'large_rates_generalize': ({'epochs': 1320.0}, ACCURACY, 0.95),
    'none_fails_at_large_rates': ({'method': 'none', 'epochs': 165.0}, ACCURACY, 0.8),
    'the_last_norm_is_most_of_it': ({'method': 'batch_norm_last'}, ACCURACY, 0.85),
    'noise_does_not_matter': ({'method': 'noisy_batch_norm'}, ACCURACY, 0.79),
    'halving_beats_three_drops': ({'method': 'zeroinit', 'drop_by': 10.0}, ACCURACY, 0.95),
    'v2_zeroinit_reaches_batch_norm': ({'method': 'zeroinit', 'batch_size': 1024}, ACCURACY, 0.745),
    'v2_zeroinit_loses_at_4096': ({'method': 'zeroinit', 'batch_size': 4096}, ACCURACY, 0.745),
    'v2_fixup_equals_zeroinit_without_dropout': ({'method': 'fixup', 'batch_size': 256}, ACCURACY, 0.755),
    'v2_fixup_with_dropout_equals_batch_norm': ({'method': 'fixup_dropout', 'batch_size': 4096}, ACCURACY, 0.73),
    'v1_zeroinit_loses': ({'method': 'zeroinit', 'batch_size': 256}, ACCURACY, 0.75),
    'v1_one_scalar_recovers': ({'method': 'zeroinit_scalar_bias', 'batch_size': 256}, ACCURACY, 0.72),
}


@pytest.mark.parametrize('study, claim', CASES, ids=name)
def test_a_claim_holds_or_fails_or_lacks_runs(study, claim):
  settings = world(study)
  finding = judge(claim, choices(settings))
  assert finding.verdict == HOLDS, finding
  assert any(digit in finding.numbers for digit in '0123456789')

  where, what, value = FAILING[claim.__name__]
  for setting, numbers in settings.items():
    if all(getattr(setting, name) == want for name, want in where.items()):
      numbers[what] = value
  finding = judge(claim, choices(settings))
  assert finding.verdict == DOES_NOT_HOLD, finding

  assert judge(claim, {}).verdict == TOO_FEW
  assert judge(claim, dict.fromkeys(settings, 'is not complete')).verdict == TOO_FEW


@pytest.mark.parametrize('biases, verdict', [((0.8, 0.1), HOLDS), ((0.8, 0.81), DOES_NOT_HOLD), ((0.8,), TOO_FEW)])
def test_what_santurkars_figure_1_says_of_two_rates(biases, verdict):
  of = lambda accuracies: {'test_accuracy': Choice(None, tuple(
      Score(rate, mean, None, 1, 1, 0) for rate, mean in zip((0.1, 0.5), accuracies, strict=False)), (), None)}
  settings = {Setting('biases', 16, 128, False): of(biases), Setting('batch_norm', 16, 128, False): of((0.83, 0.82))}
  assert judge(santurkar.batch_norm_stands_both_rates, settings).verdict == verdict


@pytest.mark.parametrize('study, claim', [case for case in CASES if '1 std' in case[1].__doc__], ids=name)
def test_a_claim_about_deviations_needs_more_than_one_run(study, claim):
  settings = {setting: [accuracy, None, rate, loss] for setting, (accuracy, _, rate, loss) in world(study).items()}
  finding = judge(claim, choices(settings))
  assert finding.verdict == TOO_FEW and 'single run' in finding.numbers


def test_an_incomplete_setting_is_not_judged(tmp_path):
  complete = lambda cell: ({'none': 0.9, 'multiplier': 0.93}.get(cell.method, 0.91), 0.2)
  study = make_study(tmp_path, outcome=complete, axes={'seed': [0, 1], 'learning_rate': [0.1, 0.2]})
  verdicts = {claim: verdict for claim, verdict, _ in findings.table('table1', groups.gather(study).groups).rows}
  gain = next(claim for claim in verdicts if 'gains' in claim)
  assert verdicts[gain] == HOLDS
  last = next(cell for cell in study.cells if cell.method == 'multiplier')
  (study.directory(last) / 'result.json').unlink()
  verdicts = {claim: (verdict, numbers) for claim, verdict, numbers in
              findings.table('table1', groups.gather(study).groups).rows}
  assert verdicts[gain] == (TOO_FEW, 'multiplier is not complete')


def test_one_run_of_a_papers_fifteen_says_nothing(tmp_path):
  study = make_study(tmp_path, outcome=lambda cell: (0.9, 0.2), axes={'seed': [0], 'learning_rate': [0.1]})
  rows = findings.table('table1', groups.gather(study).groups).rows
  assert all(verdict == TOO_FEW and 'has a single run per rate' in numbers for _, verdict, numbers in rows)


def test_settings_that_a_claim_cannot_tell_apart_are_not_judged(tmp_path):
  study = make_study(tmp_path, outcome=lambda cell: (0.9, 0.2),
                     axes={'seed': [0], 'learning_rate': [0.1], 'batch_size': [64, 128]})
  assert {verdict for _, verdict, _ in findings.table('table1', groups.gather(study).groups).rows} == {TOO_FEW}


STANDS = {'none': 2**-3, 'skipinit_alpha_1': 2**-1, 'zeroinit': 2**1, 'multiplier': 2**1, 'ghost_norm': 2**4,
          'batch_norm': 2**4}  # the largest rates


@pytest.mark.parametrize('fails, where', [
    (None, {}), ('the_printed_rates_train', {'method': 'none', 'width': 4, 'seed': 2}),
    ('the_printed_rates_train', {'method': 'ghost_norm', 'seed': 0}),
    ('zeroinit_lasts', {'method': 'zeroinit', 'width': 2}),
    ('rates_stand_in_the_order_of_the_paper', {'method': 'batch_norm'})])
def test_claims_about_rates(tmp_path, fails, where):
  """where: settings in which nothing learns."""
  def outcome(cell):
    is_there = {'method': cell.method, **cell.fields}.items() >= where.items() and where
    return (0.4, 1.8) if cell.learning_rate <= STANDS[cell.method] and not is_there else None

  study = make_study(tmp_path, 'rates', outcome=outcome)
  found = findings.table('rates', groups.gather(study).groups).rows
  expected = [DOES_NOT_HOLD if claim.__name__ == fails else HOLDS for claim in rates.CLAIMS['rates']]
  assert [verdict for _, verdict, _ in found] == expected


def test_none_that_trains_at_1_is_not_that_of_the_paper(tmp_path):
  study = make_study(tmp_path, 'rates', outcome=lambda cell: (0.4, 1.8))
  said = {claim: verdict for claim, verdict, _ in findings.table('rates', groups.gather(study).groups).rows}
  assert said['Without normalization WRN-16-4 does not learn at 2^0.'] == DOES_NOT_HOLD


@pytest.mark.parametrize('name, axes, judged, on', [
    ('digits', {'dataset': ['digits'], 'network': ['wide_resnet']}, True, []),
    ('bjorck_figure1', {'network': ['cifar_resnet']}, True, []),
    ('table1', {'network': ['cifar_resnet'], 'depth': [20], 'width': [1]}, False, ['on ResNet-20']),
    ('bjorck_figure1', {'dataset': ['svhn']}, False, ['on svhn']),
    ('santurkar_figure1', {'network': ['cifar_resnet'], 'depth': [20]}, False, ['on ResNet-20'])])
def test_claims_are_judged_on_what_the_study_has_by_itself(tmp_path, name, axes, judged, on):
  study = make_study(tmp_path, name, lambda cell: (0.9, 0.2), axes=axes | {'learning_rate': [0.1], 'seed': [0]})
  gathered = groups.gather(study)
  assert {findings.of_the_paper(name, group) for group in gathered.groups} == {judged}
  assert [phrase for phrase in header.departures(gathered) if phrase.startswith('on ')] == on


def test_a_study_of_ones_own_has_no_claims(tmp_path):
  (tmp_path / 'mine.py').write_text('from zeroinit import load_config\n\n\ndef get_config(method="none"):\n'
                                    '  return load_config(f"digits:{method}")\n\n\ndef sweep():\n'
                                    '  """My sweep."""\n  for width in (1, 2):\n    yield {"width": width}\n')
  pairs, document = sweeps.own_study(str(tmp_path / 'mine.py'))
  fill(manifest.begin(tmp_path / 'study', 'mine', document, sweeps.expand(pairs)), lambda cell: (0.9, 0.2))
  shown = write_report(tmp_path / 'study')
  assert shown.startswith('mine: My sweep.')
  assert 'What must come out' not in (tmp_path / 'study' / 'report.md').read_text()
  assert 'one rate only' in shown


# The whole report.


class Page(html.parser.HTMLParser):
  """Checks while reading that tags are closed in order; keeps them, and the text that is shown."""

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.text = [], [], ''
    self.feed(text)
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag not in ('meta', 'img'):
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] not in ('style', 'script'):
      self.text += data

  def all(self, tag):
    """The attributes of each."""
    return [attributes for name, attributes in self.tags if name == tag]


def test_html_is_well_formed_and_needs_nothing_else(tmp_path):
  make_study(tmp_path, 'digits', lambda cell: (0.9, 0.2))
  write_report(tmp_path)
  text = (tmp_path / 'report.html').read_text()
  read = Page(text)
  images = read.all('img')
  assert len(images) == 4
  assert all(image['src'].startswith('data:image/png;base64,') and image['alt'] for image in images)
  assert not {tag for tag, _ in read.tags} & {'link', 'iframe'} and len(read.all('script')) == 1
  assert {'href', 'src'} & {name for _, attributes in read.tags for name in attributes} == {'src'}
  assert not re.search(r'https?://|url\(|@import|fetch\(|XMLHttpRequest', text)
  policy = read.all('meta')[1]['content']
  digest = hashlib.sha256(re.search('<script>(.*)</script>', text, re.S)[1].encode()).digest()
  assert policy.startswith("default-src 'none';") and base64.b64encode(digest).decode() in policy
  assert {header['scope'] for header in read.all('th')} == {'col', 'row'}
  assert [tag for tag, _ in read.tags if tag in ('h1', 'main')] == ['main', 'h1']
  assert read.all('html') == [{'lang': 'en'}]
  for file in ('report_accuracy_rate.png', 'report_loss_rate.png', 'report_best_depth.png'):
    assert (tmp_path / file).read_bytes().startswith(b'\x89PNG')
    assert f']({file})' in (tmp_path / 'report.md').read_text()


def test_headings_go_down_one_level_at_a_time(tmp_path):
  make_study(tmp_path, 'digits', lambda cell: 'missing' if cell.method == 'fixup' else (0.9, 0.2))
  write_report(tmp_path)
  levels = [int(tag[1]) for tag, _ in Page((tmp_path / 'report.html').read_text()).tags if re.fullmatch('h[1-6]', tag)]
  assert levels[0] == 1 and all(after <= before + 1 for before, after in itertools.pairwise(levels))


@pytest.mark.slow
def test_the_page_refreshes_while_the_study_runs_and_no_longer(tmp_path):
  study = make_study(tmp_path, 'digits', lambda cell: None if cell.learning_rate == 1 else (0.9, 0.2) if
                     cell.method == 'none' else 'missing')

  def written(live):
    write_report(tmp_path, live)
    return Page((tmp_path / 'report.html').read_text())

  refreshes = lambda read: {'refresh'} & {meta.get('http-equiv') for meta in read.all('meta')} == {'refresh'} and [
      section for section in read.all('section') if 'data-refresh' in section] != []
  read = written(live=True)
  assert refreshes(read) and read.all('progress')[0]['value'] == '16' and read.all('progress')[0]['max'] == '40'
  assert '16 of 40 cells done, 8 of them diverged, 0 at chance; 0 running' in read.text and 'Written at 20' in read.text

  read = written(live=False)  # nobody is at it
  assert not refreshes(read) and 'the same command goes on' in read.text
  cell = next(cell for cell in study.cells if cell.identity not in study.results())
  objects.make_directory(study.directory(cell))
  with locks.lock(study.directory(cell)):
    read = written(live=False)  # asked for by hand, and somebody is: 24 cells of 40, by one worker
    assert refreshes(read) and re.search(r'1 running, 0 failed; about \d+:\d+(:\d+)? left', read.text)

  fill(dataclasses.replace(study, cells=tuple(set(study.cells) - {cell})), lambda cell: (0.9, 0.2))
  study.fail(cell, 'the device has too little memory')
  read = written(live=True)
  assert not refreshes(read) and not read.all('progress')


@pytest.mark.slow
def test_the_live_report_is_written_again_and_again_and_stops_no_study(tmp_path, monkeypatch):
  study = make_study(tmp_path, 'digits', lambda cell: 'missing' if cell.method == 'fixup' else (0.9, 0.2))
  path, written = tmp_path / 'report.html', []
  monkeypatch.setattr(header, 'REFRESH_SECONDS', 0.01)
  monkeypatch.setattr('zeroinit.report.WRITING', 1.0)
  with pytest.raises(KeyboardInterrupt), live(tmp_path):
    deadline = time.monotonic() + 60
    while len(written) < 2 and time.monotonic() < deadline:
      if path.exists():
        written.append(path.read_text())
        path.unlink()
    (study.directory(study.cells[0]) / 'failure.json').write_text('')  # damaged
    raise KeyboardInterrupt
  assert len(written) == 2 and all('data-refresh="0.01"' in page for page in written)


def test_the_time_left_is_that_of_the_work_left(tmp_path):
  study = make_study(tmp_path, 'digits', lambda cell: (0.9, 0.2) if cell.seed == 0 else 'missing', steps=88,
                     methods=['zeroinit'], axes={'depth': [16], 'seed': [0, 1, 2, 3]})
  results = study.results()  # a quarter, of 60 s each
  assert study.seconds_left(results, workers=1) == pytest.approx(3 * 60 * len(results))
  assert study.seconds_left(results, workers=3) == pytest.approx(60 * len(results))
  assert study.seconds_left(results, workers=0) is None and study.seconds_left({}, workers=1) is None
  for cell in study.cells:
    if cell.identity not in results:
      study.fail(cell, 'no')
  assert study.seconds_left(results, workers=1) == 0


def test_every_table_can_be_sorted(tmp_path):
  """A number is one for the script, and every row has a cell in every column."""
  make_study(tmp_path, outcome=best_12_of_15, axes={'learning_rate': [2**-4, 2**-3, 2**-2]})
  write_report(tmp_path)
  text = (tmp_path / 'report.html').read_text()
  tables = re.findall('<table.*?</table>', text, re.S)
  assert len(tables) == 3
  for table in tables:
    head, *rows = (re.findall('<t[hd]([^>]*)>([^<]*)<', line) for line in table.split('<tr>')[1:])
    assert all(len(row) == len(head) for row in rows) and all('scope="col"' in attributes for attributes, _ in head)
  cells = {html.unescape(text): re.search('data-number="(.*?)"', attributes)
           for attributes, text in re.findall('<td([^>]*)>([^<]*)<', text)}
  numbers = {text: found and float(found[1]) for text, found in cells.items()}
  assert {'90.95 ± 0.36': 90.95, '2^-3': 0.125, '-1.35 points': -1.35, '0 of 45': 0, 'best 12 of 15': None,
          'ZI Table 1': None}.items() <= numbers.items()


@pytest.mark.parametrize('text, number', [
    ('98.33', 98.33), ('2^0', 1), ('-0.0470', -0.047), ('+1.2', 1.2), ('1,234', 1234), ('1e-05', 1e-5), ('3 of 15', 3),
    ('2^-2 (2^-3 to 2^-1)', 0.25), ('2^-4, 2^-3', 0.0625), ('40:00', 40), ('', None), ('none', None), ('1x1', None),
    ('-', None), ('10_depth', None)])
def test_by_which_number_a_text_sorts(text, number):
  found = re.search('data-number="(.*?)"', page.html('', [page.Table('', ('a', 'b'), (('', text),))]))
  assert (found and float(found[1])) == number


def test_figures_say_their_values_where_they_are_drawn(tmp_path):
  """A marker of its method's colour is at the place of every value."""
  study = make_study(tmp_path, 'digits', lambda cell: None if cell.learning_rate == 1 else
                     (0.8 + 0.01 * list(METHODS).index(cell.method) - cell.fields['depth'] / 1e3, 0.2))
  image = figures.draw(groups.gather(study))[0]
  assert len(image.values) == len(study.cells)
  said = {value.text: value for value in image.values}
  none = 100 * (0.8 + 0.01 * list(METHODS).index('none') - 0.1)
  assert f'depth 100: none at 2^-4: {none:.2f}' in said and 'depth 16: fixup at 2^0: 1 of 1 diverged' in said
  with PIL.Image.open(io.BytesIO(image.png)) as picture:
    pixels = np.asarray(picture.convert('RGB'))
  for text, value in said.items():
    colour = [int(figures.LOOKS[re.search(': (.*) at', text)[1]][0][i:i + 2], 16) for i in (1, 3, 5)]
    x, y = round(value.x * pixels.shape[1]), round(value.y * pixels.shape[0])
    assert (abs(pixels[y - 3:y + 4, x - 3:x + 4].astype(int) - colour).max(-1) < 8).any(), text


ACTS = """
const texts = column => all('tbody tr').map(row => row.cells[column].textContent).join(' ');
const button = document.querySelectorAll('th button')[1];
const said = [texts(1)];
for (let i = 0; i < 3; i++) { button.click(); said.push(texts(1)); }
const slider = document.querySelector('[role=slider]');
for (const key of ['ArrowRight', 'End', 'ArrowLeft']) slider.dispatchEvent(new KeyboardEvent('keydown', {key}));
document.body.replaceChildren(JSON.stringify({said, tip: all('.says', slider.parentNode)[0].textContent,
                                              spoken: slider.getAttribute('aria-valuetext')}));
"""


@pytest.mark.skipif(not shutil.which('chromium'), reason='needs Chromium')
def test_in_a_browser_tables_sort_and_figures_speak(tmp_path):
  make_study(tmp_path, 'digits', lambda cell: (0.9, 0.2), axes={'seed': [0]})
  image, = figures.draw(groups.gather(manifest.load_study(tmp_path)))[:1]
  rows = tuple((f'row {i}', text) for i, text in enumerate(('9 of 15', '', '10 of 15', 'none', '2^-1', '-3')))
  text = page.html('', [page.Table('', ('a', 'b'), rows), image])
  text = re.sub('<meta http-equiv="Content-Security-Policy".*', '', text).replace('</script>', f'{ACTS}</script>')
  (tmp_path / 'page.html').write_text(text)
  seen = subprocess.run(['chromium', '--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path}/of',
                         '--dump-dom', f'file://{tmp_path}/page.html'], capture_output=True, text=True, timeout=60)
  found = json.loads(html.unescape(re.search('<body>(.*?)</body>', seen.stdout, re.S)[1]))
  assert found['said'] == ['9 of 15  10 of 15 none 2^-1 -3', '-3 2^-1 9 of 15 10 of 15 none ',
                           '10 of 15 9 of 15 2^-1 -3 none ', '9 of 15  10 of 15 none 2^-1 -3']
  assert found['spoken'] == image.values[-2].text and found['spoken'] in found['tip']


def test_whatever_a_user_writes_is_escaped(tmp_path):
  bad = '<script>alert(1)</script>|[x](y)'
  pairs, _ = sweeps.named_study('digits')
  cells = [dataclasses.replace(cell, method=f'none({bad})') for cell in sweeps.expand(pairs)]
  study = manifest.begin(tmp_path, bad, bad, cells)
  fill(study, lambda cell: (0.9, 0.2) if cell.learning_rate < 0.5 else 'missing', data=bad)
  study.fail(study.cells[4], bad)
  write_report(tmp_path)
  text = (tmp_path / 'report.html').read_text()
  assert text.count('<script') == 1 and '<script' not in (tmp_path / 'report.md').read_text()
  assert Page(text).text.count(bad) > 4


def test_what_is_missing_and_what_failed(tmp_path):
  study = make_study(tmp_path, 'digits', lambda cell: 'missing' if cell.method == 'fixup' else (0.9, 0.2))
  failed = next(cell for cell in study.cells if cell.method == 'fixup')
  study.fail(failed, 'the device has too little memory')
  shown = ' '.join(write_report(tmp_path).split())
  assert 'PARTIAL: 30 of 40 cells' in shown and 'not run yet' in shown
  for text in (shown, (tmp_path / 'report.md').read_text(), Page((tmp_path / 'report.html').read_text()).text):
    assert 'too little memory' in text and 'the same command goes on' in text
  assert '9 of 40 cells have not finished' in shown and '10 missing (1 of them failed)' in shown
  assert row(accuracy_table(study), method='fixup', depth='16')['cells'] == '0 of 5'


def test_only_the_first_missing_cells_are_named(tmp_path):
  make_study(tmp_path, 'digits', lambda cell: 'missing')
  shown = write_report(tmp_path)
  assert '40 of 40 cells have not finished' in shown and 'The first 20' in shown
  assert sum(line.strip().partition(':')[0].isdigit() for line in shown.splitlines()) == 20


def test_a_study_without_results_has_a_report_without_figures(tmp_path):
  make_study(tmp_path, 'figure3', axes={'seed': [0]})
  assert 'PARTIAL: 0 of 165 cells' in write_report(tmp_path).replace('\n', ' ')
  assert not list(tmp_path.glob('*.png'))
  assert Page((tmp_path / 'report.html').read_text()).text.count('not run yet') == 66
  assert (tmp_path / 'summary.csv').read_text().count('\n') == 1


@pytest.mark.slow
def test_the_figures_of_a_study_over_batch_sizes(tmp_path):
  make_study(tmp_path, 'figure1', lambda cell: (0.9, 0.2) if cell.learning_rate < 8 else None, axes={'seed': [0]})
  write_report(tmp_path)
  assert sorted(path.name for path in tmp_path.glob('*.png')) == [
      'report_accuracy_rate.png', 'report_best_batch_size.png', 'report_loss_rate.png', 'report_order.png',
      'report_rate_batch_size.png']


def test_csv_reads_back(tmp_path):
  study = make_study(tmp_path, methods=['none'], axes={'learning_rate': [2**-4, 2**-3, 2**-2]},
                     outcome=lambda cell: 'missing' if cell.learning_rate == 2**-4 else best_12_of_15(cell))
  study.fail(study.cells[0], 'a, "quoted"\nreason')
  write_report(tmp_path)
  cells = list(csv.DictReader(io.StringIO((tmp_path / 'results.csv').read_text())))
  assert [cell['identity'] for cell in cells] == [cell.identity for cell in study.cells]
  assert [int(cell['index']) for cell in cells] == list(range(45))
  assert cells[0]['status'] == 'failed' and cells[0]['message'] == 'a, "quoted"\nreason'
  assert {cell['status'] for cell in cells[1:15]} == {'missing'} and cells[15]['status'] == 'done'
  assert [float(cell['test_accuracy']) for cell in cells[15:30]] == pytest.approx([0.9 + n / 1000 for n in FIFTEEN])
  accuracy, loss = csv.DictReader(io.StringIO((tmp_path / 'summary.csv').read_text()))
  assert (accuracy['metric'], loss['metric']) == ('test_accuracy', 'train_loss')
  assert float(accuracy['mean']) == pytest.approx(0.9095) and float(accuracy['published']) == 0.923
  assert float(accuracy['difference']) == pytest.approx(-0.0135) and accuracy['edge'] == 'lowest'
  assert (accuracy['kept'], accuracy['runs'], accuracy['finished'], accuracy['cells']) == ('12', '15', '30', '45')
  assert float(loss['published']) == 0.212 and float(loss['published_std']) == 0.004


def test_damaged_results_are_named(tmp_path):
  study = make_study(tmp_path, 'digits', lambda cell: (0.9, 0.2))
  path = study.directory(study.cells[3]) / 'result.json'
  path.write_text('{"status": "done"')
  with pytest.raises(UserError, match=rf'{path} is damaged'):
    write_report(tmp_path)
  path.write_text('{"status": "done", "steps": 1, "test_accuracy": 0.9}')
  with pytest.raises(UserError, match=rf'{path} is damaged: .*train_loss'):
    write_report(tmp_path)


def test_the_command(tmp_path):
  make_study(tmp_path, 'digits', lambda cell: (0.9, 0.2), axes={'depth': [16]})
  code, output, errors = command.run('zeroinit.report', f'--workdir={tmp_path}', '--watch')  # of nothing more to come
  assert (code, errors) == (0, '') and output.startswith('digits: ') and f'{tmp_path}/report.html' in output


@pytest.mark.parametrize('outcome, then', [
    (lambda cell: 'missing' if cell.seed else (0.9, 0.2), 'the launch command again, for the 12 cells that are left'),
    (lambda cell: (0.9 + cell.learning_rate, 0.2), 'the launch command again with --extend'),
    (lambda cell: (0.9 - abs(cell.learning_rate - 2**-5), 0.2 + abs(cell.learning_rate - 2**-5)),
     'open it in a browser, or tensorboard --logdir='),
])
def test_the_last_line_says_what_to_run_next(outcome, then, tmp_path, capsys):
  axes = {'depth': [16], 'seed': [0, 1], 'learning_rate': [2**-6, 2**-5, 2**-4]}
  make_study(tmp_path, 'digits', outcome, axes=axes, methods=['none', 'zeroinit', 'fixup', 'batch_norm'])
  print_report(tmp_path)
  assert capsys.readouterr().out.splitlines()[-1].startswith(f'results: {tmp_path}/report.html; next: {then}')


def test_a_missing_study_is_one_line(tmp_path):
  code, output, errors = command.run('zeroinit.report', f'--workdir={tmp_path / "none"}')
  assert (code, output) == (2, '') and errors.count('\n') == 1 and 'holds no study' in errors


def test_no_two_methods_look_alike():
  assert len(set(figures.LOOKS.values())) == len(figures.LOOKS) >= len(METHODS)
  assert set(METHODS) == set(figures.LOOKS)


def test_a_figure_against_the_batch_size_needs_settings_that_differ_in_nothing_else(tmp_path):
  for name, axes, drawn in (('rates', {}, False), ('figure1', {'seed': [0]}, True)):
    study = make_study(tmp_path / name, name, lambda cell: (0.5, 0.5), axes)
    names = [image.file for image in figures.draw(groups.gather(study))]
    assert ('report_rate_batch_size.png' in names) == drawn, names
