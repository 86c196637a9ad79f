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
    ('norm', 'layers'), ('biases', 'some'), ('ghost_size', 0), ('dropout', 1.0), ('dropout', -0.1), ('alpha', 'sqrt'),
    ('alpha', float('nan')), ('alpha', True), ('merge_scale', 0.0), ('scalar_rate', -1.0),
    ('last_norm_only', True), ('noisy_norm', True), ('groups', 0), ('activation', 'gelu'), ('activation', 'none'),
    ('kernels', 'weight_norm'), ('kernels', 'standardized'), ('alpha_per_channel', True), ('branch_scale', 'half'),
    ('branch_scale', 0.0), ('branch_scale', None), ('clip', -1.0), ('clip', 'a'), ('groups', 2.5),
    ('groups', True), ('kernels', None), ('norm', None), ('divide_by_std', 'yes'), ('clip', float('inf')),
])
def test_value_out_of_range_names_the_field(field, value):
  with pytest.raises(UserError, match=field):
    Method(**{field: value})


@pytest.mark.parametrize('fields, message', [
    ({'norm': 'evonorm_s0'}, "goes with activation='none'"),
    ({'norm': 'evonorm_s0', 'activation': 'none', 'last_norm_only': True}, 'linear network'),
    ({'kernels': 'scaled', 'zero_init': True}, 'undoes the scale'),
    ({'kernels': 'standardized', 'norm': 'group', 'depth_init': True}, 'undoes the scale'),
    ({'kernels': 'standardized', 'norm': 'group', 'last_norm_only': True}, 'choose a norm'),
])
def test_combinations_that_make_no_sense(fields, message):
  with pytest.raises(UserError, match=message):
    Method(**fields)


def test_successors_differ_from_their_ablations_in_what_they_are_called_after():
  fields = [field.name for field in dataclasses.fields(Method)]
  differ = lambda one, other: {field for field in fields
                               if getattr(METHODS[one], field) != getattr(METHODS[other], field)}
  assert differ('nf_resnet_agc', 'nf_resnet') == differ('zeroinit_agc', 'zeroinit') == differ('none_agc', 'none') == {
      'clip'}
  assert differ('group_norm_ws', 'group_norm') == {'kernels'}
  assert differ('depth_mup', 'biases') == differ('completep', 'biases') == {'branch_scale'}
  assert differ('layer_scale', 'zeroinit_no_dropout') == {'alpha', 'alpha_per_channel'}


def test_dead_branches_are_refused():
  with pytest.raises(UserError, match='dead'):
    Method(alpha=0.0, zero_init=True)
