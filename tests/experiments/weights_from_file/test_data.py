"""Tables of log-likelihoods: what is refused, with the file and the place in it."""

import json
import os
import pickle

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from experiments.weights_from_file.data import Roles, Table, read_table
from experiments.weights_from_file.targets import read_targets
from mixmin_jax import InputError
from tests.experiments.weights_from_file.test_weights_from_file import SOURCES, write


@pytest.fixture
def logp_NxK():
    return np.random.default_rng(0).normal(-5, 1, size=(200, 3))


def assert_refused(path, *parts):
    """One line that has the path and every part."""
    with pytest.raises(InputError) as caught:
        read_table(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    for part in parts:
        assert part in message


def test_columns_are_matched_by_name(logp_NxK):
    table = Table(SOURCES, logp_NxK, None)
    turned = table.reordered(("news", "code", "math"))
    np.testing.assert_array_equal(turned.logp_NxK, logp_NxK[:, [2, 0, 1]])
    assert turned.sources == ("news", "code", "math")
    with pytest.raises(InputError, match="no column for the source 'web'"):
        table.reordered((*SOURCES, "web"))
    with pytest.raises(InputError, match="a column for 'news', which is no source"):
        table.reordered(SOURCES[:2])


@pytest.mark.parametrize(
    "text, parts",
    [
        ("a,b\n1,2\n3,x\n", ["row 1, column 'b'", "'x'"]),
        ("a,b\n1,2\n3,\n", ["row 1, column 'b'", "empty"]),
        ("a,b\n1,1_0\n", ["row 0, column 'b'", "1_0"]),
        ("a,b\n1,2\n3\n", ["Expected 2 columns, got 1"]),
        ("a,a\n1,2\n", ["'a' is there 2 times"]),
        (",a\n0,-2\n", ["column 0", "no name", "index=False"]),
        ("-1.5,-2.5\n-1,-2\n", ["first line must name"]),
        ("length\n4\n", ["no column of log-likelihoods"]),
        ("a,lengths\n-1,4\n", ["`length`"]),
        ("a, Length\n-1,4\n", ["`length`", "' Length'"]),
        ("a, a \n-1,4\n", ["'a' is there 2 times"]),
        ("a,length\n-1,4\n-1,0\n", ["row 1", "length must be positive"]),
        ("a,length\n-1,nan\n", ["row 0", "length must be positive"]),
        ("a,document\n-1,-2.5\n", ["row 0", "numbers the document", "another name"]),
        ("a,document\n-1,0\n-1,1\n-1,0\n", ["tokens of document 0 do not follow each other"]),
        ("a;b\n-1,5;-2,5\n", ["separated by `;`", "the separator must be a comma"]),
        ("a\tb\n-1\t-2\n", ["separated by a tab"]),
        ("a,b\n", []),
        ("a,b", []),
        ("", ["the file is empty"]),
        ("\n\n\n", []),
        ("a,b\n1,\x00\n", []),
    ],
)
def test_bad_csv(tmp_path, text, parts):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    assert_refused(path, *parts)


@pytest.mark.parametrize(
    "change, parts",
    [
        ({"sources": None}, ["no array 'sources'", "log_likelihoods"]),
        ({"log_likelihoods": None}, ["no array 'log_likelihoods'"]),
        ({"sources": np.array(["a", "b"])}, ["2 source names for 3 columns"]),
        ({"sources": np.array(["a", "b", "a"])}, ["'a' is there 2 times"]),
        ({"sources": np.array(["a", "b", ""])}, ["column 2", "no name"]),
        ({"sources": np.arange(3)}, ["sources must be an array of strings"]),
        ({"sources": np.array(["a", "b", None], dtype=object)}, ["sources is pickled"]),
        ({"sources": np.array([["a", "b", "c"]])}, ["one axis"]),
        ({"log_likelihoods": np.zeros((2, 3), complex)}, ["real numbers", "complex"]),
        ({"log_likelihoods": np.zeros(3)}, ["two axes", "(3,)"]),
        ({"log_likelihoods": np.zeros((0, 3))}, ["no rows"]),
        ({"log_likelihoods": np.zeros((2, 0)), "sources": np.array([], dtype=str)}, ["no column"]),
        ({"length": np.ones(2)}, ["unknown array 'length'", "lengths"]),
        ({"lengths": np.ones(3)}, ["lengths have the shape (3,) for 2 rows"]),
        ({"lengths": np.array([1.0, -1.0])}, ["row 1", "length must be positive"]),
    ],
)
def test_bad_npz(tmp_path, change, parts):
    path = tmp_path / "scores.npz"
    arrays = {"log_likelihoods": -np.ones((2, 3)), "sources": np.array(SOURCES)} | change
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    assert_refused(path, *parts)


class Payload:
    def __reduce__(self):
        return (os.mkdir, ("pickle-was-run",))


def test_pickles_are_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside = tmp_path / "inside.npz"
    payload = np.array([Payload()] * 3, dtype=object)
    np.savez(inside, log_likelihoods=-np.ones((2, 3)), sources=payload)
    bare = tmp_path / "bare.npz"
    bare.write_bytes(pickle.dumps(Payload()))
    for path in (inside, bare):
        assert_refused(path, "pickle")
    assert not (tmp_path / "pickle-was-run").exists()


@pytest.mark.parametrize("kind", [".npz", ".csv", ".parquet"])
def test_damaged_files_are_refused_or_read_never_a_traceback(tmp_path, logp_NxK, kind):
    whole = write(tmp_path / f"whole{kind}", logp_NxK[:20]).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(60):
        damaged = bytearray(whole[: rng.integers(1, len(whole))] if trial % 2 else whole)
        for _ in range(trial % 3 + (trial % 2 == 0)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        path = tmp_path / f"damaged{kind}"
        path.write_bytes(damaged)
        try:
            read_table(path)
        except InputError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert refused >= 10


def test_a_parquet_column_of_text_and_a_pandas_index(tmp_path, logp_NxK):
    path = tmp_path / "scores.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": [-1.0, -2.0], "id": ["x", "y"]}), path)
    assert_refused(path, "column 'id' must hold numbers; got string")
    columns = dict(zip(SOURCES, logp_NxK.T, strict=True)) | {"__index_level_0__": np.arange(200)}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    assert read_table(path).sources == SOURCES


