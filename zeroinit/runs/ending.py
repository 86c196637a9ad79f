"""How a run ended: done, diverged, or at chance."""

import math

# Of the cross-entropy of guessing, ln(classes). A dead network stays there to a few thousandths, since mean losses of
# thousands of examples hardly vary and classes are about equally frequent; what learns at all is soon below.
LEARNT = 0.98


def learnt(cross_entropy, classes):
  """Whether a network has learnt whose mean cross-entropy over the last quarter of its training was that."""
  return cross_entropy < LEARNT * math.log(classes)


def status(result):
  """How a run ended: 'done', 'diverged' or 'at chance', from what its result.json holds."""
  late = result.get('last_quarter_cross_entropy')
  if result['status'] == 'done' and late is not None and not learnt(late, result['classes']):
    return 'at chance'
  return result['status']
