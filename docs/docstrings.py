"""Reads docstrings as they are written here, where one line may be about several parameters: `seed, epoch: scalars`."""

import re

import griffe

SEVERAL = re.compile(r'^( +)((?:\w+, )+\w+): (.*(?:\n\1 +\S.*)*)', re.MULTILINE)


class Several(griffe.Extension):

  def on_object(self, *, obj, **kwargs):
    """Gives each parameter a line of its own."""
    if obj.docstring:
      apart = lambda found: '\n'.join(f'{found[1]}{name}: {found[3]}' for name in found[2].split(', '))
      obj.docstring.value = SEVERAL.sub(apart, obj.docstring.value)
