"""The configs that come with the package: within it where it is installed, beside it in a checkout."""

import pathlib

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]


def configs():
  """{name: path} of their files. Needs neither jax nor anything else that takes time to import."""
  inside = _PACKAGE / 'configs'
  folder = inside if inside.exists() else _PACKAGE.parent / 'configs'
  return {path.stem: str(path) for path in sorted(folder.glob('*.py'))}
