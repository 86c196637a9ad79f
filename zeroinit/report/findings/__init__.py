"""What must come out: the claims of the papers, each judged on a study's own results.

A claim is a function over {Setting: {metric: Choice}}; its docstring is the claim, with its tolerance, and it returns
whether that holds and the numbers it was judged on. Where the paper says "well above" or "slightly", the tolerance is
ours. ZI is the ZeroInit paper, SK its later version, arXiv:2002.10444, BJ is Bjorck et al., SA Santurkar et al.
"""

import dataclasses

from zeroinit.report import page
from zeroinit.report.findings import (
  batch_size,
  bjorck,
  depth,
  digits,
  imagenet,
  pocket,
  rates,
  santurkar,
  schedules,
  successors,
  table1,
)
from zeroinit.report.findings.judging import complete_settings, judge
from zeroinit.report.published import PUBLISHED_SEEDS, departs

PARTS = (digits, rates, table1, depth, batch_size, schedules, imagenet, bjorck, santurkar, pocket, successors)
SEVERAL_SEEDS = {*PUBLISHED_SEEDS, 'pocket_table1', 'pocket_figure1'}
CLAIMS = {study: claims for part in PARTS for study, claims in part.CLAIMS.items()}


def table(study, groups):
  """The claims about a study as a page.Table; None where there are none, as for a user's own study."""
  groups = [group for group in groups if of_the_paper(study, group)]
  settings = complete_settings(groups, least_kept=2 if study in SEVERAL_SEEDS else 1)
  rows = [dataclasses.astuple(judge(claim, settings)) for claim in CLAIMS.get(study, ())]
  caption = 'Each claim, judged on these runs.'
  return page.Table(caption, ('claim', 'verdict', 'numbers'), tuple(rows)) if rows else None


def of_the_paper(study, group):
  """Whether a group is on a data set and a network that the study has by itself."""
  return not any(departs(study, group.cells[0], field) for field in ('dataset', 'network'))


def short(table):
  """The claims and verdicts, for a terminal."""
  return page.Items(tuple(f'{verdict}: {claim}' for claim, verdict, _ in table.rows))
