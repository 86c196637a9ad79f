"""The figures of a study, like the papers': each an image beside the report. Nothing global is set."""

import io
import math
import re
import textwrap

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from zeroinit.report import header, page
from zeroinit.report.groups import ACCURACY, LOSS, METRICS, SHORT, varying
from zeroinit.report.published import published
from zeroinit.report.tables import field, rate, units, value

STYLE = {
    'font.size': 9, 'axes.titlesize': 9, 'axes.labelsize': 9, 'legend.fontsize': 8.5, 'xtick.labelsize': 8,
    'ytick.labelsize': 8, 'axes.spines.top': False, 'axes.spines.right': False, 'axes.grid': True,
    'axes.axisbelow': True, 'grid.color': '#e0e0e0', 'grid.linewidth': 0.6, 'lines.linewidth': 1.4,
    'lines.markersize': 5, 'errorbar.capsize': 2.5, 'legend.frameon': False, 'savefig.dpi': 160,
    'mathtext.default': 'regular', 'figure.constrained_layout.use': True,
}
# Okabe and Ito's colours, which the colour-blind can tell apart; a method has the same in every figure, and a marker.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE = \
    '#000000', '#E69F00', '#56B4E9', '#009E73', '#0072B2', '#D55E00', '#CC79A7'
LOOKS = {
    'batch_norm': (BLUE, 'o'), 'ghost_norm': (BLUE, 's'), 'none': (BLACK, 'v'), 'zeroinit': (RED, 'D'),
    'multiplier': (GREEN, '^'), 'biases': (SKY, '<'), 'dropout': (ORANGE, '>'), 'biases_dropout': (PURPLE, 'P'),
    'zeroinit_no_dropout': (ORANGE, 'd'), 'zeroinit_scalar_bias': (RED, 'p'), 'skipinit_alpha_1': (PURPLE, 'H'),
    'skipinit_alpha_inverse_sqrt_d': (ORANGE, 'p'), 'divide_by_sqrt2': (SKY, 'h'), 'fixup': (GREEN, 'P'),
    'fixup_dropout': (PURPLE, 'X'), 'fixup_zero_only': (SKY, 'x'), 'fixup_rescale_only': (ORANGE, '+'),
    'batch_norm_last': (SKY, 'o'), 'noisy_batch_norm': (PURPLE, 'o'),
    'batch_renorm': (BLUE, 'D'), 'group_norm': (GREEN, 'o'), 'layer_norm': (GREEN, 's'), 'instance_norm': (GREEN, 'D'),
    'group_norm_ws': (GREEN, 'v'), 'filter_response_norm': (SKY, 's'), 'evonorm_s0': (SKY, 'D'),
    'dynamic_tanh': (ORANGE, 'o'), 'derf': (ORANGE, 's'), 'nf_resnet': (PURPLE, 's'), 'nf_resnet_agc': (PURPLE, 'D'),
    'zeroinit_agc': (RED, 's'), 'none_agc': (BLACK, 's'), 'layer_scale': (RED, '^'), 'depth_mup': (BLACK, 'o'),
    'completep': (BLACK, 'D'),
}
OTHER_COLOURS, OTHER_MARKERS = (PURPLE, SKY, ORANGE, GREEN, RED, BLUE, BLACK), ('*', '8', 'H', 'd', 'p')
DASHES = ('-', '--', ':', '-.')
ASIDE = 2**0.15  # a published value is drawn so much to the right, so that it does not hide ours
TICKS = (10, 20, 40, 60, 70, 80, 85, 90, 92, 94, 95, 96, 97, 98, 99, 100)  # of accuracy, where there is room
PANELS = 12  # at most, in one figure
PANEL_NAMES = ('depth', 'batch_size', 'width', 'kernel_init', 'classifier_init')
ALMOST = 100.5  # percent; the error is taken from here, so that an accuracy of 100 % has a place on a logarithmic axis
AXIS = {ACCURACY: 'test accuracy, %', LOSS: 'training loss, with L2'}
NAMES = {'batch_size': 'batch size', 'learning_rate': 'learning rate', 'depth': 'depth'}


