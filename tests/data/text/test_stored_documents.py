"""Sources that are larger than memory: what is kept is a fair sample, and what is on disk is whole or not there."""

import errno
import json
import os
import tempfile

import numpy as np
import pytest

from mixmin_jax.data.text import reading, stored_documents
from mixmin_jax.data.text.documents import Limits, Size, read_corpus
from mixmin_jax.data.text.shards import find_shards
from mixmin_jax.data.text.stored_documents import Sample, StoredDocuments, store_folder
from mixmin_jax.errors import InputError
from tests.experiments.made_up_text import write_lines

TEXTS = [f"document {n} " + "x" * (n % 40) for n in range(3000)]
NUM_BYTES = sum(map(len, TEXTS))


@pytest.fixture
def large(tmp_path, monkeypatch):
    """Three shards that count as large, and an own folder for what is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(reading, "IN_MEMORY", 10_000)
    monkeypatch.setattr(stored_documents, "_SPOOL", 10_000)
    for n in range(3):
        write_lines(tmp_path / "web" / f"{n}.jsonl", TEXTS[n::3])
    return tmp_path / "web"


def limited(path, num_bytes, seed=0):
    return read_corpus(path, limits=Limits(max_bytes=num_bytes, seed=seed))


def test_a_source_within_the_limit_is_kept_whole_and_in_order(large, monkeypatch):
    whole, limited_to_all = read_corpus(large), limited(large, NUM_BYTES)
    assert isinstance(limited_to_all.documents, StoredDocuments) and limited_to_all.whole is None
    assert limited_to_all.fingerprint == whole.fingerprint and limited_to_all.size == Size(3000, NUM_BYTES)
    monkeypatch.setattr(reading, "IN_MEMORY", NUM_BYTES)
    assert limited(large, NUM_BYTES + 1).documents == whole.documents


def test_a_sample_is_random_keeps_to_the_limit_and_nests(large):
    everything = read_corpus(large).documents
    small, more, other = limited(large, 4000), limited(large, 40_000), limited(large, 40_000, seed=1)
    assert small.size == more.size == Size(3000, NUM_BYTES) and set(small.documents) < set(more.documents)
    assert 3900 < small.num_bytes <= 4000 and 39_900 < more.num_bytes <= 40_000
    places = [everything.index(document) for document in more.documents]
    assert places == sorted(places) and set(more.documents) != set(other.documents)
    # in thirds of the stream, and in lengths, as many as chance gives (five standard deviations)
    share = more.num_documents / 3000
    thirds = np.bincount(np.array(places) // 1000, minlength=3)
    assert np.all(np.abs(thirds - 1000 * share) < 5 * np.sqrt(1000 * share))
    mean, spread = np.mean([*map(len, TEXTS)]), np.std([*map(len, TEXTS)])
    assert abs(more.num_bytes / more.num_documents - mean) < 5 * spread / np.sqrt(more.num_documents)


def test_a_document_is_kept_whatever_lies_beside_it(large):
    before = limited(large, 40_000)
    write_lines(large / "9.jsonl", [f"another {n}" for n in range(50)])
    after = limited(large, 40_000)
    new = {document for document in after.documents if document.startswith(b"another")}
    assert new and set(after.documents) - new < set(before.documents)


def test_a_document_longer_than_the_limit_is_kept_alone(large):
    assert limited(large, 1).num_documents == 1


def test_documents_in_a_file_are_read_as_those_in_a_tuple(large):
    kept = limited(large, 40_000)
    as_tuple = tuple(kept.documents)
    assert kept.documents[5] == as_tuple[5] and kept.documents[-1] == as_tuple[-1]
    assert tuple(kept.documents[3:9]) == as_tuple[3:9] and kept.num_bytes == sum(map(len, as_tuple))
    with pytest.raises(IndexError):
        kept.documents[len(as_tuple)]
    taken = kept.take(np.array([7, 2]))
    assert tuple(taken.documents) == (as_tuple[7], as_tuple[2])
    assert taken.size.documents == round(3000 * 2 / len(as_tuple))  # so much of the whole, as far as is known


def test_what_is_kept_is_found_again_until_the_source_changes(large, monkeypatch):
    first = limited(large, 40_000)

    def refuse(*_):
        raise AssertionError("read again")

    with monkeypatch.context() as patched:
        patched.setattr(reading, "read_shard", refuse)
        again = limited(large, 40_000)
        assert again.fingerprint == first.fingerprint and (again.size, again.notices) == (first.size, first.notices)
        with pytest.raises(AssertionError):
            limited(large, 40_001)
    write_lines(large / "0.jsonl", TEXTS)
    assert limited(large, 40_000).size.documents == 5000
    first, stat = limited(large, 40_000), (large / "0.jsonl").stat()
    write_lines(large / "0.jsonl", [text[::-1] for text in TEXTS])  # of the same size, and soon of the same time
    os.utime(large / "0.jsonl", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert limited(large, 40_000).fingerprint != first.fingerprint


@pytest.mark.parametrize("damage", ["no index", "cut index", "cut documents", "no documents"])
def test_what_is_half_written_is_not_taken_for_whole(large, damage):
    first = limited(large, 40_000)
    (index,) = store_folder().glob("*.json")
    path = index if "index" in damage else index.with_suffix(".documents")
    assert not [*store_folder().glob("*.partial")]
    content = path.read_bytes()
    path.unlink()
    if "cut" in damage:
        path.write_bytes(content[:-10])
    left, writing = store_folder() / "old.partial", store_folder() / "new.partial"
    left.touch()
    os.utime(left, (0, 0))  # by a process that was killed
    writing.touch()
    assert limited(large, 40_000).fingerprint == first.fingerprint
    assert path.read_bytes() == content and writing.exists() and not left.exists()


@pytest.mark.parametrize("at", ["while it is read", "at the end", "index"])
def test_a_full_disk_is_one_error_and_leaves_nothing(large, monkeypatch, at):
    full = OSError(errno.ENOSPC, "No space left on device")

    def refuse(*_, **__):
        raise full

    owner, name = {
        "while it is read": (tempfile.SpooledTemporaryFile, "write"),
        "at the end": (tempfile, "NamedTemporaryFile"),
        "index": (json, "dump"),
    }[at]
    monkeypatch.setattr(owner, name, refuse)
    with pytest.raises(
        InputError, match=r"web: its documents cannot be kept in .*documents \(No space left on device\)"
    ):
        limited(large, 40_000)
    assert not [path for path in store_folder().iterdir() if path.suffix in (".partial", ".json")]


def test_a_folder_that_cannot_be_written_matters_to_large_sources_only(large, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set XDG_CACHE_HOME to another folder"):
        limited(large, 40_000)
    write_lines(tmp_path / "small.jsonl", TEXTS[:10])
    assert limited(tmp_path / "small.jsonl", 40_000).num_documents == 10


@pytest.mark.slow
def test_memory_does_not_grow_with_the_stream(tmp_path):
    sample = Sample(tmp_path, 10_000, 0)
    for priority, _ in zip(sample.priorities(""), range(200_000), strict=False):
        sample.add(priority, b"x" * 100)
    assert len(sample._kept) <= 125 and sample.num_documents == 200_000
    assert sample.end < 10_000 * 20  # written in all: the limit times some logarithm
    sample.close()


def test_parts_that_several_processes_read_join_to_what_one_reads(large, tmp_path, monkeypatch):
    (large / "README.md").write_text("no data")
    with (large / "1.jsonl").open("a") as file:
        file.write("no JSON\n")
    write_lines(large / "3.jsonl", TEXTS[:40])
    alone = [limited(large, size) for size in (40_000, NUM_BYTES * 2)]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "others"))
    for whole, parts in zip(alone, (3, 5), strict=True):  # the fifth has no file
        found = reading.Reading("web", find_shards(large), "text", whole.limits)
        assert reading.is_shared(found) and not reading.join_parts(found, parts)
        for part in reversed(range(parts)):
            reading.read_part(found, part, parts)
        assert reading.join_parts(found, parts) and not reading.is_shared(found)
        assert len([*store_folder().iterdir()]) == 2  # the parts are gone
        with monkeypatch.context() as patched:
            patched.setattr(reading, "read_shard", None)  # nothing is read again
            joined = limited(large, whole.limits.max_bytes)
        assert joined.fingerprint == whole.fingerprint and joined.size == whole.size
        assert (joined.notices, joined.num_skipped) == (whole.notices, whole.num_skipped) and whole.num_skipped == 1
        for path in store_folder().iterdir():
            path.unlink()


@pytest.mark.parametrize("seed", range(4))
def test_what_a_part_left_out_is_not_replaced_by_what_others_kept(large, seed):
    """One file with long documents, each nearly all that is kept, beside one with short ones."""
    write_lines(large / "0.jsonl", [f"{n}" + "x" * 25_000 for n in range(20)])
    found = reading.Reading("web", find_shards(large), "text", Limits(max_bytes=40_000, seed=seed))
    for part in range(2):
        reading.read_part(found, part, 2)
    assert reading.join_parts(found, 2)
    joined = limited(large, 40_000, seed).fingerprint
    for path in store_folder().iterdir():
        path.unlink()
    assert joined == limited(large, 40_000, seed).fingerprint


def test_parts_with_too_many_unusable_documents_are_refused_when_joined(large):
    (large / "2.jsonl").write_text("no JSON\n" * 2000)
    found = reading.Reading("web", find_shards(large), "text", Limits(max_bytes=40_000))
    for part in range(2):
        reading.read_part(found, part, 2)
    with pytest.raises(InputError, match=r"2\.jsonl, line 1: not JSON .*2000 of 4000 documents of 'web' cannot"):
        reading.join_parts(found, 2)
    with pytest.raises(InputError, match="2000 of 4000 documents of 'web' cannot"):
        limited(large, 40_000)


def test_the_folder_keeps_to_its_size_and_to_what_is_in_use(large, monkeypatch):
    def age(seconds):
        for path in store_folder().iterdir():
            os.utime(path, (path.stat().st_mtime - seconds,) * 2)

    def sizes():
        return sorted(path.stat().st_size for path in store_folder().glob("*.documents"))

    held = limited(large, 40_000)
    for size in (30_000, 20_000):  # of which nothing is held
        limited(large, size)
    age(3600)
    assert limited(large, 20_000).num_documents  # used last
    age(3600)
    monkeypatch.setenv("MIXMIN_DOCUMENTS_GB", "7e-5")
    limited(large, 10_000)
    assert [size // 9000 for size in sizes()] == [1, 2, 4]  # without the 30 kB that nobody uses
    monkeypatch.setenv("MIXMIN_DOCUMENTS_GB", "0")
    age(3600)
    limited(large, 5000)
    assert [size // 4900 for size in sizes()] == [1, 8] and len(held.fingerprint) == 64
    assert len([*store_folder().glob("*.json")]) == 2
    monkeypatch.setenv("MIXMIN_DOCUMENTS_GB", "many")
    with pytest.raises(InputError, match="MIXMIN_DOCUMENTS_GB=many: expected a number of gigabytes"):
        limited(large, 5000)
