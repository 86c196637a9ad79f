"""Rows of a parametrized test of which a few are enough before a commit."""

import pytest


def few(cases, fast):
  """The cases, each once, of which all but the first `fast` are slow."""
  cases = list(dict.fromkeys(cases))
  values = [case if isinstance(case, tuple) else (case,) for case in cases[fast:]]
  return [*cases[:fast], *(pytest.param(*case, marks=pytest.mark.slow) for case in values)]
