"""--compress in a whole run, and the table of one run or several."""

import dataclasses

import pytest

from experiments import mixtraining_compression
from experiments.harness.result_files import read_result, write_json
from experiments.mixtraining import report as report_module
from experiments.mixtraining import run as mixtraining_run
from experiments.mixtraining.compressed import METHODS, compressed_models
from experiments.mixtraining.compression_report import DENSE, compression_table, with_compressed_accuracy
from experiments.mixtraining.domain import accuracy
from experiments.mixtraining.report import mixtraining_report
from experiments.mixtraining.results import CompressedModel, MixTrainingMetrics
from experiments.mixtraining.run import run_experiment
from experiments.mixtraining_compression import MixTrainingCompression
from experiments.reporting.json_files import to_builtins
from mixmin_jax.errors import InputError
from mixmin_jax.training.compression import int8_weights
from tests.experiments.mixtraining import linear_domain as linear
from tests.experiments.mixtraining.linear_domain import linear_domain, linear_learner, vectors
from tests.experiments.mixtraining.made_up import changed, made_up
from tests.experiments.verify.verified import assert_verified


def compressed(metrics, cost=0.02):
    """The record in which 90 % pruning costs every run `cost`."""

    def add(run):
        return dataclasses.replace(run, compressed=(CompressedModel("90% pruned", run.accuracy - cost, 0.13),))

    return dataclasses.replace(metrics, runs=tuple(map(add, metrics.runs)))


def written(folder, metrics, **changes):
    folder.mkdir()
    write_json(folder / "metrics.json", dataclasses.replace(metrics, **changes))
    return folder


def rows_of(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:] if "|" in line]


@pytest.mark.slow
def test_a_run_keeps_the_accuracies_of_its_compressed_models(tmp_path, monkeypatch):
    """The trained model is that of merged adapters."""
    steps = to_builtins(made_up().steps)
    monkeypatch.setattr(report_module, "mixtraining_figures", lambda *_: {})
    monkeypatch.setattr(mixtraining_run, "step_costs", lambda *_: steps)
    out = tmp_path / "out"
    options = dataclasses.replace(
        linear.OPTIONS, out=out, train="lora:2", compress=True, fractions=(1.0,), seeds=1, checkpoints=0, matched=False
    )
    metrics = run_experiment("text_mixtraining", linear_domain(8), options, demonstration=False)
    assert read_result(out / "metrics.json", MixTrainingMetrics) == metrics
    for run in metrics.runs:
        assert [found.method for found in run.compressed] == list(METHODS)
        assert abs(run.compressed[-1].accuracy - run.accuracy) < 0.1 and run.compressed[-1].share_of_bytes < 0.5
    table = (out / "compression.md").read_text()
    assert table.strip() in (out / "report.md").read_text() and len(rows_of(table)) == 1 + len(METHODS)
    assert "low-rank adapters of the encoder (`lora:2`)" in (out / "report.md").read_text()
    assert_verified(out)


def test_encoder_and_heads_are_compressed():
    learner, examples = linear_learner(0.5, False, False), vectors(50, 4)
    params = learner.init(linear.jax.random.key(0))
    found = {model["method"]: model for model in compressed_models(learner, params, examples)}
    rounded = params | int8_weights({part: params[part] for part in ("encoder", "sl")}).params
    assert found["int8"]["accuracy"] == accuracy(learner, rounded, examples)[0]
    entries = 8 * 6 + 6 * 3
    assert found["int8"]["share_of_bytes"] == pytest.approx((entries + 4 * (6 + 3) + 4) / (4 * (entries + 1)))
    half = (48 / 8 + 4 * (24 + 18 + 1)) / (4 * (entries + 1))
    assert found["90% pruned"]["share_of_bytes"] < found["50% pruned"]["share_of_bytes"] == pytest.approx(half)


def test_the_table_sets_arms_with_the_same_compression_against_each_other():
    metrics = compressed(made_up(fractions=(0.1,)))
    worse = {"compressed": (CompressedModel("90% pruned", 0.2, 0.13),)}
    metrics = changed(metrics, ("mixtraining", "schedule"), **worse)
    table = compression_table([metrics])
    header = [cell.strip() for cell in table.splitlines()[0].strip("|").split("|")]
    dense, pruned = (dict(zip(header, row, strict=True)) for row in rows_of(table))
    assert header[4] == "`ssl_then_sl`" and header.count("less `ssl_then_sl`") == 4
    assert dense["weights"] == DENSE and dense["bytes"] == "100%" and pruned["bytes"] == "13%"
    assert dense["`ssl_then_sl`"].startswith("49.0 ±") and "(" not in dense["`ssl_then_sl`"]
    assert pruned["`ssl_then_sl`"].startswith("47.0 ±") and pruned["`ssl_then_sl`"].endswith("(-2.0)")
    assert pruned["`mixtraining`"] == "20.0 ± 0.0% (-30.2)"
    place = header.index("`mixtraining`") + 1
    found = [row[place] for row in rows_of(table)]
    assert found[0].startswith("+1.20 ±") and found[0].endswith("wins")
    assert found[1].startswith("-27.00 ±") and found[1].endswith("**loses**")


def test_runs_that_failed_or_were_not_compressed_are_left_out():
    metrics = made_up(fractions=(0.1,))
    assert compression_table([metrics]) == "" and "Compressed models" not in mixtraining_report(metrics).markdown
    some = changed(compressed(metrics), ("sl", "schedule"), compressed=())
    left = with_compressed_accuracy(some, "90% pruned").runs
    assert len(left) == len(some.runs) - 3 and ("sl", "schedule") not in {(run.arm, run.budget) for run in left}
    assert len(rows_of(compression_table([some]))) == 2
    assert left[0].accuracy == pytest.approx(some.runs[3].accuracy - 0.02)


def test_one_table_of_several_runs(tmp_path, capsys):
    metrics = compressed(made_up(fractions=(0.1,)))
    folders = tuple(
        written(tmp_path / train, metrics, config=metrics.config | {"train": train})
        for train in ("all", "lora:8", "head")
    )
    mixtraining_compression.main(MixTrainingCompression(folders))
    printed = capsys.readouterr().out
    assert [row[0] for row in rows_of(printed)] == ["`all`", "`all`", "`lora:8`", "`lora:8`", "`head`", "`head`"]
    mixtraining_compression.main(MixTrainingCompression(folders, tmp_path / "table.md"))
    assert (tmp_path / "table.md").read_text() == printed


def test_runs_that_cannot_stand_in_one_table_are_refused(tmp_path):
    with pytest.raises(InputError, match="at least one folder"):
        mixtraining_compression.main(MixTrainingCompression(()))
    metrics = made_up(fractions=(0.1,))
    plain = written(tmp_path / "plain", metrics)
    with pytest.raises(InputError, match="plain has no accuracies of compressed models: run it with --compress"):
        mixtraining_compression.main(MixTrainingCompression((plain,)))
    other = dataclasses.replace(metrics.dataset, fingerprint="another")
    folders = written(tmp_path / "a", compressed(metrics)), written(tmp_path / "b", compressed(metrics), dataset=other)
    with pytest.raises(InputError, match=r"b and .*a are of different data or models"):
        mixtraining_compression.main(MixTrainingCompression(folders))
    folders = folders[0], written(tmp_path / "c", compressed(metrics), matters=0.005)
    with pytest.raises(InputError, match=r"c and .*a call differences below 0.005 and 0 ties: judge one of them again"):
        mixtraining_compression.main(MixTrainingCompression(folders))
