"""ZI, Tables 2 and 3, and SK's tables of depth."""

from zeroinit.report.findings.judging import best, every, listed, margin, points
from zeroinit.report.groups import ACCURACY
from zeroinit.report.tables import rate, value

DEPTHS = (16, 100, 1000)


def table_2_trains_at_depth_1000(settings):
  """Depth 1000 trains with batch norm and with ZeroInit: no more than 1 point below depth 16."""
  return every(_trains_at_depth_1000(settings, method) for method in ('ghost_norm', 'zeroinit'))


def table_2_rates_do_not_depend_on_depth(settings):
  """The optimal rate for accuracy hardly depends on depth: of each method within a factor of 2 over 16, 100, 1000."""
  return every(_same_rate_at_all_depths(settings, method) for method in ('ghost_norm', 'zeroinit'))


def batch_norm_is_slightly_ahead(settings):
  """Batch norm is ahead of ZeroInit at every depth, by less than 1 point (ZI: 0.2, 0.5, 0.3)."""
  return every(margin(settings, ('ghost_norm', 'zeroinit'), lambda norm, zeroinit: 0 < norm - zeroinit < 1, depth=depth)
               for depth in DEPTHS)


def table_3_trains_at_depth_1000(settings):
  """Depth 1000 trains with ZeroInit without L2 and with the multiplier alone: no more than 1 point below depth 16."""
  return every([_trains_at_depth_1000(settings, 'zeroinit', l2=False), _trains_at_depth_1000(settings, 'multiplier')])


def table_3_rates_do_not_depend_on_depth(settings):
  """The optimal rate for accuracy hardly depends on depth: of each column within a factor of 2 over 16, 100, 1000."""
  return every([_same_rate_at_all_depths(settings, 'zeroinit', l2=False),
                _same_rate_at_all_depths(settings, 'multiplier')])


def table_3_needs_l2_for_accuracy(settings):
  """ZeroInit without L2 is at least 1 point below the multiplier with L2 at every depth (ZI: 2.1, 1.9, 1.7)."""
  def at(depth):
    without = best(settings, ACCURACY, 'zeroinit', depth=depth, l2=False)
    with_l2 = best(settings, ACCURACY, 'multiplier', depth=depth)
    return (points(with_l2) - points(without) >= 1,
            f'depth {depth}: {listed({"without": without, "with": with_l2}, ACCURACY)}')
  return every(map(at, DEPTHS))


def small_alpha_trains_at_depth_1000(settings):
  """Depth 1000 trains with batch norm, alpha = 0 and alpha = 1/sqrt(d): no more than 1 point below depth 16."""
  return every(_trains_at_depth_1000(settings, method)
               for method in ('ghost_norm', 'multiplier', 'skipinit_alpha_inverse_sqrt_d'))


def alpha_1_fails_with_depth(settings):
  """With alpha = 1 depth 16 trains, and depths 100 and 1000 do not: best accuracy above, and below, 50 %."""
  scores = {depth: best(settings, ACCURACY, 'skipinit_alpha_1', depth=depth) for depth in DEPTHS}
  return (points(scores[16]) > 50 and max(points(scores[depth]) for depth in (100, 1000)) < 50,
          listed(scores, ACCURACY, 'depth '))


def sqrt2_is_no_cure_for_depth(settings):
  """Dividing by sqrt(2) loses at least 2 points to alpha = 0 at depth 100 (SK: 5.3), and at 1000 stays below 50 %."""
  methods = ('multiplier', 'divide_by_sqrt2')
  ahead, numbers = margin(settings, methods, lambda zero, sqrt2: zero - sqrt2 >= 2, depth=100)
  deep = best(settings, ACCURACY, 'divide_by_sqrt2', depth=1000)
  return ahead and points(deep) < 50, f'{numbers}; depth 1000: divide_by_sqrt2 {value(deep, ACCURACY)}'


def l2_is_not_what_trains_depth(settings):
  """With alpha = 0, L2 is worth at least 1 point at every depth (SK: 3.5, 2.5, 2.2); depth 1000 trains without, too."""
  def at(depth):
    scores = {says: best(settings, ACCURACY, 'multiplier', depth=depth, l2=l2)
              for says, l2 in (('without', False), ('with', True))}
    return (points(scores['with']) - points(scores['without']) >= 1,
            f'depth {depth}: {listed(scores, ACCURACY)}')
  worth, numbers = every(map(at, DEPTHS))
  return worth and _trains_at_depth_1000(settings, 'multiplier', l2=False)[0], numbers


def _trains_at_depth_1000(settings, method, l2=True):
  scores = {depth: best(settings, ACCURACY, method, depth=depth, l2=l2) for depth in (16, 1000)}
  return points(scores[1000]) >= points(scores[16]) - 1, f'{method}: {listed(scores, ACCURACY, "depth ")}'


def _same_rate_at_all_depths(settings, method, l2=True):
  rates = [best(settings, ACCURACY, method, depth=depth, l2=l2).learning_rate for depth in DEPTHS]
  return max(rates) <= 2 * min(rates), f'{method}: {", ".join(map(rate, rates))}'


CLAIMS = {
    'table2': (table_2_trains_at_depth_1000, table_2_rates_do_not_depend_on_depth, batch_norm_is_slightly_ahead),
    'table3': (table_3_trains_at_depth_1000, table_3_rates_do_not_depend_on_depth, table_3_needs_l2_for_accuracy),
    'skipinit_depth': (small_alpha_trains_at_depth_1000, alpha_1_fails_with_depth, sqrt2_is_no_cure_for_depth,
                       l2_is_not_what_trains_depth),
}
