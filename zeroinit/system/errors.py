"""The one exception that means: the user can mend this, and the message says how."""

import difflib

LONGEST = 2000  # characters of a message; more is what it quotes, from a file or a flag


class UserError(Exception):
  """A wrong flag, a missing file, a full disk: shown as one line, without a traceback."""


def first_line(error):
  """The first line of what an exception says, or its type where it says nothing: to be quoted in a UserError."""
  return (str(error).strip() or type(error).__name__).splitlines()[0]


def suggestion(name, names):
  """What to add to a message that there is no such name: "; did you mean 'zeroinit'?"; '' where none is near."""
  near = difflib.get_close_matches(name, names, 1)
  return f"; did you mean '{near[0]}'?" if near else ''


def one_line(message):
  """The message as a line that a terminal shows as it stands, whatever it quotes: without control characters."""
  shown = ''.join(char if char.isprintable() else repr(char)[1:-1] for char in message.strip())
  return shown if len(shown) <= LONGEST else f'{shown[:LONGEST]}...'
