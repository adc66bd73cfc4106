"""Records of data sets: reading again finds what was read, and notices what changed."""

import dataclasses
import sys
from types import SimpleNamespace

import pytest
from PIL import Image

from experiments.harness.data_sets import file_record, image_records, path_of, read_again, text_record
from experiments.harness.options import numbers_of
from experiments.harness.provenance import provenance
from experiments.verify.data import unchanged
from mixmin_jax.data.images.sources import read_images
from mixmin_jax.data.text.documents import Corpus, Limits
from mixmin_jax.data.text.sources import read_any
from mixmin_jax.errors import InputError


def test_text_is_read_again_as_it_was_given(tmp_path):
    path = tmp_path / "code.jsonl"
    path.write_text('{"body": "one"}\n{"body": " "}\n{"body": "three"}\n')
    record = text_record("source", read_any(path, field="body", limits=Limits(0.5)), "body")
    assert record.counts == {"documents": 2, "empty_documents_skipped": 1} and record.bytes == 8
    assert path_of(record) == path and read_again(record, {}) == record
    assert record.options == {"field": "body", "max_unreadable": 0.5}
    path.write_text('{"body": "one"}\n{"body": "three!"}\n')
    assert read_again(record, {}).sha256 != record.sha256
    path.unlink()
    with pytest.raises(InputError, match=r"code\.jsonl: no such file"):
        read_again(record, {})


def test_images_are_read_once_for_both_parts(tmp_path, monkeypatch):
    for part, count in (("train", 3), ("test", 2)):
        for label, grey in (("dark", 0), ("light", 200)):
            (tmp_path / part / label).mkdir(parents=True)
            for number in range(count):
                Image.new("L", (6, 6), grey + number).save(tmp_path / part / label / f"{number}.png")
    spec = f"folder:{tmp_path}"
    train, test = image_records(read_images(spec, 4), spec, 4)
    assert train.counts == {"images": 6, "skipped": 0} and test.bytes == 4 * 4 * 4 * train.bytes // (6 * 16)
    assert path_of(train) == tmp_path and train.options == {"size": 4, "part": "train"}
    loaded = {}
    assert [read_again(record, loaded) for record in (train, test)] == [train, test] and len(loaded) == 1
    Image.new("L", (6, 6), 99).save(tmp_path / "test" / "dark" / "0.png")
    assert read_again(train, {}) == train and read_again(test, {}).sha256 != test.sha256


def test_what_comes_with_a_package_has_no_path():
    (train, test) = image_records(read_images("digits"), "digits", None)
    assert path_of(train) is None and read_again(test, {}) == test and test.counts["images"] == 359


def test_a_file_is_known_by_its_bytes_and_an_unknown_reader_is_refused(tmp_path):
    (tmp_path / "scores.npz").write_bytes(b"123")
    record = file_record("log-likelihoods", tmp_path / "scores.npz", {"examples": 5})
    assert read_again(record, {}) == record
    with pytest.raises(ValueError, match="no reader is called 'oracle'"):
        read_again(dataclasses.replace(record, reader="oracle"), {})


def test_a_url_without_its_signature_cannot_be_read_again_and_no_record_holds_that(monkeypatch):
    url, shown = "https://host/web.jsonl?X-Amz-Signature=secret", "https://host/web.jsonl?..."
    record = text_record("source", Corpus("web", (b"a",), shown), "text")
    result = SimpleNamespace(metrics=SimpleNamespace(data_sets=[record]))
    found = {required: next(unchanged([result], required)) for required in (False, True)}
    assert [found[required].outcome for required in (False, True)] == ["not checked", "FAILED"]
    assert all("is not on record" in one.why and shown in one.what for one in found.values())
    monkeypatch.setattr(sys, "argv", ["x.py", "--sources", url])
    assert provenance().command.endswith(f"--sources '{shown}'")
    assert numbers_of({"sources": (url, "a?b"), "k": 3}) == {"sources": (shown, "a?b"), "k": 3}
