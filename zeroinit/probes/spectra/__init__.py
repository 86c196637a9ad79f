"""Singular values of products of random matrices, which are deep linear networks at initialization.

  zeroinit probe spectra --workdir=DIR
  zeroinit probe spectra --size=1000 --factors=1,3,10 --draws=3 --workdir=DIR

Writes spectra.json, with a record for every number of factors, and spectra.png. There is no network and no data set, so
no --config. Exit codes: 0, or 2 for a mistake in the command or its surroundings.
"""

import numpy as np
from absl import flags

from zeroinit.probes import command, writing
from zeroinit.probes.spectra import figure, law
from zeroinit.report import page
from zeroinit.system.errors import UserError

FLAGS = flags.FLAGS

TITLE = 'Products of random matrices: why deep networks are badly conditioned'
EXPLANATION = (
    'Why it matters. Without ReLUs and without normalization, M layers at initialization are one matrix, the product X '
    '= X_1 ⋯ X_M of M random ones. Its singular values say how much the layers stretch each direction of their input, '
    'and, on the way back, of the gradient. Bjorck et al. (arXiv:1806.02375) argue with them: the deeper, the further '
    'the singular values spread, some grow while most vanish, and a network that acts on a few directions only is '
    'ill-conditioned and forces small learning rates.',
    'The law. Their Theorem 1: the entries of the N×N matrices are Gaussian with variance 1/N, and N is large. Then '
    'the values x have the density ρ(x) = sin((M+1)φ) sin φ / (π x sin Mφ) at x = sin^(M+1)((M+1)φ) / (sin φ sin^M(Mφ))'
    ', with 0 < φ < π/(M+1). It ends at (M+1)^(M+1)/M^M, about e M: 4, 6.75, 9.48 for M = 1, 2, 3. Its mean is 1 for '
    'every M, its second moment M + 1; towards zero it diverges as x^(-M/(M+1)). More factors therefore mean a longer '
    'tail, and more mass at zero to make up for it. The share of values below x is 1 + (M sin((M+1)φ) sin φ / sin Mφ - '
    '(M+1)φ) / π.',
    'Squares. The theorem speaks of singular values s; the law is that of their squares, s². With M = 1 it is that of '
    'Marchenko and Pastur, on (0, 4), while the singular values of one such matrix end at 2. So of what grows in '
    'proportion to M, the largest s² is meant, and the largest singular value grows as sqrt(e M).',
    'What is measured. Products of random matrices, drawn several times. KS is the Kolmogorov-Smirnov distance, the '
    'largest difference between the share of values below x and that of the law, from 0 to 1. It is a few divided by N '
    'where the law holds, and does not shrink with N where it does not, as for the singular values without the square. '
    'The condition number is the largest singular value over the smallest; the median over the draws is given, since '
    'its mean does not exist. A law for large N says nothing exact of the smallest of N values; the condition number '
    'called that of the law puts the value there below which half of 1/N lies.',
    'How to read the picture. Above, a panel per number of factors: the histogram of s² on a logarithmic axis, on '
    'which equal areas are equal shares, and the law, x ρ(x). Below: the laws side by side, and as dotted lines the '
    'ends of their tails (left); each of the sorted values against the one that the law expects at its place, where '
    'the squares should lie on the diagonal, and the values without the square do not (middle); and the condition '
    'number, with every draw as a dot (right).',
)
CAPTION = (
    'Histograms of the squared singular values of products of random matrices, and the law (above). Below: the laws '
    'side by side; sorted values against those the law expects, squared and not; the condition number against the '
    'number of factors.')
MOST_FACTORS = 12  # with more, the rounding of the largest singular values hides over 1 % of the others


def draw(factors, size, seed):
  """The squared singular values of one product of random matrices.

  Args:
    factors: M, how many matrices; size: N, of each, N x N with Gaussian entries of variance 1 / N.
    seed: int, or a sequence of ints.

  Returns:
    Ascending, float64 [N].
  """
  rng = np.random.default_rng(seed)
  product = inverse = np.eye(size)
  for _ in range(factors):
    matrix = rng.standard_normal((size, size)) / np.sqrt(size)
    product, inverse = product @ matrix, np.linalg.solve(matrix, inverse)
  values = np.linalg.svd(product, compute_uv=False)[::-1]
  # The rounding of the large ones hides the smallest; in the inverse it is the largest, and exact.
  values[0] = 1 / np.linalg.norm(inverse, 2)
  return np.sort(values) ** 2