TOKENS = "a,b,length,document\n-1,-2,2,7\n-3,-4,1,7\n-5,-6,1,7\n-7,-8,3,2\n"


@pytest.mark.parametrize(
    ("row", "logp", "lengths"),
    [
        ("token", [[-1, -2], [-3, -4], [-5, -6], [-7, -8]], [2, 1, 1, 3]),
        ("2", [[-4, -6], [-5, -6], [-7, -8]], [3, 1, 3]),
        ("3", [[-9, -12], [-7, -8]], [4, 3]),
        ("document", [[-9, -12], [-7, -8]], [4, 3]),
    ],
)
@pytest.mark.parametrize("kind", [".csv", ".npz"])
def test_tokens_become_rows(tmp_path, capsys, kind, row, logp, lengths):
    path = tmp_path / f"scores{kind}"
    if kind == ".csv":
        path.write_text(TOKENS)
    else:
        values = np.array([[float(cell) for cell in line.split(",")] for line in TOKENS.split()[1:]])
        arrays = {"log_likelihoods": values[:, :2], "lengths": values[:, 2], "documents": values[:, 3].astype(int)}
        np.savez(path, sources=["a", "b"], **arrays)
    (target,) = read_targets((path,), row)
    np.testing.assert_array_equal(target.table.logp_NxK, logp)
    np.testing.assert_array_equal(target.table.length_N, lengths)
    assert target.example_weight == 1 / 7
    assert ("rows of 3 tokens are whole documents" in capsys.readouterr().err) == (row == "3")


@pytest.mark.parametrize(
    ("text", "row", "why"),
    [
        (TOKENS, None, "say --rows document, token, or how many"),
        (TOKENS, "0", "a number of tokens from 1 on, not '0'"),
        (TOKENS, "chunks", "not 'chunks'"),
        ("a,b\n-1,-2\n", "64", "add a column `document`"),
    ],
)
def test_rows_that_cannot_be_made_are_refused(tmp_path, text, row, why):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=why) as caught:
        read_targets((path,), row)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", [".csv", ".npz", ".parquet"])
