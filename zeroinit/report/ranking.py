"""The methods of a study in order: what each reaches in every setting, and the largest rate that it stands there."""

import dataclasses
import math

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from zeroinit.report import figures, page
from zeroinit.report.groups import ACCURACY, varying
from zeroinit.report.tables import field, rate, units, value

CAPTION = ('The methods in order of their mean test accuracy, %, over the settings, at the best rate of each; in '
           'parentheses the largest rate at which every run learns, - without one.')
PANELS = 6  # at most, in the figure
MANY = 12  # methods, of more than which lines cannot be told apart: then this figure is the only one


@dataclasses.dataclass(frozen=True)
class Ranking:
  """The methods that were run in every setting of a study.

  Attributes:
    settings: words for each, 'depth 16, batch size 8'.
    groups: {method: its Group in each setting}, the best method first.
  """

  settings: tuple[str, ...]
  groups: dict


def ranked(gathered):
  """The Ranking; None where there are fewer than two settings, or three methods in all of them."""
  names = varying(gathered.groups)
  place = lambda group: tuple((name, group.fields.get(name)) for name in names)
  places = list(dict.fromkeys(map(place, gathered.groups)))
  methods = {}
  for group in gathered.groups:
    if group.complete and group.choices:
      methods.setdefault(group.method, {})[place(group)] = group
  whole = {method: [groups[of] for of in places] for method, groups in methods.items() if len(groups) == len(places)}
  if len(places) < 2 or len(whole) < 3:
    return None
  says = tuple(', '.join(f'{name.replace("_", " ")} {field(name, of)}' for name, of in place) for place in places)
  return Ranking(says, {method: whole[method] for method in sorted(whole, key=lambda method: -_mean(whole[method]))})


def table(ranking):
  """A page.Table with a row for each method."""
  rows = [(method, *map(_says, groups), f'{_mean(groups):.2f}') for method, groups in ranking.groups.items()]
  return page.Table(CAPTION, ('method', *ranking.settings, 'mean'), tuple(rows))


def draw(gathered, ranking):
  """A page.Image: the accuracy of every method at every rate, a panel for each setting."""
  shown = figures.spread(range(len(ranking.settings)), PANELS)
  with matplotlib.rc_context(figures.STYLE):
    figure = Figure(figsize=(min(14.0, 1.6 + 2.7 * len(shown)), 1.2 + 0.24 * len(ranking.groups)))
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for ax, number in zip(axes, shown, strict=True):
      _panel(ax, ranking.settings[number], [groups[number] for groups in ranking.groups.values()])
    axes[0].set_yticks(range(len(ranking.groups)), list(ranking.groups))
    return figures.image_of(gathered, figure, {}, 'report_order.png', (
        'Test accuracy, %, of every method at every learning rate, the methods in order of their mean at their best '
        'rates, which are framed: mean of the kept runs. A cross: every run diverged; a ring: what did not ended at '
        'chance.'))


def _panel(ax, setting, groups):
  rates = sorted({score.learning_rate for group in groups for score in group.choices[ACCURACY].scores})
  accuracy = np.full((len(groups), len(rates)), np.nan)
  for row, group in enumerate(groups):
    for score in group.choices[ACCURACY].scores:
      column, best = rates.index(score.learning_rate), score == group.choices[ACCURACY].best
      if score.learns:
        accuracy[row, column] = units(ACCURACY) * score.mean
        ax.text(column, row, f'{accuracy[row, column]:.0f}', ha='center', va='center', fontsize=6.5,
                color='white' if accuracy[row, column] < 60 else 'black')
      else:
        mark = 'x' if score.diverged == score.runs else 'o'
        ax.plot(column, row, mark, color='#808080', markerfacecolor='none', markersize=4)
      if best and score.learns:
        ax.plot(column, row, 's', markersize=13, markerfacecolor='none', markeredgecolor='black', markeredgewidth=1)
      figures.say(ax, column, row, f'{group.method} at {rate(score.learning_rate)}: {value(score, ACCURACY)}')
  ax.imshow(accuracy, aspect='auto', cmap='viridis', vmin=0, vmax=100)
  ax.set_xticks(range(len(rates)), [rf'$2^{{{math.log2(of):g}}}$' for of in rates])
  ax.set_title(setting, fontsize=9)
  ax.set_xlabel('learning rate')
  ax.grid(visible=False)
  ax.tick_params(length=0)
  ax.yaxis.set_minor_locator(ticker.NullLocator())


def _mean(groups):
  """Percent; a setting in which nothing learns counts as chance."""
  return units(ACCURACY) * math.fsum(group.choices[ACCURACY].best.mean for group in groups) / len(groups)


def _says(group):
  if not group.learns:
    return 'does not train'
  stable = group.largest_stable_rate
  return f'{value(group.choices[ACCURACY].best, ACCURACY)} ({rate(stable) if stable else "-"})'
