"""Every copy of ImageNet gives the same examples; what is missing or damaged is named in one line."""

import os
import pathlib
import resource
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import fake_gcs
import imagenet_copies
import numpy as np
import pytest

from zeroinit.data import imagenet
from zeroinit.data.reading import tfrecord as _tfrecord
from zeroinit.system.errors import UserError

TRAIN, VALIDATION = imagenet_copies.examples(0, 23), imagenet_copies.examples(100, 9)


@pytest.fixture(scope='session')
def copies(tmp_path_factory):
  """{form: data_dir}"""
  root = tmp_path_factory.mktemp('imagenet')
  imagenet_copies.write(root / 'builder', {'train': TRAIN, 'validation': VALIDATION})
  for form in ('array_record', 'tfrecord'):
    imagenet_copies.rewrite(root / 'builder', root / form, form, shards=3)
  return {form: root / form for form in ('builder', 'array_record', 'tfrecord')}


@pytest.fixture
def copy(copies, tmp_path):
  """A function that copies the copy of that form, to be damaged, and gives its data_dir and the version's directory."""
  def make(form):
    data_dir = shutil.copytree(copies[form], tmp_path / form)
    return str(data_dir), data_dir / 'imagenet2012' / imagenet_copies.VERSION
  return make


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('ZEROINIT_CACHE', str(tmp_path / 'cache'))
  return tmp_path / 'cache'


def assert_whole(dataset):
  for split, examples in ((dataset.train, TRAIN), (dataset.test, VALIDATION)):
    assert [split[i] for i in range(len(split))] == [(content, label) for _, content, label in examples]


@pytest.mark.parametrize('form', ['builder', 'array_record', 'tfrecord'])
def test_every_form_gives_the_same_examples(copies, form):
  dataset = imagenet.load(str(copies[form]))
  assert_whole(dataset)
  assert dataset.title == 'ImageNet, 23 of 1,281,167 train images, 9 of 50,000 validation images'
  assert not dataset.complete and (dataset.train_examples, dataset.test_examples) == (23, 9)
  assert dataset.train.name_of(17) == 'record 17 of imagenet2012 train (n00000017_17.JPEG)'
  with pytest.raises(IndexError):
    dataset.train[23]


@pytest.mark.parametrize('form', ['array_record', 'tfrecord'])
def test_many_threads_read_at_once_and_in_any_order(copies, form):
  split = imagenet.load(str(copies[form])).train
  order = [i * 7 % 23 for i in range(230)]
  with ThreadPoolExecutor(8) as threads:
    assert list(threads.map(split.__getitem__, order)) == [(TRAIN[i][1], TRAIN[i][2]) for i in order]


def test_the_version_itself_the_environment_and_the_newest_version(copies, tmp_path, monkeypatch):
  version = copies['builder'] / 'imagenet2012' / imagenet_copies.VERSION
  assert_whole(imagenet.load(str(version)))
  monkeypatch.setenv('TFDS_DATA_DIR', str(copies['tfrecord']))
  assert_whole(imagenet.load())
  for name in ('5.0.0', '10.0.0', 'incomplete.11.0.0'):
    (tmp_path / 'imagenet2012' / name).mkdir(parents=True)
    (tmp_path / 'imagenet2012' / name / 'dataset_info.json').write_text('{')
  with pytest.raises(UserError, match=r'imagenet2012/10\.0\.0 cannot be read'):
    imagenet.load(str(tmp_path))


def test_a_whole_one_says_nothing_more(copies, monkeypatch):
  monkeypatch.setattr(imagenet, 'SPLITS', {'train': 23, 'validation': 9})
  dataset = imagenet.load(str(copies['tfrecord']))
  assert dataset.title == 'ImageNet' and dataset.complete


def test_the_places_of_records_are_kept(copies, monkeypatch, empty_cache):
  imagenet.load(str(copies['tfrecord']))
  monkeypatch.setattr(_tfrecord, '_walk', lambda *_: pytest.fail('walked again'))
  assert_whole(imagenet.load(str(copies['tfrecord'])))
  monkeypatch.undo()
  monkeypatch.setenv('ZEROINIT_CACHE', str(empty_cache))
  for file in empty_cache.iterdir():
    os.truncate(file, 90)
  assert_whole(imagenet.load(str(copies['tfrecord'])))


