"""A Google Cloud Storage in memory: its JSON API over HTTP, as far as gcsfs and tensorstore use it.

Like the real one it writes whole objects, numbers their generations, and lets a request depend on the generation that
is there. It knows no permissions, and it makes no bucket: what is asked for in another one is not found.
"""

import contextlib
import dataclasses
import datetime
import http.server
import itertools
import json
import re
import sys
import threading
import urllib.parse

PAGE = 20  # objects in a page of a list; the real service gives up to 1,000, which tests would never fill


@contextlib.contextmanager
def serve(bucket):
  """A running FakeGcs that holds one empty bucket."""
  server = FakeGcs(bucket)
  thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.05})
  thread.start()
  try:
    yield server
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


@dataclasses.dataclass
class Object:
  content: bytes
  generation: int
  updated: str


class FakeGcs(http.server.ThreadingHTTPServer):
  """The server.

  Attributes:
    objects: {name: Object}.
    requests: (method, path) of all requests so far.
    environment: variables with which a process takes this server for Google's.
  """

  daemon_threads = True
  request_queue_size = 64

  def __init__(self, bucket):
    super().__init__(('localhost', 0), _Handler)
    self.bucket, self.objects, self.requests = bucket, {}, []
    self.generations, self.uploads, self.lock = itertools.count(1), {}, threading.Lock()
    self.url = f'http://localhost:{self.server_port}'
    self.environment = {
        'STORAGE_EMULATOR_HOST': self.url, 'FSSPEC_GCS_TOKEN': 'anon',
        'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',  # asks for the kind of bucket by gRPC
        'TENSORSTORE_GCS_HTTP_URL': self.url, 'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'anyone',
    }

  def put(self, name, content):
    updated = datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%dT%H:%M:%S.%fZ')
    self.objects[name] = Object(content, next(self.generations), updated)

  def handle_error(self, request, client_address):
    if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that was killed
      super().handle_error(request, client_address)


class _Answer(Exception):
  """Ends a request with an error."""

  def __init__(self, status):
    super().__init__(status)
    self.status = status


