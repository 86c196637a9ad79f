"""JAX's settings that reach numbers. They are stated here, so a config means the same whatever a shell or notebook has.

What else a shell may set, such as guards, checks, logging, caches and where it runs, is left as it is.
"""

import contextlib
import sys
import threading

import jax

from zeroinit.system.errors import UserError

# Of all settings that jax traces or compiles by, those that change what is computed, at jax's own default. A version of
# jax may lack one.
STATED = {
    'jax_default_prng_impl': 'threefry2x32',
    'jax_threefry_partitionable': True,  # the numbers do not depend on how an array is divided among devices
    'jax_threefry_gpu_kernel_lowering': False,
    'jax_random_seed_offset': 0,
    'jax_high_dynamic_range_gumbel': False,
    'jax_accurate_erf_inv': False,  # normal random numbers are made with it
    'jax_enable_x64': False,
    'jax_numpy_dtype_promotion': 'standard',
    'jax_default_matmul_precision': None,  # the device's: see PRECISIONS
    'jax_use_direct_linearize': True,
    'jax_allow_f16_reductions': True,
}

# Of products and convolutions of float32, in JAX's words. On CPUs all are float32; on NVIDIA's GPUs the first two are
# TF32 and the last float32; on TPUs they are made of one, three and six products of bfloat16.
PRECISIONS = ('default', 'high', 'highest')

_ONE_THREAD = threading.RLock()  # which may open it again inside, as a command and its run do


@contextlib.contextmanager
def stated(matmul_precision='default'):
  """While open, the settings are as STATED, whatever they were, but for the precision, one of PRECISIONS.

  Says on standard error which of them does not count that was another.

  Raises:
    UserError: this is inside one of jax's own `with` blocks that sets one of them, or another thread has it open.
  """
  if not _ONE_THREAD.acquire(blocking=False):
    raise UserError('another thread of this process is training or measuring, and the settings of jax are those of the '
                    'whole process: wait until it is done, or use a process of its own')
  try:
    with _stated(matmul_precision):
      yield
  finally:
    _ONE_THREAD.release()


@contextlib.contextmanager
def _stated(matmul_precision):
  wanted = {name: value for name, value in STATED.items() if hasattr(jax.config, name)}
  wanted['jax_default_matmul_precision'] = None if matmul_precision == 'default' else matmul_precision
  before = {name: getattr(jax.config, name) for name in wanted}
  ignored = {name: value for name, value in before.items() if value not in (wanted[name], STATED[name])}
  if ignored:
    instead = '; for the precision there is --config.matmul_precision' * ('jax_default_matmul_precision' in ignored)
    print(f'note: {", ".join(f"{name}={value}" for name, value in ignored.items())} of this process does not count: a '
          f'config means the same everywhere{instead}', file=sys.stderr, flush=True)
  _update(wanted)
  try:
    held = [name for name, value in wanted.items() if getattr(jax.config, name) != value]
    if held:
      raise UserError(f'this runs in a `with` block of jax that sets {", ".join(held)}, and a config means the same '
                      'everywhere: call it outside of that')
    yield
  finally:
    _update(before)


def _update(settings):
  for name, value in settings.items():
    if getattr(jax.config, name) != value:
      jax.config.update(name, value)