def distance(values, factors):
  """Kolmogorov-Smirnov distance of values from the law: sup over x of |share of values below x - F(x)|.

  values: [n], in any order.
  """
  expected, n = law.cumulative(np.sort(values), factors), len(values)
  return float(max((np.arange(1, n + 1) / n - expected).max(), (expected - np.arange(n) / n).max()))


def measure(squares, factors):
  """How far the spectrum of one product is from the law.

  Args:
    squares: of the singular values, ascending, float64 [N]: see `draw`.
    factors: M, whose law it is compared with.

  Returns:
    A dict of floats: ks, the distance of the squares from the law; ks_unsquared, that of the singular values; mean,
    second_moment, median, largest, of the squares; condition_number, of the matrix: not squared.
  """
  return {
      'ks': distance(squares, factors), 'ks_unsquared': distance(np.sqrt(squares), factors),
      'mean': float(squares.mean()), 'second_moment': float((squares**2).mean()),
      'median': float(np.median(squares)), 'largest': float(squares[-1]),
      'condition_number': float(np.sqrt(squares[-1] / squares[0])),
  }


def expected(factors, size):
  """What `measure` should find, by the law, and the value below which half of 1 / N lies for the smallest one."""
  largest, smallest = law.edge(factors), law.quantile(0.5 / size, factors)
  return {'law_mean': 1.0, 'law_second_moment': factors + 1.0, 'law_median': float(law.quantile(0.5, factors)),
          'law_largest': largest, 'law_condition_number': float(np.sqrt(largest / smallest))}


def define():
  command.define_workdir()
  flags.DEFINE_integer('size', 400, 'Rows and columns of every matrix.', 2, 4000)
  flags.DEFINE_list('factors', ['1', '2', '4', '8'], 'How many matrices a product has, each a case.')
  flags.DEFINE_integer('draws', 10, 'Products that are drawn for each case.', 1)
  flags.DEFINE_integer('seed', 0, 'Of the first draw.', 0)


def main(argv):
  del argv
  cases, size = command.integers('factors'), FLAGS.size
  if max(cases) > MOST_FACTORS:
    raise UserError(f'--factors={",".join(FLAGS.factors)}: at most {MOST_FACTORS}, since in longer products the '
                    'rounding of the large singular values hides the small ones')
  records, squares = [], {}
  with command.Measuring(len(cases) * FLAGS.draws) as progress:
    for factors in cases:
      drawn = []
      for index in range(FLAGS.draws):
        drawn.append(draw(factors, size, (FLAGS.seed + index, factors)))
        progress.done(f'{_product(factors)}, draw {index + 1} of {FLAGS.draws}')
      squares[factors] = np.array(drawn)
      records.append({'factors': factors, 'size': size, **_over_draws([measure(one, factors) for one in drawn]),
                      **expected(factors, size)})
  title = (f'Products of {", ".join(map(str, cases))} Gaussian {"matrix" if cases == [1] else "matrices"}, '
           f'{size}x{size}')
  writing.write('spectra', title, list(map(_note, records)), records, figure.draw(title, records, squares),
                CAPTION, size=size, draws=FLAGS.draws, seed=FLAGS.seed)


def _over_draws(drawn):
  """Means over the draws, and of the condition number all of them and their median."""
  conditions = [one.pop('condition_number') for one in drawn]
  return {**writing.mean(drawn), 'condition_number': float(np.median(conditions)),
          'condition_numbers': conditions}


def _note(record):
  return (f'{_product(record["factors"]).capitalize()}: the squared singular values are at a KS distance of '
          f'{record["ks"]:.2g} from the law, and those without the square at {record["ks_unsquared"]:.2g}.')


def _product(factors):
  return 'one matrix' if factors == 1 else f'product of {factors}'


def summary(made):
  """A page.Table, a row per number of factors. made: what spectra.json holds."""
  both = lambda record, field: f'{record[field]:.3g} ({record[f"law_{field}"]:.3g})'
  fields = ('median', 'second_moment', 'largest', 'condition_number')
  rows = tuple((str(record['factors']), f'{record["ks"]:.2g}', f'{record["ks_unsquared"]:.2g}',
                *(both(record, field) for field in fields)) for record in made['records'])
  return page.Table('Squared singular values; in brackets what the law says.', (
      'factors', 'KS distance', 'KS distance without the square', 'median', 'second moment', 'largest',
      'condition number'), rows)
