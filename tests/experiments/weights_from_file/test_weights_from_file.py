import csv
import dataclasses
import fcntl
import functools
import io
import json
import math
import os
import signal
import sys
import types

import jax
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import scipy.stats

from experiments.harness.command_line import run
from experiments.harness.folder_lock import LOCK, claimed_folder
from experiments.harness.options import RunOptions
from experiments.harness.result_files import read_result, write_json
from experiments.harness.run_folder import run_folder
from experiments.reporting.json_files import to_builtins
from experiments.weights_from_file import __main__ as weights_from_file
from experiments.weights_from_file import report, solving
from experiments.weights_from_file.report import weights_report
from experiments.weights_from_file.results import AgainstReference, WeightsFromFile
from mixmin_jax import NotConverged, bootstrap, cross_entropy, leave_one_out, solve, weighted_sum, worst_case
from mixmin_jax.errors import InputError
from tests.experiments.harness.held_folder import held_elsewhere
from tests.experiments.verify.verified import assert_verified, failures
from tests.experiments.weights_from_file import harness_lines

SOURCES = ("code", "math", "news")
FILES = ["metrics.json", "report.html", "report.md", "weights.json"]  # without a comparison


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
    """Run the command on one file or several: exit status, stdout, stderr and the two results (None if absent)."""

    def call(path, *options, out=tmp_path / "out"):
        paths = map(str, path if isinstance(path, list) else [path])
        arguments = ["weights_from_file", "--log-likelihoods", *paths, "--out", str(out), *options]
        monkeypatch.setattr(sys, "argv", arguments)
        status = 0
        try:
            run(weights_from_file.Config, weights_from_file.main)
        except SystemExit as stopped:
            status = stopped.code
        printed = capsys.readouterr()
        weights, metrics = out / "weights.json", out / "metrics.json"
        return types.SimpleNamespace(
            status=status,
            stdout=printed.out,
            stderr=printed.err,
            weights=json.loads(weights.read_text()) if weights.exists() else None,
            metrics=read_result(metrics, WeightsFromFile) if metrics.exists() else None,
        )

    return call


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


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
    assert done.weights["mixmin"]["news"] == 0 and sum(done.weights["mixmin"].values()) == 1
    assert done.weights.get("unit") == ("share of tokens" if has_lengths else None)
    per_token = 200 / length_N.sum() if has_lengths else 1
    assert math.isclose(done.metrics.mixmin.loss, float(expected.loss) * per_token, rel_tol=1e-8)
    uniform = -np.log(np.exp(logp_NxK).mean(1)).mean() * per_token
    assert math.isclose(done.metrics.arms["uniform"].loss, uniform, rel_tol=1e-9)
    assert done.metrics.unit == ("nats per token" if has_lengths else "nats per example")
    assert done.metrics.mixmin.converged and 0 <= done.metrics.mixmin.gap < 1e-8 * per_token


def test_what_is_printed(tmp_path, cli, logp_NxK):
    done = cli(write(tmp_path / "scores.npz", logp_NxK))
    lines = [line.split() for line in done.stdout.splitlines()]
    for name, weight in done.weights["mixmin"].items():
        assert [name, f"{weight:.4f}"] in [line[:2] for line in lines]
    assert f"loss of uniform       {done.metrics.arms['uniform'].loss:.6f}" in done.stdout
    assert done.metrics.mixmin.status in done.stdout


@pytest.mark.parametrize(
    "method",
    [
        "interior_point",
        pytest.param("projected_gradient", marks=pytest.mark.slow),
        pytest.param("mirror_descent", marks=pytest.mark.slow),
    ],
)
def test_methods_agree(tmp_path, cli, logp_NxK, method):
    done = cli(write(tmp_path / "scores.npz", logp_NxK), "--method", method, "--tolerance", "1e-6")
    assert done.metrics.mixmin.method == method
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
    assert done.status == 0 and done.metrics.targets[0].loss_alone["math"] is None
    single = cli(write(tmp_path / "one.csv", logp_NxK[:, :1], sources=("code",)), out=tmp_path / "one")
    assert single.weights == {"mixmin": {"code": 1.0}}


def test_a_cap_in_percent_is_refused(tmp_path, cli, logp_NxK):
    path = write(tmp_path / "scores.npz", logp_NxK)
    assert_refused(cli(path, "--upper-bounds", "code=20"), "--upper-bounds code=20", "for 20 % say code=0.2")


