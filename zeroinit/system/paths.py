"""Paths as users write them."""

import os
import re

from zeroinit.system.errors import UserError


def expanded(path):
  """A path with ~ and $VARIABLE in it as a shell reads them; an address such as gs://bucket/folder as it is.

  A shell leaves ~ alone behind an =, so that --workdir=~/runs arrives as it stands there, and what is in a config or in
  quotes it does not see. Raises UserError where a variable is not set.
  """
  path = os.fspath(path)
  if '://' in path:
    return path
  path = os.path.expandvars(os.path.expanduser(path))
  unset = re.search(r'\$([A-Za-z_]\w*|\{\w+\})', path)
  if unset:
    raise UserError(f'{path}: the environment has no {unset[1].strip("{}")}')
  return path
