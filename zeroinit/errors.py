"""The one exception that means: the user can mend this, and the message says how."""


class UserError(Exception):
  """A wrong flag, a missing file, a full disk: shown as one line, without a traceback."""


def first_line(error):
  """The first line of what an exception says, or its type where it says nothing: to be quoted in a UserError."""
  return (str(error).strip() or type(error).__name__).splitlines()[0]
