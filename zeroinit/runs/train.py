"""train(config, workdir): config -> recipe -> State -> updates -> evaluations -> result.json."""

import contextlib
import signal
import threading
import time

import flax
import jax
from clu import parameter_overview

from zeroinit import data
from zeroinit.networks.layers import initial_alpha
from zeroinit.networks.own_network import OwnNetwork
from zeroinit.networks.resnet import alphas
from zeroinit.runs import ending, locks, run_directory
from zeroinit.runs.progress import Progress
from zeroinit.system import environment, processes, settings
from zeroinit.system.errors import UserError, first_line
from zeroinit.training.config import check, code_of, compared_fields, described, method_label, notes
from zeroinit.training.feed import make_feed
from zeroinit.training.optimizer import about_rates, plateau_factor
from zeroinit.training.protocol import protocol
from zeroinit.training.recipe import make_recipe
from zeroinit.training.step import evaluate, init_state, means
from zeroinit.training.trial import try_functions

DISPATCH_SECONDS = 1.0  # the device works so long before the host looks again: for progress, SIGTERM, checkpoints
_STATED = ('depth', 'width', 'batch_size', 'learning_rate', 'momentum', 'dampening', 'kernel_init', 'classifier_init')
_OUTCOME = ('test_accuracy', 'test_cross_entropy', 'train_accuracy', 'train_loss', 'train_cross_entropy', 'train_l2',
            'gradient_norm')


class Stopped(Exception):
  """The run was asked to stop by signal number `signal`, and has saved its state: the same command goes on."""

  def __init__(self, number):
    super().__init__(f'stopped by {signal.Signals(number).name}')
    self.signal = number


def train(config, workdir, overrides=None, evaluated=None):
  """Trains the network that a config describes; goes on where an earlier call with the same workdir stopped.

  Args:
    config: see `zeroinit.training.config.base_config`.
    workdir: directory of the run; made where it does not exist.
    overrides: what the user changed in the config, {name: value}, for the record.
    evaluated: called with the record of each evaluation, as metrics.jsonl has it; for a live plot, say.

  Returns:
    What result.json holds: status ('done' or 'diverged'), the settings, the last accuracy and losses, the environment.

  Raises:
    UserError: a value that cannot be, a missing data set, a workdir that holds another run or cannot be written;
      another thread of this process trains.
    locks.Elsewhere, a UserError: another process works on this run, or has taken it over.
    Stopped: SIGTERM or SIGINT came; the state has been saved.
  """
  check(config)
  # Nothing goes to the devices unasked, but the host reads what it decides by.
  with settings.stated(config.matmul_precision), jax.transfer_guard_device_to_host('allow'):
    return _train(config, run_directory.Run(workdir), overrides or {}, evaluated)


def _train(config, run, overrides, evaluated):
  processes.need_alike([str(run.workdir), compared_fields(described(config)), code_of(config)],
                       'settings or workdirs')
  run.compare(config)
  if not processes.agree(bool(run.result)):
    training = _Training(config, run, evaluated)  # before anything is written, since a config may still be found wrong
    processes.need_alike([training.dataset.title, training.dataset.order], 'copies of the data')
    with locks.lock(run.workdir) as still_held:
      run.take_over()
      if not processes.agree(bool(run.result)):
        with _signals() as stop_signals, contextlib.closing(run.checkpoints):
          return training.to_the_end(overrides, stop_signals, still_held)
  if processes.is_first():
    print(f'{run.workdir} is finished: {_outcome(run.result)}; a new run needs a new workdir', flush=True)
  return run.result


