"""What a shell or a notebook has set of JAX changes no number, or is in the record."""

import dataclasses
import json
import threading

import jax
import pytest

from configs import digits
from zeroinit.data import digits as digits_data
from zeroinit.runs.run_directory import Run
from zeroinit.runs.train import train
from zeroinit.studies import sweeps
from zeroinit.system import environment, settings
from zeroinit.system.errors import UserError
from zeroinit.training.config import compared_fields

OTHER = {
    'jax_default_prng_impl': ['rbg', 'unsafe_rbg'], 'jax_threefry_partitionable': [False],
    'jax_threefry_gpu_kernel_lowering': [True], 'jax_random_seed_offset': [7], 'jax_high_dynamic_range_gumbel': [True],
    'jax_accurate_erf_inv': [True], 'jax_enable_x64': [True], 'jax_numpy_dtype_promotion': ['strict'],
    'jax_default_matmul_precision': ['bfloat16', 'highest'], 'jax_use_direct_linearize': [False],
    'jax_allow_f16_reductions': [False],
}
FREE = {  # what neither changes a number nor may stop a run
    'jax_numpy_rank_promotion': ['raise', 'warn'], 'jax_transfer_guard': ['disallow'], 'jax_enable_checks': [True],
    'jax_check_tracer_leaks': [True], 'jax_legacy_prng_key': ['error'], 'jax_debug_nans': [True],
    'jax_debug_key_reuse': [True], 'jax_log_compiles': [True], 'jax_softmax_custom_jvp': [True, False],
}
OFTEN_SET = ('jax_default_prng_impl', 'jax_enable_x64', 'jax_default_matmul_precision', 'jax_transfer_guard')
CASES = [pytest.param(name, value, marks=() if name in OFTEN_SET else pytest.mark.slow)
         for found in (OTHER, FREE) for name, values in found.items() for value in values if hasattr(jax.config, name)]


def toy(method='zeroinit', **fields):
  """A run of six updates, with all that draws random numbers in it."""
  config = digits.get_config(method)
  config.update(depth=10, batch_size=32, epochs=6 / 44, evaluations=2, flip=True, crop='reflect', tensorboard=False,
                **fields)
  return config


def numbers(workdir, **fields):
  """What a run leaves of numbers, to the last bit."""
  train(toy(**fields), workdir)
  records = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  return [{name: value for name, value in record.items() if 'second' not in name} for record in records]


@pytest.fixture(scope='module')
def usual(tmp_path_factory):
  return numbers(tmp_path_factory.mktemp('usual') / 'run')


@pytest.fixture
def configured():
  """A function that sets one of jax's settings until the end of the test."""
  before = {}

  def configure(name, value):
    before[name] = getattr(jax.config, name)
    jax.config.update(name, value)

  yield configure
  for name, value in before.items():
    jax.config.update(name, value)


def test_every_setting_that_is_stated_is_tried():
  assert OTHER.keys() == settings.STATED.keys()


@pytest.mark.parametrize('name, value', CASES)
def test_the_same_bytes_whatever_is_set(name, value, usual, configured, tmp_path, capfd):
  configured(name, value)
  assert numbers(tmp_path / 'run') == usual
  assert getattr(jax.config, name) == value  # and is left as it was
  assert (name in capfd.readouterr().err) == (name in OTHER)  # which says that it does not count


def test_the_precision_of_products_is_a_field_of_the_config(configured, tmp_path, capfd):
  """A CPU computes in float32 whatever it is: what is compiled says it, and what is compared."""
  lowered = {}
  for precision in settings.PRECISIONS:
    with settings.stated(precision):
      lowered[precision] = jax.jit(lambda x: x @ x).lower(jax.ShapeDtypeStruct((2, 2), 'float32')).as_text()
  assert len(set(lowered.values())) == len(settings.PRECISIONS)
  assert compared_fields(toy(matmul_precision='highest').to_dict())['matmul_precision'] == 'highest'


def test_what_does_not_count_but_may_change_last_bits_is_in_the_record(configured, monkeypatch, tmp_path, capsys):
  monkeypatch.setenv('XLA_FLAGS', '--xla_dump_max_hlo_modules=1')
  configured('jax_optimization_level', 'O1')
  assert environment.settings() == {'XLA_FLAGS': '--xla_dump_max_hlo_modules=1', 'jax_optimization_level': 'O1'}
  result = train(toy(), tmp_path / 'run')
  assert result['settings'] == environment.settings()
  assert json.loads((tmp_path / 'run' / 'config.json').read_text())['settings'] == environment.settings()
  (tmp_path / 'run' / 'result.json').unlink()
  monkeypatch.delenv('XLA_FLAGS')
  capsys.readouterr()
  train(toy(), tmp_path / 'run')
  assert ('begun with XLA_FLAGS=--xla_dump_max_hlo_modules=1 jax_optimization_level=O1, going on with '
          'jax_optimization_level=O1: the last bits may differ') in ''.join(capsys.readouterr())


def test_inside_a_with_block_of_jax_it_says_that_it_cannot(tmp_path):
  for block in (jax.enable_x64(True), jax.default_matmul_precision('highest')):
    with block, pytest.raises(UserError, match='in a `with` block of jax that sets jax_'):
      train(toy(), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_beside_another_thread_it_says_that_it_cannot(configured, tmp_path):
  """Of two that state them in turn, the second would take the settings from the first, and leave its own behind."""
  said = []

  def beside():
    try:
      train(toy(), tmp_path / 'run')
    except UserError as error:
      said.append(str(error))

  configured('jax_enable_x64', True)
  with settings.stated('highest'):
    thread = threading.Thread(target=beside)
    thread.start()
    thread.join()
    assert jax.config.jax_default_matmul_precision == 'highest' and not jax.config.jax_enable_x64
  assert len(said) == 1 and 'another thread of this process' in said[0] and not (tmp_path / 'run').exists()
  assert jax.config.jax_enable_x64
  thread = threading.Thread(target=beside)  # alone it may be any thread
  thread.start()
  thread.join()
  assert (tmp_path / 'run' / 'result.json').exists()


def test_the_images_in_another_order_are_not_gone_on_with(tmp_path):
  config, data = toy(), digits_data.load()
  Run(tmp_path / 'run').begin(config, data)
  turned = dataclasses.replace(data, train_images=data.train_images[::-1], train_labels=data.train_labels[::-1])
  with pytest.raises(UserError, match='a copy of scikit-learn digits in another order'):
    Run(tmp_path / 'run').begin(config, turned)
  saved = json.loads((tmp_path / 'run' / 'config.json').read_text())
  del saved['order'], saved['settings'], saved['matmul_precision']  # as before there were any
  (tmp_path / 'run' / 'config.json').write_text(json.dumps(saved))
  assert set(Run(tmp_path / 'run').begin(config, turned)) == {'threads'}
  Run(tmp_path / 'run').compare(config)


def test_a_field_that_was_added_leaves_identities_as_they_were():
  """Of `zeroinit study digits`, as its manifests have them since 0.2.0 was begun."""
  pairs = list(sweeps.named_study('digits')[0])
  first = sweeps.expand(pairs)[0]
  assert first.identity == 'none_WRN-16-1_b64_r0.0625_s0_94e51243'
  (_, overrides), = pairs[:1]
  other = sweeps.expand([('digits:none', overrides | {'matmul_precision': 'highest'})])[0]
  assert other.identity != first.identity
