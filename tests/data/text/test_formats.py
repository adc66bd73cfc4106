"""Each format against the library that writes it, and what a user is told of files that cannot be read."""

import bz2
import gzip
import json
import lzma
import random

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mixmin_jax.data.text import formats
from mixmin_jax.data.text.documents import Limits, read_corpus
from mixmin_jax.errors import InputError
from tests.data.test_decompression import COMPRESS

TEXTS = ["one", "zwölf\n", " three", '"four" \\ {', "five\u2028" * 30]
DOCUMENTS = tuple(text.encode() for text in TEXTS)
RECORDS = [{"id": n, "text": text, "meta": {"n": [n, None]}} for n, text in enumerate(TEXTS)]
TABLE = pa.table({"id": list(range(5)), "text": TEXTS})


def json_lines(records=RECORDS):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def write_parquet(path, table=TABLE, **options):
    pyarrow.parquet.write_table(table, path, row_group_size=2, **options)


def write_arrow(path, table=TABLE, new=pyarrow.ipc.new_stream):
    with new(path, table.schema) as stream:
        stream.write_table(table, max_chunksize=2)


@pytest.mark.parametrize("packed", ["", *COMPRESS])
@pytest.mark.parametrize("ending", [".jsonl", ".NDJSON", ".json", "array.json", "pretty.Json", ".txt"])
def test_text_formats_give_back_what_was_written(tmp_path, ending, packed):
    content = {
        "array.json": json.dumps(RECORDS).encode(),
        "pretty.Json": b"\xef\xbb\xbf" + json.dumps(RECORDS, indent=2, ensure_ascii=False).encode(),
        ".txt": DOCUMENTS[1],
    }.get(ending, json_lines())
    path = tmp_path / f"code{ending}{packed.upper()}"
    path.write_bytes(COMPRESS[packed](content) if packed else content)
    read = read_corpus(path)
    assert read.documents == (DOCUMENTS[1:2] if ending == ".txt" else DOCUMENTS)
    assert read.name.startswith("code") and "." not in read.name and not read.notices


TABLES = {
    "plain": TABLE,
    "large": TABLE.cast(pa.schema([("id", pa.int64()), ("text", pa.large_string())])),
    "binary": TABLE.cast(pa.schema([("id", pa.int64()), ("text", pa.binary())])),
    "dictionary": TABLE.set_column(1, "text", TABLE["text"].dictionary_encode()),
}


@pytest.mark.parametrize("kind", TABLES)
def test_columns_of_text_give_back_what_was_written(tmp_path, kind):
    write_parquet(tmp_path / "a.parquet", TABLES[kind])
    write_arrow(tmp_path / "b.arrow", TABLES[kind])
    write_arrow(tmp_path / "c.arrow", TABLES[kind], pyarrow.ipc.new_file)
    assert read_corpus(tmp_path).documents == DOCUMENTS * 3


def test_data_sets_that_hugging_face_saves_are_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list(RECORDS)
    made.save_to_disk(tmp_path / "saved", num_shards=2)
    datasets.DatasetDict({"train": made}).save_to_disk(tmp_path / "one_split")
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "splits")
    made.to_parquet(tmp_path / "a.parquet")
    made.to_json(tmp_path / "b.jsonl.gz")
    for name in ("saved", "one_split", "splits/train", "a.parquet", "b.jsonl.gz"):
        assert read_corpus(tmp_path / name).documents == DOCUMENTS
    with pytest.raises(InputError, match=r"splits: a data set of 2 splits \(test, train\); give the folder of one"):
        read_corpus(tmp_path / "splits")


@settings(deadline=None)  # the machine may be busy
@given(
    values=st.lists(st.sampled_from(['{"text": "a"}', '{"text":"é \\" ]","n":[1,{"b":2}]}', '{ "text" : "\\u00e9" }'])),
    space=st.sampled_from(["", " ", "\r\n "]),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
)
def test_an_array_is_read_wherever_chunks_end(tmp_path_factory, values, space, sizes):
    text = f"[{space}" + f"{space},{space}".join(values) + f"{space}]{space}"
    data, parts = text.encode(), []
    while data:
        size = sizes[len(parts) % len(sizes)]
        parts.append(data[:size])
        data = data[size:]
    found = list(formats._array(iter(parts), "text", 0))
    assert found == [record["text"].encode() for record in json.loads(text)]


def test_a_long_text_is_cut_at_line_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "LONG_TEXT", 1000)
    monkeypatch.setattr(formats, "PIECE", 300)
    text = "".join(f"line {n} é\n" for n in range(2000)).encode()
    (tmp_path / "long.txt").write_bytes(text)
    documents = read_corpus(tmp_path / "long.txt").documents
    assert b"".join(documents) == text.removesuffix(b"\n") and len(documents) > 1
    assert all(document.endswith(b"\n") and 300 <= len(document) < 320 for document in documents[:-1])
    (tmp_path / "long.txt").write_bytes(text.replace(b"line 1500 ", b"line \xff "))
    read = read_corpus(tmp_path / "long.txt", limits=Limits(0.5))
    assert read.num_skipped == 1 and "long.txt, line 1501: not valid UTF-8" in read.notices[0]


def test_a_file_of_another_schema_is_no_document_that_cannot_be_used(tmp_path):
    write_parquet(tmp_path / "a.parquet")
    write_parquet(tmp_path / "b.parquet", pa.table({"body": ["x"]}))
    with pytest.raises(InputError, match=r"b\.parquet: no column 'text'; columns of text are \['body'\]"):
        read_corpus(tmp_path, limits=Limits(0.5))


