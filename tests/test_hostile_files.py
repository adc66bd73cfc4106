"""Damaged and malicious files: every reader gives a result that is right, or one InputError that names the file.

Never another exception, never a hang. Files are valid ones that were cut, flipped, shuffled and spiked with what
readers stumble over, or arbitrary bytes. A result is compared with that of a slow reader of a few lines.
"""

import ast
import csv
import gzip
import io
import json
import os
import pickle
import signal
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import hypothesis
import numpy as np
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest
from hypothesis import strategies as st

from experiments.harness import stages
from experiments.questions import read_results
from experiments.regmix_published.data import read_runs
from experiments.reporting.json_files import dumps
from experiments.reporting.schema import MadeBy
from experiments.weights_from_file.data import LENGTH, read_table
from experiments.weights_from_file.harness_logs import read_logs
from mixmin_jax.data.images.folders import read_image_folder
from mixmin_jax.data.molecules.assay_tables import read_assays
from mixmin_jax.data.series.sources import SeriesReading, read_series
from mixmin_jax.data.text.documents import Limits, read_corpus
from mixmin_jax.errors import InputError
from mixmin_jax.mixture.scale import blocks
from tests.data.images.pictures import encode, tar_of
from tests.experiments.text_mixture.made_up import made_up
from tests.experiments.weights_from_file.harness_lines import choice, cloze, rolling

ROOT = Path(__file__).parents[1]
SECONDS = 30  # of one file; a sound reader takes milliseconds, on a busy machine too