class _Handler(http.server.BaseHTTPRequestHandler):
  """Answers requests; every one that is not a mere read holds the lock from its condition to its effect."""

  protocol_version = 'HTTP/1.1'
  disable_nagle_algorithm = True
  wbufsize = -1  # else headers and body travel in two packets, the second one late

  def do_GET(self):
    self._serve()

  do_POST = do_PUT = do_DELETE = do_GET

  def log_message(self, *args):
    pass

  def _serve(self):
    url = urllib.parse.urlsplit(self.path)
    self.query = dict(urllib.parse.parse_qsl(url.query))
    self.body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
    with self.server.lock:
      self.server.requests.append((self.command, urllib.parse.unquote(url.path)))
      try:
        self._answer(*self._route(url.path))
      except _Answer as answer:
        error = {'code': answer.status, 'message': http.HTTPStatus(answer.status).phrase}
        self._answer(answer.status, {'error': error})

  def _answer(self, status, content, headers=()):
    if not isinstance(content, bytes):
      content = json.dumps(content).encode()
    self.send_response(status)
    for name, value in dict(headers).items():
      self.send_header(name, value)
    if status not in (204, 304):
      self.send_header('Content-Length', str(len(content)))
    self.end_headers()
    if status not in (204, 304):
      self.wfile.write(content)

  def _route(self, path):
    """(status, content, headers) of the answer."""
    match = re.fullmatch('(/upload|/download)?/storage/v1/b/([^/]+)(/o(?:/([^/]+))?)?', path)
    if not match or urllib.parse.unquote(match[2]) != self.server.bucket:
      raise _Answer(404)
    service, bucket, objects, name = match.groups()
    name = name and urllib.parse.unquote(name)
    if service == '/upload':
      return self._upload()
    if name and self.command == 'DELETE':
      self._find(name)
      self._check(name)
      del self.server.objects[name]
      return 204, b'', {}
    if name and self.command == 'GET':
      return self._get(name, media=service == '/download' or self.query.get('alt') == 'media')
    if self.command != 'GET':
      raise _Answer(501)
    if objects:
      return 200, self._list(), {}
    return 200, {'kind': 'storage#bucket', 'id': bucket, 'name': bucket, 'location': 'US', 'locationType': 'region'}, {}

  def _find(self, name):
    if name not in self.server.objects:
      raise _Answer(404)
    return self.server.objects[name]

  def _check(self, name):
    """Raises where the object is not of the generation that the request depends on; 0 stands for no object."""
    found = self.server.objects.get(name)
    generation = str(found.generation if found else 0)
    if self.query.get('ifGenerationMatch', generation) != generation:
      raise _Answer(412)
    if self.query.get('ifGenerationNotMatch') == generation:
      raise _Answer(304 if self.command == 'GET' else 412)

  def _put(self, name, content):
    self._check(name)
    self.server.put(name, content)
    return self._resource(name)

  def _resource(self, name):
    found = self.server.objects[name]
    return {'kind': 'storage#object', 'name': name, 'bucket': self.server.bucket, 'size': str(len(found.content)),
            'generation': str(found.generation), 'metageneration': '1', 'contentType': 'application/octet-stream',
            'timeCreated': found.updated, 'updated': found.updated}

  def _get(self, name, media):
    found = self._find(name)
    self._check(name)
    if not media:
      return 200, self._resource(name), {}
    size, headers = len(found.content), {'x-goog-generation': found.generation, 'x-goog-metageneration': 1}
    match = re.fullmatch(r'bytes=(\d*)-(\d*)', self.headers.get('Range', ''))
    if not match:
      return 200, found.content, headers
    first, last = match.groups()
    begin = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if begin >= size:
      raise _Answer(416)
    return 206, found.content[begin:end], headers | {'Content-Range': f'bytes {begin}-{end - 1}/{size}'}

  def _list(self):
    """One page. What shares a name up to the delimiter stands for all such objects, as in a directory."""
    prefix, delimiter = self.query.get('prefix', ''), self.query.get('delimiter')
    names = sorted(name for name in self.server.objects if name.startswith(prefix))
    entries = {}
    for name in names:
      head, found, _ = name[len(prefix):].partition(delimiter) if delimiter else ('', '', '')
      entries[prefix + head + found if found else name] = bool(found)
    entries = sorted(entries.items())
    begin = int(self.query.get('pageToken', 0))
    end = begin + min(PAGE, int(self.query.get('maxResults', PAGE)))
    answer = {'kind': 'storage#objects',
              'items': [self._resource(name) for name, is_prefix in entries[begin:end] if not is_prefix],
              'prefixes': [name for name, is_prefix in entries[begin:end] if is_prefix]}
    return answer | ({'nextPageToken': str(end)} if end < len(entries) else {})

  def _upload(self):
    """The three ways to write: content alone, with its metadata, or in chunks after a request that announces them."""
    if 'upload_id' in self.query:
      return self._chunk(self.query['upload_id'])
    kind = self.query.get('uploadType')
    if kind == 'media':
      return 200, self._put(self.query['name'], self.body), {}
    if kind == 'multipart':
      metadata, content = _parts(self.body, self.headers.get_param('boundary').encode())
      return 200, self._put(json.loads(metadata)['name'], content), {}
    if kind == 'resumable':
      name = self.query.get('name') or json.loads(self.body)['name']
      self._check(name)
      self.query['upload_id'] = str(next(self.server.generations))
      self.server.uploads[self.query['upload_id']] = (name, bytearray())
      return 200, {}, {'Location': f'{self.server.url}{self.path.split("?")[0]}?{urllib.parse.urlencode(self.query)}'}
    raise _Answer(400)

  def _chunk(self, upload):
    name, content = self.server.uploads[upload]
    content += self.body
    total = self.headers['Content-Range'].rpartition('/')[2]
    if total == '*' or len(content) < int(total):
      return 308, b'', {'Range': f'bytes=0-{len(content) - 1}'} if content else {}
    del self.server.uploads[upload]
    return 200, self._put(name, bytes(content)), {}


def _parts(body, boundary):
  """The contents of a multipart body; gcsfs ends its lines without a carriage return."""
  newline = b'\r\n' if body.startswith(b'--' + boundary + b'\r\n') else b'\n'
  for part in body.split(b'--' + boundary)[1:-1]:
    yield part.split(2 * newline, 1)[1].removesuffix(newline)
