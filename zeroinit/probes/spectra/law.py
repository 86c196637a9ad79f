"""The law of the squared singular values of products of random matrices: Bjorck et al., arXiv:1806.02375, Theorem 1."""

import numpy as np

BISECTIONS = 100  # halvings of an angle: until float64 knows no finer


def edge(factors):
  """(M+1)^(M+1) / M^M, where the law of M factors ends."""
  return (factors + 1) ** (factors + 1) / factors**factors


def density(x, factors):
  r"""The density of the squared singular values of a product of M Gaussian N x N matrices, for N -> infinity.

  With 0 < phi < pi / (M + 1),

      x = sin^{M+1}((M+1) phi) / (sin(phi) sin^M(M phi)),    rho(x) = sin((M+1) phi) sin(phi) / (pi x sin(M phi)).

  Bjorck et al., arXiv:1806.02375, Theorem 1, which calls it the law of the singular values.

  Args:
    x: float array; the density is 0 outside (0, edge).
    factors: M. The entries of the factors have variance 1 / N.

  Returns:
    A float64 array of the same shape.
  """
  x = np.asarray(x, np.float64)
  inside = (x > 0) & (x < edge(factors))
  outer, single, inner = _sines(_angle(np.where(inside, x, 1.0), factors), factors)
  return np.where(inside, outer * single / (np.pi * np.where(inside, x, 1.0) * inner), 0.0)


def cumulative(x, factors):
  """The share of squared singular values below x: the integral of `density`, which has a closed form.

  Of the density, -Im G(x) / pi, G = w / x with w = exp(i phi) sin((M+1) phi) / sin(M phi), which solves
  x = w^{M+1} / (w - 1). So the integral of G over x is M w - log(w - 1), and

      F(x) = 1 + (M sin((M+1) phi) sin(phi) / sin(M phi) - (M+1) phi) / pi.
  """
  x = np.asarray(x, np.float64)
  inside = (x > 0) & (x < edge(factors))
  return np.where(inside, _share_below(_angle(np.where(inside, x, 1.0), factors), factors), x > 0)


def quantile(share, factors):
  """The x of which `cumulative` is `share`, a float array in (0, 1)."""
  angle = _bisect(lambda angle: _share_below(angle, factors) < share, np.shape(share), factors)
  return np.exp(_log_x(angle, factors))


# The angle below is not phi but pi / (M + 1) - phi, in which x grows from 0: most of the law lies next to 0, where phi
# would be the difference of two nearly equal numbers.
def _sines(angle, factors):
  """sin((M+1) phi), sin(phi), sin(M phi)."""
  phi = np.pi / (factors + 1) - angle
  # sin((M+1) phi) = sin((M+1) angle), and that of the smaller one is the exact one.
  return np.sin((factors + 1) * np.minimum(phi, angle)), np.sin(phi), np.sin(factors * phi)


def _log_x(angle, factors):
  outer, single, inner = np.log(_sines(angle, factors))
  return (factors + 1) * outer - single - factors * inner


def _share_below(angle, factors):
  outer, single, inner = _sines(angle, factors)
  return (factors * outer * single / inner + (factors + 1) * angle) / np.pi


def _angle(x, factors):
  """The angle at which the law has the value x; x: in (0, edge)."""
  return _bisect(lambda angle: _log_x(angle, factors) < np.log(x), np.shape(x), factors)


def _bisect(is_below, shape, factors):
  """The angles, an array of a shape, up to which is_below(angle) is true."""
  lower, upper = np.zeros(shape), np.full(shape, np.pi / (factors + 1))
  for _ in range(BISECTIONS):
    middle = (lower + upper) / 2
    below = is_below(middle)
    lower, upper = np.where(below, middle, lower), np.where(below, upper, middle)
  return (lower + upper) / 2
