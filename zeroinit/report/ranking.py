"""The methods of a study in order: what each reaches in every setting, and the largest rate that it stands there."""

import math

from zeroinit.report import page
from zeroinit.report.groups import ACCURACY, varying
from zeroinit.report.tables import field, rate, units, value

CAPTION = ('The methods in order of their mean test accuracy, %, over the settings, at the best rate of each; in '
           'parentheses the largest rate at which every run learns, - without one.')


def table(gathered):
  """A page.Table with a row for each method; None where the methods were not run in several settings each."""
  names = varying(gathered.groups)
  place = lambda group: tuple((name, group.fields.get(name)) for name in names)
  places = list(dict.fromkeys(map(place, gathered.groups)))
  methods = {}
  for group in gathered.groups:
    if group.choices:
      methods.setdefault(group.method, {})[place(group)] = group
  whole = {method: groups for method, groups in methods.items() if len(groups) == len(places)}
  if len(places) < 2 or len(whole) < 3:
    return None
  ordered = sorted(whole, key=lambda method: -_mean(whole[method].values()))
  head = [', '.join(f'{name.replace("_", " ")} {field(name, of)}' for name, of in place) for place in places]
  rows = [(method, *(_says(whole[method][place]) for place in places), f'{_mean(whole[method].values()):.2f}')
          for method in ordered]
  return page.Table(CAPTION, ('method', *head, 'mean'), tuple(rows))


def _mean(groups):
  """Percent; a setting in which nothing learns counts as chance."""
  return units(ACCURACY) * math.fsum(group.choices[ACCURACY].best.mean for group in groups) / len(groups)


def _says(group):
  if not group.learns:
    return 'does not train'
  stable = group.largest_stable_rate
  return f'{value(group.choices[ACCURACY].best, ACCURACY)} ({rate(stable) if stable else "-"})'
