"""What 0.1.0 has written is read as what it meant."""

import hashlib
import json

import pytest

from zeroinit.runs import run_directory
from zeroinit.studies import cells, manifest, sweeps
from zeroinit.system.errors import UserError
from zeroinit.training.config import base_config, described

ADDED = ('dampening', 'classifier_init')


@pytest.mark.parametrize('kernel_init, classifier_init', [('he', 'lecun'), ('lecun', 'lecun'), ('xavier', 'xavier')])
def test_its_rates_are_a_heavy_balls_and_its_classifier_is_not_zero(kernel_init, classifier_init, tmp_path):
  config = base_config('zeroinit')
  config.kernel_init = kernel_init
  fields = {name: value for name, value in described(config).items() if name not in ADDED}
  (tmp_path / 'config.json').write_text(json.dumps({'data': 'CIFAR-10', 'threads': 2, **fields}))
  read = run_directory.read_config(tmp_path / 'config.json')
  assert (read.dampening, read.kernel_init, read.classifier_init) == (0.0, kernel_init, classifier_init)
  with pytest.raises(UserError, match=r'dampening 0\.0 -> 0\.9'):
    run_directory.Run(tmp_path).compare(config)


def test_its_results_have_the_names_of_today(tmp_path):
  result = {'status': 'done', 'steps': 3, 'test_accuracy': 0.5, 'train_loss': 1.0, 'test_loss': 0.75}
  digest = hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()
  (tmp_path / 'result.json').write_text(json.dumps(result | {'checksums': {'result.json': digest}}))
  read = run_directory.read_result(tmp_path)
  assert read['test_cross_entropy'] == 0.75 and 'test_loss' not in read


def test_its_studies_are_read(tmp_path):
  pairs, document = sweeps.named_study('digits')
  study = manifest.begin(tmp_path, 'digits', document, sweeps.expand(pairs, methods=['none']))
  path = tmp_path / 'manifest.json'
  written = json.loads(path.read_text())
  for cell in written['cells']:
    for name in ('momentum', 'kernel_init', *ADDED):
      del cell['fields'][name]
  path.write_text(json.dumps(written))
  read = manifest.load_study(tmp_path).cells
  assert [cell.identity for cell in read] == [cell.identity for cell in study.cells]
  assert {cell.fields['dampening'] for cell in read} == {0.0}
  assert read[0].fields.keys() == study.cells[0].fields.keys() >= set(cells.ALWAYS_STATED)
