"""The law of products of random matrices: its closed forms, its moments, and the matrices that it is about."""

import itertools
import math

import numpy as np
import pytest
from probing import assert_mistakes, assert_on_page, probe
from scipy.integrate import quad

from zeroinit.probes import spectra
from zeroinit.probes.spectra import law

ALL = range(1, 9)


def integral(function, factors, end=None):
  """That of function(x) rho(x) over (0, end), in the variable x^(1/(M+1)), in which nothing diverges."""
  power, end = factors + 1, law.edge(factors) if end is None else end
  integrand = lambda t: function(t**power) * law.density(t**power, factors) * power * t ** (power - 1)
  return quad(integrand, 0, end ** (1 / power), limit=200)[0]


def test_one_matrix_is_the_law_of_marchenko_and_pastur():
  x = np.concatenate([np.geomspace(1e-12, 3.9, 50), [4 - 1e-6]])
  np.testing.assert_allclose(law.density(x, 1), np.sqrt(x * (4 - x)) / (2 * np.pi * x), rtol=1e-6)
  angle = np.arcsin(np.sqrt(x) / 2)
  np.testing.assert_allclose(law.cumulative(x, 1), (2 * angle + np.sin(2 * angle)) / np.pi, rtol=1e-6)


def test_two_matrices_have_a_density_in_radicals():
  """Penson and Zyczkowski, arXiv:1103.3453."""
  x = np.geomspace(1e-9, 6.74, 50)
  root = 27 + 3 * np.sqrt(81 - 12 * x)
  want = 2 ** (1 / 3) * math.sqrt(3) * (2 ** (1 / 3) * root ** (2 / 3) - 6 * np.cbrt(x)) / (
      12 * np.pi * x ** (2 / 3) * np.cbrt(root))
  np.testing.assert_allclose(law.density(x, 2), want, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('factors', ALL)
def test_mass_mean_and_higher_moments(factors):
  """The k-th moment is a Fuss-Catalan number, C((M+1) k, k) / (M k + 1): M + 1 for k = 2."""
  for k in range(5):
    want = math.comb((factors + 1) * k, k) / (factors * k + 1)
    assert integral(lambda x, k=k: x**k, factors) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize('factors', ALL)
def test_the_closed_form_of_the_integral(factors):
  for x in (1e-20, 1e-6, 0.1, 1.0, 3.99, 0.9 * law.edge(factors)):
    assert law.cumulative(x, factors) == pytest.approx(integral(lambda x: 1.0, factors, x), rel=1e-7)


@pytest.mark.parametrize('factors', ALL)
def test_quantiles_are_the_inverse(factors):
  share = np.array([1e-6, 0.01, 0.5, 0.99, 1 - 1e-6])
  np.testing.assert_allclose(law.cumulative(law.quantile(share, factors), factors), share, rtol=1e-9)


@pytest.mark.parametrize('factors', ALL)
def test_towards_zero_it_diverges_as_a_power(factors):
  slope = np.diff(np.log(law.density(np.array([1e-30, 1e-28]), factors))) / np.log(100)
  assert slope == pytest.approx(-factors / (factors + 1), abs=1e-4)


def test_where_the_laws_end():
  assert [round(law.edge(factors), 2) for factors in range(1, 6)] == [4, 6.75, 9.48, 12.21, 14.93]
  for factors in ALL:
    end = law.edge(factors)
    assert law.density([-1.0, 0.0, end, 1e9], factors).tolist() == [0, 0, 0, 0]
    assert law.cumulative([-1.0, 0.0, end, 1e9], factors).tolist() == [0, 0, 1, 1]
    assert law.density(end * (1 - 1e-9), factors) > 0.99e-5 * law.density(end * (1 - 1e-3), factors)


def test_products_of_three_matrices_of_400():
  """papers.md, (f): median 0.151 in one draw, where the law has 0.155; the largest 8.9, where it ends at 9.48."""
  squares = spectra.draw(3, 400, 0)
  assert law.quantile(0.5, 3) == pytest.approx(0.155, abs=5e-4)
  assert np.median(squares) == pytest.approx(0.155, rel=0.1)
  assert 8 < squares[-1] < 10.2
  for share in (0.1, 0.25, 0.75, 0.9):
    assert np.quantile(squares, share) == pytest.approx(float(law.quantile(share, 3)), rel=0.15)


@pytest.mark.parametrize('factors', [1, 2, 4, 8])
def test_the_distance_falls_with_the_size_and_only_where_the_law_holds(factors):
  small, large = ([spectra.measure(spectra.draw(factors, size, (size, seed)), factors) for seed in range(3)]
                  for size in (25, 200))
  mean = lambda drawn, field: np.mean([one[field] for one in drawn])
  assert mean(large, 'ks') < 0.35 * mean(small, 'ks') and mean(large, 'ks') < 0.02
  assert mean(large, 'ks_unsquared') > 0.15
  assert mean(large, 'second_moment') == pytest.approx(factors + 1, rel=0.1)


def test_another_law_is_far_away():
  squares = spectra.draw(2, 250, 0)
  near = spectra.distance(squares, 2)
  for other in (1, 3, 4):
    assert spectra.distance(squares, other) > 5 * near > 0
  assert spectra.distance(2 * squares, 2) > 5 * near


def test_the_distance_of_few_values_by_hand():
  """Values at the law's 1/4 and 1/2: the share of values jumps from 1/2 to 1 where the law has 1/2."""
  assert spectra.distance(law.quantile(np.array([0.5, 0.25]), 3), 3) == pytest.approx(0.5)
  assert spectra.distance(np.array([1e9]), 3) == pytest.approx(1)


@pytest.mark.parametrize('factors', [1, 6, 12])
def test_the_smallest_singular_value_of_a_long_product(factors):
  """The product of all is the determinant; beside a value of 5 float64 cannot hold one of 1e-16."""
  squares, rng, log_determinant = spectra.draw(factors, 80, 0), np.random.default_rng(0), 0.0
  for _ in range(factors):
    log_determinant += 2 * np.linalg.slogdet(rng.standard_normal((80, 80)) / math.sqrt(80))[1]
  assert np.log(squares).sum() == pytest.approx(log_determinant, abs=5e-3)


def test_condition_numbers_of_one_matrix():
  """Edelman (1988): P(condition number > N x) = 1 - exp(-2/x - 2/x^2), so the median is 3.67 N."""
  found = [spectra.measure(spectra.draw(1, 60, seed), 1)['condition_number'] for seed in range(300)]
  assert np.median(found) == pytest.approx(3.67 * 60, rel=0.15)


def test_condition_numbers_grow_with_the_factors():
  medians = [np.median([spectra.measure(spectra.draw(factors, 50, seed), factors)['condition_number']
                        for seed in range(9)]) for factors in (1, 2, 4, 8)]
  assert all(after > 20 * before for before, after in itertools.pairwise(medians))
  for factors, median in zip((1, 2, 4, 8), medians, strict=True):  # the order of magnitude that the law gives
    assert abs(math.log10(median / spectra.expected(factors, 50)['law_condition_number'])) < 1.5


@pytest.mark.slow
def test_the_command(tmp_path):
  made, output = probe('spectra', '--factors=2,1', '--size=30', '--draws=3', workdir=tmp_path)
  assert [record['factors'] for record in made['records']] == [2, 1] and made['size'] == 30
  for record in made['records']:
    drawn = [spectra.measure(spectra.draw(record['factors'], 30, (seed, record['factors'])), record['factors'])
             for seed in range(3)]
    assert record['ks'] == pytest.approx(np.mean([one['ks'] for one in drawn]), rel=1e-4)
    assert record['condition_numbers'] == pytest.approx([one['condition_number'] for one in drawn], rel=1e-4)
    assert record['condition_number'] == sorted(record['condition_numbers'])[1]
  table = spectra.summary(made)
  assert len(table.rows) == 2 and all(len(row) == len(table.columns) for row in table.rows)
  assert 'Product of 2: ' in made['notes'][0] and made['notes'][0] in output
  assert_on_page(spectra.TITLE, tmp_path)


@pytest.mark.slow
def test_mistakes(tmp_path):
  assert_mistakes('spectra', workdir=tmp_path / 'made', mistakes={
      '--factors=13': 'at most 12',
      '--factors=0': 'write positive numbers',
      '--size=1': '[2, 4000]'})
