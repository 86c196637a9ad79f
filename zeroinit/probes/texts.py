"""How notes, tables and progress of the probes put things: a network in a state, and the cells of tables."""


def in_state(label, updates):
  """'none after 80 updates'; the label alone at the initialization, and of a checkpoint, whose updates are None."""
  return label + (f' after {updates:,} updates' if updates else '')


def updates(record):
  """The cell of a table that says how many updates a record is of."""
  return '' if record['updates'] is None else f'{record["updates"]:,}'


def number(value, missing=''):
  """The cell of a number; `missing` where there is none, which JSON has as null."""
  return missing if value is None else f'{value:.3g}'
