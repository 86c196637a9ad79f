"""What a run says while it works: a moving line on a terminal, one line per evaluation elsewhere."""

import sys
import time

from rich.console import Console

from zeroinit.system import processes


class Progress:
  """Speaks on standard output.

  Attributes:
    steps: updates in the whole run.
    steps_per_epoch: updates in an epoch.
  """

  def __init__(self, steps, steps_per_epoch):
    self.steps, self.steps_per_epoch = steps, steps_per_epoch
    # By themselves, rich and Jupyter take a notebook for a terminal in which lines can move.
    self._console = Console(force_jupyter=False, force_terminal=sys.stdout.isatty(), highlight=False, soft_wrap=True,
                            emoji=False, markup=False, quiet=not processes.is_first())
    self._status = self._console.status('') if self._console.is_terminal else None
    self._started = None  # (time, step) of the first update, for the estimate
    self._accuracy = ''  # at the last evaluation

  def __enter__(self):
    if self._status:
      self._status.start()
    return self

  def __exit__(self, *error):
    if self._status:
      self._status.stop()

  def say(self, line):
    """A line that stays."""
    self._console.print(line)
    sys.stdout.flush()

  def start(self, step):
    """Says that updates begin now, after `step` of them."""
    self._started = time.monotonic(), step

  def doing(self, line):
    """What the moving line says while there is no step to report; nothing where there is no moving line."""
    if self._status:
      self._status.update(line)

  def moved(self, step, learning_rate, images_per_second, waited_for_data):
    """Moves the line, where there is one."""
    if self._status:
      self._status.update(f'epoch {step / self.steps_per_epoch:.2f} of {self.steps / self.steps_per_epoch:g}  '
                          f'{self._accuracy}rate {learning_rate:.3g}  {_speed(images_per_second, waited_for_data)}'
                          f'{self.time_left(step)}')

  def evaluated(self, record):
    """One line for one evaluation; `record` is a line of metrics.jsonl."""
    loss = 'overflow' if record['train_loss'] is None else f'{record["train_loss"]:.4f}'
    speed = _speed(record['images_per_second'], record.get('waited_for_data'))
    self._accuracy = f'test accuracy {record["test_accuracy"]:.4f}  '
    self.say(f'epoch {record["epoch"]:6.2f} of {self.steps / self.steps_per_epoch:g}  '
             f'{self._accuracy}train loss {loss}  '
             f'rate {record["learning_rate"]:.3g}  {speed}{self.time_left(record["step"])}')

  def time_left(self, step):
    """'1:02:03 left', by the mean speed since `start`."""
    started, first = self._started
    if step >= self.steps:
      return 'done'
    if step == first:
      return ''
    seconds = (time.monotonic() - started) / (step - first) * (self.steps - step)
    return duration(seconds) + ' left'


def _speed(images_per_second, waited_for_data):
  """'1,234 images/s  ', and the share of time in which the devices waited for data, where they may."""
  if not images_per_second:
    return ''
  waited = '' if waited_for_data is None else f'{waited_for_data:.0%} waiting for data  '
  return f'{images_per_second:,.0f} images/s  {waited}'


def duration(seconds):
  """A length of time as people read it: '0:42', '1:02:03'."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02d}:{seconds:02d}' if hours else f'{minutes}:{seconds:02d}'