def draw(gathered):
  """[page.Image] of a study: against learning rate, and against batch size and depth where they alone vary."""
  groups = [group for group in gathered.groups if group.choices]
  if not groups:
    return []
  names = varying(gathered.groups)
  with matplotlib.rc_context(STYLE):
    images = [_against_the_rate(gathered, groups, names, metric) for metric in METRICS]
    for name in ('batch_size', 'depth'):
      if _has_lines(groups, names, name):
        images.append(_best_against(gathered, groups, names, name))
    if _has_lines(groups, names, 'batch_size'):
      images.append(_rates_against_the_batch(gathered, groups, names))
  return images


def _has_lines(groups, names, name):
  """Whether there are groups that differ in this field only, which a line could join."""
  members = [members for _, members in _members(groups, _lines(groups, names, [name]), names, [name])]
  return any(len({group.fields.get(name) for group in line}) > 1 for line in members)


def _against_the_rate(gathered, groups, names, metric):
  """A line per method over the learning rate, a panel per batch size, depth, width and start."""
  panel_names = [name for name in PANEL_NAMES if name in names]
  of_panels = {}
  for group in groups:
    of_panels.setdefault(tuple(group.fields.get(name) for name in panel_names), []).append(group)
  in_order = sorted(of_panels, key=lambda panel: [(value is None, value) for value in panel])
  shown = spread(in_order, PANELS)
  lines = _lines(groups, names, panel_names)
  columns = min(4, len(shown))
  rows = math.ceil(len(shown) / columns)
  width = 5.4 if columns == 1 else min(9.6, 3.4 * columns)
  figure = Figure(figsize=(width, (3.4 if columns == 1 else 2.4) * rows + 0.8))
  axes = figure.subplots(rows, columns, squeeze=False, sharex=False, sharey=True)
  for panel, ax in zip(shown, axes.flat, strict=False):
    _rate_panel(ax, gathered, of_panels[panel], lines, metric, names, panel_names)
    below = list(axes.flat).index(ax) + columns
    ax.set_xlabel('' if below < len(shown) else 'learning rate')
    title = ', '.join(f'{name.replace("_", " ")} {value}' for name, value in zip(panel_names, panel, strict=True))
    ax.set_title(textwrap.fill(title, int(12 * width / columns)))
  for ax in list(axes.flat)[len(shown):]:
    ax.remove()
  figure.supylabel(AXIS[metric], fontsize=9)
  marked = any(group.diverged or group.at_chance for group in groups)
  _value_axis(axes[0, 0], metric, _means(groups, metric), 0.05 + _step(lines) * len(lines) if marked else 0.0)
  every = '' if len(shown) == len(of_panels) else f' {len(shown)} of {len(of_panels)} panels are shown.'
  end = 'bottom' if metric == ACCURACY else 'top'
  what = AXIS[metric][0].upper() + AXIS[metric][1:]  # str.capitalize would make L2 l2
  return image_of(gathered, figure, lines, f'report_{SHORT[metric]}_rate.png',
                f'{what}, against learning rate: mean and standard deviation of the kept runs. '
                f'The large marker is the optimum. At the {end} a cross says that runs diverged at this rate, a ring '
                'that they ended at chance.'
                + _about_hollow(theirs.learning_rate for theirs in _published(gathered, groups, metric)) + every)


def _rate_panel(ax, gathered, groups, lines, metric, names, panel_names):
  ax.set_xscale('log', base=2)
  ax.xaxis.set_major_locator(ticker.LogLocator(base=2, numticks=7))
  unit = units(metric)
  for group in groups:
    line, look = lines[label(group, names, panel_names)]
    choice = group.choices[metric]
    # Where every run came to nothing there is no value: the mark says so.
    scores = [score for score in choice.scores if score.learns and math.isfinite(score.mean)]
    ax.errorbar([score.learning_rate for score in scores], [unit * score.mean for score in scores],
                [unit * _deviation(score) for score in scores], **look)
    for score in scores:
      say(ax, score.learning_rate, unit * score.mean, f'{_at(look, score)}: {value(score, metric)}')
    if choice.best in scores:
      ax.plot(choice.best.learning_rate, unit * choice.best.mean, **(look | {
          'markersize': 9, 'markeredgecolor': 'black', 'markeredgewidth': 0.8, 'zorder': 4}))
    for theirs in _published(gathered, [group], metric):
      if theirs.learning_rate:
        ax.plot(theirs.learning_rate * ASIDE, theirs.value, **_hollow(look))
        say(ax, theirs.learning_rate * ASIDE, theirs.value, f'{_at(look, theirs)}: {theirs}, {theirs.table}')
    # One below the other, so that methods which come to nothing at the same rate can be told apart.
    height = 0.025 + _step(lines) * line
    for score in choice.scores:
      for mark, count, ended in (('x', score.diverged, 'diverged'), ('o', score.at_chance, 'ended at chance')):
        if count:
          place = score.learning_rate, height if metric == ACCURACY else 1 - height
          ax.plot(*place, mark, color=look['color'], markerfacecolor='none', markersize=4.5, markeredgewidth=1.3,
                  clip_on=False, transform=ax.get_xaxis_transform())
          say(ax, *place, f'{_at(look, score)}: {count} of {score.runs} {ended}', transform=ax.get_xaxis_transform())
  rates = {score.learning_rate for group in groups for score in group.choices[metric].scores}
  if len(rates) == 1:  # of which matplotlib makes an axis without a length
    ax.set_xlim(min(rates) / 2, 2 * min(rates))


