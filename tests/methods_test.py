import dataclasses

import pytest

from zeroinit import methods
from zeroinit.methods import METHODS, Method, label
from zeroinit.system.errors import UserError


def test_label_is_the_row_and_what_departs_from_it():
  zeroinit = METHODS['zeroinit']
  assert label('zeroinit', zeroinit) == 'zeroinit'
  changed = dataclasses.replace(zeroinit, dropout=0.2, alpha=None)
  assert label('zeroinit', changed) == 'zeroinit(alpha=None, dropout=0.2)'


def test_skipinit_alpha_0_is_multiplier_and_regularized_skipinit_is_zeroinit():
  assert METHODS['multiplier'] == Method(alpha=0.0)
  assert METHODS['zeroinit'] == dataclasses.replace(METHODS['biases_dropout'], alpha=0.0)
  assert METHODS['zeroinit_scalar_bias'] == dataclasses.replace(METHODS['zeroinit'], merge_bias=True)


def test_rows_differ():
  assert len(set(METHODS.values())) == len(METHODS)


def test_unknown_row_lists_the_rows():
  with pytest.raises(UserError, match=r'nope.*zeroinit.*fixup'):
    methods.row('nope')


@pytest.mark.parametrize('field, value', [
    ('norm', 'layer'), ('biases', 'some'), ('ghost_size', 0), ('dropout', 1.0), ('dropout', -0.1), ('alpha', 'sqrt'),
    ('alpha', float('nan')), ('alpha', True), ('merge_scale', 0.0), ('scalar_rate', -1.0),
    ('last_norm_only', True), ('noisy_norm', True),
])
def test_value_out_of_range_names_the_field(field, value):
  with pytest.raises(UserError, match=field):
    Method(**{field: value})


def test_dead_branches_are_refused():
  with pytest.raises(UserError, match='dead'):
    Method(alpha=0.0, zero_init=True)