def damaged_parquet(path):
    texts = [random.Random(n).randbytes(2000).hex() for n in range(60)]
    table = pa.table({"text": texts})
    pyarrow.parquet.write_table(
        table, path, row_group_size=10, use_dictionary=False, compression="none", write_page_checksum=True
    )
    data = bytearray(path.read_bytes())
    at = data.index(texts[33].encode())
    data[at : at + 4] = b"\xff\x00\xff\x00"
    return bytes(data)


ZIPPED = gzip.compress(json_lines([{"text": random.Random(n).randbytes(500).hex()} for n in range(400)]), mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", TABLE.drop_columns("text"), r"no column 'text'; no column is text; there are \['id'\]"),
        (
            "a.parquet",
            pa.table({"text": [1], "body": ["x"]}),
            r"column 'text' is not text but int64; .* are \['body'\]",
        ),
        ("a.arrow", pa.table({"text": [[1]]}), "column 'text' is not text but list<.*int64>"),
        ("a.parquet", pa.table({"text": ["x", None]}), ", row 1: column 'text' is null"),
        ("a.parquet", pa.table({"text": [" ", "x"]}), ", row 0: an empty document"),
        ("a.parquet", pa.table({"text": pa.array([], pa.string())}), ": empty, no document"),
        ("a.parquet", pa.table({"text": [b"x", b"\xff"]}), ", row 1: column 'text' is not valid UTF-8"),
        ("a.parquet", b"PAR1 and no more", ": cut off, or no parquet"),
        ("a.arrow", b"no arrow", ": cut off, or no arrow file"),
        ("a.json", b'[{"text": "x"}, {"text": "y"', ", after item 1: not JSON"),
        ("a.json", b'[{"text": "x"} {"text": "y"}]', r", after item 1: not JSON \(a comma is missing\)"),
        ("a.json", b'[{"text": "x"},', ", after item 1: not JSON"),
        ("a.json", b'[{"text": "x"}', r", after item 1: not JSON \(the end of the array is missing\)"),
        ("a.json", b'[{"text": "x"}]]', r", after item 1: not JSON \(something follows the array\)"),
        ("a.json", b'[{"txt": "x"}]', r", item 1: no field 'text'; the fields are \['txt'\]"),
        ("a.json", b"[]", ": empty, no document"),
        ("a.json", b'{"text": "x"}\n{"text": 3}', ", line 2: field 'text' is not a string but int"),
        ("a.txt.zst", zstandard.compress(b"text" * 1000)[:-2], ": truncated zstd, the end is missing after byte"),
        ("a.jsonl.xz", lzma.compress(json_lines())[:-2], ": truncated xz"),
        ("a.jsonl.bz2", bz2.compress(json_lines())[:50], ": truncated bzip2"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(tmp_path, name, content, message):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        (write_arrow if name.endswith("arrow") else write_parquet)(path, content)
    with pytest.raises(InputError, match=f"{name}{message}|{name}: {message}"):
        read_corpus(path)


def test_a_field_whose_name_json_escapes(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({'a "b"\n': "text", "other": 1}) + "\n")
    assert list(read_corpus(tmp_path / "a.jsonl", field='a "b"\n').documents) == [b"text"]


def test_an_empty_shard_among_others_is_named_and_does_not_count(tmp_path):
    (tmp_path / "0.jsonl").write_text('{"text": "x"}\n')
    (tmp_path / "1.jsonl").touch()
    read = read_corpus(tmp_path)
    assert (read.num_documents, read.num_skipped) == (1, 0) and "1.jsonl: empty" in read.notices[0]


def test_the_readable_part_of_a_damaged_file_is_used_if_it_is_large_enough(tmp_path):
    (tmp_path / "a.parquet").write_bytes(damaged_parquet(tmp_path / "a.parquet"))
    read = read_corpus(tmp_path / "a.parquet", limits=Limits(0.2))
    assert (read.num_documents, read.num_skipped) == (50, 10) and "a.parquet, row group 3: cannot" in read.notices[0]
    with pytest.raises(InputError, match=r"row group 3: .*\(10 of 60 documents of 'a' cannot be used; .* allows 0.1"):
        read_corpus(tmp_path / "a.parquet", limits=Limits(0.1))

    flipped = bytearray(ZIPPED)
    flipped[-8] ^= 1  # the checksum
    (tmp_path / "b.jsonl.gz").write_bytes(flipped)
    read = read_corpus(tmp_path / "b.jsonl.gz", limits=Limits(0.5))
    assert 200 < read.num_documents < 400 and "not a valid gzip near byte" in read.notices[0]
    (tmp_path / "whole").mkdir()
    for n in range(4):
        (tmp_path / "whole" / f"{n}.jsonl.gz").write_bytes(ZIPPED)
    (tmp_path / "whole" / "4.jsonl.gz").write_bytes(ZIPPED[:-20])  # counts as if all of it were lost
    with pytest.raises(InputError, match=r"4\.jsonl\.gz: truncated gzip.* and 20% of the bytes of 'whole'"):
        read_corpus(tmp_path / "whole", limits=Limits(0.1))
    assert 1600 < read_corpus(tmp_path / "whole", limits=Limits(0.3)).num_documents < 2000
