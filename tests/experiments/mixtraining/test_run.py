"""A whole MixTraining experiment on a domain of vectors: files, resuming, failures."""

import dataclasses
import shutil

import numpy as np
import pytest

from experiments.harness.result_files import NotRendered, read_result, write_json
from experiments.mixtraining import report as report_module
from experiments.mixtraining import run as mixtraining_run
from experiments.mixtraining import trial as mixtraining_trial
from experiments.mixtraining import tuning as mixtraining_tuning
from experiments.mixtraining.config import ARMS
from experiments.mixtraining.costs import step_kinds
from experiments.mixtraining.domain import Labels
from experiments.mixtraining.report import mixtraining_report, verdict
from experiments.mixtraining.results import OTHER_SSL, MixTrainingMetrics
from experiments.mixtraining.run import run_experiment
from experiments.reporting.json_files import read_json, to_builtins
from mixmin_jax.errors import InputError
from mixmin_jax.training.nonfinite import Diverged
from tests.experiments.mixtraining import linear_domain as linear
from tests.experiments.mixtraining.linear_domain import linear_domain
from tests.experiments.mixtraining.made_up import made_up
from tests.experiments.verify.verified import assert_verified, failures

OPTIONS = dataclasses.replace(linear.OPTIONS, checkpoints=3)


def experiment(out, domain=None, **changes):
    options = dataclasses.replace(OPTIONS, out=out, **changes)
    return run_experiment("text_mixtraining", domain or linear_domain(8), options, demonstration=False)


def load(out):
    return read_result(out / "metrics.json", MixTrainingMetrics)


def without_times(metrics):
    return [dataclasses.replace(run, seconds=0.0, wall_seconds=0.0) for run in metrics.runs]


def report_of(metrics):
    return mixtraining_report(metrics).markdown


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    experiment(out)
    return out


@pytest.fixture
def quick(finished, monkeypatch):
    """Neither measures what steps cost nor draws figures again."""
    monkeypatch.setattr(mixtraining_run, "step_costs", lambda *_: to_builtins(load(finished).steps))
    monkeypatch.setattr(report_module, "mixtraining_figures", lambda *_: {})


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "out")


@pytest.fixture
def trained(monkeypatch):
    """Names of the trials that are trained from now on."""
    names = []

    def counted(study, trial, *args, **options):
        names.append(trial.name)
        return mixtraining_trial.run_trial(study, trial, *args, **options)

    monkeypatch.setattr(mixtraining_run, "run_trial", counted)
    return names


def test_the_folder_holds_results_stages_and_every_run_with_its_costs(finished):
    assert {path.name for path in finished.iterdir() if path.is_file()} == {
        "config.json", "status.json", "metrics.json", "report.md", "report.html", "summary.md", "curves.png",
        "accuracy_compute.png", "accuracy_fraction.png",
    }  # fmt: skip
    assert read_json(finished / "status.json") == {"complete": True}
    assert len(list((finished / "stages").glob("*.npz"))) == 20 + 1 + 2  # runs, costs of steps, references
    metrics = load(finished)
    assert (finished / "report.md").read_text() == report_of(metrics)
    assert metrics.complete and metrics.seeds == (0, 1) and metrics.examples == (60, 120)
    assert len(metrics.runs) == 2 * 2 * 5 and {run.arm for run in metrics.runs} == set(ARMS)
    kinds = {"ssl": "ssl", "joint": "joint_visible", "sl": "sl"}
    budget = {(run.fraction, run.seed): run.flops for run in metrics.runs if run.arm == "ssl_then_sl"}
    for run in metrics.runs:
        for total, unit in ((run.flops, "flops"), (1000 * run.seconds, "ms")):
            counted = sum(n * getattr(metrics.steps[kinds[phase]], unit) for phase, n in run.steps.items())
            assert total == pytest.approx(counted)
        assert metrics.references[0].accuracy + 0.2 < run.accuracy <= 1  # more than chance
        assert run.failure is None and run.learning_rate == 1e-2
        if run.budget == "matched":
            difference = abs(run.flops - budget[run.fraction, run.seed])
            assert difference <= max(metrics.steps[kind].flops for kind in kinds.values()) / 2
    assert metrics.arms["mixtraining"].alpha == "linear 1.0 to 0.0"
    assert "out" not in metrics.config and metrics.config["seeds"] == 2
    assert metrics.stage_commits and min(metrics.seconds.values()) > 0