def test_what_is_no_source_and_densities_are_said_by_options(tmp_path, cli, logp_NxK):
    columns = [*(4 - logp_NxK).T, np.arange(200), np.arange(200) + 5]
    path = write(tmp_path / "scores.csv", np.column_stack(columns), (*SOURCES, "doc_id", "num_tokens"))
    assert_refused(cli(path), path, "'doc_id'", "'num_tokens'", "--ignore")
    options = ["--ignore", "doc_id", "--length-column", "num_tokens"]
    assert_refused(cli(path, *options), path, "wrong sign", "--densities")
    done = cli(path, *options, "--densities")
    assert tuple(done.weights["mixmin"]) == SOURCES and done.metrics.unit == "nats per token"
    assert_verified(tmp_path / "out", with_data=True)


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
    assert sorted(os.listdir(tmp_path / "out")) == FILES  # no partial file stays


@pytest.mark.parametrize("how_it_ends", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), None])
def test_a_second_run_is_refused_while_the_first_lives(tmp_path, cli, logp_NxK, how_it_ends):
    path, out = write(tmp_path / "scores.npz", logp_NxK), tmp_path / "out"
    claim = functools.partial(claimed_folder, out, weights_from_file.RESULTS, overwrite=False)
    with held_elsewhere(claim, how_it_ends) as (first, end):
        for options in ((), ("--overwrite",)):
            assert_refused(cli(path, *options), out, f"written to by another run (process {first} on ")
        end()
        assert (out / LOCK).exists() == (how_it_ends is not None)
        assert cli(path).status == 0  # a dead process holds no lock
        assert sorted(os.listdir(out)) == FILES


def test_experiments_with_stages_and_without_keep_each_other_out(tmp_path, cli, logp_NxK):
    path, out = write(tmp_path / "scores.npz", logp_NxK), tmp_path / "out"
    with run_folder(RunOptions(out), {}, ()):
        assert_refused(cli(path), out, "written to by another run")
    with (
        claimed_folder(out, (), overwrite=False),
        pytest.raises(InputError, match="written to by another run"),
        run_folder(RunOptions(out, resume=True), {}, ()),
    ):
        pytest.fail("it was let in")
    with run_folder(RunOptions(out, resume=True), {}, ()):
        pass


def test_a_lock_that_was_removed_before_it_was_had_is_none(tmp_path, monkeypatch):
    """As when its holder ends between another run's opening of the file and its locking it."""
    flock, path = fcntl.flock, tmp_path / LOCK

    def late(file, kind):
        if path.exists():
            path.unlink()
            path.touch()
            monkeypatch.setattr(fcntl, "flock", flock)
        flock(file, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with claimed_folder(tmp_path, (), overwrite=False):
        assert path.read_text().startswith(f"process {os.getpid()} on ")
    assert not path.exists()


def test_weights_that_did_not_converge_are_not_written(tmp_path, cli, logp_NxK, monkeypatch):
    solution = solve(cross_entropy(logp_NxK), method="mirror_descent", tolerance=1e-300, throw=False)

    path = write(tmp_path / "scores.npz", logp_NxK)
    assert cli(path).weights is not None
    before = contents(tmp_path / "out")

    def fail(*_, throw=True, **__):
        if throw:
            raise NotConverged(solution)

    monkeypatch.setattr(solving, "solve", fail)
    done = cli(path, "--overwrite")
    assert done.status == 1 and f"{tmp_path / 'out'} still holds those of an earlier run\n" in done.stderr
    assert contents(tmp_path / "out") == before and solution.status in done.stdout
    done = cli(path, out=tmp_path / "new")
    assert done.status == 1 and done.stderr.endswith("no weights were written\n") and not contents(tmp_path / "new")


def test_a_run_that_is_stopped_leaves_earlier_results(tmp_path, cli, logp_NxK, monkeypatch):
    """While it solves, and while it writes."""
    path = write(tmp_path / "scores.npz", logp_NxK)
    first = cli(path)
    before = contents(tmp_path / "out")

    def stopped(*_, throw=True, **__):
        if throw:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(report, "weights_report", stopped)
        assert first.status == 0 and cli(path, "--overwrite").status == 130
    assert contents(tmp_path / "out") == before
    monkeypatch.setattr(solving, "solve", stopped)
    assert cli(path, "--overwrite").status == 130
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_cannot_print_a_name_gets_its_escape_and_files_hold_it(
    tmp_path, cli, logp_NxK, monkeypatch, encoding
):
    path = write(tmp_path / "scores.npz", logp_NxK)
    assert cli(path).status == 0
    path = write(path, logp_NxK, sources=("\u6570\u5b66", "math", "news"))
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", terminal)
        done = cli(path, "--overwrite")
    assert done.status == 0 and list(done.weights["mixmin"]) == ["\u6570\u5b66", "math", "news"]
    assert b"\\u6570\\u5b66" in terminal.buffer.getvalue()


def test_a_reader_that_closes_the_pipe_ends_nothing_before_files_are_there(tmp_path, cli, logp_NxK, monkeypatch):
    path, (reader, writer) = write(tmp_path / "scores.npz", logp_NxK), os.pipe()
    os.close(reader)
    with open(writer, "w") as closed, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", closed)
        done = cli(path)
    assert done.status == 141 and done.stderr == "" and sorted(os.listdir(tmp_path / "out")) == FILES


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


def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path, cli):
    path = tmp_path / "scores.csv"
    path.write_text("a,b\n1,2\n3,x\n")
    assert_refused(cli(path), path, "row 1, column 'b'", "'x'")


