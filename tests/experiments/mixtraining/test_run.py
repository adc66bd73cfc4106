"""A whole MixTraining experiment on a domain of vectors: files, resuming, failures."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from experiments.mixtraining.conclusion import conclusion

from experiments.mixtraining import report_files as mixtraining_report
from experiments.mixtraining import run as mixtraining_run
from experiments.mixtraining import trial as mixtraining_trial
from experiments.mixtraining import tuning as mixtraining_tuning
from experiments.mixtraining.config import ARMS, MixTrainingOptions
from experiments.mixtraining.costs import OTHER_SSL, kind_of, step_kinds
from experiments.mixtraining.domain import Labels
from experiments.mixtraining.report import mixtraining_report as report_of
from experiments.mixtraining.run import run_experiment
from mixmin_jax.errors import InputError
from mixmin_jax.training.proxies import Diverged
from tests.experiments.mixtraining.linear_domain import linear_domain
from tests.experiments.mixtraining.made_up_metrics import mixtraining_metrics
from tests.experiments.verify.verified import assert_verified, failures

OPTIONS = MixTrainingOptions(
    fractions=(0.5, 1.0), seeds=2, ssl_epochs=4, sl_epochs=4, batch_size=8, learning_rate=1e-2, sl_learning_rate=1e-2,
    scratch_learning_rate=1e-2, checkpoints=3,
)  # fmt: skip
FILES = {
    "config.json", "status.json", "metrics.json", "report.md", "summary.md", "curves.png", "accuracy_compute.png",
    "accuracy_fraction.png",
}  # fmt: skip

UNSTEADY = ("seconds_in_all", "steps", "made_by", "command", "stage_commits")  # from one run to the next


def experiment(out, domain=None, **changes):
    options = dataclasses.replace(OPTIONS, out=out, **changes)
    return run_experiment("text_mixtraining", domain or linear_domain(8), options, demonstration=False)


def load(out):
    return json.loads((out / "metrics.json").read_text())


def without_times(metrics):
    found = {key: value for key, value in metrics.items() if key not in UNSTEADY}
    timed = ("seconds", "wall_seconds")
    return found | {"runs": [{k: v for k, v in run.items() if k not in timed} for run in metrics["runs"]]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    experiment(out)
    return out


@pytest.fixture
def quick(finished, monkeypatch):
    """Neither measures what steps cost nor draws figures again."""
    monkeypatch.setattr(mixtraining_run, "step_costs", lambda *_: load(finished)["steps"])
    monkeypatch.setattr(mixtraining_report, "mixtraining_figures", lambda *_: {})


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


def test_the_folder_holds_results_and_stages(finished):
    assert {path.name for path in finished.iterdir() if path.is_file()} == FILES
    assert json.loads((finished / "status.json").read_text()) == {"complete": True}
    stages = {path.stem for path in (finished / "stages").glob("*.npz")}
    assert len(stages) == 20 + 1 + 2  # runs, costs of steps, references
    assert (finished / "report.md").read_text() == report_of(load(finished))


def test_metrics_are_of_the_schema_that_the_report_reads(finished):
    def shape(value, path=""):
        if isinstance(value, dict) and path not in ("/config", "/examples", "/identity", "/made_by/versions"):
            return {f"{path}/{key}" for key in value} | {
                place for key, part in value.items() for place in shape(part, f"{path}/{key}")
            }
        return shape(value[0], f"{path}[]") if isinstance(value, list) and value else set()

    expected, written = shape(mixtraining_metrics(domain="text")), shape(load(finished))
    assert expected - written == set()
    assert written - expected == {"/stage_commits"}


def test_metrics_hold_every_run_with_its_costs(finished):
    metrics = load(finished)
    assert metrics["complete"] is True and metrics["seeds"] == [0, 1] and metrics["examples"] == {"0.5": 60, "1.0": 120}
    assert len(metrics["runs"]) == 2 * 2 * 5 and {run["arm"] for run in metrics["runs"]} == set(ARMS)
    steps = metrics["steps"]
    kinds = {"ssl": "ssl", "joint": "joint_visible", "sl": "sl"}
    budget = {(r["fraction"], r["seed"]): r["flops"] for r in metrics["runs"] if r["arm"] == "ssl_then_sl"}
    for run in metrics["runs"]:
        for total, unit in (("flops", "flops"), ("seconds", "ms")):
            counted = sum(count * steps[kinds[phase]][unit] for phase, count in run["steps"].items())
            assert run[total] == pytest.approx(counted / (1000 if unit == "ms" else 1))
        assert 0 <= run["accuracy"] <= 1 and run["failure"] is None and run["learning_rate"] == 1e-2
        if run["budget"] == "matched":
            assert (
                abs(run["flops"] - budget[run["fraction"], run["seed"]])
                <= max(steps[kind]["flops"] for kind in kinds.values()) / 2
            )
    assert metrics["config"]["arms"]["mixtraining"]["alpha"] == "linear 1.0 to 0.0"
    assert "out" not in metrics["config"] and metrics["config"]["seeds"] == 2
    assert metrics["stage_commits"] and metrics["seconds_in_all"] > 0


def test_every_arm_learns_something(finished):
    chance = load(finished)["references"][0]["accuracy"]
    for run in load(finished)["runs"]:
        assert run["accuracy"] > chance + 0.2


def test_the_same_command_finds_everything(quick, copied, trained, capsys):
    before = load(copied)
    experiment(copied)
    assert trained == [] and "found, not computed again" in capsys.readouterr().err
    after = load(copied)
    assert without_times(after) == without_times(before)
    assert after["steps"] == before["steps"] and after["seconds_in_all"] == pytest.approx(before["seconds_in_all"])


def test_another_command_is_refused_and_more_seeds_keep_what_fits(quick, copied, trained):
    with pytest.raises(InputError, match=r"options\.seeds \(2 there, 3 now\)"):
        experiment(copied, seeds=3)
    with pytest.raises(InputError, match=r"options\.mix_ratio"):
        experiment(copied, mix_ratio=0.25)
    assert trained == []
    (copied / "reconstructions.npz").write_bytes(b"of the old run")
    experiment(copied, seeds=3, overwrite=True)
    assert len(trained) == 10 and all(name.endswith("seed2") for name in trained)
    assert load(copied)["seeds"] == [0, 1, 2] and not (copied / "reconstructions.npz").exists()
    experiment(copied, price_per_hour=2.0, seeds=3)  # which changes no number
    assert len(trained) == 10 and "In money" in (copied / "report.md").read_text()


def test_other_settings_train_only_what_they_change(quick, copied, trained):
    experiment(copied, mix_ratio=1.0, overwrite=True)
    assert len(trained) == 8 and all(name.startswith("mixtraining") for name in trained)


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
    assert json.loads((out / "status.json").read_text())["complete"] is False
    assert "incomplete" in capsys.readouterr().err
    early = load(out)
    assert early["complete"] is False and early["seeds"] == [0] and "did not end" in (out / "report.md").read_text()
    experiment(out, resume=True)
    assert without_times(load(out)) == without_times(load(finished))


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path, capsys):
    experiment(tmp_path / "out", dry_run=True, tune=True)
    plan = capsys.readouterr().out
    assert "20 runs after a search of 4 settings per arm" in plan and "FLOPs" in plan
    assert "1 of the data, mixtraining: 120 examples, 2 ssl, 2 joint, 2 sl; 90 steps" in plan
    assert not (tmp_path / "out").exists()


def test_without_joint_epochs_mixtraining_is_ssl_then_sl(quick, tmp_path):
    metrics = experiment(tmp_path / "out", mix_ratio=0.0, seeds=1)
    runs = {(run["arm"], run["budget"], run["fraction"]): run for run in without_times(metrics)["runs"]}
    for fraction in OPTIONS.fractions:
        for budget in ("schedule", "matched"):
            same = dict(runs["mixtraining", budget, fraction]) | {"arm": "ssl_then_sl", "budget": "schedule"}
            assert same == runs["ssl_then_sl", "schedule", fraction]


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
    assert metrics["complete"] is True and json.loads((out / "status.json").read_text()) == {"complete": True}
    fine = [run for run in metrics["runs"] if not run["failure"]]
    assert {(run["fraction"], run["seed"]) for run in fine} == {(0.5, 0)} and len(fine) == 5
    failure = next(run for run in metrics["runs"] if run["arm"] == "mixtraining" and run["failure"])
    assert failure["failure"]["phase"] == "ssl" and failure["failure"]["step"] < 15
    name = f"mixtraining-schedule-{failure['fraction']:g}-seed{failure['seed']}.npz"
    assert f"{name}" in capsys.readouterr().err
    with np.load(out / "failed" / name) as kept:
        assert set(kept.files) == {"encoder/mask", "encoder/w", "sl/w", "ssl/w"}
        assert all(np.isfinite(kept[file]).all() for file in kept.files)
    assert len(list((out / "failed").iterdir())) == 15
    assert "15 of 20 runs stopped" in (out / "report.md").read_text() == report_of(metrics)
    with pytest.raises(Diverged):  # found again, not trained again, and told again
        experiment(out, broken)


def test_runs_that_skip_steps_end_and_say_how_many(quick, tmp_path):
    """One of fifteen batches of each epoch has a row that is not finite."""
    domain = linear_domain(8)
    inputs = domain.train.inputs.copy()
    inputs[0] = np.inf
    broken = dataclasses.replace(domain, train=Labels(inputs, domain.train.labels_N))
    metrics = experiment(tmp_path / "out", broken, fractions=(1.0,), seeds=1, on_nonfinite="skip", checkpoints=0)
    assert not any(run["failure"] for run in metrics["runs"])
    counts = metrics["skipped_steps"]
    assert counts["sl-schedule-1-seed0"] == {"sl": 4} and counts["ssl_then_sl-schedule-1-seed0"] == {"ssl_then_sl": 8}
    assert metrics["config"]["on_nonfinite"] == "skip"
    report = (tmp_path / "out" / "report.md").read_text()
    assert "were skipped: 8 of `ssl_then_sl`" in report and report == report_of(metrics)


def schedules(metrics):
    return [run for run in metrics["runs"] if run["budget"] == "schedule"]


def test_what_ssl_steps_see_is_part_of_what_a_run_is_and_of_its_report(quick, finished, trained, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    assert "ssl_sees" not in load(out)["identity"]["options"]  # nor in runs from before there was a choice
    with pytest.raises(InputError, match=r"options.ssl_sees \(None there, 'all_tokens' now\)"):
        experiment(out, ssl_sees="all_tokens")
    metrics = experiment(out, ssl_sees="all_tokens", overwrite=True, seeds=1, fractions=(1.0,))
    assert len(trained) == 5  # no stage of the other run is taken for one of this
    assert metrics["identity"]["options"]["ssl_sees"] == metrics["config"]["ssl_sees"] == "all_tokens"
    before = {(r["arm"], r["fraction"], r["seed"]): r["test_loss"] for r in schedules(load(finished))}
    changed = {r["arm"] for r in schedules(metrics) if r["test_loss"] != before[r["arm"], r["fraction"], r["seed"]]}
    assert changed == {"ssl_then_sl", "mixtraining"}
    report, earlier = ((folder / "report.md").read_text() for folder in (out, finished))
    assert "An SSL step encodes all tokens, hidden ones as mask tokens." in report
    assert "| SSL, all tokens, hidden ones as mask tokens | " in report
    assert "An SSL step encodes" not in earlier and "| SSL | " in earlier
    two_passes = report_of(metrics | {"schedule": metrics["schedule"] | {"joint": "two_passes"}})
    assert "two passes over all tokens, hidden ones as mask tokens in the first" in two_passes


def test_steps_of_arms_with_other_masks_are_measured_apart():
    settings = {arm: OPTIONS.settings(arm) for arm in ARMS}
    assert OTHER_SSL not in step_kinds(settings)
    settings["ssl_then_sl"] = dataclasses.replace(settings["ssl_then_sl"], ssl_mask=0.5)
    kinds = step_kinds(settings)
    assert kinds[OTHER_SSL][1].ssl_mask == 0.5 and kinds["ssl"][1].ssl_mask == 0.75
    assert kind_of("ssl", "ssl_then_sl", "visible", kinds) == OTHER_SSL
    assert kind_of("ssl", "mixtraining", "visible", kinds) == "ssl"
    assert kind_of("joint", "mixtraining", "two_passes", kinds) == "joint_two_passes"
    assert kind_of("sl", "ssl_then_sl", "visible", kinds) == "sl"


def test_a_searched_run_says_what_it_chose(quick, tmp_path, monkeypatch):
    def run_trial(study, trial, *_):  # of the search: the first settings are the best
        better = trial.settings == study.options.settings(trial.arm)
        return {"flops": 1e6, "accuracy": 0.5 + 0.1 * better, "failure": None}

    monkeypatch.setattr(mixtraining_tuning, "run_trial", run_trial)
    out = tmp_path / "out"
    metrics = experiment(out, tune=True, tune_trials=2, seeds=1, fractions=(0.5,), matched=False)
    assert metrics["settings"]["chosen_on"] == "validation" and len(metrics["tuning"]["trials"]) == 6
    report = (out / "report.md").read_text()
    assert "6 trials in one rung" in report and "`mixtraining` learning\\_rate" in report
    for arm in ARMS:
        rate = metrics["config"]["arms"][arm]["learning_rate"]
        assert {run["learning_rate"] for run in metrics["runs"] if run["arm"] == arm} == {rate}


def test_reports_are_written_again_from_the_metrics_alone(finished, tmp_path, capsys):
    for place in (tmp_path / "one", tmp_path / "two"):
        place.mkdir()
        shutil.copy(finished / "metrics.json", place)
    mixtraining_report.main(mixtraining_report.MixTrainingReport(tmp_path / "one"))
    for name in FILES - {"config.json", "status.json", "metrics.json"}:
        assert (tmp_path / "one" / name).read_bytes() == (finished / name).read_bytes()
    mixtraining_report.main(mixtraining_report.MixTrainingReport(tmp_path))
    assert (tmp_path / "summary.md").read_text().count("`vectors`") == 4  # two runs, two fractions
    assert (tmp_path / "two" / "curves.png").exists()


def test_a_finished_run_is_verified_with_its_stages(finished, copied):
    held = assert_verified(finished)
    assert {"the runs are those of their stages", "config.json is the run's identity"} <= held
    metrics = load(copied)
    metrics["runs"][3]["accuracy"] += 0.01
    metrics["runs"][4]["flops"] *= 1.01
    (copied / "metrics.json").write_text(json.dumps(metrics))
    found = failures(copied)
    assert "accuracy is" in found["the runs are those of their stages"]
    assert "flops is" in found["FLOPs and seconds of 20 runs follow from their steps"]
    assert "report.md has" in found["reports and tables (2) follow from the metrics, byte for byte"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no metrics.json"),
        ("{", "cannot be read"),
        ('{"schema_version": 1, "experiment": "text_mixture"}', "text_mix"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(InputError, match=message):
        mixtraining_report.main(mixtraining_report.MixTrainingReport(tmp_path))


def test_the_conclusion_is_printed(quick, copied, capsys):
    experiment(copied)
    assert capsys.readouterr().out.strip().endswith(conclusion(load(copied)))
