"""Rows of a parametrized test of which a few are enough before a commit."""

import pytest

from zeroinit.methods import METHODS

# Methods of which none computes what another does but for a number: for tests that train.
UNLIKE = [name for name in METHODS if name not in (
    'layer_norm', 'instance_norm', 'dynamic_tanh', 'nf_resnet', 'zeroinit_agc', 'none_agc', 'completep',
    'biases_dropout', 'skipinit_alpha_1', 'skipinit_alpha_inverse_sqrt_d', 'zeroinit_no_dropout', 'fixup_dropout',
    'fixup_zero_only', 'fixup_rescale_only')]


def few(cases, fast):
  """The cases, each once, of which all but the first `fast` are slow."""
  cases = list(dict.fromkeys(cases))
  values = [case if isinstance(case, tuple) else (case,) for case in cases[fast:]]
  return [*cases[:fast], *(pytest.param(*case, marks=pytest.mark.slow) for case in values)]
