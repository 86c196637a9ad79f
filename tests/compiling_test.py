"""The options with which programs are compiled."""

import dataclasses

import jax
import pytest

from configs import digits
from zeroinit.system import compiling, environment
from zeroinit.training.recipe import is_deterministic, make_recipe


@dataclasses.dataclass(frozen=True)
class Recipe:
  deterministic: bool


@pytest.fixture
def compiled_for(monkeypatch):
  """A function of a backend's name and of recipes: the options of what is compiled for each, one after the other."""
  def options(backend, *recipes):
    given, jit = [], jax.jit
    monkeypatch.setattr(jax, 'default_backend', lambda: backend)
    monkeypatch.setattr(jax, 'jit', lambda function, compiler_options=None, **kwargs: (
        given.append(compiler_options), jit(function, **kwargs))[1])
    compiling._options.cache_clear()
    double = compiling.jit(lambda recipe, x: 2 * x, is_deterministic, static_argnums=0)
    assert [int(double(recipe, 4)) for recipe in recipes] == [8] * len(recipes)
    return given

  yield options
  compiling._options.cache_clear()


def test_what_is_deterministic_is_another_program_on_a_gpu(compiled_for):
  with_and_without = Recipe(True), Recipe(False), Recipe(True)
  assert compiled_for('gpu', *with_and_without) == [{'xla_gpu_deterministic_ops': True}, None]
  assert compiled_for('tpu', *with_and_without) == [None, None]


@pytest.mark.parametrize('threads', [1, 100])
def test_one_thread_has_other_convolutions_where_they_are_faster(threads, compiled_for, monkeypatch):
  """100 threads are more than the 8 devices of the tests."""
  monkeypatch.setattr(environment, 'threads', lambda: threads)
  monkeypatch.delenv('XLA_FLAGS', raising=False)
  *_, options = compiled_for('cpu', Recipe(False))
  ynnpack = threads == 1 and jax.__version_info__ < (0, 11)
  assert options == compiling.LEVEL | compiling.EMITTERS | (
      compiling.YNNPACK_CONVOLUTIONS if ynnpack else compiling.EIGEN_CONVOLUTIONS)


@pytest.mark.parametrize('in_a_file', [False, True])
def test_what_xla_flags_set_is_left_to_them(in_a_file, compiled_for, monkeypatch, tmp_path):
  flags = '--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=true'
  (tmp_path / 'flags').write_text(flags)
  monkeypatch.setenv('XLA_FLAGS', str(tmp_path / 'flags') if in_a_file else flags)
  *_, options = compiled_for('cpu', Recipe(False))
  assert set(options) == {'xla_cpu_experimental_ynn_fusion_type'}


def test_the_config_says_whether_it_is():
  for deterministic in (False, True):
    config = digits.get_config('zeroinit')
    config.deterministic = deterministic
    assert make_recipe(config, 1000).deterministic == deterministic


def test_this_compiler_knows_the_options():
  """One that it does not know is an error."""
  compile = lambda options: jax.jit(lambda: 0, compiler_options=options).lower().compile()
  for options in (compiling.DETERMINISTIC, compiling.LEVEL, compiling.EMITTERS, compiling.EIGEN_CONVOLUTIONS,
                  compiling.YNNPACK_CONVOLUTIONS):
    compile(options)
  with pytest.raises(jax.errors.JaxRuntimeError):
    compile({'xla_gpu_deterministic_opz': True})