def test_a_file_that_changes_is_looked_at_again(copy):
  data_dir, version = copy('tfrecord')
  imagenet.load(data_dir)
  shard = version / 'imagenet2012-train.tfrecord-00001-of-00003'
  os.truncate(shard, shard.stat().st_size - 1)
  with pytest.raises(UserError, match=r'train\.tfrecord-00001-of-00003 is cut off'):
    imagenet.load(data_dir)


def test_a_cut_off_file_of_tfrecord(copy):
  data_dir, version = copy('tfrecord')
  dataset = imagenet.load(data_dir)
  shard = version / 'imagenet2012-validation.tfrecord-00002-of-00003'
  whole = shard.read_bytes()
  shard.write_bytes(whole[:-100])
  with pytest.raises(UserError, match=r'record 8 of imagenet2012 validation.*00002-of-00003 has been cut off'):
    dataset.test[8]
  for damaged in (whole[:5], whole[:-1], b'nonsense' * 100):
    shard.write_bytes(damaged)
    with pytest.raises(UserError, match=r'validation\.tfrecord-00002-of-00003 is cut off'):
      imagenet.load(data_dir)
  shard.write_bytes(whole + imagenet_copies.framed(b''))
  with pytest.raises(UserError, match=r'has 4 records where dataset_info\.json says 3'):
    imagenet.load(data_dir)


def test_a_damaged_file_of_array_record(copy):
  data_dir, version = copy('array_record')
  shard = version / 'imagenet2012-train.array_record-00000-of-00003'
  shard.write_bytes(shard.read_bytes()[:1000])
  with pytest.raises(UserError, match=r'record 2 of imagenet2012 train cannot be read from .*train\.array_record-'):
    imagenet.load(data_dir).train[2]


