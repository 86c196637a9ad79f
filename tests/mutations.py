"""Input that is wrong, or nearly right, as hypothesis draws it: values, JSON and bytes."""

import json
import math

from hypothesis import strategies as st

MARKUP = '<script>alert(1)</script>"\'&'
WORDS = ('', ' ', 'none', 'None', 'nan', 'true', '16', '2^-3', '../../x', '/etc/passwd', 'a\nb', '\x1b[2J', MARKUP,
         '$(reboot)', '$x$', '`id`', '%s%n', '{0}', '²', '٣', 'é' * 5, '\ufeff', '\u2028', 'x' * 3000)
NUMBERS = (0, 1, -1, 2, 3, 7, 1000, 2**31, 2**63, 2**64, 10**30, 10**400, 0.0, -0.0, 0.5, 1.5, 1e-300, 1e300, math.inf,
           -math.inf, math.nan)

texts = st.one_of(st.sampled_from(WORDS), st.text(st.characters(exclude_characters='\0', codec='utf-8'), max_size=8))
numbers = st.one_of(st.sampled_from(NUMBERS), st.integers(), st.floats())
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
json_values = st.recursive(st.one_of(scalars, st.just('\ud800')), lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)), max_leaves=4)

_places = st.integers(0, 10**6)  # of something, modulo how many there are
byte_edits = st.lists(st.one_of(
    st.tuples(st.just('flip'), _places, st.integers(0, 7)),
    st.tuples(st.just('cut'), _places, st.just(0)),
    st.tuples(st.just('insert'), _places, st.binary(min_size=1, max_size=9)),
    st.tuples(st.just('overwrite'), _places, st.binary(min_size=1, max_size=9)),
    st.tuples(st.just('repeat'), _places, st.integers(1, 300)),
    st.tuples(st.just('remove'), _places, st.integers(1, 300)),
), min_size=1, max_size=3)
byte_flips = st.tuples(st.tuples(st.just('flip'), _places, st.integers(0, 7)))
_node_edits = st.lists(st.one_of(
    st.tuples(st.just('replace'), _places, json_values),
    st.tuples(st.just('delete'), _places, st.none()),
    st.tuples(st.just('add'), _places, st.tuples(texts, json_values)),
    st.tuples(st.just('twice'), _places, st.none()),
), min_size=1, max_size=2)
_whole_texts = st.one_of(
    st.sampled_from((b'', b'null', b'[]', b'{}', b'[1]', b'"x"', b'{"a": 1, "a": 2}', b'[' * 100_000, b'{"a":' * 50_000,
                     b'1' * 5000, b'\xff\xfe{}', b'\x00\x01', b'NaN', b'{"step": 1e999}')),
    st.binary(max_size=20), json_values.map(lambda value: json.dumps(value).encode()))
json_edits = st.one_of(st.tuples(st.just('nodes'), _node_edits), st.tuples(st.just('nodes'), _node_edits),
                       st.tuples(st.just('bytes'), byte_edits), st.tuples(st.just('whole'), _whole_texts))


def edited(content, edits):
  """Bytes with edits of `byte_edits`."""
  for kind, place, what in edits:
    at = place % max(1, len(content))
    match kind:
      case 'flip':
        content = content[:at] + bytes([content[at] ^ 1 << what]) + content[at + 1:] if content else b'\x01'
      case 'cut':
        content = content[:at]
      case 'insert':
        content = content[:at] + what + content[at:]
      case 'overwrite':
        content = content[:at] + what + content[at + len(what):]
      case 'repeat':
        content = content[:at + what] + content[at:]
      case 'remove':
        content = content[:at] + content[at + what:]
  return content


def edited_json(value, edits):
  """The JSON text, as bytes, of a value with edits of `json_edits`."""
  kind, what = edits
  if kind == 'whole':
    return what
  if kind == 'bytes':
    return edited(json.dumps(value).encode(), what)
  value = json.loads(json.dumps(value))
  for action, place, argument in what:
    value = _with_edit(value, action, place, argument)
  return json.dumps(value).encode()


def _with_edit(value, action, place, argument):
  places = list(_nodes(value))
  if action == 'add':
    objects = [value, *(holder[key] for holder, key in places)]
    target = objects[place % len(objects)]
    if isinstance(target, dict):
      target[argument[0]] = argument[1]
    elif isinstance(target, list):
      target.append(argument[1])
    return value
  if not places:
    return argument
  holder, key = places[place % len(places)]
  if action == 'replace':
    holder[key] = argument
  elif action == 'delete':
    del holder[key]
  elif isinstance(holder, list):  # twice
    holder.append(holder[key])
  return value


def _nodes(value):
  """(holder, key) of everything inside a JSON value."""
  items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
  for key, inner in items:
    yield value, key
    yield from _nodes(inner)