@pytest.mark.parametrize("labels", [["x", "x", "7"], [3, 3, 1]])
def test_groups_are_labels_of_rows(tmp_path, kind, labels):
    path, logp = tmp_path / f"scores{kind}", np.array([[-1.0, -2], [-3, -4], [-5, -6]])
    columns = {"a": logp[:, 0], "document": np.array(labels), "b": logp[:, 1]}
    if kind == ".csv":
        lines = [",".join(map(str, line)) for line in zip(*columns.values(), strict=True)]
        path.write_text("\n".join(["a, document ,b", *lines]))
    elif kind == ".npz":
        np.savez(path, log_likelihoods=logp, sources=["a", "b"], documents=np.array(labels))
    else:
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    (target,) = read_targets((path,), roles=Roles(group="document"))
    np.testing.assert_array_equal(target.table.logp_NxK, logp)
    assert [str(label) for label in target.table.group_N] == list(map(str, labels)) and target.num_groups == 2


@pytest.mark.parametrize(
    ("text", "row", "group", "why"),
    [
        ("a,b,g\n-1,-2,x\n", None, "h", "--groups: no column 'h'; the file has a, b, g"),
        ("a,b,g\n-1,-2,x\n-1,-2,\n", None, "g", "row 1, column 'g': the cell is empty"),
        ("a,b\n-1,-2.5\n", None, "b", "column 'b' holds numbers that are not whole"),
        ("a,document,g\n-1,0,x\n-1,0,y\n", "token", "g", "row 1: document 0 is of two groups, 'x' and 'y'"),
        ("a,b,g\n-1,-2,x\n", None, None, "column 'g': 'x' is not a number"),
    ],
)
def test_groups_that_are_none_are_refused(tmp_path, text, row, group, why):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=why):
        read_targets((path,), row, Roles(group=group))


@pytest.mark.parametrize(
    ("group", "expected"), [(None, [0, 0, 1, 2]), ("document", [0, 0, 1, 2]), ("g", ["x", "x", "y", "x"])]
)
def test_rows_of_documents_keep_their_groups(tmp_path, group, expected):
    path = tmp_path / "scores.csv"
    rows = [(-1, 0, "x"), (-2, 0, "x"), (-3, 0, "x"), (-4, 1, "y"), (-5, 2, "x")]
    columns = slice(None if group == "g" else 2)
    path.write_text("\n".join(",".join(map(str, row[columns])) for row in [("a", "document", "g"), *rows]))
    (target,) = read_targets((path,), "2", Roles(group=group))
    assert target.table.group_N.tolist() == expected


def with_column(path, logp_NxK, name, values):
    """Three sources, and one more column."""
    return write(path, np.column_stack([logp_NxK, values]), (*SOURCES, name))


ORDER = np.random.default_rng(1).permutation(200)


@pytest.mark.parametrize("kind", [".npz", ".csv", ".parquet"])
@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("Unnamed: 0", np.arange(200), "'Unnamed: 0' is nowhere below 0"),
        ("doc_id", ORDER, "'doc_id' is nowhere below 0"),
        ("num_tokens", 20 + ORDER % 7, "'num_tokens' is nowhere below 0"),
        ("mean_loss", 20.5 + ORDER, "'mean_loss' is nowhere below 0"),
        ("docID", -ORDER, "called like an id or a count"),
        ("n_tokens", -20 - ORDER, "called like an id or a count"),
        ("x", np.arange(-300, -100), "grow from row to row"),
        ("side", np.where(ORDER % 2, 1, -1), "whole numbers only, unlike others"),
    ],
)
def test_a_column_that_looks_like_an_id_or_a_count_is_no_source(tmp_path, logp_NxK, kind, name, values, why):
    path = with_column(tmp_path / f"scores{kind}", logp_NxK, name, values)
    assert_refused(path, f"{name!r}", why, "--length-column, --groups or --ignore")
    table = read_table(path, Roles(ignore=(name,)))
    np.testing.assert_array_equal(table.logp_NxK, logp_NxK)
    assert table.sources == SOURCES


