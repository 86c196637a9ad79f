"""Files that several processes share, in a directory or in an object store such as gs://bucket/folder.

An object store has no directories, no locks, no rename and no append. What it has is enough here: a write puts the
whole object in place at once, or nothing; who reads or lists after it sees it, on any machine; and a write may depend
on there being no object yet, of which exactly one of several succeeds. It does not promise who wins where two write
without that condition, nor that the answer arrives: a writer that lost it cannot tell whether it has written.
"""

import contextlib
import errno
import logging
import os
import uuid

import fsspec
from etils import epath

from zeroinit.system import paths
from zeroinit.system.errors import UserError, first_line

# Both would hide for a while what other processes write: gcsfs remembers listings, and TensorFlow, which epath prefers
# where it is installed, the metadata of files.
fsspec.config.conf.setdefault('gcs', {})['use_listings_cache'] = False
os.environ.setdefault('EPATH_USE_TF', 'false')
# Its own way to write to a zonal bucket replaces an object that `create` must leave alone.
os.environ.setdefault('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')
logging.getLogger('gcsfs').setLevel(logging.CRITICAL)  # it logs, with a traceback, what it also raises


def create(path, text):
  """Makes a file or object with this content, unless there is one of that name. Its directory must exist.

  No reader sees part of it, and of any number of processes that try at once one succeeds.

  Returns:
    Whether this call has made it. Where the store's answer was lost and the request repeated, False may be wrong: who
    must know writes a text that nobody else writes, and reads it back.

  Raises:
    UserError: it cannot be written.
  """
  path = epath.Path(path)
  try:
    with _writing(path):
      if '://' in str(path):
        filesystem, name = fsspec.core.url_to_fs(str(path))
        filesystem.pipe_file(name, text.encode(), mode='create')
      else:
        _link(path, text.encode())
  except FileExistsError:
    return False
  return True


def replace(path, content, before=lambda: None):
  """Writes a file or object whole, whether there is one or not: a reader sees all of the old one or of this.

  Args:
    content: str or bytes.
    before: called when the file only needs to be put in place; what it raises leaves the old one.

  Raises:
    UserError: it cannot be written.
  """
  path = epath.Path(path)
  content = content.encode() if isinstance(content, str) else content
  with contextlib.ExitStack() as closing:
    if '://' not in str(path):
      with _writing(path):
        beside = closing.enter_context(_beside(path, content))
    before()
    with _writing(path):
      if '://' in str(path):
        path.write_bytes(content)
      else:
        os.replace(beside, path)


def discard_unfinished(path):
  """Removes what was written for a file but not put in place, by a process that was killed, or only sleeps.

  One that wakes up after this fails to put it there. So whoever first marks the file as its own, and then calls this,
  finds in it all that was ever put there by others, if these look for the mark in `before`. In an object store nothing
  is written aside.
  """
  path = epath.Path(path)
  if '://' not in str(path):
    for beside in path.parent.glob(f'.{path.name}.*'):
      beside.unlink(missing_ok=True)


def check_reachable(path):
  """Raises UserError where an address leads to no bucket, or there is no permission or no network to read it."""
  if '://' in str(path):
    try:
      list((path / 'nothing').glob('*'))  # other questions say, of a bucket that does not exist, that it is empty
    except Exception as error:
      raise UserError(f'cannot reach {path}: {_reason(error, path)}') from error


def absolute(workdir):
  """The path of a workdir, which may begin with ~, or be an address such as gs://bucket/folder. Raises UserError where
  it is empty, or leads nowhere.
  """
  if not str(workdir):
    raise UserError('the workdir is empty; say where to keep what is made: --workdir=runs/NAME')
  path = epath.Path(workdir) if '://' in str(workdir) else epath.Path(os.path.abspath(paths.expanded(workdir)))
  check_reachable(path)
  return path


def make_directory(workdir):
  """Makes a workdir, where there is none. Raises UserError where it cannot be made."""
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f'cannot make workdir {workdir}: {error.strerror or error}') from error


def _link(path, content):
  """Writes aside and gives that file its name as a second one, which fails where the name is taken."""
  with _beside(path, content) as beside:
    try:
      os.link(beside, path)
    except OSError as error:
      if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
        raise
      with open(path, 'xb') as file:  # a file system without links: exclusive too, but a reader may see a part
        file.write(content)


@contextlib.contextmanager
def _beside(path, content):
  """A file beside `path` that no other process writes, with the content on disk; gone afterwards."""
  beside = path.with_name(f'.{path.name}.{uuid.uuid4().hex}')
  try:
    with open(beside, 'wb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    yield beside
  finally:
    with contextlib.suppress(OSError):  # of a disk that has failed in between, as is said elsewhere
      beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(path):
  try:
    yield
  except FileExistsError:
    raise
  except Exception as error:  # gcsfs raises its own kinds, and those of the libraries that it uses
    raise UserError(f'cannot write {path}: {_reason(error, path)}; what was written before is intact, and the same '
                    'command goes on from there') from error


def _reason(error, path):
  if isinstance(error, FileNotFoundError) and '://' in str(path):
    return 'there is no such bucket'
  return getattr(error, 'strerror', None) or first_line(error)
