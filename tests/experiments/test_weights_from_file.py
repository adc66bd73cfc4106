import csv
import json
import math
import os
import pickle
import sys
import types

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from experiments import weights_from_file
from experiments.command_line import run
from mixmin_jax import NotConverged, cross_entropy, solve

SOURCES = ("code", "math", "news")


@pytest.fixture
def logp_NxK():
    """Examples drawn from 0.7 of source 0 and 0.3 of source 1: source 2 is never the best."""
    rng = np.random.default_rng(0)
    origin_N = rng.choice(3, size=200, p=[0.7, 0.3, 0.0])
    return -5 + 2.0 * (origin_N[:, None] == np.arange(3)) + 0.3 * rng.normal(size=(200, 3))


def write(path, logp_NxK, sources=SOURCES, length_N=None):
    columns = dict(zip(sources, np.asarray(logp_NxK).T, strict=True))
    if path.suffix == ".npz":
        np.savez(path, log_likelihoods=logp_NxK, sources=sources, **({} if length_N is None else {"lengths": length_N}))
        return path
    columns |= {} if length_N is None else {"length": length_N}
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    else:
        with path.open("w", newline="") as file:
            rows = zip(*(column.tolist() for column in columns.values()), strict=True)
            csv.writer(file).writerows([columns, *rows])
    return path


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Run the command on a file; returns exit status, stdout, stderr and the two results, None where not written."""

    def call(path, *options, out=tmp_path / "out"):
        arguments = ["weights_from_file", "--log-likelihoods", str(path), "--out", str(out), *options]
        monkeypatch.setattr(sys, "argv", arguments)
        status = 0
        try:
            run(weights_from_file.Config, weights_from_file.main)
        except SystemExit as stopped:
            status = stopped.code
        printed = capsys.readouterr()
        results = [
            json.loads((out / name).read_text()) if (out / name).exists() else None
            for name in ("weights.json", "metrics.json")
        ]
        return types.SimpleNamespace(
            status=status, stdout=printed.out, stderr=printed.err, weights=results[0], metrics=results[1]
        )

    return call


def assert_refused(done, path, *parts):
    """One line `error: PATH ...` that has every part, exit status 2, nothing written."""
    assert done.status == 2, done
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    for part in (str(path), *parts):
        assert part in done.stderr
    assert done.weights is None and done.metrics is None


@pytest.mark.parametrize("kind", [".npz", ".csv", ".parquet"])
@pytest.mark.parametrize("has_lengths", [False, True])
def test_all_kinds_of_file_give_the_weights_of_solve(tmp_path, cli, logp_NxK, kind, has_lengths):
    length_N = np.arange(1, 201) if has_lengths else None
    done = cli(write(tmp_path / f"scores{kind}", logp_NxK, length_N=length_N))
    assert done.status == 0, done.stderr
    expected = solve(cross_entropy(logp_NxK))
    np.testing.assert_allclose(list(done.weights["mixmin"].values()), expected.weights, atol=1e-6)
    assert tuple(done.weights["mixmin"]) == SOURCES
    per_token = 200 / length_N.sum() if has_lengths else 1
    assert math.isclose(done.metrics["mixmin"]["loss"], float(expected.loss) * per_token, rel_tol=1e-8)
    uniform = -np.log(np.exp(logp_NxK).mean(1)).mean() * per_token
    assert math.isclose(done.metrics["arms"]["uniform"]["loss"], uniform, rel_tol=1e-9)
    assert done.metrics["unit"] == ("nats per token" if has_lengths else "nats per example")
    assert done.metrics["mixmin"]["converged"] and 0 <= done.metrics["mixmin"]["gap"] < 1e-8 * per_token


def test_what_is_printed(tmp_path, cli, logp_NxK):
    done = cli(write(tmp_path / "scores.npz", logp_NxK))
    lines = [line.split() for line in done.stdout.splitlines()]
    for name, weight in done.weights["mixmin"].items():
        assert [name, f"{weight:.4f}"] in [line[:2] for line in lines]
    assert f"loss of uniform       {done.metrics['arms']['uniform']['loss']:.6f}" in done.stdout
    assert done.metrics["mixmin"]["status"] in done.stdout


@pytest.mark.parametrize("method", ["interior_point", "projected_gradient", "mirror_descent"])
def test_methods_agree(tmp_path, cli, logp_NxK, method):
    done = cli(write(tmp_path / "scores.npz", logp_NxK), "--method", method, "--tolerance", "1e-6")
    assert done.metrics["mixmin"]["method"] == method
    # a gap of 1e-6 leaves weights about its root away
    np.testing.assert_allclose(list(done.weights["mixmin"].values()), solve(cross_entropy(logp_NxK)).weights, atol=5e-3)


def test_caps_and_prior(tmp_path, cli, logp_NxK):
    path = write(tmp_path / "scores.npz", logp_NxK)
    capped = cli(path, "--upper-bounds", "code=0.5", "math=0.2").weights["mixmin"]
    assert capped["code"] <= 0.5 and capped["math"] <= 0.2
    assert math.isclose(sum(capped.values()), 1, abs_tol=1e-9)
    prior = ["--prior", "code=0.2", "math=0.2", "news=0.6", "--prior-strength", "1000"]
    close = cli(path, *prior, "--overwrite").weights["mixmin"]
    np.testing.assert_allclose(list(close.values()), [0.2, 0.2, 0.6], atol=0.01)


def test_a_source_may_exclude_examples_and_there_may_be_one_source(tmp_path, cli, logp_NxK):
    logp_NxK[3, 1] = -np.inf
    done = cli(write(tmp_path / "scores.csv", logp_NxK))
    assert done.status == 0 and done.metrics["loss_alone"]["math"] is None
    single = cli(write(tmp_path / "one.csv", logp_NxK[:, :1], sources=("code",)), out=tmp_path / "one")
    assert single.weights == {"mixmin": {"code": 1.0}}


def test_spaces_around_names_are_dropped(tmp_path, cli, logp_NxK):
    for kind in (".csv", ".parquet", ".npz"):
        done = cli(write(tmp_path / f"scores{kind}", logp_NxK, sources=(" code", "math ", "news")), "--overwrite")
        assert tuple(done.weights["mixmin"]) == SOURCES


def test_names_with_commas_quotes_and_equals_signs(tmp_path, cli, logp_NxK):
    names = ('a,"b"', "x=y", "ä b")
    for kind in (".csv", ".parquet", ".npz"):
        path = write(tmp_path / f"scores{kind}", logp_NxK, sources=names)
        done = cli(path, "--upper-bounds", "x=y=0.1", "--overwrite")
        assert tuple(done.weights["mixmin"]) == names and done.weights["mixmin"]["x=y"] <= 0.1


def test_results_are_refused_unless_overwritten(tmp_path, cli, logp_NxK):
    path = write(tmp_path / "scores.npz", logp_NxK)
    first = cli(path)
    again = cli(path, "--upper-bounds", "code=0.1")
    assert again.status == 2 and "already holds results" in again.stderr and again.weights == first.weights
    assert cli(path, "--upper-bounds", "code=0.1", "--overwrite").weights["mixmin"]["code"] <= 0.1
    assert sorted(os.listdir(tmp_path / "out")) == ["metrics.json", "weights.json"]  # no partial file stays


def test_weights_that_did_not_converge_are_not_written(tmp_path, cli, logp_NxK, monkeypatch):
    solution = solve(cross_entropy(logp_NxK), method="mirror_descent", tolerance=1e-300, throw=False)

    path = write(tmp_path / "scores.npz", logp_NxK)
    assert cli(path).weights is not None

    def fail(*_, throw=True, **__):
        if throw:
            raise NotConverged(solution)

    monkeypatch.setattr(weights_from_file, "solve", fail)
    done = cli(path, "--overwrite")  # which removes what an earlier run has left there
    assert done.status == 1 and "no weights were written" in done.stderr
    assert done.weights is None and done.metrics is None
    assert solution.status in done.stdout


@pytest.mark.parametrize("kind", [".npz", ".csv", ".parquet"])
@pytest.mark.parametrize(
    "bad, parts",
    [(np.nan, ["NaN", "row 7", "math"]), (np.inf, ["+inf", "row 7", "math"])],
)
def test_bad_values_are_named_by_row_and_source(tmp_path, cli, logp_NxK, kind, bad, parts):
    logp_NxK[7, 1] = bad
    path = write(tmp_path / f"scores{kind}", logp_NxK)
    assert_refused(cli(path), path, *parts)


def test_a_row_that_no_source_explains_is_named(tmp_path, cli, logp_NxK):
    logp_NxK[5] = -np.inf
    path = write(tmp_path / "scores.npz", logp_NxK)
    assert_refused(cli(path), path, "row 5")


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
        ("a,b\n", []),
        ("a,b", []),
        ("", ["the file is empty"]),
        ("\n\n\n", []),
        ("a,b\n1,\x00\n", []),
    ],
)
def test_bad_csv(tmp_path, cli, text, parts):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    assert_refused(cli(path), path, *parts)


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
def test_bad_npz(tmp_path, cli, change, parts):
    path = tmp_path / "scores.npz"
    arrays = {"log_likelihoods": -np.ones((2, 3)), "sources": np.array(SOURCES)} | change
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    assert_refused(cli(path), path, *parts)


class Payload:
    def __reduce__(self):
        return (os.mkdir, ("pickle-was-run",))


def test_pickles_are_never_run(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside = tmp_path / "inside.npz"
    payload = np.array([Payload()] * 3, dtype=object)
    np.savez(inside, log_likelihoods=-np.ones((2, 3)), sources=payload)
    bare = tmp_path / "bare.npz"
    bare.write_bytes(pickle.dumps(Payload()))
    for path in (inside, bare):
        assert_refused(cli(path), path, "pickle")
    assert not (tmp_path / "pickle-was-run").exists()


@pytest.mark.parametrize("kind", [".npz", ".csv", ".parquet"])
def test_damaged_files_are_refused_or_read_never_a_traceback(tmp_path, cli, logp_NxK, kind):
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
            weights_from_file.read_table(path)
        except weights_from_file.InputError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert refused >= 10


def test_a_parquet_column_of_text_and_a_pandas_index(tmp_path, cli, logp_NxK):
    path = tmp_path / "scores.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": [-1.0, -2.0], "id": ["x", "y"]}), path)
    assert_refused(cli(path), path, "column 'id' must hold numbers; got string")
    columns = dict(zip(SOURCES, logp_NxK.T, strict=True)) | {"__index_level_0__": np.arange(200)}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    assert tuple(cli(path).weights["mixmin"]) == SOURCES


@pytest.mark.parametrize(
    "options, parts",
    [
        (["--tolerance", "-1"], ["tolerance must be"]),
        (["--upper-bounds", "mth=0.5"], ["'mth'", "closest name is 'math'"]),
        (["--upper-bounds", "math"], ["expected NAME=VALUE"]),
        (["--upper-bounds", "math=much"], ["expected NAME=VALUE"]),
        (["--upper-bounds", "math=0.1", "math=0.2"], ["'math' is there twice"]),
        (["--upper-bounds", "code=0.5", "math=0.2", "news=0.13"], ["0.83"]),
        (["--upper-bounds", "code=nan"], []),
        (["--prior", "code=1", "--prior-strength", "1"], ["'math' is missing"]),
        (["--prior", "code=0.5", "math=0.5", "news=0"], ["go together"]),
        (["--prior-strength", "1"], ["go together"]),
        (["--prior", "code=0.5", "math=0.5", "news=0.5", "--prior-strength", "1"], []),
        (["--prior", "code=1.5", "math=-0.5", "news=0", "--prior-strength", "1"], []),
    ],
)
def test_bad_options(tmp_path, cli, logp_NxK, options, parts):
    assert_refused(cli(write(tmp_path / "scores.npz", logp_NxK), *options), "", *parts)
    assert not (tmp_path / "out").exists()


def test_files_that_are_not_there_or_of_another_kind(tmp_path, cli, logp_NxK):
    assert_refused(cli(tmp_path / "none.npz"), tmp_path / "none.npz", "no such file")
    (tmp_path / "folder.csv").mkdir()
    assert_refused(cli(tmp_path / "folder.csv"), tmp_path / "folder.csv", "no such file")
    (tmp_path / "scores.pkl").write_bytes(b"1")
    assert_refused(cli(tmp_path / "scores.pkl"), "scores.pkl", ".npz, .csv, .parquet")
    path = write(tmp_path / "scores.npz", logp_NxK)
    done = cli(path, out=path)
    assert done.status == 2 and "is a file" in done.stderr


def test_help_and_unknown_options(tmp_path, cli):
    done = cli(tmp_path / "none.npz", "--help")
    assert done.status == 0 and "nats per token" in done.stdout and "--upper-bounds" in done.stdout
    assert cli(tmp_path / "none.npz", "--tolerence", "1").status == 2
