"""The commands of the probes, as a user runs them: on digits, on toys, from a checkpoint; their page; mistakes."""

import html.parser
import json
import math
import re
import shutil

import command
import numpy as np
import PIL.Image
import pytest
from probing import probe

from zeroinit.methods import METHODS
from zeroinit.probes import depth, gradients, stability, variance
from zeroinit.runs import run_directory

pytestmark = pytest.mark.slow  # many processes, each of which compiles

DIGITS = ('--config=configs/digits.py:ghost_norm', '--config.depth=10')


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A short run with ghost norm."""
  workdir = tmp_path_factory.mktemp('runs') / 'trained'
  code, _, errors = command.run('zeroinit.main', *DIGITS, '--config.epochs=0.5', f'--workdir={workdir}')
  assert code == 0, errors
  return workdir


@pytest.fixture(scope='module')
def measured(tmp_path_factory, trained):
  """A directory into which all probes have written, and what their JSONs hold."""
  workdir = tmp_path_factory.mktemp('probes')
  three = '--methods=none,ghost_norm,zeroinit'
  found = {
      'methods': probe('variance', *DIGITS, three, '--draws=2', workdir=workdir / 'methods'),
      'updates': probe('variance', *DIGITS, '--updates=0,3', workdir=workdir / 'updates'),
      'toy': probe('variance', *DIGITS, '--network=linear', '--blocks=400', '--channels=8', '--methods=none,zeroinit',
                   workdir=workdir / 'toy'),
      'run': probe('variance', f'--checkpoint={trained}', workdir=workdir / 'run'),
      'gradients': probe('gradients', *DIGITS, '--methods=none,ghost_norm', '--depths=10,16', '--batch_size=8',
                         workdir=workdir / 'gradients'),
      'gradients of a run': probe('gradients', f'--checkpoint={trained}', '--batch_size=8',
                                  workdir=workdir / 'gradients_of_run'),
      'depth': probe('depth', *DIGITS, '--methods=none,zeroinit', '--depths=10,16', '--draws=2',
                     workdir=workdir / 'depth'),
      'stability': probe('stability', *DIGITS, '--batch_sizes=16,32', '--length=20', '--width=1',
                         '--draws=2', workdir=workdir / 'stability'),
      'stability of a run': probe('stability', f'--checkpoint={trained}', '--length=12', '--width=2',
                                  workdir=workdir / 'stability_of_run'),
  }
  return workdir, found


def test_every_json_says_how_it_was_made(measured):
  for made, _ in measured[1].values():
    assert {'probe', 'versions', 'device', 'seed', 'batch_size', 'dataset', 'command'} <= made.keys()


def test_one_record_for_every_block_of_every_method(measured):
  made, output = measured[1]['methods']
  assert [(record['method'], record['block'], record['stage']) for record in made['records']] == [
      (name, block, block) for name in ('none', 'ghost_norm', 'zeroinit') for block in (1, 2, 3)]
  assert made['title'] == 'WRN-10-1 on scikit-learn digits' and made['draws'] == 2
  for record in made['records']:
    assert record['law_share'] == (0 if record['method'] == 'zeroinit' else pytest.approx(0.5, abs=0.2))
    assert record['standard_error']['skip_second_moment'] > 0 and record['updates'] == 0
    assert ('norm_variance' in record) == (record['method'] == 'ghost_norm')
  assert 'No norm, so no statistics of norms in the records: none, zeroinit.' in made['notes']
  assert made['notes'][0] in output and 'left' in output


def test_the_mean_of_two_draws_and_its_standard_error(measured):
  """One of the two is known, seed 0, so the mean says what the other was, and the error must be half their distance."""
  one = [record for record in measured[1]['updates'][0]['records'] if record['updates'] == 0]
  for record, first in zip(measured[1]['methods'][0]['records'][3:6], one, strict=True):
    assert record['method'] == first['method'] == 'ghost_norm' and 'standard_error' not in first
    for field in ('skip_second_moment', 'share', 'norm_variance'):
      other = 2 * record[field] - first[field]
      assert record['standard_error'][field] == pytest.approx(abs(first[field] - other) / 2, abs=1e-5 * other)


def test_along_training_the_laws_are_for_the_start(measured):
  records = measured[1]['updates'][0]['records']
  assert [record['updates'] for record in records] == [0, 0, 0, 3, 3, 3]
  assert all(('law_share' in record) == (record['updates'] == 0) for record in records)
  assert records[0]['branch_second_moment'] != records[3]['branch_second_moment']


def test_what_overflows_is_null(measured):
  made, _ = measured[1]['toy']
  none = [record for record in made['records'] if record['method'] == 'none']
  assert none[0]['output_second_moment'] > 0 and none[-1]['output_second_moment'] is None
  lost = next(record['block'] for record in none if record['output_second_moment'] is None)
  assert any(f'exceeds float32 from block {lost} on' in note for note in made['notes'])
  assert math.isfinite(none[-1]['law_output_second_moment']) and '400 blocks' in made['title']


def test_a_run_is_measured_where_it_stands(measured, trained):
  made, _ = measured[1]['run']
  _, variables = run_directory.load(trained)
  assert [record['method'] for record in made['records']] == ['ghost_norm in trained'] * 3
  for record, stage in zip(made['records'], ('stage1', 'stage2', 'stage3'), strict=True):
    norm = variables['batch_stats'][stage]['first']['relu1']['norm']
    assert record['running_variance'] == pytest.approx(float(norm['var'].mean()), rel=1e-5)
    assert record['updates'] is None and 'law_share' not in record


def test_gradients_have_a_record_for_every_method_and_depth(measured):
  records = measured[1]['gradients'][0]['records']
  assert [(record['method'], record['depth']) for record in records] == [
      (name, depth) for name in ('none', 'ghost_norm') for depth in (10, 16)]
  for record in records:
    assert record['l2_share'] == pytest.approx(record['l2'] / (record['l2'] + record['cross_entropy']), rel=1e-4)
    assert -1 <= record['mean_cosine'] <= 1 and record['examples'] == 8
  assert [record['method'] for record in measured[1]['gradients of a run'][0]['records']] == ['ghost_norm in trained']


def test_the_depth_test_has_a_record_for_every_method_and_depth(measured):
  made, output = measured[1]['depth']
  assert [(record['method'], record['depth']) for record in made['records']] == [
      (name, depth) for name in ('none', 'zeroinit') for depth in (10, 16)]
  for record in made['records']:
    assert 0 <= record['test_accuracy'] <= 1 and record['updates'] == 1437 // 64
    assert record['standard_error']['test_accuracy'] >= 0
    assert bool(record['diverged']) == any(f'{record["method"]}, {record["network"]}' in note for note in made['notes'])
  assert made['title'].endswith('accuracy after 1 epoch') and 'test accuracy' in output and 'left' in output


def test_a_stable_rate_lies_below_an_unstable_one(measured):
  made, _ = measured[1]['stability']
  assert [record['batch_size'] for record in made['records']] == [16, 32]
  for record in made['records']:
    found = []
    for draw in (0, 1):
      runs = [run for run in record['tried'] if run['draw'] == draw]
      lower = max(run['log2_rate'] for run in runs if run['outcome'] == stability.STABLE)
      upper = min(run['log2_rate'] for run in runs if run['outcome'] != stability.STABLE and run['log2_rate'] > lower)
      assert 0 < upper - lower <= made['width'] == 1
      found.append(lower)
    assert record['log2_largest_stable_rate'] == pytest.approx(sum(found) / 2)
  assert [record['method'] for record in measured[1]['stability of a run'][0]['records']] == ['ghost_norm in trained']


class Links(html.parser.HTMLParser):
  """Whatever a browser would fetch."""

  def __init__(self):
    super().__init__()
    self.found = []

  def handle_starttag(self, tag, attributes):
    self.found += [(tag, value) for name, value in attributes if name in ('src', 'href')]


def test_the_page_holds_everything_and_asks_for_nothing(measured):
  workdir, found = measured
  code, output, errors = command.run('zeroinit.probes.page', f'--workdir={workdir}')
  assert code == 0 and not errors and 'probes.html' in output
  text = (workdir / 'probes.html').read_text()
  links = Links()
  links.feed(text)
  assert len(links.found) == len(found) and all(value.startswith('data:image/png;base64,') for _, value in links.found)
  assert not re.search('https?://', text)
  for made, _ in found.values():
    assert html.escape(made['title']) in text and html.escape(made['command']) in text
  for module in (variance, gradients, depth, stability):
    assert text.count(html.escape(module.TITLE)) == 1 and html.escape(module.EXPLANATION[0]) in text


@pytest.mark.slow
def test_every_method_can_be_measured(tmp_path):
  made, _ = probe('variance', *DIGITS, f'--methods={",".join(METHODS)}', '--network=relu', '--branch_layers=2',
                  '--blocks=3', '--channels=4', workdir=tmp_path)
  assert [record['method'] for record in made['records'][::3]] == list(METHODS)


MISTAKES = [
    ('variance --workdir=W', 'say whom to measure'),
    ('variance DIGITS --methods=none,dropuot', "unknown method 'dropuot'; the rows of METHODS are: batch_norm"),
    ('variance DIGITS --methods=none,none', 'none would be measured twice'),
    ('variance DIGITS --batch_size=100', 'ghost_size is 64, which does not divide batch_size 100'),
    ('variance DIGITS --batch_size=1600', 'more than the 1,437 training images'),
    ('variance DIGITS --updates=ten', '--updates=ten: write numbers'),
    ('variance DIGITS --updates=1000000', 'is more than the'),
    ('variance DIGITS --network=relu --updates=5', 'is never trained'),
    ('variance DIGITS --network=relu --methods=fixup', '--branch_layers=2'),
    ('variance DIGITS --network=relu --blocks=100000 --channels=3000', 'GB of memory'),
    ('variance --config=configs/cifar10.py --workdir=W --config.data_dir=/nowhere', 'no CIFAR-10 in /nowhere'),
    ('variance --checkpoint=EMPTY --workdir=W', 'is not the directory of a run'),
    ('variance --checkpoint=RUN --updates=3 --workdir=W', 'leave out --updates'),
    ('variance --checkpoint=RUN,OTHER --workdir=W', 'differ in matmul_precision (default, highest): measure them one'),
    ('variance --checkpoint=RUN/checkpoints --workdir=W', 'is not the directory of a run'),
    ('variance DIGITS --config.network=vgg --config.depth=16', 'VGG-16 has no residual blocks'),
    ('gradients DIGITS --depths=16,17', 'depth is 17'),
    ('gradients DIGITS --depths=60004 --config.width=100', 'GB of memory'),
    ('gradients --checkpoint=RUN --depths=16 --workdir=W', 'has the depth of its run'),
    ('depth --checkpoint=RUN --workdir=W', 'leave out --checkpoint'),
    ('depth DIGITS --depths=0', '--depths=0: write positive numbers'),
    ('depth DIGITS --depths=12', 'depth is 12'),
    ('depth DIGITS --epochs=nan', 'write a positive number'),
    ('depth DIGITS --epochs=0', 'write a positive number'),
    ('stability DIGITS --width=nan', 'not a positive number'),
    ('variance --checkpoint=RUN --config=configs/digits.py --config.depth=16 --workdir=W', 'changes nothing of a'),
    ('depth DIGITS --epochs=5', '--epochs=5 is more than the 4 epochs'),
    ('depth DIGITS --depths=600004 --config.width=10', 'GB of memory'),
    ('stability DIGITS --batch_size=16 --batch_sizes=16', 'leave one out'),
    ('stability DIGITS --batch_sizes=16,1920', 'more than the 1,437 training images'),
    ('stability DIGITS --batch_sizes=100', 'ghost_size is 64, which does not divide batch_size 100'),
    ('stability --checkpoint=RUN --depths=16 --workdir=W', 'has the depth of its run'),
    ('page --workdir=EMPTY', 'holds nothing that a probe has measured'),
]


@pytest.fixture(scope='module')
def answers(tmp_path_factory, trained):
  """{words: (exit code, all that was said, the directory that was not to be made)} of MISTAKES."""
  commands, places = [], []
  for words, _ in MISTAKES:
    place = tmp_path_factory.mktemp('mistake')
    (place / 'empty').mkdir()
    words = words.replace('DIGITS', '--config=configs/digits.py:ghost_norm --workdir=W').replace('=W', '=MADE')
    other = place / 'other'
    other.mkdir()
    config = json.loads((trained / 'config.json').read_text())
    (other / 'config.json').write_text(json.dumps(config | {'matmul_precision': 'highest'}))
    for word, path in (('OTHER', other), ('RUN', trained), ('MADE', place / 'made'), ('EMPTY', place / 'empty')):
      words = words.replace(word, str(path))
    name, *flags = words.split()
    commands.append([f'zeroinit.probes.{name}', *flags])
    places.append(place / 'made')
  ran = command.run_all(commands)
  return {words: (*answer, place) for (words, _), answer, place in zip(MISTAKES, ran, places, strict=True)}


@pytest.mark.parametrize('words, message', MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistake(words, message, answers):
  code, said, place = answers[words]
  command.assert_one_line(code, said, message)
  assert not place.exists()


def test_where_all_training_diverges_nothing_is_left(tmp_path):
  code, _, errors = command.run('zeroinit.probes.variance', *DIGITS, '--config.learning_rate=1e30', '--updates=3',
                                f'--workdir={tmp_path}')
  command.assert_one_line(code, errors,
                          'no network is left to measure: ghost_norm: 1 of 1 draws diverged before 3 updates')


@pytest.mark.parametrize('wrong, message', [
    ('other network', 'is of another network than its config.json describes: batch_stats/'),
    ('other kind', 'is not that of a run'), ('none', 'holds no checkpoint')])
def test_a_checkpoint_that_is_none_or_of_another_kind(wrong, message, trained, tmp_path):
  workdir = shutil.copytree(trained, tmp_path / 'run')
  config = json.loads((workdir / 'config.json').read_text())
  if wrong == 'other network':
    (workdir / 'config.json').write_text(json.dumps(config | {'width': 2}))
  else:
    shutil.rmtree(workdir / 'checkpoints')
  if wrong == 'other kind':
    from etils import epath

    from zeroinit.runs.checkpoints import Checkpoints
    checkpoints = Checkpoints(epath.Path(workdir / 'checkpoints'))
    checkpoints.save(5, {'weights': np.zeros(3)})
    checkpoints.close()
  code, _, errors = command.run('zeroinit.probes.variance', f'--checkpoint={workdir}', f'--workdir={tmp_path / "made"}')
  command.assert_one_line(code, errors, message)


@pytest.mark.parametrize('damage, message', [
    (lambda made: '{', 'variance.json is damaged'),
    (lambda made: json.dumps({'probe': 'variance'}), 'it lacks title'),
    (lambda made: json.dumps(made | {'records': [{'method': 'none'}]}), 'of another version'),
    (lambda made: json.dumps(made | {
        'probe': 'depth', 'dataset': 'digits', 'epochs': 1,
        'records': [{'method': None, 'depth': 16, 'test_accuracy': 0.5, 'diverged': False}]}),
     'None is no text for the table'),
    (lambda made: json.dumps(made | {'probe': 'seance'}), "of a probe 'seance'"),
    (lambda made: json.dumps(made | {'figure': 'gone.png'}), 'gone.png is gone'),
])
def test_a_damaged_json_is_named(damage, message, tmp_path):
  made = {'probe': 'variance', 'title': 'A', 'caption': '', 'figure': 'variance.png', 'notes': [], 'command': 'python',
          'records': []}
  damaged = damage(made)
  PIL.Image.new('L', (1, 1)).save(tmp_path / 'variance.png')
  (tmp_path / 'variance.json').write_text(damaged)
  code, _, errors = command.run('zeroinit.probes.page', f'--workdir={tmp_path}')
  command.assert_one_line(code, errors, message)
