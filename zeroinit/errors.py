"""The one exception that means: the user can mend this, and the message says how."""


class UserError(Exception):
  """A wrong flag, a missing file, a full disk: shown as one line, without a traceback."""