def _at(look, score):
  """'zeroinit at 2^-3', of a Score or a Published."""
  return f'{look["label"]} at {rate(score.learning_rate)}'


def _step(lines):
  """From one line's crosses to the next one's, as a share of the axis."""
  return min(0.04, 0.35 / len(lines))


def _best_against(gathered, groups, names, name):
  """Accuracy and loss at their best rates, over batch size or depth: Figures 1 and 3."""
  lines = _lines(groups, names, [name])
  figure = Figure(figsize=(8.4, 3.7))
  for ax, metric in zip(figure.subplots(1, 2), METRICS, strict=True):
    unit = units(metric)
    _x_axis(ax, name, groups)
    shown = []
    for (place, look), members in _members(groups, lines, names, [name]):
      scores = {group.fields[name]: group.choices[metric].best for group in members}
      scores = {x: score for x, score in sorted(scores.items()) if score.learns and math.isfinite(score.mean)}
      shown += [unit * (score.mean + sign * _deviation(score)) for score in scores.values() for sign in (-1, 1)]
      ax.errorbar([_apart(x, place, lines) for x in scores], [unit * score.mean for score in scores.values()],
                  [unit * _deviation(score) for score in scores.values()], **look)
      for x, score in scores.items():
        say(ax, _apart(x, place, lines), unit * score.mean,
            f'{NAMES[name]} {x}: {_at(look, score)}: {SHORT[metric]} {value(score, metric)}')
      for group in members:
        for theirs in _published(gathered, [group], metric):
          x = _apart(group.fields[name], place, lines) * ASIDE
          ax.errorbar(x, theirs.value, theirs.std or 0, **_hollow(look))
          says = f'{NAMES[name]} {group.fields[name]}: {look["label"]}: {SHORT[metric]} {theirs}, {theirs.table}'
          say(ax, x, theirs.value, says)
          shown.append(theirs.value)
    _value_axis(ax, metric, shown)
    ax.set_ylabel(AXIS[metric])
  return image_of(gathered, figure, lines, f'report_best_{name}.png',
                f'Best test accuracy and best training loss against {NAMES[name]}, each at its own optimal rate: '
                'mean and standard deviation of the kept runs. Methods are drawn slightly apart.'
                + _about_hollow(_published(gathered, groups, ACCURACY)))


def _rates_against_the_batch(gathered, groups, names):
  """The optimal rates over the batch size: Figures 2 and 4."""
  lines = _lines(groups, names, ['batch_size'])
  figure = Figure(figsize=(8.4, 3.7))
  for ax, metric in zip(figure.subplots(1, 2, sharey=True), METRICS, strict=True):
    _x_axis(ax, 'batch_size', groups)
    ax.set_yscale('log', base=2)
    ax.set_title(f'for {AXIS[metric].split(",")[0]}')
    rates = []
    for (place, look), members in _members(groups, lines, names, ['batch_size']):
      best = {group.fields['batch_size']: group.choices[metric].best for group in members}
      best = {x: score.learning_rate for x, score in sorted(best.items()) if score.learns}
      rates += best.items()
      ax.plot([_apart(x, place, lines) for x in best], list(best.values()), **look)
      for x, best_rate in best.items():
        say(ax, _apart(x, place, lines), best_rate, f'batch size {x}: {look["label"]}: {rate(best_rate)}')
    _proportional(ax, rates)
  figure.axes[0].set_ylabel('optimal learning rate')
  return image_of(gathered, figure, lines, 'report_rate_batch_size.png',
                'Learning rate that is optimal for test accuracy, and for training loss, against batch size. The '
                'dotted line is proportional to the batch size. Methods are drawn slightly apart.')