def test_a_record_without_image_or_label(copies, tmp_path):
  source = imagenet_copies.write(tmp_path / 'source', {'train': TRAIN, 'validation': VALIDATION})
  data_dir = imagenet_copies.rewrite(source, tmp_path / 'tfrecord', 'tfrecord', 1)
  shard = data_dir / 'imagenet2012' / imagenet_copies.VERSION / 'imagenet2012-train.tfrecord-00000-of-00001'
  content = shard.read_bytes()
  length = int.from_bytes(content[:8], 'little')
  lacking = content[12:12 + length].replace(b'\x0a\x05label', b'\x0a\x05lable')
  shard.write_bytes(imagenet_copies.framed(lacking) + content[16 + length:])
  split = imagenet.load(str(data_dir)).train
  with pytest.raises(UserError, match=r'record 0 of imagenet2012 train \(n00000000_0\.JPEG\) lacks'):
    split[0]
  shard.write_bytes(bytes(len(shard.read_bytes()) // 16 * 16))
  with pytest.raises(UserError, match=r'train\.tfrecord-00000-of-00001 is .*not a TFRecord file: at byte 0 '):
    imagenet.load(str(data_dir))


@pytest.mark.parametrize('form', ['array_record', 'tfrecord'])
def test_a_missing_file_and_damaged_metadata(copy, form):
  data_dir, version = copy(form)
  (version / f'imagenet2012-train.{form}-00001-of-00003').unlink()
  with pytest.raises(UserError, match=f'5.1.0 is not whole: it lacks imagenet2012-train.{form}-00001-of-00003'):
    imagenet.load(data_dir)
  (version / 'dataset_info.json').write_text('{')
  with pytest.raises(UserError, match=r'5\.1\.0 cannot be read as a data set of TFDS'):
    imagenet.load(data_dir)


def test_a_missing_split(tmp_path):
  imagenet_copies.write(tmp_path, {'train': TRAIN})
  with pytest.raises(UserError, match='has no validation split; it has: train'):
    imagenet.load(str(tmp_path))


def test_nothing_there_says_where_it_looked_and_what_to_do(copy, tmp_path, monkeypatch):
  with pytest.raises(UserError, match=rf'{tmp_path}/nowhere \(which does not exist\).*imagenet2012/VERSION'):
    imagenet.load(str(tmp_path / 'nowhere'))
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  with pytest.raises(UserError, match=rf'no ImageNet in {tmp_path} and in {tmp_path}/tensorflow_datasets'):
    imagenet.load()
  data_dir, version = copy('array_record')
  info = version / 'dataset_info.json'
  info.write_text(info.read_text().replace('"imagenet2012"', '"imagenette"'))
  with pytest.raises(UserError, match='imagenette, not imagenet2012'):
    imagenet.load(data_dir)


def test_more_files_than_a_process_may_open_at_first(copies):
  program = ('import resource; from zeroinit.data import imagenet; '
             'resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1])); '
             f'imagenet.load({str(copies["array_record"])!r}); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])')
  result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
  assert int(result.stdout) == min(106, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def test_from_a_bucket(copies, monkeypatch):
  with fake_gcs.serve('bucket') as server:
    for form in ('array_record', 'tfrecord'):
      for file in (copies[form] / 'imagenet2012' / imagenet_copies.VERSION).iterdir():
        server.put(f'{form}/imagenet2012/{imagenet_copies.VERSION}/{file.name}', file.read_bytes())
    environment = {**os.environ, **server.environment, 'CLOUD_STORAGE_EMULATOR_ENDPOINT': server.url}
    program = ('from zeroinit.data import imagenet; data = imagenet.load("gs://bucket/array_record"); '
               'print([len(data.train[i][0]) for i in range(len(data.train))]); imagenet.load("gs://bucket/tfrecord")')
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, env=environment)
    assert result.stdout.strip() == str([len(content) for _, content, _ in TRAIN]), result.stderr
    assert 'UserError: gs://bucket/tfrecord' in result.stderr and 'copy it to disk' in result.stderr


def test_it_needs_neither_jax_nor_tensorflow(copies):
  program = ('import sys; from zeroinit.data import imagenet; from zeroinit.data.reading import loader; '
             'import numpy as np; '
             f'data = imagenet.load({str(copies["array_record"])!r}); '
             'rows = np.arange(4); '
             'next(loader.test_batches(data.test, batch_size=4, rows=rows, size=32, num_classes=1000, workers=1)); '
             'print([name for name in ("jax", "tensorflow") if name in sys.modules])')
  result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
  assert result.stdout.strip() == '[]'


def test_real_imagenet(real_imagenet):
  dataset = imagenet.load(str(real_imagenet))
  assert pathlib.Path(dataset.train.name_of(0).split('(')[1].rstrip(')')).suffix == '.JPEG'
  assert all(content[:2] == b'\xff\xd8' for content, _ in (dataset.train[i] for i in range(0, len(dataset.train), 10)))


@pytest.mark.parametrize('names', ['hub', 'folders'])
def test_parquet_files_give_the_same_examples(tmp_path, names, capsys):
  import pyarrow
  import pyarrow.parquet

  splits = {'train': imagenet_copies.examples(0, 23), 'validation': imagenet_copies.examples(100, 9)}
  for split, examples in splits.items():
    for shard, part in enumerate(np.array_split(np.arange(len(examples)), 3)):
      rows = [{'image': {'bytes': examples[i][1], 'path': examples[i][0]}, 'label': examples[i][2]} for i in part]
      file = tmp_path / ('data' if names == 'hub' else split) / f'{split}-{shard:05d}-of-00003.parquet'
      file.parent.mkdir(exist_ok=True)
      pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, row_group_size=4)
  dataset = imagenet.load(str(tmp_path))
  assert dataset.title == 'ImageNet, 23 of 1,281,167 train images, 9 of 50,000 validation images'
  for split, expected in ((dataset.train, splits['train']), (dataset.test, splits['validation'])):
    assert [split[i] for i in range(len(split))] == [(content, label) for _, content, label in expected]
  with ThreadPoolExecutor(8) as threads:
    order = [i * 7 % 23 for i in range(230)]
    assert list(threads.map(dataset.train.__getitem__, order)) == [dataset.train[i] for i in order]
  assert 'train-00001-of-00003.parquet' in dataset.train.name_of(10)
  assert 'row group' not in capsys.readouterr().out  # these are small ones
