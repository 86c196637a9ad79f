"""The figure of the bound probe: gradients at the norms, both right sides, and what the terms take; along depth."""

import matplotlib
from matplotlib import ticker

from zeroinit.probes.figures import in_columns, log_axes, marks_of_updates, numbers, positive, shades
from zeroinit.report.figures import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, STYLE, finish

COLUMNS = 4  # at most, side by side
MARKED = 40  # norms, up to which each has its marker
ROWS = {'squared gradient': 1, 'right side of the bound\nover the left': 1, 'share of |g|²\nthat a term takes': 1}


def draw(title, records):
  """The figure. title: what was measured; records: as in bound.json, see `bound.main`."""
  names = list(dict.fromkeys(record['method'] for record in records))
  with matplotlib.rc_context(STYLE):
    figure, columns = in_columns(len(names), COLUMNS, ROWS, size=(2.8, 5.6), margins=(0.6, 1.0), least=5.6)
    for name, panels in zip(names, columns, strict=True):
      _column(panels, [record for record in records if record['method'] == name])
      panels[0].set_title(name)
    finish(figure, title, _marks(records), columns=2)
  return figure


def _column(panels, records):
  """The panels of one network, whose states along training are drawn in shades."""
  updates = list(dict.fromkeys(record['updates'] for record in records))
  for i, done in enumerate(updates):
    here = [record for record in records if record['updates'] == done]
    norms = [record['norm'] for record in here]
    marker = {'marker': '.', 'markersize': 5} if len(norms) <= MARKED else {}

    def line(ax, values, colour, *, norms=norms, marker=marker, i=i, **look):
      ax.plot(norms, values, color=shades(colour, len(updates))[i], **(marker | look))

    squares, ratios, taken = panels
    line(squares, positive([record['gradient'] for record in here]), PURPLE)
    line(squares, positive([record['left'] for record in here]), BLUE)
    ratio = lambda field, here=here: numbers([record[field] / record['left'] if record['left'] else None
                                              for record in here])
    line(ratios, ratio('right'), GREEN)
    line(ratios, ratio('right_sqrt_m'), RED)
    line(taken, positive([record['mean_share'] for record in here]), BLACK)
    line(taken, positive([record['direction_share'] for record in here]), ORANGE)
    if i == 0:
      taken.plot(norms, [1 / record['m'] for record in here], color='#808080', linestyle=':', linewidth=1.0)
  panels[1].axhline(1, color='#808080', linewidth=0.8, zorder=0)
  panels[1].set_ylim(min(-0.05, panels[1].get_ylim()[0]), max(1.1, panels[1].get_ylim()[1]))
  log_axes([panels[0]])
  log_axes([panels[2]])
  for ax in panels:
    ax.set_xlim(0.5 - 0.02 * len(norms), len(norms) + 0.5 + 0.02 * len(norms))
    ax.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True, min_n_ticks=1))
  panels[-1].set_xlabel('norm')


def _marks(records):
  """The legend: lines of the panels from top to bottom, and what else is drawn."""
  says = {PURPLE: 'at the output of the norm, |g|²', BLUE: 'at its input, |∇y|²', GREEN: 'right side with 1/m',
          RED: 'right side with 1/√m', BLACK: 'term of the mean, (Σg)²/m', ORANGE: 'term along ŷ, (Σgŷ)²/m'}
  marks = [{'color': colour, 'label': label} for colour, label in says.items()]
  marks.append({'color': '#808080', 'linestyle': ':', 'linewidth': 1.0, 'label': '1/m'})
  return marks + marks_of_updates(record['updates'] for record in records)