def _proportional(ax, rates):
  """A dotted line of slope 1 through the smallest batch's middle rate, within the rates that there are."""
  if not rates:
    return
  first, last = min(rates)[0], max(rates)[0]
  at_first = sorted(rate for x, rate in rates if x == first)
  start = at_first[len(at_first) // 2]
  low, high = min(rate for _, rate in rates), max(rate for _, rate in rates)
  end = min(last, first * 2 * high / start)
  ax.plot([first, end], [start, start * end / first], ':', color='#808080', zorder=1)
  ax.set_ylim(low / 1.6, high * 1.6)


def _lines(groups, names, without):
  """{label: (place among the lines, how it looks)}; `without`: fields that are not told by the line."""
  lines = {}
  for group in groups:
    says = label(group, names, without)
    if says not in lines:
      lines[says] = len(lines), look_of(group.method, says, [look for _, look in lines.values()])
  return lines


def look_of(method, says, before):
  """How the line of a method looks that says so much: a row has its colour and marker, its further lines are dashed.

  before: looks of the lines that are there already.
  """
  row_of = lambda text: re.split('[(, ]', text)[0]
  rows, row = [row_of(look['label']) for look in before], row_of(method)
  others = list(dict.fromkeys(name for name in (*rows, row) if name not in LOOKS))
  place = others.index(row) if row in others else 0
  other = OTHER_COLOURS[place % len(OTHER_COLOURS)], OTHER_MARKERS[place % len(OTHER_MARKERS)]
  colour, marker = LOOKS.get(row, other)
  return {'color': colour, 'marker': marker, 'linestyle': DASHES[rows.count(row) % len(DASHES)], 'label': says}


def label(group, names, without):
  """The method, and what else tells its line from others."""
  says = [group.method]
  for name in names:
    if name in without:
      continue
    value = group.fields.get(name)
    if name == 'weight_decay':
      says += [] if value else ['no L2']
    elif value is not None:
      says.append(f'{name.replace("_", " ")} {field(name, value)}')
  return ', '.join(says)


def _members(groups, lines, names, without):
  """(place and look, groups) of each line."""
  for says, line in lines.items():
    yield line, [group for group in groups if label(group, names, without) == says]


def _published(gathered, groups, metric):
  """The published values of groups, of those that have one and train."""
  found = [published(gathered.study.name, group, metric) for group in groups]
  return [theirs for theirs in found if theirs and theirs.value is not None]


def _about_hollow(drawn):
  return ' Hollow markers, a little to the right, are published values.' if any(drawn) else ''


def _hollow(look):
  return look | {'markerfacecolor': 'white', 'linestyle': 'none', 'zorder': 5, 'markersize': 6}


def _apart(x, place, lines):
  """x, shifted a little on a logarithmic axis, so that equal values of several lines can be seen."""
  return x * 2 ** (0.09 * (place - (len(lines) - 1) / 2))


def _x_axis(ax, name, groups):
  values = sorted({group.fields[name] for group in groups if group.fields.get(name) is not None})
  powers = name == 'batch_size' and len(values) > 5
  ax.set_xscale('log', base=2)
  ax.set_xlabel(NAMES[name])
  ax.xaxis.set_minor_locator(ticker.NullLocator())
  ax.set_xticks(values, [f'$2^{{{math.log2(value):g}}}$' if powers else f'{value}' for value in values])
  ax.set_xlim(values[0] / 1.5, values[-1] * 1.5)


def _deviation(score):
  """Half an error bar. Where one of the kept runs diverged there is none: it would reach from chance to above 100 %."""
  return 0.0 if score.std is None or score.diverged > score.runs - score.kept else score.std


def _means(groups, metric):
  """The means that can be drawn, in the unit of the axis."""
  return [units(metric) * score.mean for group in groups for score in group.choices[metric].scores
          if score.learns]


def _value_axis(ax, metric, values, reserved=0.0):
  """The axis of accuracy or loss. reserved: share of its length for crosses, at the bottom or the top.

  Losses are logarithmic, and so are accuracies, in the error, where they range so widely that the best look alike.
  """
  values = [value for value in values if math.isfinite(value)]
  if not values:
    return
  forward = inverse = lambda value: value
  if metric == LOSS and max(values) > 3 * min(values) > 0:
    forward, inverse = np.log10, lambda y: 10**y
    ax.set_yscale('log')
    ratio = max(values) / min(values)
    steps = (1, 1.5, 2, 3, 5, 7) if ratio < 10 else (1, 2, 5) if ratio < 100 else (1,)
    ax.yaxis.set_major_locator(ticker.LogLocator(subs=steps))
    ax.yaxis.set_major_formatter('{x:g}')
    ax.yaxis.set_minor_formatter(ticker.NullFormatter())
  if metric == ACCURACY and max(values) - min(values) > 15:
    forward, inverse = _minus_log_error, _inverse_of_minus_log_error
    ax.set_yscale('function', functions=(forward, inverse))
    ax.yaxis.set_major_locator(ticker.FixedLocator(_apart_enough(TICKS, forward, min(values), max(values))))
    ax.yaxis.set_major_formatter('{x:g}')
  low, high = forward(min(values)), forward(max(values))
  margin = 0.07 * (high - low) or 0.05 * abs(high) or 1.0
  below, above = (reserved, 0) if metric == ACCURACY else (0, reserved)
  length = (high - low + 2 * margin) / (1 - reserved)
  ax.set_ylim(inverse(low - margin - below * length), inverse(high + margin + above * length))


def _minus_log_error(accuracy):
  return -np.log10(np.maximum(ALMOST - np.asarray(accuracy, float), 1e-3))


def _inverse_of_minus_log_error(y):
  return ALMOST - 10.0 ** -np.asarray(y, float)


def _apart_enough(ticks, forward, lowest, highest):
  """Those in the range which keep a distance that a label needs."""
  low, high, kept = forward(lowest), forward(highest), []
  for tick in ticks:
    near = kept and forward(tick) - forward(kept[-1]) < 0.07 * (high - low)
    if low - 0.05 <= forward(tick) <= high + 0.05 and not near:
      kept.append(tick)
  return kept


def spread(values, most):
  """At most so many of the values, evenly from first to last."""
  if len(values) <= most:
    return values
  return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def say(ax, x, y, text, **options):
  """Has report.html say a text at a place of a figure: that of an invisible line, whose gid it is."""
  ax.plot([x], [y], linestyle='none', gid=text, **options)


def _values(figure):
  """The page.Value of each text that a figure, which has been drawn, is to say; its panel's title stands before it."""
  for ax in figure.axes:
    for line in ax.lines:
      if line.get_gid():
        x, y = figure.transFigure.inverted().transform(line.get_transform().transform(line.get_xydata()))[0]
        yield page.Value(x, 1 - y, ': '.join(filter(None, (ax.get_title(), line.get_gid()))))


def finish(figure, title, marks, columns):
  """A heading, and a legend below the panels. marks: dicts of what Line2D takes; columns: at most, if they fit."""
  letters = int(12 * figure.get_figwidth())  # of this size that fit on a line
  longest = max((len(mark.get('label', '')) for mark in marks), default=0)
  columns = max(1, min(columns, letters // (longest + 3)))  # with its line, a little more than that
  further = max(0, -(-len(marks) // columns) - 4)  # rows of the legend for which no room was thought of
  figure.set_figheight(figure.get_figheight() + 0.2 * further)
  if marks:
    figure.legend(handles=[Line2D([], [], **mark) for mark in marks], loc='outside lower center', ncols=columns)
  figure.suptitle(textwrap.fill(title, letters), fontsize=9, color='#404040')


def image_of(gathered, figure, lines, file, text):
  """The page.Image of a figure, with its legend, and the study's name and departures above it."""
  says = header.departures(gathered)
  title = gathered.study.name + (f' ({"; ".join(says)})' if says else '')
  finish(figure, title, [look for _, look in lines.values()], min(len(lines), 4 if figure.get_figwidth() > 7 else 3))
  png = io.BytesIO()
  figure.savefig(png, format='png')
  return page.Image(file, text, png.getvalue(), tuple(_values(figure)))