def test_the_same_command_finds_everything(quick, copied, trained, capsys):
    before = load(copied)
    experiment(copied)
    said, after = capsys.readouterr(), load(copied)
    assert trained == [] and "found, not computed again" in said.err
    assert said.out.strip().endswith(verdict(after))
    assert without_times(after) == without_times(before)
    assert after.steps == before.steps and after.seconds == before.seconds


def test_another_command_is_refused_and_more_seeds_keep_what_fits(quick, copied, trained):
    with pytest.raises(InputError, match=r"options\.seeds \(2 there, 3 now\)"):
        experiment(copied, seeds=3)
    with pytest.raises(InputError, match=r"options\.mix_ratio"):
        experiment(copied, mix_ratio=0.25)
    assert trained == []
    (copied / "reconstructions.npz").write_bytes(b"of the old run")
    experiment(copied, seeds=3, overwrite=True)
    assert len(trained) == 10 and all(name.endswith("seed2") for name in trained)
    assert load(copied).seeds == (0, 1, 2) and not (copied / "reconstructions.npz").exists()
    experiment(copied, price_per_hour=2.0, seeds=3)  # which changes no number
    assert len(trained) == 10 and "In money" in (copied / "report.md").read_text()
    experiment(copied, mix_ratio=1.0, overwrite=True)  # which is nothing to the other arms
    assert len(trained) == 10 + 8 and all(name.startswith("mixtraining") for name in trained[10:])


