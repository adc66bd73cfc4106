"""Reads data sets that TFDS itself writes into a temporary folder, in its array_record format, without TensorFlow."""

import socket
import urllib.request

import numpy as np
import pytest

from mixmin_jax.data.text import reading
from mixmin_jax.data.text.documents import Limits
from mixmin_jax.data.text.sources import read_any, read_sources
from mixmin_jax.data.text.tfds_text import default_name, read_tfds
from mixmin_jax.errors import InputError
from tests.data.written_tfds import search_in, tfds, write


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    text = tfds.features.Text
    features = {
        "body": text(),
        "label": tfds.features.ClassLabel(names=["a", "b"]),
        "pair": tfds.features.Translation(languages=["en", "fr"]),
        "many": tfds.features.Sequence(text()),
        "vector": tfds.features.Tensor(shape=(2,), dtype=np.float32),
    }
    bodies = {
        "train": ["zwölf", "two\nlines", " ", "four", "five"],
        "test": ["test"],
        "blank": ["\n"],
        "broken": ["fine", b"\xff"],
    }
    rest = {"label": "a", "pair": {"en": "yes", "fr": "ça"}, "many": ["x"], "vector": np.zeros(2, np.float32)}
    splits = {split: [{"body": body, **rest} for body in texts] for split, texts in bodies.items()}
    write(root, "tiny_text", features, splits)
    return str(root)


def test_texts_come_back_in_order_across_shards(data_dir):
    read = read_tfds("tfds:tiny_text:body", data_dir=data_dir, limits=Limits(0.2))
    with pytest.raises(InputError, match=r"example 2: an empty document \(1 of 5 documents"):
        read_tfds("tfds:tiny_text:body", data_dir=data_dir)
    assert read.documents == ("zwölf".encode(), b"two\nlines", b"four", b"five")
    assert (read.name, read.origin, read.num_skipped) == ("tiny_text_body", "tfds:tiny_text/1.0.0:body@train", 1)


@pytest.mark.parametrize(
    ("spec", "documents"),
    [
        ("tfds:tiny_text:body@test", (b"test",)),
        ("tfds:tiny_text:body@train[:2]+test", ("zwölf".encode(), b"two\nlines", b"test")),
        ("tfds:tiny_text:1.0.0:body@test", (b"test",)),
        ("tfds:tiny_text:pair/fr@test", ("ça".encode(),)),
    ],
)
def test_split_version_and_nested_field(data_dir, spec, documents):
    assert read_tfds(spec, data_dir=data_dir).documents == documents


def test_a_large_data_set_is_sampled_into_the_store(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(reading, "IN_MEMORY", 10)
    limits = Limits(0.2, max_bytes=14)
    read = read_tfds("tfds:tiny_text:body", data_dir=data_dir, limits=limits)
    assert read.num_bytes <= 14 < read.size.bytes and read.size.documents == 4 and read.num_skipped == 1
    monkeypatch.setattr(reading, "read_shard", None)
    assert read_tfds("tfds:tiny_text:body", data_dir=data_dir, limits=limits).fingerprint == read.fingerprint
    assert read_tfds("tfds:tiny_text:body", data_dir=data_dir, limits=limits).origin == read.origin


def test_specs_stand_where_paths_do(data_dir, tmp_path, monkeypatch):
    search_in(monkeypatch, data_dir)
    (tmp_path / "prose.txt").write_text("prose")
    assert read_any("tfds:tiny_text:body@test", name="n").name == "n"
    names = [source.name for source in read_sources("tfds:tiny_text:pair/en", tmp_path / "prose.txt")]
    assert names == ["prose", "tiny_text_pair_en"]
    with pytest.raises(InputError, match="at least two sources, only tfds:tiny_text:body"):
        read_sources("tfds:tiny_text:body")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tfds:tiny_text", "expected tfds:NAME:FIELD"),
        ("tfds::body", "expected tfds:NAME:FIELD"),
        ("tfds:tiny_text:body@", "expected tfds:NAME:FIELD"),
        ("tfds:tiny_text:text", "'text' is not a text field of it; those are body, pair/en, pair/fr$"),
        ("tfds:tiny_text:label", "'label' is not a text field"),
        ("tfds:tiny_text:many", "'many' is not a text field"),
        ("tfds:tiny_text:pair", "'pair' is not a text field"),
        ("tfds:tiny_text:vector", "'vector' is not a text field"),
        ("tfds:tiny_text:body@dev", r"Unknown split 'dev'.*'train'.*\)$"),
        ("tfds:tiny_text:body@blank", "example 0: an empty document"),
        ("tfds:tiny_text:body@broken", "example 1: not valid UTF-8"),
        ("tfds:tiny_text:9.9.9:body", "knows no data set 'tiny_text:9.9.9'"),
        ("tfds:ag_news_subse:title", "knows no data set 'ag_news_subse'.*close names: .*ag_news_subset"),
        ("tfds:ag_news_subset/none:title", "BuilderConfig none not found"),
    ],
)
def test_bad_specs_are_explained(data_dir, spec, message):
    with pytest.raises(InputError, match=message) as caught:
        read_tfds(spec, data_dir=data_dir)
    assert str(caught.value).startswith(spec)


@pytest.mark.parametrize(
    ("proxies", "message"),
    [
        ({}, r"no network to fetch it from .*; prepare it .*TFDS_DATA_DIR"),
        ({"https": "proxy"}, r"cannot be read \(OSError: disk full\); prepare it"),
    ],
)
def test_a_failing_download_is_explained_and_not_tried_without_a_network(tmp_path, monkeypatch, proxies, message):
    def no_network(*args):
        raise socket.gaierror(-2, "Name or service not known")

    def no_room(*args):
        raise OSError("disk full\nand more")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(urllib.request, "getproxies", lambda: proxies)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", no_room)
    with pytest.raises(InputError, match=message):
        read_tfds("tfds:ag_news_subset:title", data_dir=str(tmp_path))


def test_default_names_are_fit_for_folders():
    assert default_name("tfds:paws_x_wiki/en:sentence1@test") == "paws_x_wiki_en_sentence1_test"
    assert default_name("tfds:a:1.0.0:b@train[:10%]") == "a_1.0.0_b_train_10"