@pytest.mark.parametrize(
    "options, parts",
    [
        (["--tolerance", "-1"], ["tolerance must be"]),
        (["--tolerance", "10"], ["tolerance must be a number above 0 and below 1"]),
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


# Several files.

OTHERS = ("news", "code", "math")  # the same sources in another order


@pytest.fixture
def other_NxK(logp_NxK):
    """Another target, mostly of source 2, in the order of SOURCES."""
    rng = np.random.default_rng(1)
    origin_N = rng.choice(3, size=120, p=[0.1, 0.1, 0.8])
    return -7 + 2.0 * (origin_N[:, None] == np.arange(3)) + 0.3 * rng.normal(size=(120, 3))


@pytest.fixture
def files(tmp_path, logp_NxK, other_NxK):
    return [
        write(tmp_path / "one.npz", logp_NxK),
        write(tmp_path / "two.csv", other_NxK[:, [2, 0, 1]], sources=OTHERS),
    ]


def test_a_weighted_sum_of_files(cli, files, logp_NxK, other_NxK):
    done = cli(files, "--combine", "weighted", "--target-weights", "1", "3")
    assert done.status == 0, done.stderr
    expected = solve(weighted_sum([cross_entropy(logp_NxK), cross_entropy(other_NxK)], [1, 3]))
    assert tuple(done.weights["mixmin"]) == SOURCES and list(done.weights) == ["mixmin"]
    np.testing.assert_allclose(list(done.weights["mixmin"].values()), expected.weights, atol=1e-6)
    records = done.metrics.targets
    assert [record.file for record in records] == done.metrics.config["log_likelihoods"] == list(map(str, files))
    assert [record.price for record in records] == [1, 3]
    np.testing.assert_allclose([record.loss for record in records], expected.targets.losses, rtol=1e-9)
    uniform = [-np.log(np.exp(logp).mean(1)).mean() for logp in (logp_NxK, other_NxK)]
    np.testing.assert_allclose([record.loss_uniform for record in records], uniform)
    assert math.isclose(done.metrics.arms["uniform"].loss, uniform[0] + 3 * uniform[1], rel_tol=1e-9)
    assert [record.examples for record in records] == [200, 120]
    assert math.isclose(records[1].loss_alone["code"], -other_NxK[:, 0].mean(), rel_tol=1e-9)
    equal = cli(files, "--combine", "weighted", "--overwrite")
    assert [record.price for record in equal.metrics.targets] == [0.5, 0.5]


@pytest.mark.parametrize("relative_to", [None, "none", "best", "uniform"])
def test_the_worst_case_of_files(cli, files, logp_NxK, other_NxK, relative_to):
    done = cli(files, "--combine", "worst_case", *([] if relative_to is None else ["--relative-to", relative_to]))
    assert done.status == 0, done.stderr
    given = {"uniform": np.full(3, 1 / 3), "best": "best"}.get(relative_to)
    expected = solve(worst_case([cross_entropy(logp_NxK), cross_entropy(other_NxK)], given))
    np.testing.assert_allclose(list(done.weights["mixmin"].values()), expected.weights, atol=1e-6)
    records = done.metrics.targets
    assert math.isclose(max(record.excess for record in records), done.metrics.mixmin.loss, abs_tol=1e-9)
    np.testing.assert_allclose([record.reference for record in records], expected.targets.references, atol=1e-9)
    np.testing.assert_allclose([record.price for record in records], expected.targets.prices, atol=1e-6)
    uniform = max(record.loss_uniform - record.reference for record in records)
    assert math.isclose(done.metrics.arms["uniform"].loss, uniform, abs_tol=1e-12)
    assert uniform >= done.metrics.mixmin.loss
    lines = [line.split() for line in done.stdout.splitlines()]
    for t, record in enumerate(records, 1):
        (line,) = [line for line in lines if line[:1] == [str(t)]]
        assert f"{record.loss:.4f}" == line[1] and f"{record.price:.4f}" == line[-1]
        assert (f"{record.excess:.4f}" == line[-2]) == (relative_to in ("best", "uniform"))


def test_files_with_lengths_are_in_nats_per_token(tmp_path, cli, logp_NxK, other_NxK):
    lengths = np.arange(1, 201), np.arange(1, 121)
    rows = zip((logp_NxK, other_NxK), lengths, strict=True)
    files = [write(tmp_path / f"{t}.npz", logp, length_N=length) for t, (logp, length) in enumerate(rows)]
    done = cli(files, "--combine", "weighted", "--upper-bounds", "news=0.2")
    assert done.metrics.unit == "nats per token" and done.weights["mixmin"]["news"] <= 0.2
    assert [record.example_weight for record in done.metrics.targets] == [1 / n.sum() for n in lengths]
    bare = write(tmp_path / "bare.npz", logp_NxK)
    assert_refused(cli([*files, bare], "--combine", "weighted", out=tmp_path / "no"), bare, "no lengths")


def test_sources_that_differ_between_files_are_named(tmp_path, cli, files, other_NxK):
    fewer = write(tmp_path / "fewer.npz", other_NxK[:, :2], sources=SOURCES[:2])
    assert_refused(cli([files[0], fewer], "--combine", "weighted"), fewer, "'news'", str(files[0]))
    more = write(tmp_path / "more.npz", other_NxK[:, [0, 1, 2, 2]], sources=(*SOURCES, "web"))
    assert_refused(cli([files[0], more], "--combine", "weighted"), more, "'web'", str(files[0]))
    bad = write(tmp_path / "bad.npz", np.where(np.arange(3) == 1, np.nan, other_NxK))
    assert_refused(cli([files[0], bad], "--combine", "weighted"), bad, "NaN", "math")
    assert_refused(cli([files[0], files[0]], "--combine", "weighted"), "", "--log-likelihoods names", "twice")


@pytest.mark.parametrize(
    "options, parts",
    [
        ([], ["2 files need --combine weighted or --combine worst_case"]),
        (["--combine", "weighted", "--relative-to", "best"], ["--relative-to goes with --combine worst_case"]),
        (["--combine", "worst_case", "--target-weights", "1", "2"], ["--target-weights goes with --combine weighted"]),
        (["--combine", "weighted", "--target-weights", "1"], ["1 numbers for 2 files"]),
        (["--combine", "weighted", "--target-weights", "1", "-1"], ["--target-weights", "target 1 has -1"]),
        (["--combine", "worst_case", "--method", "mirror_descent"], ["use 'interior_point'"]),
    ],
)
def test_bad_options_for_several_files(tmp_path, cli, files, options, parts):
    assert_refused(cli(files, *options), "", *parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [["--combine", "weighted"], ["--relative-to", "best"], ["--target-weights", "1"]])
def test_one_file_takes_no_options_for_several(cli, files, options):
    assert_refused(cli(files[0], *options), "", options[0], "is for several files")


def test_no_file_at_all(cli):
    assert_refused(cli([]), "", "at least one file")


def test_a_source_that_is_not_allowed_is_as_if_it_had_no_column(tmp_path, cli, logp_NxK):
    notes = tmp_path / "notes.toml"
    notes.write_text('[code]\nlicence = "?"\nallowed = false\n[news]\nnote = "daily"\n')
    path = write(tmp_path / "scores.npz", logp_NxK)
    done = cli(path, "--sources-info", str(notes))
    assert done.status == 0, done.stderr
    expected = solve(cross_entropy(logp_NxK[:, 1:]))
    assert list(done.weights["mixmin"]) == ["math", "news"]
    np.testing.assert_allclose(list(done.weights["mixmin"].values()), expected.weights, atol=1e-12)
    assert (
        done.weights["sources"]
        == to_builtins(done.metrics.source_notes)
        == {
            "code": {"licence": "?", "note": None, "allowed": False, "tokens": None},
            "math": {"licence": None, "note": None, "allowed": True, "tokens": None},
            "news": {"licence": None, "note": "daily", "allowed": True, "tokens": None},
        }
    )
    assert done.metrics.arms["uniform"].weights == {"math": 0.5, "news": 0.5}
    assert done.metrics.config["sources_info"] == str(notes)
    assert f"left out (allowed = false in {notes}): code" in done.stdout
    assert "were left out: `code`." in (tmp_path / "out" / "report.md").read_text()


def test_wrong_notes_are_refused_before_anything_is_written(tmp_path, cli, logp_NxK):
    notes, path = tmp_path / "notes.toml", write(tmp_path / "scores.csv", logp_NxK)
    notes.write_text("[maths]")
    assert_refused(cli(path, "--sources-info", str(notes)), notes, "'maths'", "'math'")
    notes.write_text("[math]\nallowed = false")
    refused = cli(path, "--sources-info", str(notes), "--upper-bounds", "math=0.2")
    assert_refused(refused, "--upper-bounds math=0.2", "'math' is left out")


@pytest.mark.parametrize("several", [False, True])
def test_results_are_verified_and_reported_from_their_record(tmp_path, cli, files, several):
    done = cli(files, "--combine", "worst_case") if several else cli(files[0])
    assert done.status == 0, done.stderr
    out = tmp_path / "out"
    ok = assert_verified(out, with_data=True)
    assert "weights.json holds what the record says" in ok and "its experiment finds nothing wrong" in ok
    text = (out / "report.md").read_text()
    assert f"| `code` | {done.weights['mixmin']['code']:.4f} |" in text and f"{done.metrics.mixmin.loss:.6f}" in text


def test_losses_that_do_not_follow_from_the_files_are_found(tmp_path, cli, files):
    assert cli(files, "--combine", "weighted").status == 0
    path = tmp_path / "out" / "metrics.json"
    metrics = read_result(path, WeightsFromFile)
    first, second = metrics.targets
    for change in ({"loss": first.loss + 1e-6}, {"loss_uniform": first.loss_uniform + 1e-6}):
        targets = (dataclasses.replace(first, **change).derived(), second)
        write_json(path, dataclasses.replace(metrics, targets=targets).derived())
        assert f"{files[0]}: the loss" in failures(tmp_path / "out")["its experiment finds nothing wrong"]
    solved = dataclasses.replace(metrics.mixmin, loss=metrics.mixmin.loss + 1e-6)
    write_json(path, dataclasses.replace(metrics, mixmin=solved).derived())
    files[0].unlink()  # without the files, the losses on record are still compared with each other
    assert "the loss is" in failures(tmp_path / "out")["its experiment finds nothing wrong"]


@pytest.mark.parametrize("change, warns", [({}, False), ({"above_zero": 1}, True)])
def test_the_report_warns_of_densities(tmp_path, cli, files, change, warns):
    metrics = cli(files[0]).metrics
    targets = tuple(dataclasses.replace(target, **change) for target in metrics.targets)
    text = weights_report(dataclasses.replace(metrics, targets=targets)).markdown
    assert ("**Some log-likelihoods are above 0" in text) == warns


# Intervals, a reference, the worth of sources, floors.

GROUPS = np.repeat([f"document {n}" for n in range(40)], 5)
OPTIONS = {"upper_bounds": {"code": 0.6}, "lower_bounds": {"news": 0.05}}
ARGUMENTS = ["--upper-bounds", "code=0.6", "--lower-bounds", "news=0.05"]


@pytest.fixture
def labeled(tmp_path, logp_NxK):
    """A file with a column that says which document a row is from."""
    path = tmp_path / "labeled.parquet"
    columns = dict(zip(SOURCES, logp_NxK.T, strict=True)) | {"page": GROUPS}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_all_that_the_library_says_of_one_target(tmp_path, cli, labeled, logp_NxK):
    reference = {"code": 0.2, "math": 0.3, "news": 0.5}
    (tmp_path / "today.json").write_text(json.dumps(reference))
    against = ["--reference", str(tmp_path / "today.json"), "--groups", "page", "--bootstrap", "30"]
    done = cli(labeled, *ARGUMENTS, *against, "--worth")
    assert done.status == 0, done.stderr
    objective = cross_entropy(logp_NxK, sources=SOURCES)
    expected = bootstrap(objective, 30, jax.random.key(0), groups=GROUPS, reference=reference, **OPTIONS)
    intervals, comparison = done.metrics.intervals, done.metrics.comparison
    assert (intervals.resamples, intervals.groups, intervals.level, intervals.unconverged) == (30, 40, 0.95, 0)
    ends = np.array([[found.lower, found.upper] for found in intervals.weights_of.values()])
    np.testing.assert_allclose(ends.T, [expected.lower, expected.upper], atol=1e-9)
    assert math.isclose(comparison.gain, expected.comparison.gain, rel_tol=1e-6)
    half = scipy.stats.t.ppf(0.975, 39) * expected.comparison.standard_error
    np.testing.assert_allclose([comparison.lower, comparison.upper], comparison.gain + half * np.array([-1, 1]))
    assert comparison.verdict == "wins" and expected.comparison.distinguishable
    loss = -np.log(np.exp(logp_NxK) @ list(reference.values())).mean()
    assert math.isclose(done.metrics.arms["reference"].loss, loss, rel_tol=1e-9)
    assert done.metrics.arms["reference"].weights == pytest.approx(reference)
    worth = leave_one_out(objective, **OPTIONS).worth
    assert [found.growth for found in done.metrics.worth.values()] == [
        pytest.approx(worth[0]),
        pytest.approx(worth[1]),
        None,
    ]
    assert done.metrics.worth["news"].reason == "news has a floor"
    assert done.weights.keys() == {"mixmin"}
    assert_verified(tmp_path / "out", with_data=True)
    text = (tmp_path / "out" / "report.md").read_text()
    for part in (
        "95% interval",
        "better than reference",
        "30 resamples of 40 groups",
        "news has a floor",
        "weights.png",
    ):
        assert part in text and part.removesuffix("weights.png") in done.stdout
    assert "data:image/svg+xml" in (tmp_path / "out" / "report.html").read_text()


def test_rows_of_tokens_are_grouped_by_document_or_as_told(tmp_path, cli, logp_NxK):
    path = tmp_path / "tokens.npz"
    arrays = {"log_likelihoods": logp_NxK, "sources": SOURCES, "documents": np.arange(200) // 10}
    arrays["lengths"] = np.arange(1, 201)
    whole = [logp_NxK.reshape(20, 10, 3)[:, part].sum(1) for part in (slice(0, 4), slice(4, 8), slice(8, 10))]
    rows_RxK = np.stack(whole, 1).reshape(60, 3)
    for options, groups in (([], np.arange(60) // 3), (["--groups", "author"], np.arange(60) // 15)):
        np.savez(path, **arrays, **({"author": np.arange(200) // 50} if options else {}))
        done = cli(path, "--rows", "4", *options, "--bootstrap", "20", "--overwrite")
        assert done.status == 0, done.stderr
        assert done.metrics.targets[0].examples == 60 and done.metrics.targets[0].example_weight == 1 / 20100
        expected = bootstrap(cross_entropy(rows_RxK), 20, jax.random.key(0), groups=groups)
        np.testing.assert_allclose(
            [found.upper for found in done.metrics.intervals.weights_of.values()], expected.upper, atol=1e-6
        )
        assert done.metrics.intervals.groups == len(set(groups))
    assert done.metrics.comparison is None and done.metrics.unit == "nats per token"


def test_a_natural_reference_that_is_hardly_worse(tmp_path, cli, logp_NxK):
    notes, path = tmp_path / "notes.toml", write(tmp_path / "scores.npz", logp_NxK)
    notes.write_text("[code]\ntokens = 70\n[math]\ntokens = 29\n[news]\ntokens = 1\n")
    done = cli(path, "--reference", "natural", "--sources-info", str(notes))
    assert done.metrics.arms["natural"].weights == pytest.approx({"code": 0.7, "math": 0.29, "news": 0.01})
    assert done.metrics.intervals.resamples == 200 and done.metrics.comparison.verdict == "ties"
    assert "not shown to be better than natural" in done.stdout and "loss of natural" in done.stdout


def test_a_reference_that_excludes_a_row_and_one_that_wins(tmp_path, cli, logp_NxK):
    (tmp_path / "r.json").write_text(
        '{"a": {"code": 1, "math": 0, "news": 0}, "b": {"code": 0.7, "math": 0.3, "news": 0}}'
    )
    path = write(tmp_path / "scores.npz", np.where(np.arange(600).reshape(200, 3) == 0, -np.inf, logp_NxK))
    done = cli(path, "--reference", str(tmp_path / "r.json"), "--reference-arm", "a", "--bootstrap", "5")
    assert done.metrics.comparison.verdict == "wins" and done.metrics.comparison.gain is None
    assert done.metrics.arms["reference"].loss is None and "gives row 0 no density" in done.stdout
    assert_verified(tmp_path / "out", with_data=True)
    capped = ["--upper-bounds", "code=0.1", "--overwrite"]
    lost = cli(path, "--reference", str(tmp_path / "r.json"), "--reference-arm", "b", "--bootstrap", "5", *capped)
    assert lost.metrics.comparison.verdict == "ties" and lost.metrics.comparison.upper < 0
    assert "The weights found are not shown to be better than reference" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    ("gain", "distinguishable", "matters", "verdict"),
    [
        (0.004, True, 0.0, "wins"),
        (0.004, True, 0.005, "ties"),
        (0.006, True, 0.005, "wins"),
        (0.006, False, 0.0, "ties"),
        (-0.006, True, 0.0, "ties"),
        (None, True, 0.005, "wins"),
    ],
)
def test_a_gain_wins_if_it_is_more_than_noise_and_matters(gain, distinguishable, matters, verdict):
    error = None if gain is None else 0.001
    found = AgainstReference(
        gain=gain, standard_error=error, level=0.95, groups=50, distinguishable=distinguishable, status=""
    )
    assert found.derived().judged(matters).verdict == verdict


def test_several_targets_get_losses_of_the_reference_and_the_worth_of_their_sum(
    tmp_path, cli, files, logp_NxK, other_NxK
):
    (tmp_path / "r.json").write_text('{"mixmin": {"code": 0.5, "math": 0.25, "news": 0.25}, "sources": {}}')
    weighted = ["--combine", "weighted", "--target-weights", "1", "3", "--reference", str(tmp_path / "r.json")]
    done = cli(files, *weighted, "--worth")
    assert done.status == 0, done.stderr
    losses = [-np.log(np.exp(logp) @ [0.5, 0.25, 0.25]).mean() for logp in (logp_NxK, other_NxK)]
    np.testing.assert_allclose([target.loss_compared for target in done.metrics.targets], losses)
    assert math.isclose(done.metrics.arms["reference"].loss, losses[0] + 3 * losses[1])
    assert done.metrics.comparison is None and done.metrics.intervals is None
    objectives = [cross_entropy(logp_NxK), cross_entropy(other_NxK)]
    without = solve(weighted_sum(objectives, [1, 3]), upper_bounds=[0, 1, 1])
    assert math.isclose(done.metrics.worth["code"].growth, without.loss - done.metrics.mixmin.loss, rel_tol=1e-6)
    assert_verified(tmp_path / "out", with_data=True)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--groups", "page"], ["--groups says what --bootstrap and --reference draw together"]),
        (["--groups", "pages", "--bootstrap", "9"], ["no column 'pages'; the file has code, math, news, page"]),
        (["--groups", "code", "--bootstrap", "9"], ["'code' must hold strings or whole numbers; got double"]),
        (["--groups", "length", "--bootstrap", "9"], ["the tokens of each example, not what it belongs to"]),
        (["--bootstrap", "1"], ["from 2 on, not 1"]),
        (["--groups", "one", "--bootstrap", "9"], ["only one group of rows to draw from"]),
        (["--lower-bounds", "code=0.8", "math=0.3"], ["floors need 1.1"]),
        (["--lower-bounds", "code=0.8", "--upper-bounds", "code=0.3"], ["a floor of 0.8 above its cap of 0.3"]),
        (["--lower-bounds", "cod=0.8"], ["--lower-bounds cod=0.8", "the closest name is 'code'"]),
        (["--reference-arm", "mixmin"], ["goes with --reference"]),
        (["--matters", "-1"], ["--matters must be a finite number of at least 0, not -1.0"]),
        (["--reference", "natural"], ["needs the size of every source", "'code'", "--sources-info"]),
        (["--reference", "natural", "--reference-arm", "a"], ["--reference natural is none"]),
        (["--reference", "none.json"], ["--reference none.json", "cannot be read"]),
        (["--reference", "[1, 2]"], ["must hold {source: weight}"]),
        (["--reference", '{"code": 1, "math": 0}'], ["'news' has no weight there"]),
        (["--reference", '{"code": 1, "math": 0, "new": 0}'], ["no source is called 'new'"]),
        (["--reference", '{"code": 0.5, "math": 0.1, "news": 0}'], ["must sum to 1, but sums to 0.6"]),
        (["--reference", '{"code": 2, "math": -1, "news": 0}'], ["must not be negative", "math"]),
        (["--reference", '{"a": {"code": 1}, "b": {"code": 1}}'], ["choose one of a, b with --reference-arm"]),
        (["--reference", '{"a": {"code": 1}}', "--reference-arm", "c"], ["no arm is called 'c'; there are a"]),
        (["--reference", '{"code": 1}', "--reference-arm", "c"], ["no arms; leave out --reference-arm"]),
    ],
)
def test_bad_options_for_intervals_and_references(tmp_path, cli, labeled, logp_NxK, options, parts):
    if "one" in options:
        labeled = write(tmp_path / "one.csv", np.column_stack([logp_NxK, np.ones(200)]), (*SOURCES, "one"))
    if options[0] == "--reference" and options[1][0] in "[{":
        (tmp_path / "r.json").write_text(options[1])
        options = ["--reference", str(tmp_path / "r.json"), *options[2:]]
    groups = [] if "--groups" in options else ["--groups", "page", "--bootstrap", "9"]
    assert_refused(cli(labeled, *options, *([] if "--bootstrap" in options else groups)), "", *parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--combine", "weighted", "--bootstrap", "9"], "--bootstrap is for one target"),
        (["--combine", "weighted", "--groups", "page", "--reference", "natural"], "--groups is for one target"),
        (["--combine", "worst_case", "--worth"], "--worth is for one target or --combine weighted"),
    ],
)
def test_what_several_targets_do_not_have(cli, files, options, why):
    assert_refused(cli(files, *options), "", why)


def test_a_single_source_has_no_intervals_and_no_worth(tmp_path, cli, logp_NxK):
    path = write(tmp_path / "one.csv", logp_NxK[:, :1], sources=("code",))
    for option in (["--bootstrap", "9"], ["--worth"]):
        assert_refused(cli(path, *option), "", f"{option[0]} needs at least two sources; there is only 'code'")


def test_a_source_that_is_not_allowed_has_no_weight_in_the_reference(tmp_path, cli, logp_NxK):
    notes, path = tmp_path / "notes.toml", write(tmp_path / "scores.npz", logp_NxK)
    notes.write_text("[code]\nallowed = false\n")
    for weight, refused in ((0.1, True), (0, False)):
        (tmp_path / "r.json").write_text(json.dumps({"code": weight, "math": 1 - weight, "news": 0}))
        options = ["--reference", str(tmp_path / "r.json"), "--bootstrap", "2", "--sources-info", str(notes)]
        done = cli(path, *options)
        assert done.status == (2 if refused else 0)
        assert ("'code' has a weight there, but is left out" in done.stderr) == refused


def test_logs_of_the_harness_end_to_end(tmp_path, cli, logp_NxK):
    specs = []
    for k, name in enumerate(SOURCES):
        lines = [
            harness_lines.choice(n, [-9.0, logp_N[k], -9.0], target=1) for n, logp_N in enumerate(logp_NxK.tolist())
        ]
        specs.append(f"{name}={harness_lines.write(tmp_path / f'{name}.jsonl', lines)}")
    done = cli(specs, "--bootstrap", "5", "--groups", "author")
    assert done.status == 0, done.stderr
    expected = solve(cross_entropy(logp_NxK))
    np.testing.assert_allclose(list(done.weights["mixmin"].values()), expected.weights, atol=1e-6)
    assert tuple(done.weights["mixmin"]) == SOURCES and done.metrics.intervals.groups == 100
    assert [file.name for file in done.metrics.data_sets] == ["code.jsonl", "math.jsonl", "news.jsonl"]
    assert "code.jsonl and 2 more: 200 examples, 3 sources" in done.stdout
    assert_verified(tmp_path / "out", with_data=True)
