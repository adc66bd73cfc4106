"""The benchmark of reading: its files, its arithmetic, and what it writes."""

import dataclasses

import pytest

from benchmarks.reading import __main__ as reading
from benchmarks.reading import shards
from benchmarks.reading.fresh import fresh_store
from benchmarks.reading.records import DryRun, KindRecord, ReadingRecord, Settings
from benchmarks.reading.report import report, summary
from benchmarks.records import Times
from benchmarks.timing import Stopped
from mixmin_jax.data.text.documents import read_corpus
from tests.benchmarks.made_up import MADE_BY, cells


def test_sources_of_all_kinds_have_the_size_asked_for_in_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_SHARD_BYTES", 40_000)
    made = shards.make(tmp_path, 3e-4)
    for kind, (count, text_bytes, file_bytes) in made.items():
        folder = tmp_path / kind.replace(".", "_")
        read = read_corpus(folder)
        assert len([*folder.iterdir()]) == count == 2 and read.num_bytes == text_bytes == pytest.approx(1e5, rel=0.1)
        assert sum(path.stat().st_size for path in folder.iterdir()) == file_bytes < text_bytes
        shards.plain(next(folder.iterdir()), kind)
    texts = [read_corpus(tmp_path / kind.replace(".", "_")).fingerprint for kind in made]
    assert len(set(texts)) == len(shards.KINDS)


@pytest.mark.slow
def test_a_fresh_process_tells_its_time_and_memory_or_why_it_failed(tmp_path):
    shards.make(tmp_path, 1e-4)
    found = fresh_store("reading", tmp_path / "parquet", "parquet", 10_000)
    assert found.seconds > 0 and (found.memory is None or found.memory > 2**24)
    with pytest.raises(Stopped, match="no such file or folder"):
        fresh_store("reading", tmp_path / "nowhere", "parquet", 10_000)


def test_the_report_has_a_row_for_each_kind_and_the_summary_its_ratios():
    def took(seconds):
        return Times(median_seconds=seconds, min_seconds=seconds / 2, max_seconds=2 * seconds, rounds=3)

    kinds = {
        "jsonl.gz": KindRecord(2, 3 * 10**9, 10**9, took(10.0), took(15.0), 300 * 10**6),
        "parquet": KindRecord(2, 3 * 10**9, 10**9, took(2.0), took(4.0), None),
    }
    record = ReadingRecord(
        made_by=MADE_BY, settings=Settings(3, 300.0, 6.0, 2**24), kinds=kinds, dry_run=DryRun(30.0, 2.5, 9 * 10**8)
    )
    record = dataclasses.replace(record, summary=summary(record))
    header, _, *rows = cells(report(record)[".md"])
    table = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert (
        table["`jsonl.gz`"] | {"read / decompress": "1.50", "MB of text / s": "200", "MB of memory": "300"}
        == (table["`jsonl.gz`"])
    )
    assert table["`parquet`"]["highest"] == "8.00" and table["`parquet`"]["MB of memory"] == ""
    assert "jsonl.gz 1.50 (0.38 to 6.00), parquet 2.00" in record.summary
    assert "memory 300 MB; dry run 30.0 s and 900 MB, again 2.5 s" in record.summary


def test_another_size_is_marked_as_a_part():
    assert reading.Config().is_whole and not reading.Config(gigabytes=1.0).is_whole
    assert reading.Config(quick=True).settings().gigabytes == 0.1 and reading.Config().settings().gigabytes == 10
