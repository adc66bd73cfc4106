"""Data sets that TFDS itself writes, in its array_record format, without TensorFlow."""

import pytest

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record", reason="array_record has no wheels for this system")


def search_in(monkeypatch, data_dir):
    """Let TFDS find the data sets of this folder without being told."""
    builder = tfds.builder
    monkeypatch.setattr(tfds, "builder", lambda *args, **options: builder(*args, **(options | {"data_dir": data_dir})))


def write(root, name, features, splits, keys=None):
    folder = root / name / "1.0.0"
    folder.mkdir(parents=True)
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name=name
    )
    info = tfds.core.DatasetInfo(builder=identity, features=tfds.features.FeaturesDict(features), supervised_keys=keys)
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=4, file_format="array_record")
    writer.initialize_splits(list(splits))
    for split, examples in splits.items():
        writer.add_examples({split: examples})
    writer.close_all()
