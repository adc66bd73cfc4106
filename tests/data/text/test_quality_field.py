"""A quality that the data brings stays with its document, and what is no number is refused with its row."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from mixmin_jax.data.text import reading, stored_documents
from mixmin_jax.data.text.deduplication import drop_overlap
from mixmin_jax.data.text.documents import Limits, read_corpus
from mixmin_jax.data.text.shards import find_shards
from mixmin_jax.data.text.sources import read_any, read_sources
from mixmin_jax.errors import InputError
from tests.data.text.corpora import corpus, numbered

TEXTS = ["one", "  ", "two é", "three"]  # the second is no document
QUALITY = [0.1, 9.0, -2.5, 1e300]
ROWS = [{"q": q, "text": text, "id": n} for n, (q, text) in enumerate(zip(QUALITY, TEXTS, strict=True))]
SKIPS = Limits(0.5)


def write(path, rows=ROWS):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    else:
        with pyarrow.ipc.new_stream(path, (table := pa.Table.from_pylist(rows)).schema) as stream:
            stream.write_table(table, max_chunksize=2)


FORMATS = [".jsonl", ".json", ".parquet", ".arrow"]


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_gives_the_quality_of_each_document(tmp_path, ending):
    write(path := tmp_path / f"web{ending}")
    read, without = read_corpus(path, limits=SKIPS, quality_field="q"), read_corpus(path, limits=SKIPS)
    assert read.documents == without.documents == (b"one", "two é".encode(), b"three")
    assert without.quality_D is None and without.take([1]).quality_D is None
    assert read.quality_D.dtype == np.float64 and read.quality_D.tolist() == [0.1, -2.5, 1e300]
    assert read.take(np.array([2, 0])).quality_D.tolist() == [1e300, 0.1]
    assert read_corpus(path, limits=SKIPS, quality_field="id").quality_D.tolist() == [0, 2, 3]


def test_columns_of_short_and_whole_numbers(tmp_path):
    table = pa.table({"text": ["a", "b"], "f": pa.array(np.array([0.5, 2], np.float16)), "u": pa.array([1, 2], "u1")})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert [read_corpus(tmp_path, quality_field=name).quality_D.tolist() for name in "fu"] == [[0.5, 2], [1, 2]]


BAD = {
    "null": (None, "'q' is null"),
    "text": ("0.7", "'q' is not a number but str"),
    "truth": (True, "'q' is not a number but bool"),
    "list": ([1], "'q' is not a number but list"),
    "nan": (float("nan"), "'q' is nan"),
    "infinite": (float("-inf"), "'q' is -inf"),
    "huge": (10**400, "'q' is inf"),
}


@pytest.mark.parametrize("ending", [".jsonl", ".json"])
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_number_is_refused_with_its_row(tmp_path, ending, kind):
    value, says = BAD[kind]
    write(tmp_path / f"web{ending}", [*ROWS, {"text": "x", "q": value}, {"text": "y", "q": value}])
    where = "line" if ending == ".jsonl" else "item"
    with pytest.raises(InputError, match=re.escape(f"web{ending}, {where} 5: {says} (2 of its 5 documents")):
        read_corpus(tmp_path / f"web{ending}", limits=SKIPS, quality_field="q")


@pytest.mark.parametrize("ending", FORMATS)
def test_a_quality_that_is_missing(tmp_path, ending):
    write(path := tmp_path / f"web{ending}")
    with pytest.raises(InputError, match=r"'p' is missing \(3 of its 3" if "json" in ending else "no columns 'p'.*'q'"):
        read_corpus(path, limits=SKIPS, quality_field="p")
    with pytest.raises(
        InputError, match="is not a number but str" if "json" in ending else "is not numbers but string"
    ):
        read_corpus(path, limits=SKIPS, quality_field="text")
    write(path, [*ROWS, {"text": "x", "q": None}])
    where = {".jsonl": "line 5", ".json": "item 5"}.get(ending, "row 4")
    with pytest.raises(InputError, match=rf"{where}: 'q' is null \(1 of its 4"):
        read_corpus(path, limits=SKIPS, quality_field="q")


def test_a_quality_that_tells_nothing_and_files_without_fields(tmp_path):
    write(tmp_path / "web.jsonl", [{"text": text, "q": 3} for text in "ab"])
    with pytest.raises(InputError, match=r"web \(.*\): 'q' is 3 for all 2 documents"):
        read_corpus(tmp_path / "web.jsonl", quality_field="q")
    (tmp_path / "prose.txt").write_text("prose")
    with pytest.raises(InputError, match=r"prose\.txt: \.txt data has no fields"):
        read_corpus(tmp_path / "prose.txt", quality_field="q")
    with pytest.raises(InputError, match="no quality can be read from TFDS"):
        read_any("tfds:ag_news_subset:title", quality_field="q")


def test_quality_stays_with_what_is_left_of_the_sources(tmp_path):
    repeated = numbered("w", 0, 20)
    write(tmp_path / "a.jsonl", [{"text": "a", "q": 1}, {"text": repeated, "q": 2}, {"text": "c", "q": 3}])
    write(tmp_path / "b.parquet", [{"text": "b", "q": 5}, {"text": "d", "q": 4}])
    sources = read_sources(tmp_path, quality_field="q")
    left = drop_overlap([corpus("target", repeated)], sources).sources
    assert [source.quality_D.tolist() for source in left] == [[1, 3], [5, 4]]


def test_samples_and_parts_keep_it(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "IN_MEMORY", 1000)
    monkeypatch.setattr(stored_documents, "_SPOOL", 1000)
    (tmp_path / "web").mkdir()
    for part in range(2):
        write(tmp_path / "web" / f"{part}.jsonl", [{"text": f"{n:08}", "q": n} for n in range(part, 600, 2)])
    limits = Limits(max_bytes=2000)

    def check(use):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / use))
        if use == "parts":
            found = reading.Reading("web", find_shards(tmp_path / "web"), "text", limits, "q")
            for part in range(2):
                reading.read_part(found, part, 2)
            assert reading.join_parts(found, 2)
        for _ in range(2):  # the second comes from the store
            read = read_corpus(tmp_path / "web", limits=limits, quality_field="q")
            assert read.num_documents == 250 and read.quality_D.tolist() == [int(text) for text in read.documents]
        without = read_corpus(tmp_path / "web", limits=limits)
        assert without.quality_D is None and without.fingerprint == read.fingerprint
        return read.fingerprint

    assert check("alone") == check("parts")