@contextmanager
def no_hang():
    def give_up(number, frame):
        raise AssertionError(f"still reading after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ------------------------------------------------------------------------------------------------- what makes them

SPIKES = [
    *(b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\r", b"\r\n", b"\n\n", b"\x0b", b"\x85", b"\xe2\x80\xa8", b'"'),
    *(b"'", b",", b",,", b";", b"\t", b"{", b"}", b"[" * 3000, b"null", b"NaN", b"nan", b"-inf", b"Infinity", b"true"),
    *(b"1e999", b"-0", b"1_0", b"0x1p3", b"+1", b"1" * 5000, b"9" * 400, b"\\ud800", b"\\u0000", b"\xed\xa0\x80"),
    *(b"\xc3\x28", b"caf\xe9", "é".encode("utf-16"), b"(" * 3000, b"-1", b"2", b"0.5", b"1e39", b"length", b"smiles"),
    *(b'"text"', b" ", b"a" * 200_000, b"None", b"True", b"|O", b">f4", b"<U9", b"<M8[s]", b"99999999999999999999"),
]


@st.composite
def damaged(draw, valid):
    """One of `valid` after a few edits, or arbitrary bytes."""
    if not draw(st.integers(0, 9)):
        return draw(st.binary(max_size=200))
    data = draw(st.sampled_from(valid))
    for _ in range(draw(st.integers(0, 3))):
        data = _edit(draw, data)
    return data


def _edit(draw, data):
    kind = draw(st.sampled_from(["cut", "flip", "spike", "drop", "repeat", "swap"]))
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    to = min(at + draw(st.integers(0, 40)), len(data))
    if kind == "cut":
        return data[:at]
    if kind == "flip" and data:
        return data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
    if kind == "spike":
        return data[:at] + draw(st.sampled_from(SPIKES)) + data[draw(st.sampled_from([at, to])) :]
    if kind == "drop":
        return data[:at] + data[to:]
    if kind == "repeat":
        return data[:to] + data[at:to] * draw(st.sampled_from([1, 2, 300])) + data[to:]
    lines = data.split(b"\n")
    i, j = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    lines[i], lines[j] = lines[j], lines[i]
    return b"\n".join(lines)


def zipped(valid):
    """Damaged, then compressed; or compressed, then damaged."""
    return damaged(valid).map(lambda data: gzip.compress(data, 1)) | damaged([gzip.compress(valid[0])])


def npy(array, version=(1, 0)):
    content = io.BytesIO()
    np.lib.format.write_array(content, array, version, allow_pickle=True)
    return content.getvalue()


def npy_with_header(header, data=b""):
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def npy_headers():
    """Headers that say something else than what follows."""
    numbers = st.sampled_from([0, 1, 2, 3, 6, 24, -1, -6, 2**31, 2**40, 2**62, 2**63, 2**70, True, 1.5, None, "3"])
    shapes = st.lists(numbers, max_size=4).map(tuple) | numbers
    types = [
        "<f8", ">f8", "<f4", "<f2", "<i8", "|b1", "|u1", "<U3", "|S3", "|O", "<M8[s]", "<c16", "|V0", "|V8", "<f16",
        "f8,f8", "", "zz", "<f0", "<U0", [("a", "<f8")], [("a", "|O")], [], 3, None, "(" * 300,
    ]  # fmt: skip
    fields = {"descr": st.sampled_from(types), "fortran_order": st.sampled_from([True, False, 1, None])}
    sound = st.fixed_dictionaries({}, optional=fields | {"shape": shapes}).map(repr)
    odd = ["", "{", "{[]: 1}", "[" * 3000, "-" * 3000 + "1", "__import__('os').abort()", "{'descr': 1L}"]
    return st.builds(npy_with_header, sound | st.sampled_from(odd), st.binary(max_size=48))


ARRAY_2x3 = np.arange(6.0).reshape(2, 3) - 7
ARRAYS = [
    ARRAY_2x3, ARRAY_2x3.astype(">f8"), np.asfortranarray(ARRAY_2x3), ARRAY_2x3.astype(np.float32), np.array(1.5),
    ARRAY_2x3.astype(int), np.zeros((0, 3)), np.zeros((2, 0)), np.zeros((2, 3, 2)), ARRAY_2x3 > 0, np.array(["a", "b"]),
    ARRAY_2x3.astype(complex), ARRAY_2x3.astype(object), np.array(["2020"], "M8[D]"), np.zeros(2, [("a", float)]),
    ARRAY_2x3.astype(np.float16), np.full((2, 3), np.nan), np.full((2, 3), -np.inf), ARRAY_2x3.astype(np.longdouble),
]  # fmt: skip
NPYS = [npy(array) for array in ARRAYS] + [npy(ARRAY_2x3, (2, 0)), npy(ARRAY_2x3, (3, 0))]
any_npy = st.sampled_from(NPYS) | npy_headers() | damaged(NPYS[:4])


def archive(members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, data in members:
            file.writestr(name, data)
    return content.getvalue()


NAMES = npy(np.array(["a", "b", "c"]))
NPZ = archive([("log_likelihoods.npy", NPYS[0]), ("sources.npy", NAMES), ("lengths.npy", npy(np.array([3.0, 4.0])))])
member = st.sampled_from(["log_likelihoods.npy", "sources.npy", "lengths.npy", "log_likelihoods", "../x.npy", "x"])
members = st.dictionaries(member, any_npy | st.just(NAMES) | st.binary(max_size=20), max_size=4)
usual = st.fixed_dictionaries({"log_likelihoods.npy": any_npy, "sources.npy": st.just(NAMES) | any_npy})
npz = (usual | members).map(lambda files: archive(files.items())) | damaged([NPZ])

COLUMNS = [
    pyarrow.array([-1.0, -2.0]), pyarrow.array([1, 0]), pyarrow.array([1.0, None]), pyarrow.array(["C", "CC"]),
    pyarrow.array(["0", "x"]), pyarrow.array([True, False]), pyarrow.array([None, None]), pyarrow.array([[1], []]),
    pyarrow.array([b"\xff", b"a"]), pyarrow.array([2**63, 1], pyarrow.uint64()),
    pyarrow.array([0, 1], pyarrow.date32()),
    pyarrow.array(["C", "C"]).dictionary_encode(), pyarrow.array([float("nan"), float("-inf")]),
    pyarrow.array([1, 2], pyarrow.decimal128(5, 2)), pyarrow.array([{"a": 1}, None]), pyarrow.array([1e300, -1e300]),
    pyarrow.StringArray.from_buffers(2, pyarrow.py_buffer(struct.pack("<3i", 0, 1, 2)), pyarrow.py_buffer(b"\xff\xfe")),
]  # fmt: skip


def arrow(texts):
    content = io.BytesIO()
    table = pyarrow.table({"text": texts})
    with pyarrow.ipc.new_stream(content, table.schema) as stream:
        stream.write_table(table, max_chunksize=2)
    return content.getvalue()


def parquet(columns):
    content = io.BytesIO()
    names, arrays = [name for name, _ in columns], [array for _, array in columns]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, names), content)
    return content.getvalue()


def parquets(valid, *more_names):
    names = st.sampled_from(["a", "b", "smiles", LENGTH, " a", "", "__index_level_0__", "Length", *more_names])
    columns = st.lists(st.tuples(names, st.sampled_from(COLUMNS)), max_size=4)
    return columns.map(parquet) | damaged([parquet(valid)])


def png(value):
    return encode(np.full((2, 2), value, np.uint8))


PICTURES = {f"{part}/{name}/{n}.png": png(n) for part in ("train", "test") for name in "xy" for n in range(2)}


# --------------------------------------------------------------------------------------------- what is read, slowly


def slow_json_lines(data):
    """The documents, or None where the file must be refused."""
    try:
        text = data.decode().removeprefix("\ufeff")
        records = [json.loads(line) for line in text.split("\n") if line.encode().strip()]
        texts = [record["text"].encode() for record in records]
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return None
    return tuple(texts) if texts and all(text.decode().strip() for text in texts) else None


def slow_json(data):
    """As `slow_json_lines`, or one array."""
    if not data.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n\x0b\x0c").startswith(b"["):
        return slow_json_lines(data)
    try:
        texts = [record["text"].encode() for record in json.loads(data.decode().removeprefix("\ufeff"))]
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return None
    return tuple(texts) if texts and all(text.decode().strip() for text in texts) else None


def slow_zipped_json_lines(data):
    """None too where the file cannot be unpacked."""
    content = b""
    try:
        while data := data.lstrip(b"\0"):
            member = zlib.decompressobj(31)
            content += member.decompress(data)
            if not member.eof:
                return None
            data = member.unused_data
    except zlib.error:
        return None
    return slow_json_lines(content)


def slow_text_folder(data):
    """The documents of `read_text_folder`, or None where they must be refused."""
    text = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return (text, b"good") if text.decode().strip() else (b"good",)  # a file without text is said, and no error
    except UnicodeDecodeError:
        return None


def check_texts(data, corpus):
    column = pyarrow.parquet.ParquetFile(io.BytesIO(data)).read().column("text")
    texts = column.cast(column.type.value_type if pyarrow.types.is_dictionary(column.type) else column.type).to_pylist()
    assert corpus.documents == tuple(text if isinstance(text, bytes) else text.encode() for text in texts)


def check_no_more(data, corpus):
    """What a stream without checksums still holds."""
    assert corpus.num_documents > 0 and all(document.decode().strip() for document in corpus.documents)


def slow_csv(data):
    """The rows, or None where a cell is longer than this reader takes."""
    try:
        return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    except csv.Error:
        return None


def csv_columns(data):
    if (found := slow_csv(data)) is None:
        return None
    header, *rows = [row for row in found if row]
    return {name.strip(): values for name, *values in zip(header, *rows, strict=True)}


def npz_columns(data):
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        names = [name.strip() for name in file["sources"].tolist()]
        found = dict(zip(names, file["log_likelihoods"].T, strict=True))
        return found | ({LENGTH: file["lengths"]} if "lengths" in file else {})


def parquet_columns(data):
    read = pyarrow.parquet.ParquetFile(io.BytesIO(data)).read()
    return {
        name.strip(): column.to_pylist()
        for name, column in zip(read.column_names, read.columns, strict=True)
        if not name.startswith("__index_level_")  # whose bytes need not be text: nobody reads them
    }


def has_columns(slow):
    """The check of a table of log-likelihoods against the columns that `slow` reads."""

    def check(data, table):
        json.dumps(table.sources, ensure_ascii=False).encode()
        given = dict(zip(table.sources, table.logp_NxK.T, strict=True))
        given |= {} if table.length_N is None else {LENGTH: table.length_N}
        assert len(set(table.sources)) == table.logp_NxK.shape[1] > 0 and len(table.logp_NxK)
        if (wanted := slow(data)) is not None:
            assert [*given] == sorted(wanted, key=LENGTH.__eq__)  # which is the last
            for name, values in given.items():
                np.testing.assert_allclose(values, [float(value) for value in wanted[name]], rtol=1e-15)

    return check


def check_assays(data, table):
    if (found := slow_csv(data)) is None:
        return
    header, *rows = found
    full = {n: row for n, row in enumerate(rows, 2) if any(cell.strip() for cell in row)}
    assert table.row_N.tolist() == list(full) and all(len(row) == len(header) for row in full.values())
    place = next(n for n, name in enumerate(header) if name.strip().lower() in ("smiles", "mol"))
    assert table.smiles == tuple(row[place].strip() for row in full.values())
    for name, values in zip(table.assays, table.values_NxA.T, strict=True):
        cells = [row[header.index(name)].strip().lower() for row in full.values()]
        wanted = [float({"": "nan", "true": "1", "false": "0"}.get(cell, cell)) for cell in cells]
        np.testing.assert_array_equal(values, np.array(wanted, np.float32))


def check_zipped_assays(data, table):
    check_assays(gzip.decompress(data), table)


def check_finite(data, table):
    assert table.values_NxA.shape == (len(table.smiles), len(table.assays))
    assert not np.isinf(table.values_NxA).any()


def check_log(data, table):
    assert table.logp_NxK.shape == (len(table.group_N), 1) and 0 < len(table.group_N) <= data.count(b"\n") + 1


def read_blocks(path):
    rows = blocks.open_rows(path, "log_likelihoods", None, "example_weights", 2, 1)
    return np.concatenate([block.copy() for block, _ in rows.blocks()])


def check_blocks(data, values):
    np.testing.assert_array_equal(values, np.load(io.BytesIO(data), allow_pickle=False).astype(values.dtype))


PRODUCT = {"scores": ARRAY_2x3, "params/w": np.arange(4, dtype=np.int32), "loss": 0.5}


def stage_file():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        stages._write(path, "stamp", stages.StageRecord(1.0, MadeBy("python", "cpu", None, {}), {}), PRODUCT)
        return path.read_bytes()


def read_stage(path):
    found = stages._read(path, "stamp")
    if found is None:
        raise InputError(f"{path} is made again")
    return found[0]


def check_stage(data, product):
    assert product.keys() == PRODUCT.keys()
    for name, value in PRODUCT.items():
        np.testing.assert_array_equal(product[name], value)


def read_text_folder(path):
    """A folder with the hostile file beside a good one."""
    (path.parent / "good.txt").write_bytes(b"good")
    return read_strictly(path.parent)


def read_strictly(path):
    """Nothing unusable is skipped."""
    return read_corpus(path, limits=Limits(max_unreadable=0.0))


def read_regmix(path):
    (path.parent / "loss.csv").write_text("index,metric/the_pile_x_val_loss\n1,2.5\n2,2.25\n")
    return read_runs(path, path.parent / "loss.csv")


def read_pictures(path):
    return read_image_folder(path, size=2, max_skipped=1.0)


def read_run(path):
    return read_results(path.parents[1])


def read_series_file(path):
    return read_series(f"file:{path}", SeriesReading(label_column="kind" if path.suffix == ".parquet" else None))


def series_arrays():
    stream = io.BytesIO()
    np.savez(stream, X=np.arange(24.0).reshape(6, 4), y=[0, 1, 0, 1, 0, 1])
    return stream.getvalue()


def check_series(data, found):
    for part in (found.train, found.test):
        assert np.isfinite(part.series_NxSxC).all() and set(part.labels_N) == set(range(len(part.classes)))


class Case(NamedTuple):
    """A reader, its hostile files, and what it must give."""

    name: str
    read: Callable
    contents: st.SearchStrategy
    check: Callable = lambda data, result: None  # of what was read
    documents: Callable | None = None  # what must be read, or None where that must be refused


JSON_LINES = [
    b'{"text": "one"}\n{"text": "two \\u00e9", "n": [1, {"a": null}]}\n\n{"n": 1e3, "text": "three"}\n',
    b'\xef\xbb\xbf{"text": "\xc3\xa9"}\r\n{"text": " c"}\n{"text": "a", "text": "b"}',
]
JSON_ARRAYS = [
    *JSON_LINES,
    b'[{"text": "one"}, {"text": "two \\u00e9", "n": [1, {"a": null}]},\n\n{"n": 1e3, "text": "three"}]\n',
    b'\xef\xbb\xbf [\r\n{"text": "\xc3\xa9"}\r\n]',
]
ARROW = arrow(["one", "é", "three"])
ASSAYS = [
    b"smiles,a,b,note\nC,1,0,x\nCC,,1.0,\n,,,\nCCO,0,true,z\n",
    b'note,a,mol\r\n"x, ""y""\nz",1,C\r\n,0,"CC"\r\n',
]
SCORES = [b"code,news,length\n-1.5,-2,3\n-1e3,-0.25,4\n-inf,-1,1\n", b' a ,"b"\r\n-1,-2\r\n\r\n-3,-4\r\n']
REGMIX = [b"index,train_the_pile_x,train_the_pile_y\n1,0.5,0.5\n2,0.25,0.75\n"]
TS = [
    b"# p\n@timeStamps false\n@classLabel true a b\n@data\n" + 3 * b"1,2.5,-3:4,5e2,6:a\n7,8,9:1,?,3:b\n",
    b"@univariate true\r\n@classLabel true 1 2\r\n@data\r\n" + 3 * b"1,2:1\r\n\r\n3,4:2\r\n",
]
TSV = [3 * b"1\t0.5\t-1\n2\t1e3\t4\n", 3 * b"a\t1\t2\r\nb\t3\tNaN\r\n"]
METRICS = [dumps(made_up(1, 2)).encode()]
LOGS = [
    "".join(json.dumps(make(n, values)) + "\n" for n, values in enumerate(logp)).encode()
    for make, logp in (
        (cloze, [-1.5, -2e3]),
        (rolling, [-1e-3, float("-inf")]),
        (choice, [[-1.0, -2, -3], [-4, -5, -6]]),
    )
]
CASES = [
    Case("a.jsonl", read_strictly, damaged(JSON_LINES), documents=slow_json_lines),
    Case("b.jsonl.gz", read_strictly, zipped(JSON_LINES), documents=slow_zipped_json_lines),
    Case("b.json", read_strictly, damaged(JSON_ARRAYS), documents=slow_json),
    Case("b.parquet", read_strictly, parquets([("text", COLUMNS[3])], "text"), check_texts),
    Case("b.arrow", read_strictly, damaged([ARROW]), check_no_more),
    Case("c.txt", read_text_folder, damaged(["é\none\n".encode(), b"two"]), documents=slow_text_folder),
    Case("d.csv", read_table, damaged(SCORES), has_columns(csv_columns)),
    Case("e.npz", read_table, npz, has_columns(npz_columns)),
    Case("f.parquet", read_table, parquets([("a", COLUMNS[0]), (LENGTH, COLUMNS[1])]), has_columns(parquet_columns)),
    Case("g.csv", read_assays, damaged(ASSAYS), check_assays),
    Case("h.csv.gz", read_assays, zipped(ASSAYS), check_zipped_assays),
    Case("i.parquet", read_assays, parquets([("smiles", COLUMNS[3]), ("a", COLUMNS[1])]), check_finite),
    Case("j.csv", lambda path: read_assays(path, task="regression"), damaged(ASSAYS), check_finite),
    Case("k.npy", read_blocks, any_npy, check_blocks),
    Case("l.npz", read_stage, damaged([stage_file()]), check_stage),
    Case("m.tar", read_pictures, damaged([tar_of(PICTURES)])),
    Case("n.tar.gz", read_pictures, zipped([tar_of(PICTURES)])),
    Case("o.csv", read_regmix, damaged(REGMIX)),
    Case("p.jsonl", lambda path: read_logs({"web": path}, "author"), damaged(LOGS), check_log),
    Case("q.ts", read_series_file, damaged(TS), check_series),
    Case("r.tsv", read_series_file, damaged(TSV), check_series),
    Case("s.npz", read_series_file, damaged([series_arrays()]), check_series),
    Case("t.parquet", read_series_file, parquets([("kind", COLUMNS[3]), ("a", COLUMNS[0])], "kind"), check_series),
    Case("metrics.json", read_run, damaged(METRICS)),
]


class Shown(bytes):
    """Bytes of which a failing test shows no more than can be read."""

    def __repr__(self):
        return super().__repr__() if len(self) < 5000 else f"<{len(self)} bytes, {self[:200]!r} ... {self[-200:]!r}>"


@pytest.mark.parametrize("examples", [25, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_files_give_an_error_that_names_them_or_the_right_result(case, examples, tmp_path):
    path = tmp_path / "hostile" / case.name
    path.parent.mkdir()
    number = 0

    @hypothesis.settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(case.contents.map(Shown))
    def reads(data):
        nonlocal number
        number += 1
        path.write_bytes(data)
        result = None
        with no_hang():
            try:
                result = case.read(path)
            except InputError as error:
                assert str(path) in str(error), f"the message does not name the file: {error}"
        if case.documents:
            assert (result and result.documents) == case.documents(data)
        elif result is not None:
            case.check(data, result)

    reads()
    # Hypothesis counts each call that ends well, and stops early only where it can draw nothing new, or little else
    # than what a strategy rejects; none of these may
    assert number >= 0.9 * examples


# --------------------------------------------------------------------------------------- what chance would not find


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def refuses(read, path, data=None, why=""):
    """The file is refused in one line that names it and says why."""
    if data is not None:
        path.write_bytes(data)
    with no_hang(), pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message and why in message and len(message.splitlines()) == 1


def test_pickles_are_refused_and_not_run(tmp_path):
    exploded = tmp_path / "exploded"
    bomb = np.array([Bomb(exploded)], dtype=object)
    pickled = npy(bomb)
    pickle.loads(pickled[pickled.index(b"\x80") :])
    assert exploded.exists()
    exploded.unlink()
    for name, data, read in (
        ("a.npz", archive([("log_likelihoods.npy", pickled), ("sources.npy", NAMES)]), read_table),
        ("b.npz", archive([("log_likelihoods.npy", NPYS[0]), ("sources.npy", pickled)]), read_table),
        ("c.npz", pickle.dumps(bomb), read_table),
        ("d.npy", pickled, read_blocks),
        ("e.npz", archive([(f"{key}.npy", pickled) for key in ("stamp", "record", "values")]), read_stage),
    ):
        refuses(read, tmp_path / name, data)
    assert not exploded.exists()


def test_every_file_of_arrays_is_read_without_pickles():
    """By name, wherever NumPy reads arrays in this project."""
    found = 0
    for path in [p for folder in ("mixmin_jax", "experiments", "benchmarks") for p in (ROOT / folder).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            # `open_memmap` maps numbers only
            if called.split(".")[-1] in ("load", "loads", "read_array") and "np" in called.split("."):
                options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert options.get("allow_pickle") == "False", f"{path}, line {node.lineno}"
                found += 1
            assert called.split(".")[0] not in ("pickle", "marshal", "shelve", "dill", "joblib"), path
    assert found >= 3


@pytest.mark.parametrize(
    ("descr", "fortran", "shape", "why"),
    [
        ("<f8", False, (2**40, 2**20), "cut off"),
        ("<f8", True, (2**40, 3), "cut off"),
        ("<f8", False, (2**62, 4), "cut off"),  # 2^64 numbers
        ("<f8", False, (-1, -3), ""),
        ("|O", False, (1, 3), ""),
    ],
)
def test_a_header_that_claims_what_is_not_there(tmp_path, descr, fortran, shape, why):
    header = repr({"descr": descr, "fortran_order": fortran, "shape": shape})
    for data in (npy_with_header(header), npy_with_header(header, bytes(24))):
        refuses(read_blocks, tmp_path / "a.npy", data, why)
    refuses(read_table, tmp_path / "a.npz", archive([("log_likelihoods.npy", data), ("sources.npy", NAMES)]))


def test_deep_and_huge_json(tmp_path):
    deep = b"[" * 100_000, b'{"a":' * 100_000
    for line in (*deep, b'{"text": ' + b"9" * 100_000 + b"}", b'{"text": "\\ud800"}', "\ufeff".encode() * 9):
        refuses(read_corpus, tmp_path / "a.jsonl", b'{"text": "one"}\n' + line, "line 2")
    for item in deep:
        refuses(read_corpus, tmp_path / "a.json", b'[{"text": "one"},' + item, "after item 1")
    refuses(read_corpus, tmp_path / "a.jsonl.gz", gzip.compress(b'{"text": "' + b"a" * 50_000_000, 1), "line 1")
    (tmp_path / "run").mkdir()
    for text in (deep[0], b"[1]", b'{"a": ', b"9" * 100_000):
        refuses(read_run, tmp_path / "run" / "metrics.json", text)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.txt", "a.csv", "a.npz", "a.parquet", "a.npy", "a.tar"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    path = tmp_path / name
    os.mkfifo(path)
    readers = dict.fromkeys([".jsonl", ".gz", ".txt"], read_corpus) | {".npy": read_blocks, ".tar": read_pictures}
    refuses(readers.get(path.suffix, read_table), path)
    if path.suffix in (".csv", ".parquet"):
        refuses(read_assays, path)


def test_links_in_a_circle_and_deep_folders_are_no_trap(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "good.txt").write_text("good")
    for name in ("x", "y", "z"):
        (tmp_path / "a" / "b" / name).symlink_to(tmp_path / "a")
    refuses(read_corpus, tmp_path / "a", why="a link to a folder that it lies in")
    deep, here = tmp_path / "deep", os.getcwd()
    deep.mkdir()
    try:
        os.chdir(deep)
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        Path("good.txt").write_text("good")
        assert read_corpus(deep).documents == (b"good",)
    finally:
        while not os.path.samefile(".", tmp_path):  # what clears temporary folders is recursive
            Path("good.txt").unlink(missing_ok=True)
            os.chdir("..")
            with suppress(OSError):
                os.rmdir("d")
        os.chdir(here)


def test_names_that_are_not_unicode_are_refused_before_anything_is_computed(tmp_path):
    for name, text, read in (
        ("é.txt", b"one", read_corpus),
        ("é.csv", SCORES[0], read_table),
        ("é.csv", ASSAYS[0], read_assays),
    ):
        path = os.fsencode(tmp_path) + b"/" + name.encode("latin1")
        Path(os.fsdecode(path)).write_bytes(text)
        with pytest.raises(InputError, match="not valid UTF-8"):
            read(Path(os.fsdecode(path)))
    arrays = [("log_likelihoods.npy", NPYS[0]), ("sources.npy", npy(np.array(["a", "b", "\ud800"])))]
    refuses(read_table, tmp_path / "a.npz", archive(arrays), "not valid UTF-8")
    files = {f"{part}/{name}/1.png": png(1) for part in ("train", "test") for name in ("x", "\udce9")}
    (tmp_path / "a.tar").write_bytes(tar_of(files))
    with pytest.raises(InputError, match="not valid UTF-8"):
        read_pictures(tmp_path / "a.tar")


def test_an_archive_whose_directory_hides_an_array_is_not_taken_for_whole(tmp_path):
    path = tmp_path / "a.npz"
    made = stages.StageRecord(1.0, MadeBy("", "", None, {}), {})
    stages._write(path, "stamp", made, {"w": ARRAY_2x3, "b": ARRAY_2x3, "loss": 0.5})
    whole, record = stages._read(path, "stamp")
    assert sorted(whole) == ["b", "loss", "w"] and record == made
    data = path.read_bytes()
    at = data.rindex(b"array/w.npy")  # in the directory, at the end
    path.write_bytes(data[:at] + b"brray/w.npy" + data[at + 11 :])
    assert stages._read(path, "stamp") is None


def test_a_sparse_archive_member_is_not_unfolded(tmp_path):
    member = tarfile.TarInfo("train/x/1.png")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (0, 0)  # nothing at 0, and then holes up to the real size
    header[483:495] = b"\x80" + (2**42).to_bytes(11, "big")
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]
    refuses(read_pictures, tmp_path / "a.tar", bytes(header) + bytes(1024), "holes")
