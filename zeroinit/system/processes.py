"""Several processes that train one network together, as the hosts of a TPU pod do: who writes, how they stay in step.

Every process runs the same program on the same global arrays. What may differ between them, such as clocks and
signals, has to be agreed on before it decides what the program does next, or they wait for each other for ever.
"""

import hashlib
import json
import os
import signal

import jax
import numpy as np
from jax.experimental import multihost_utils

from zeroinit.system import watch
from zeroinit.system.errors import UserError, first_line

JOIN_SECONDS = 300  # for all processes to come


def join(coordinator=None, count=None, index=None):
  """Joins the other processes of this run; without arguments, those of the cluster that jax recognizes.

  Args:
    coordinator: HOST:PORT of process 0; count: number of processes; index: of this one.

  Raises:
    UserError: the others cannot be reached, or there is no cluster.
  """
  try:
    jax.distributed.initialize(coordinator, count, index, initialization_timeout=JOIN_SECONDS)
  except (RuntimeError, ValueError, IndexError) as error:
    raise UserError(f'cannot join the other processes: {first_line(error)}; every one must be started, with the same '
                    '--coordinator=HOST:PORT and --processes=N, and its own --process=I, or --nodistributed '
                    'for a run of its own') from error
  watch.begin()
  # jax now waits for SIGTERM to tell the other processes. Here they tell each other: see `any_of`.
  signal.signal(signal.SIGTERM, signal.SIG_DFL)


def expects_others():
  """Whether others were started with this process, to work as one: by srun, by MPI, or on a TPU pod under Kubernetes.

  The hosts of a pod of TPU virtual machines cannot be told from a single one.
  """
  tasks = [os.environ.get(name, '1') for name in ('SLURM_STEP_NUM_TASKS', 'OMPI_COMM_WORLD_SIZE')]
  return set(tasks) != {'1'} or ',' in os.environ.get('TPU_WORKER_HOSTNAMES', '')


def count():
  """Number of processes; 1 unless `join` was called. Does not start the devices, as jax's own would."""
  return jax.process_count() if jax.distributed.is_initialized() else 1


def is_first():
  """Whether this is the process that writes, and speaks."""
  return count() == 1 or jax.process_index() == 0


def agree(values):
  """What the first process says, on every process. values: bool or int, or a list of them of the same length on all."""
  return values if count() == 1 else multihost_utils.broadcast_one_to_all(np.asarray(values)).tolist()


def any_of(number):
  """The largest of what the processes say: 0 where nobody has anything to report."""
  return number if count() == 1 else int(multihost_utils.process_allgather(np.asarray(number)).max())


def need_alike(value, what):
  """Raises UserError, on every process, where they do not all have the same value. value: anything JSON can hold."""
  text = json.dumps(value, sort_keys=True, default=str)
  digest = int(hashlib.sha256(text.encode()).hexdigest()[:7], 16)  # jax's integers have 32 bits
  if any_of(int(agree(digest) != digest)):
    raise UserError(f'the processes were started together, but have different {what}; give all the same, or '
                    '--nodistributed for runs of their own')