def test_a_run_that_was_interrupted_goes_on(quick, finished, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:

        def stopped(study, trial, *args, **options):
            if trial.name == "sl-matched-0.5-seed1":
                raise KeyboardInterrupt
            return mixtraining_trial.run_trial(study, trial, *args, **options)

        patch.setattr(mixtraining_run, "run_trial", stopped)
        with pytest.raises(KeyboardInterrupt):
            experiment(out)
    assert read_json(out / "status.json")["complete"] is False
    assert "incomplete" in capsys.readouterr().err
    early = load(out)
    assert early.complete is False and early.seeds == (0,) and "did not end" in (out / "report.md").read_text()
    experiment(out, resume=True)
    assert without_times(load(out)) == without_times(load(finished))


def test_runs_that_fail_are_kept_and_told_of_and_the_others_go_on(quick, tmp_path, capsys):
    domain = linear_domain(8)
    study = mixtraining_run.Study(domain, OPTIONS)
    row = next(r for r in study.rows(0.5, 1) if r not in study.rows(0.5, 0))
    inputs = domain.train.inputs.copy()
    inputs[row] = np.inf  # in all runs but those with seed 0 at half of the data
    broken = dataclasses.replace(domain, train=Labels(inputs, domain.train.labels_N))
    out = tmp_path / "out"
    with pytest.raises(Diverged, match=r"15 of 20 runs failed.*out/failed"):
        experiment(out, broken)
    metrics = load(out)
    assert metrics.complete and read_json(out / "status.json") == {"complete": True}
    fine = [run for run in metrics.runs if not run.failure]
    assert {(run.fraction, run.seed) for run in fine} == {(0.5, 0)} and len(fine) == 5
    run = next(run for run in metrics.runs if run.arm == "mixtraining" and run.failure)
    assert run.failure.phase == "ssl" and run.failure.step < 15
    name = f"mixtraining-schedule-{run.fraction:g}-seed{run.seed}.npz"
    assert name in capsys.readouterr().err
    with np.load(out / "failed" / name) as kept:
        assert set(kept.files) == {"encoder/mask", "encoder/up/kernel", "sl/kernel", "ssl/kernel"}
        assert all(np.isfinite(kept[file]).all() for file in kept.files)
    assert len(list((out / "failed").iterdir())) == 15
    assert "15 of 20 runs failed" in (out / "report.md").read_text() == report_of(metrics)
    with pytest.raises(Diverged):  # found again, not trained again, and told again
        experiment(out, broken)


def test_runs_that_skip_steps_end_and_say_how_many(quick, tmp_path):
    """One of fifteen batches of each epoch has a row that is not finite."""
    domain = linear_domain(8)
    inputs = domain.train.inputs.copy()
    inputs[0] = np.inf
    broken = dataclasses.replace(domain, train=Labels(inputs, domain.train.labels_N))
    metrics = experiment(tmp_path / "out", broken, fractions=(1.0,), seeds=1, on_nonfinite="skip", checkpoints=0)
    assert not any(run.failure for run in metrics.runs)
    counts = metrics.skipped_steps
    assert counts["sl-schedule-1-seed0"] == {"sl": 4} and counts["ssl_then_sl-schedule-1-seed0"] == {"ssl_then_sl": 8}
    assert metrics.config["on_nonfinite"] == "skip"
    assert "8 of `ssl_then_sl`" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.slow
def test_what_ssl_steps_see_is_part_of_what_a_run_is_and_of_its_report(quick, trained, copied):
    before = load(copied)
    assert "ssl_sees" not in before.identity["options"]  # nor in runs from before there was a choice
    with pytest.raises(InputError, match=r"options.ssl_sees \(None there, 'all_tokens' now\)"):
        experiment(copied, ssl_sees="all_tokens")
    metrics = experiment(copied, ssl_sees="all_tokens", overwrite=True, seeds=1, fractions=(1.0,))
    assert len(trained) == 5  # no stage of the other run is taken for one of this
    assert metrics.identity["options"]["ssl_sees"] == metrics.config["ssl_sees"] == "all_tokens"
    now, then = ({(r.arm, r.test_loss) for r in found.runs if r.budget == "schedule"} for found in (metrics, before))
    assert {arm for arm, _ in now - then} == {"ssl_then_sl", "mixtraining"}
    assert "| SSL, all tokens, hidden ones as mask tokens | " in (copied / "report.md").read_text()


def test_steps_of_arms_with_other_masks_are_measured_apart():
    settings = {arm: OPTIONS.settings(arm) for arm in ARMS}
    assert OTHER_SSL not in step_kinds(settings)
    settings["ssl_then_sl"] = dataclasses.replace(settings["ssl_then_sl"], ssl_mask=0.5)
    kinds = step_kinds(settings)
    assert kinds[OTHER_SSL][1].ssl_mask == 0.5 and kinds["ssl"][1].ssl_mask == 0.75
    metrics = dataclasses.replace(made_up(), steps=kinds, joint="two_passes")
    assert metrics.kind_of("ssl", "ssl_then_sl") == OTHER_SSL and metrics.kind_of("ssl", "mixtraining") == "ssl"
    assert metrics.kind_of("joint", "mixtraining") == "joint_two_passes"
    assert metrics.kind_of("sl", "ssl_then_sl") == "sl"


def test_a_searched_run_says_what_it_chose(quick, tmp_path, monkeypatch):
    def run_trial(study, trial, *_):  # of the search: the first settings are the best
        better = trial.settings == study.options.settings(trial.arm)
        return {"flops": 1e6, "accuracy": 0.5 + 0.1 * better, "failure": None}

    monkeypatch.setattr(mixtraining_tuning, "run_trial", run_trial)
    out = tmp_path / "out"
    metrics = experiment(out, tune=True, tune_trials=2, seeds=1, fractions=(0.5,), matched=False)
    assert len(metrics.tuning.trials) == 6
    report = (out / "report.md").read_text()
    assert "Chosen on the validation part" in report and "6 trials took 6 M FLOPs." in report
    for arm in ARMS:
        rate = metrics.arms[arm].learning_rate
        assert {run.learning_rate for run in metrics.runs if run.arm == arm} == {rate}


def test_a_finished_run_is_verified_with_its_stages(finished, copied):
    held = assert_verified(finished)
    assert {"the record follows from its stages", "config.json is the run's identity"} <= held
    metrics = load(copied)
    better = dataclasses.replace(metrics.runs[3], accuracy=metrics.runs[3].accuracy + 0.01)
    dearer = dataclasses.replace(metrics.runs[4], flops=1.01 * metrics.runs[4].flops)
    runs = (*metrics.runs[:3], better, dearer, *metrics.runs[5:])
    write_json(copied / "metrics.json", dataclasses.replace(metrics, runs=runs))
    found = failures(copied)
    assert "runs" in found["the record follows from its stages"]
    assert any("runs" in why for what, why in found.items() if "numbers that follow from others" in what)
    assert any("report.md has" in why for what, why in found.items() if what.startswith("reports and tables"))


def test_a_report_that_cannot_be_rendered_leaves_the_metrics_whole(quick, copied, monkeypatch):
    before = load(copied)
    monkeypatch.setattr(report_module, "_context", lambda metrics: {"metrics": None})
    with pytest.raises(NotRendered, match=r"metrics\.json is whole"):
        experiment(copied)
    assert load(copied) == before  # with its report
    assert without_times(load(copied / "unfinished"))[:10] == without_times(before)[:10]