def test_all_columns_that_are_wrong_are_named_at_once(tmp_path, logp_NxK):
    columns = np.column_stack([logp_NxK, ORDER, 1 + ORDER])
    assert_refused(write(tmp_path / "a.csv", columns, (*SOURCES, "doc_id", "num_tokens")), "'doc_id'", "'num_tokens'")
    texts = "a,b,c\n-1,x,-1\n-1,-1,y\n"
    (tmp_path / "b.csv").write_text(texts)
    assert_refused(tmp_path / "b.csv", "row 0, column 'b': 'x'", "row 1, column 'c': 'y'", "--ignore")
    with pytest.raises(InputError) as caught:
        read_targets([tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.csv"])
    head, *lines = str(caught.value).splitlines()
    assert head == "3 things are wrong:"
    assert [line.strip().partition(":")[0] for line in lines] == [str(tmp_path / f"{x}.csv") for x in "abc"]


@pytest.mark.parametrize("name", ["kids", "index", "tokens", "n"])
def test_a_source_with_log_likelihoods_may_have_any_name(tmp_path, logp_NxK, name):
    assert read_table(with_column(tmp_path / "a.csv", logp_NxK, name, logp_NxK[:, 0])).sources == (*SOURCES, name)


def test_rounded_log_likelihoods_are_no_ids(tmp_path, logp_NxK):
    rounded = np.floor(logp_NxK)
    assert read_table(write(tmp_path / "a.csv", rounded)).sources == SOURCES
    assert (
        read_table(write(tmp_path / "b.csv", np.column_stack([logp_NxK[:, :2], np.full(200, -7)]))).sources == SOURCES
    )


@pytest.mark.parametrize("kind", [".npz", ".csv", ".parquet"])
def test_lengths_may_have_another_name(tmp_path, logp_NxK, kind):
    path, length_N = tmp_path / f"scores{kind}", 1.0 + ORDER
    if kind == ".npz":
        np.savez(path, log_likelihoods=logp_NxK, sources=SOURCES, num_tokens=length_N)
    else:
        with_column(path, logp_NxK, "num_tokens", length_N)
    table = read_table(path, Roles(length="num_tokens"))
    np.testing.assert_array_equal(table.length_N, length_N)
    assert table.sources == SOURCES
    wrong = {"--length-column": Roles(length="tokens"), "--ignore": Roles(length="num_tokens", ignore=("no",))}
    for option, roles in wrong.items():
        with pytest.raises(InputError, match=f"{option}: no (column|array) '(tokens|no)'"):
            read_table(path, roles)


@pytest.mark.parametrize(("name", "role"), [("id", None), ("document", "document_N"), ("length", "length_N")])
def test_index_columns_that_pandas_declares_are_no_sources(tmp_path, logp_NxK, name, role):
    path = tmp_path / "scores.parquet"
    index_N = -logp_NxK[:, 0] if name == "id" else np.arange(1, 201)
    table = pyarrow.table(dict(zip(SOURCES, logp_NxK.T, strict=True)) | {name: index_N})
    pandas = {"index_columns": [name], "columns": []}
    pyarrow.parquet.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)
    read = read_table(path)
    assert read.sources == SOURCES
    if role is not None:
        np.testing.assert_array_equal(getattr(read, role), index_N)


@pytest.mark.parametrize("kind", [".npz", ".csv", ".parquet"])
def test_negative_log_likelihoods_are_refused_and_densities_pass(tmp_path, logp_NxK, kind):
    path = write(tmp_path / f"scores{kind}", -logp_NxK + 4)
    (target,) = read_targets((path,))
    with pytest.raises(InputError, match=r"wrong sign: all values are 0 or above .*--densities"):
        target.objective()
    (target,) = read_targets((path,), roles=Roles(densities=True))
    target.objective()
    mixed = write(path, np.column_stack([logp_NxK[:, :2], -logp_NxK[:, 2] + 4]))
    assert_refused(mixed, "'news' is nowhere below 0", "--densities")
    assert read_table(mixed, Roles(densities=True)).sources == SOURCES
