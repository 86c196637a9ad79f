"""The data of a run and the training program on them: whole on the devices, or streaming there."""

from typing import Protocol

from zeroinit import data
from zeroinit.training.resident import Resident
from zeroinit.training.stream import Stream


class Feed(Protocol):
  """Trains on a data set, and gives the batches to score on.

  Attributes:
    waited: seconds in which the devices had no update to do because its batch was not there yet; may be set to 0. None
      where there is nothing to wait for.
  """

  waited: float | None

  def compile(self, state):
    """The state as it was given, when the program of the updates has been compiled, and the first batch is there."""

  def train(self, state, until):
    """Updates up to step `until`, which must not lie beyond the epoch's end; fewer where the run diverges.

    The state is given up. Raises UserError where an image cannot be read.
    """

  def test_batches(self):
    """(images, labels) for `step.score`, on the devices; the last is filled up, so that each image counts once."""

  def close(self):
    """To be called when nothing more is asked for."""


def make_feed(recipe, dataset, config, step):
  """The Feed of a data set. step: the first update that will be asked for."""
  if isinstance(dataset, data.StreamedDataset):
    return Stream(recipe, dataset, config, step)
  return Resident(recipe, dataset, config.eval_batch_size)
