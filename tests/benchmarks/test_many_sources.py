"""The benchmark of many sources: what it makes, and what it says."""

import dataclasses

import pytest

from benchmarks.many_sources import __main__ as many_sources
from benchmarks.many_sources import measure
from benchmarks.many_sources.records import Case, ManySourcesRecord, Settings
from benchmarks.many_sources.report import report, summary
from mixmin_jax.data.text.documents import read_corpus
from mixmin_jax.data.text.sources import read_sources
from mixmin_jax.errors import InputError
from tests.benchmarks.made_up import MADE_BY, cells


def test_sources_have_their_size_and_words_of_their_own_and_the_target_those_of_some(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "TARGET_BYTES", 20_000)
    measure._make(tmp_path, 6, 30_000)
    sources, target = read_sources(tmp_path / "sources"), read_corpus(tmp_path / "target.jsonl")
    assert [source.num_bytes for source in sources] == pytest.approx([30_000] * 6, rel=0.15)
    assert target.num_bytes == pytest.approx(20_000, rel=0.3)
    words = [set(b" ".join(source.documents).split()) for source in sources]
    own = set(b" ".join(target.documents).split())
    shared = [len(own & found) / len(own) for found in words]
    assert min(shared[: measure.TARGET_SOURCES]) > 2 * shared[-1]


def test_the_report_has_a_row_for_each_size_and_the_summary_its_time_and_memory():
    stages = {"quality": 2.0, "scores": 3.0}
    cases = (
        Case(2, 10, 2 * 10**6, 8.0, stages, None, 7, 1e-11, 1e-9),
        Case(10, 99, 2 * 10**7, 99.0, stages, 10**9, 40, 5e-10, 1e-9),
    )
    record = ManySourcesRecord(made_by=MADE_BY, settings=Settings((10, 100), 200_000), cases=cases)
    record = dataclasses.replace(record, summary=summary(record))
    header, _, *rows = cells(report(record)[".md"])
    last = dict(zip(header, rows[1], strict=True))
    assert last["buckets"] == "99" and last["s / bucket"] == "1.00" and last["scores s"] == "3.0"
    assert last["GB of memory"] == "1.00" and last["gap / tolerance"] == "0.50"
    assert record.summary == "many_sources, 200 kB each: 10 buckets 8 s and ? GB, 99 buckets 99 s and 1 GB"


def test_what_is_measured_once_takes_no_rounds():
    with pytest.raises(InputError, match="leave out --repeats and --budget"):
        many_sources.Config(repeats=2)
    assert many_sources.Config().is_whole and not many_sources.Config(buckets=(10,)).is_whole
