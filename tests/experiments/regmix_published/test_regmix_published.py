import csv
import shutil
import sys

import numpy as np
import pytest

from experiments.harness.command_line import run
from experiments.harness.result_files import read_result
from experiments.regmix_published.__main__ import Config, main
from experiments.regmix_published.data import Runs, read_runs
from experiments.regmix_published.report import QUESTION
from experiments.regmix_published.results import HELD_OUT, rank_correlations
from mixmin_jax.errors import InputError
from tests.experiments.verify.verified import assert_verified, failures

SOURCES = ("arxiv", "github", "pile_cc")
DOMAINS = ("github", "pile_cc")


def write_csv(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write_runs(folder, part, size, num, seed):
    """Runs whose losses are a monotone function of the mixture, in the published layout but with shuffled losses."""
    rng = np.random.default_rng(seed)
    mixtures_RxK = rng.dirichlet(np.ones(3), size=num).round(3)
    losses_RxD = 3 - np.log(mixtures_RxK[:, 1:] + 0.01)
    header = ["index", *(f"train_the_pile_{name}" for name in SOURCES)]
    write_csv(folder / f"{part}_mixture_{size}.csv", header, ([r, *mixtures_RxK[r]] for r in range(num)))
    header = ["index", *(f"metric/the_pile_{name}_val_loss" for name in DOMAINS)]
    write_csv(folder / f"{part}_pile_loss_{size}.csv", header, ([r, *losses_RxD[r]] for r in rng.permutation(num)))


@pytest.fixture
def published(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write_runs(folder, "train", "1m", 80, seed=0)
    for seed, size in enumerate(HELD_OUT, start=1):
        write_runs(folder, "test", size, 30, seed=seed)
    return folder


def read(folder, part="train", size="1m"):
    return read_runs(folder / f"{part}_mixture_{size}.csv", folder / f"{part}_pile_loss_{size}.csv")


def test_rows_are_joined_by_key_and_columns_by_name(tmp_path):
    (tmp_path / "m.csv").write_text("index,train_the_pile_b,train_the_pile_a\n7,0.2,0.8\n3,0.6,0.4\n")
    (tmp_path / "l.csv").write_text("index,metric/the_pile_a_val_loss\n3,1.5\n7,2.5\n")
    runs = read_runs(tmp_path / "m.csv", tmp_path / "l.csv")
    assert runs.sources == ("a", "b") and runs.domains == ("a",)
    pairs = {tuple(w_K): loss for w_K, loss in zip(runs.mixtures_RxK.tolist(), runs.losses_RxD[:, 0], strict=True)}
    assert pairs == {(0.8, 0.2): 2.5, (0.4, 0.6): 1.5}


@pytest.mark.parametrize(
    "mixtures, losses, message",
    [
        ("index,a\n1,1\n2,1\n", "index,a\n1,2.5\n", "run 2 is in .*m.csv only"),
        ("index,a\n1,1\n", "index,a\n1,2.5\n5,2\n", "run 5 is in .*l.csv only"),
        ("index,a\n1,1\n1,1\n", "index,a\n1,2.5\n", "m.csv: line 3: key 1 is there twice"),
        ("index,a\n1,x\n", "index,a\n1,2.5\n", "m.csv: line 2: could not convert"),
        ("index,a\n1,1\n", "index,a\n1,nan\n", "l.csv: line 2: 1 finite numbers"),
        ("index,a,b\n1,1\n", "index,a\n1,2.5\n", "m.csv: line 2: 2 finite numbers"),
        ("index,a,a\n1,1,1\n", "index,a\n1,2.5\n", "m.csv: the first line"),
        ("", "index,a\n1,2.5\n", "m.csv: the first line"),
        ("index,a\n", "index,a\n1,2.5\n", "m.csv: no runs"),
    ],
)
def test_bad_files_are_named(tmp_path, mixtures, losses, message):
    (tmp_path / "m.csv").write_text(mixtures)
    (tmp_path / "l.csv").write_text(losses)
    with pytest.raises(InputError, match=message):
        read_runs(tmp_path / "m.csv", tmp_path / "l.csv")


def test_held_out_runs_that_are_too_few_to_rank_are_refused(published, tmp_path):
    data = shutil.copytree(published, tmp_path / "few")
    write_runs(data, "test", "60m", 5, seed=1)
    with pytest.raises(InputError, match="the 60m test files hold 5 runs, and rank correlations need at least 6"):
        main(Config(data=data, out=tmp_path / "out"))


def test_the_experiment_end_to_end(published, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    options = ["--data", str(published), "--out", str(out), "--subset-runs", "4", "64", "--subset-repeats", "2"]
    monkeypatch.setattr(sys, "argv", ["regmix_published", *options])
    run(Config, main)
    metrics = read_result(out / "metrics.json", QUESTION.metrics)
    for model, least in {"least_squares": 0.9, "ridge": 0.9, "boosted_trees": 0.85}.items():
        for size in HELD_OUT:
            assert metrics.spearman[model][size].keys() == set(DOMAINS)
            assert metrics.spearman_mean[model][size] > least
    assert metrics.spearman_by_num_runs["4"]["boosted_trees"] is None
    assert metrics.spearman_by_num_runs["64"]["boosted_trees"] > 0.8
    assert metrics.num_runs == {"train": 80, "1m": 30, "60m": 30, "1B": 30}
    assert {data_set.name for data_set in metrics.data_sets} == {path.name for path in published.iterdir()}
    report = (out / "report.md").read_text()
    assert report in capsys.readouterr().out
    assert f"{metrics.spearman['boosted_trees']['1B']['pile_cc']:.3f}" in report

    assert_verified(out, with_data=True)
    with (published / "test_mixture_1B.csv").open("a") as file:
        file.write("\n")
    assert list(failures(out)) == [
        f"data: published runs test_mixture_1B.csv ({published / 'test_mixture_1B.csv'}) is unchanged"
    ]

    with pytest.raises(SystemExit) as stopped:
        run(Config, main)
    assert stopped.value.code == 2
    assert "already holds results" in capsys.readouterr().err


def test_a_model_that_learns_nothing_scores_low(published):
    runs, test = read(published), read(published, "test", "1B")
    rng = np.random.default_rng(0)
    shuffled = Runs(runs.sources, runs.domains, runs.mixtures_RxK, rng.permutation(runs.losses_RxD))
    learned = rank_correlations(runs, {"1B": test}, "ridge")["1B"]
    unlearned = rank_correlations(shuffled, {"1B": test}, "ridge")["1B"]
    assert np.mean(list(learned.values())) > 0.9 > 0.6 > np.mean(list(unlearned.values()))


def test_missing_data_is_one_clear_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stopped:
        run(Config, main)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none' / 'train_mixture_1m.csv'}: no such file\n"
    assert not (tmp_path / "out").exists()