class _Training:
  """One attempt at a run, alone or after others that were stopped."""

  def __init__(self, config, run, evaluated=None):
    self.config, self.run, self.evaluated = config, run, evaluated
    self.began = time.monotonic()
    self.dataset = data.load(config.dataset, config.data_dir)
    self.recipe = make_recipe(config, self.dataset.train_examples)
    try_functions(config, self.recipe)
    self.schedule = self.recipe.schedule
    evaluations = min(config.evaluations, self.schedule.steps)
    self.evaluations = {round((i + 1) / evaluations * self.schedule.steps) for i in range(evaluations)}

  @property
  def _many_classes(self):
    """Whether it means something that the true class is among the first five."""
    return self.recipe.net.num_classes > 10

  def to_the_end(self, overrides, stop_signals, still_held):
    """Goes on with the run, or begins it, until it is done or has diverged, and returns its result.

    stop_signals: list to which signals add their number; still_held: see `locks.lock`.
    """
    self.stop_signals, self.still_held = stop_signals, still_held
    begun = self.run.begin(self.config, self.dataset)
    with contextlib.ExitStack() as self.closing:
      self.progress = self.closing.enter_context(Progress(self.schedule.steps, self.schedule.steps_per_epoch))
      for line in _changed(begun):
        self.progress.say(line)
      self._start()
      while not self.state.diverged:
        if self.step in self.evaluations and not self._evaluated():
          self._evaluate()
        if self.step == self.schedule.steps and self._evaluated():
          break
        stopping = self._stopping()  # read once: a signal between the two lines below would stop without saving
        due = time.monotonic() - self.saved_at >= self.config.checkpoint_seconds
        due, self.updates = processes.agree([due, self.updates])  # which are by each process's own clock
        if stopping or due:
          self._save()
        if stopping:
          self.progress.say(f'stopped at step {self.step:,}; the same command goes on from there')
          raise Stopped(stopping)
        self._advance()
      self._save()
      result = self._result(overrides)
      self.still_held()
      if self.events:
        self.events.finish(result)
      result = self.run.finish(result)
      self.progress.say(f'{_outcome(result)}, {result["seconds"]:.0f} s')
    return result

  def _start(self):
    """The state to begin with, the data on the devices, the programs compiled."""
    config, recipe, dataset = self.config, self.recipe, self.dataset
    self.progress.doing('initializing')
    self.state = init_state(recipe, config.learning_rate, config.seed)
    for line in _introduction(config, recipe, dataset, self.state):
      self.progress.say(line)
    saved = self.run.restore(recipe.replicated, say=self.progress.say)
    if saved:
      try:
        self.state = flax.serialization.from_state_dict(self.state, saved)
      except (KeyError, ValueError) as error:
        raise UserError(f'the checkpoint in {self.run.workdir} is of an earlier version, and cannot be gone on from: '
                        f'use another --workdir ({first_line(error)})') from error
      self.progress.say(f'going on from step {int(self.state.step):,} of {self.schedule.steps:,}')
    elif self.run.records or self.run.checkpoints.passed_over:
      self.progress.say('no checkpoint to go on from: beginning again')
    self.step = int(self.state.step)
    self.run.cut(self.step)
    self.events = None
    if config.tensorboard and processes.is_first():
      from zeroinit.runs.events import Events  # which takes a second, and not every run wants it

      self.events = self.closing.enter_context(Events(self.run.workdir, self.step, config))
    self.seconds_before = self.run.records[-1]['seconds'] if self.run.records else 0.0

    self.feed = make_feed(recipe, dataset, config, self.step)
    self.closing.callback(self.feed.close)
    self.progress.doing('compiling')
    compiling = time.monotonic()
    self.state = jax.block_until_ready(self.feed.compile(self.state))
    self.progress.say(f'compiled in {time.monotonic() - compiling:.1f} s')

    self.saved_at = time.monotonic()
    self.profile = self.closing.enter_context(_Profile(self.run.workdir / 'profile')) if config.profile else None
    self.updates = 1  # in the next dispatch
    self._measure_speed()
    self.progress.start(self.step)

  def _advance(self):
    """One dispatch: updates up to the next evaluation or the epoch's end, or as many as take DISPATCH_SECONDS."""
    per_epoch = self.schedule.steps_per_epoch
    next_epoch = (self.step // per_epoch + 1) * per_epoch
    next_evaluation = min(step for step in self.evaluations if step > self.step)
    until = min(self.step + self.updates, next_epoch, next_evaluation)
    if self.profile:
      self.profile.dispatch()
    started = time.monotonic()
    self.state = jax.block_until_ready(self.feed.train(self.state, until))
    took = time.monotonic() - started
    done = int(self.state.step) - self.step
    self.step += done
    self.images += done * self.config.batch_size
    self.images_seconds += took
    self.updates = max(1, min(8 * self.updates, round(done * DISPATCH_SECONDS / took)))
    self.progress.moved(self.step, self._rate(), self.images / self.images_seconds, self._waited())

  def _stopping(self):
    """Number of the signal by which any process was asked to stop, or 0."""
    return processes.any_of(self.stop_signals[0] if self.stop_signals else 0)

  def _rate(self):
    """The learning rate of the last update."""
    factor = float(self.schedule.factor(self.step - 1)) * float(plateau_factor(self.state.momentum))
    return self.config.learning_rate * factor

  def _evaluated(self):
    return any(record['step'] == self.step for record in self.run.records)

  def _evaluate(self):
    """Scores the test set and writes the record of this step, unless asked to stop before the end."""
    self.progress.doing('evaluating')
    measured = evaluate(self.recipe, self.state, self.feed.test_batches(), self.dataset.test_examples, self._stopping)
    if measured is None:
      return
    accuracy, top5_accuracy, cross_entropy = measured
    record = {
        'step': self.step, 'epoch': self.step / self.schedule.steps_per_epoch, **self._train_means(),
        'test_accuracy': accuracy, 'test_cross_entropy': cross_entropy, 'learning_rate': self._rate(),
        'images_per_second': self.images / self.images_seconds if self.images else None,
        'seconds': self.seconds_before + time.monotonic() - self.began,
    }
    if self._many_classes:
      record['test_top5_accuracy'] = top5_accuracy
    if self.feed.waited is not None:
      record['waited_for_data'] = self._waited()
    multipliers = alphas(self.state.params)
    if multipliers:
      record['alpha'] = multipliers
    self.run.record(record, self.still_held)
    if self.events:
      self.events.write(self.run.records[-1])
    self.progress.evaluated(self.run.records[-1])
    if self.evaluated:
      self.evaluated(self.run.records[-1])
    self._measure_speed()

  def _waited(self):
    """Share of the training time in which the devices waited for data; None where they never do or have not trained."""
    return self.feed.waited / self.images_seconds if self.images and self.feed.waited is not None else None

  def _measure_speed(self):
    """From here on: images trained on, how long that took, and for how much of it the devices waited for data."""
    self.images, self.images_seconds = 0, 0.0
    if self.feed.waited is not None:
      self.feed.waited = 0.0

  def _train_means(self):
    """Training loss and its parts, and the norm of the gradient: means over the epoch that ends here, or so far."""
    mean = {name: float(value) for name, value in means(self.state).items()}
    return {'train_accuracy': mean['accuracy'], 'train_loss': mean['cross_entropy'] + mean['l2'],
            'train_cross_entropy': mean['cross_entropy'],
            'train_l2': mean['l2'], 'gradient_norm': mean['gradient_norm']}

  def _save(self):
    self.still_held()
    try:
      self.run.save(self.step, flax.serialization.to_state_dict(self.state), self.still_held)
    except UserError:
      if processes.count() == 1:
        self.still_held()  # says so where another process has removed what this one was writing
      raise
    self.saved_at = time.monotonic()

  def _result(self, overrides):
    """A run's outcome: of the last step, never of the best one. A diverged run has neither accuracy nor loss."""
    config = self.config
    diverged = bool(self.state.diverged) or self.run.records[-1]['test_cross_entropy'] is None
    outcome = (*_OUTCOME, *(['test_top5_accuracy'] if self._many_classes else []))
    last = dict.fromkeys(outcome) if diverged else {name: self.run.records[-1][name] for name in outcome}
    late = None if diverged else float(self.state.last_quarter)
    accuracies = [record['test_accuracy'] for record in self.run.records]
    return {
        'status': 'diverged' if diverged else 'done', 'method': method_label(config),
        'dataset': data.short(config.dataset), 'data': self.dataset.title, 'classes': self.recipe.net.num_classes,
        'network': self.recipe.net.title, **{field: config[field] for field in _STATED},
        **last, 'last_quarter_cross_entropy': late, 'best_test_accuracy': max(accuracies, default=None),
        'epochs': config.epochs, 'steps': self.step, 'seconds': self.seconds_before + time.monotonic() - self.began,
        'seed': config.seed, 'protocol': protocol(config, self.dataset.complete),
        'overrides': overrides, **environment.of(self.recipe.mesh.devices.tolist()),
    }


class _Profile:
  """Traces from the third dispatch to the fifth, or to the end of a run that has fewer; the first ones warm up."""

  def __init__(self, directory):
    self.directory, self.dispatches, self.tracing = str(directory), 0, False

  def __enter__(self):
    return self

  def __exit__(self, *error):
    if self.tracing:
      jax.profiler.stop_trace()
      self.tracing = False

  def dispatch(self):
    """To be called before each dispatch."""
    self.dispatches += 1
    if self.dispatches == 3:
      jax.profiler.start_trace(self.directory)
      self.tracing = True
    elif self.dispatches == 6:
      self.__exit__()


def _changed(begun):
  """Lines about what is another now than when the run was begun. begun: see `Run.begin`."""
  here = environment.changing()
  listed = lambda found: ' '.join(f'{name}={value}' for name, value in found.items()) or 'no settings'
  for name, words in (('threads', lambda threads: f'{threads} CPU threads'), ('settings', listed)):
    if begun.get(name, here[name]) != here[name]:
      yield f'begun with {words(begun[name])}, going on with {words(here[name])}: the last bits may differ'


def _introduction(config, recipe, dataset, state):
  """Lines that say what is about to happen, with every value that follows from others."""
  schedule, net = recipe.schedule, recipe.net
  devices, used = jax.device_count(), recipe.mesh.size
  yield (f'{net.title} with {method_label(config)}, on {dataset.title}: {dataset.train_examples:,} training and '
         f'{dataset.test_examples:,} test images; protocol: {protocol(config, dataset.complete)}')
  yield (f'{schedule.steps:,} steps in {config.epochs:g} epochs of {schedule.steps_per_epoch:,}, batch size '
         f'{config.batch_size}, on {used} of {devices} {jax.devices()[0].platform} device(s)')
  rate = config.learning_rate
  yield f'learning rates are {about_rates(config.momentum, config.dampening)}'
  yield (f'learning rate {rate:g}, divided by {schedule.drop_by:g} {len(schedule.drops)} times from step '
         f'{schedule.drops[0] if schedule.drops else schedule.steps:,} on, at the end '
         f'{rate * float(schedule.factor(schedule.steps - 1)):.3g}')
  if recipe.plateau:
    yield (f'and divided by {schedule.drop_by:g} after {recipe.plateau.epochs} epochs in which the mean training loss '
           'was no new minimum')
  if ':' in config.dataset:
    info = data.info(config.dataset, config.data_dir)
    size = 'several sizes' if info.image_size is None else f'{info.image_size}x{info.image_size}'
    yield (f'{info.num_classes} classes, images of {size} and {info.channels} channel(s), of mean {_listed(info.mean)} '
           f'and deviation {_listed(info.std)}')
  if isinstance(net, OwnNetwork):
    yield f'{net.name} takes {", ".join(net.taken) or "nothing"}; {", ".join(net.left) or "no others"} change nothing'
  elif 'alpha' in net.method.functions:
    yield f'alpha is made by {net.method.alpha} in all {net.num_blocks} blocks'
  elif net.method.alpha is not None:
    yield f'alpha starts at {initial_alpha(net.method, net.num_blocks):g} in all {net.num_blocks} blocks'
  if used < devices:
    yield f'{devices} devices do not divide a batch of {config.batch_size // config.micro_batches}: using {used}'
  yield from notes(config)
  yield parameter_overview.get_parameter_overview(state.params, include_stats=False)


def _listed(values):
  return ', '.join(f'{value:.4g}' for value in values)


def _outcome(result):
  accuracy = result['test_accuracy']
  return (f'{ending.status(result)} after {result["steps"]:,} steps'
          + ('' if accuracy is None else f', test accuracy {accuracy:.4f}'))


@contextlib.contextmanager
def _signals():
  """While open, SIGTERM and SIGINT only add their number to the list it gives; a second SIGINT interrupts at once."""
  received = []

  def receive(number, frame):
    if number == signal.SIGINT and number in received:
      raise KeyboardInterrupt
    received.append(number)

  if threading.current_thread() is not threading.main_thread():
    yield received  # Python lets only the main thread handle signals
    return
  before = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield received
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
