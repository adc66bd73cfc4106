"""The main job end to end, tiny: three sources, two targets, two seeds."""

import dataclasses
import errno
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from experiments import report
from experiments.harness import certified_weights, language_model_stages, stages
from experiments.harness.replacement import UNFINISHED
from experiments.harness.result_files import NotRendered, read_result
from experiments.reporting.figures import loss_figure
from experiments.text_mixture import __main__ as text_mixture
from experiments.text_mixture import costs, search
from experiments.text_mixture import divergence as text_mixture_divergence
from experiments.text_mixture import overlap as text_mixture_overlap
from experiments.text_mixture import report as text_mixture_report
from experiments.text_mixture import stages as text_mixture_stages
from experiments.text_mixture.__main__ import main
from experiments.text_mixture.build import identity
from experiments.text_mixture.config import TextMixture
from experiments.text_mixture.results import TextMetrics
from mixmin_jax.errors import InputError
from mixmin_jax.training.source_monitor import Divergence
from tests.experiments.text_mixture.tiny_run import ARMS, CAPPED, MODEL, PROXY, load, plan_of
from tests.experiments.verify.verified import assert_verified, failures


def without_times(metrics):
    return {key: value for key, value in metrics.items() if key not in ("seconds", "made_by")}


def test_every_target_gets_its_files(finished):
    for target in ("numbers", "both"):
        assert {path.name for path in (finished / target).iterdir()} == {
            "weights.json", "metrics.json", "overlap.json", "report.md", "report.html", "weights.png", "loss.png",
            "gap.png", "fidelity.png", "source_loss.png",
        }  # fmt: skip
    assert {path.name for path in finished.iterdir() if path.is_file()} == {
        "config.json", "status.json", "summary.md", "summary.png", "index.html",
    }  # fmt: skip
    assert json.loads((finished / "status.json").read_text()) == {"complete": True}


def test_metrics_hold_what_readers_rely_on(finished):
    metrics = load(finished)
    assert metrics["schema_version"] == 2 and list(metrics["arms"]) == list(ARMS)
    for arm in metrics["arms"].values():
        level = arm["test_bits_per_byte"]
        assert level["mean"] == pytest.approx(np.mean(level["per_seed"])) and level["std"] > 0
        assert set(arm["weights"]) == {"digits", "lower", "upper"}
        assert sum(arm["weights"].values()) == pytest.approx(1) and len(arm["weights_per_seed"]) == 2
    mixmin, natural = (metrics["arms"][arm]["test_bits_per_byte"]["per_seed"] for arm in ("mixmin", "natural"))
    paired = metrics["comparisons"]["natural"]
    assert paired["basis"] == "seeds" and paired["per_seed"] == pytest.approx(np.subtract(mixmin, natural))
    assert metrics["complete"] is True and metrics["seeds"] == [0, 1]
    assert {"loss", "gap", "iterations", "converged", "method"} <= set(metrics["mixmin"])
    assert metrics["mixmin"]["converged"] and metrics["mixmin"]["gap"] <= metrics["mixmin"]["tolerance"]
    flops = metrics["flops"]
    assert 0 < flops["random_mixtures"] < 1.5 * flops["proxies"]
    assert flops["total"] > 2 * (flops["proxies"] + flops["random_mixtures"] + len(ARMS) * flops["target"])
    assert metrics["regmix"] == {"model": "linear", "runs": 4, "more_compute_than_mixmin": True}
    assert list(metrics["fidelity"]["rows"]) == ["mixmin", "document", "token"]
    assert metrics["fidelity"]["rows"]["document"]["all"]["n"] == 2 * (len(ARMS) + 4)
    search, (rung,) = metrics["search"], metrics["search"]["rungs"]
    assert 0 < search["share"] < 0.1 and search["seconds"] > 0 and search["target_seconds"] > 0
    assert (rung["kind"], rung["rows"], rung["changed"]) == ("ngram", "16", True)
    assert rung["weights"] == pytest.approx(metrics["arms"]["mixmin"]["weights"])  # counts know no seed
    for source, (low, high) in search["interval"].items():
        assert 0 <= low <= rung["weights"][source] + 1e-6 and rung["weights"][source] - 1e-6 <= high <= 1
    (run,) = metrics["multiples"]
    assert run["times"] == 1.5 and run["test_bits_per_byte"] > 0
    assert len(metrics["config"]["sources"]) == 1 and len(metrics["config"]["target"]) == 2
    assert metrics["config"] and metrics["stage_commits"]
    assert all(
        metrics["made_by"][part] for part in ("versions", "device", "command")
    )  # no commit where there is no git
    assert set(metrics["data"]["sources"]["digits"]) >= {"documents", "bytes", "sha256"}
    split = metrics["data"]["target"]
    assert not set(split["fit_document_numbers"]) & set(split["test_document_numbers"])


def test_the_mixture_is_that_of_the_target(finished):
    assert load(finished)["arms"]["mixmin"]["weights"]["digits"] > 0.99
    both = load(finished, "both")["arms"]
    assert both["mixmin_token"]["weights"]["digits"] < 0.05
    assert min(both["mixmin_token"]["weights"][name] for name in ("lower", "upper")) > 0.2
    weights = load(finished, "both", "weights.json")
    assert weights["mixmin"] == both["mixmin"]["weights"] and list(weights) == [*ARMS, "recommended", "unit", "sources"]
    recommended = weights["recommended"]
    assert recommended["weights"] == weights[recommended["arm"]] and recommended["reason"]
    assert weights["today"] == pytest.approx({"digits": 0.5, "lower": 0.25, "upper": 0.25})


def test_what_does_not_depend_on_the_target_is_the_same_for_all(finished):
    names = {path.name.removesuffix(".npz") for path in (finished / "stages").iterdir()}
    trained = {name for name in names if name.startswith("train-") and name.endswith("seed0")}
    assert trained == {
        f"train-{what}-seed0"
        for what in (
            f"proxies-{PROXY.tokens}", "random-mixtures-0", "random-mixtures-1", "natural-1.5", "shared-arms",
            "arms-numbers", "arms-both",
        )
    }  # fmt: skip
    numbers, both = (load(finished, target)["random_mixtures"] for target in ("numbers", "both"))
    assert [run["weights"] for run in numbers] == [run["weights"] for run in both]
    assert numbers[0]["test_bits_per_byte"] != both[0]["test_bits_per_byte"]


def test_the_reported_loss_is_nats_over_bytes(finished, config):
    metrics = load(finished)
    with np.load(finished / "stages" / "score-shared-arms-numbers-seed0.npz") as file:
        nats, num_bytes = -file["array/document_DxM"], file["array/bytes_D"]
    assert num_bytes.sum() == metrics["data"]["target"]["test_bytes"]
    expected = nats.sum(0) / (num_bytes.sum() * np.log(2))
    reported = [
        metrics["arms"][arm]["test_bits_per_byte"]["per_seed"][0] for arm in ("uniform", "natural", "unimax", "today")
    ]
    np.testing.assert_allclose(reported, expected, rtol=1e-12)


def test_a_source_that_is_not_allowed_gets_nothing_and_is_named(finished):
    metrics = load(finished)
    three = ["digits", "lower", "upper"]
    assert metrics["sources"] == three == list(metrics["data"]["sources"])
    for mixture in (*metrics["arms"].values(), *metrics["random_mixtures"]):
        assert list(mixture["weights"]) == three
    proxies = (finished / "stages" / f"train-proxies-{PROXY.tokens}-seed0").iterdir()
    assert {path.stem for path in proxies} == {*three}  # no proxy of it either
    notes = load(finished, name="weights.json")["sources"]
    assert notes == metrics["source_notes"] and list(notes) == [*three, "web"]
    assert notes["digits"] == {"licence": "CC0-1.0", "note": "counted | by hand", "allowed": True, "tokens": None}
    report = (finished / "numbers" / "report.md").read_text()
    assert r"| `digits` | CC0-1.0 | counted \| by hand | yes |" in report
    assert "| `web` | unknown |  | **no**: left out |" in report


def test_near_duplicates_of_the_targets_are_dropped_before_anything_is_trained(finished, config):
    numbers, both = load(finished), load(finished, "both")
    dropped = {"digits": 0, "lower": 0, "upper": 5}
    for metrics, repeated in ((numbers, 2), (both, 3)):
        assert metrics["overlap"]["dropped"] == dropped and metrics["overlap"]["target_documents_repeated"] == repeated
        assert metrics["overlap"]["sources"] == dict.fromkeys(dropped, 0)  # looked for again in what is left
        assert metrics["data"]["sources"]["upper"]["documents"] == 120
        assert metrics["data"]["sources"]["upper"]["near_duplicates_dropped"] == 5
    found = load(finished, "both", "overlap.json")
    assert found["matches"] == [] and found["dropped"]["sources"]["upper"] == [0, 1, 2, 3, 4]
    assert [match["source_documents"] for match in found["dropped"]["matches"]] == [[0], [1], [2]]
    report = (finished / "both" / "report.md").read_text()
    assert "of this target 3 documents had been repeated" in report and "| 0 | 5 |" in report
    clean, dirty = plan_of(config), plan_of(dataclasses.replace(config, drop_duplicates=False))
    assert "without 5 near-duplicates of the target" in costs.describe_plan(clean)
    sha256 = {plan: plan.inputs["sources"]["upper"] for plan in (clean, dirty)}
    assert numbers["data"]["sources"]["upper"]["sha256"] == sha256[clean] != sha256[dirty]
    assert numbers["data"]["sources"]["upper"]["sha256_as_read"] == sha256[dirty]
    assert identity(clean) != identity(dirty)


def test_target_runs_are_monitored(finished):
    metrics = load(finished)
    monitors = metrics["monitors"]
    assert monitors["steps"][-1] == 50 and len(monitors["steps"]) == 12 and monitors["windows"] == 100
    assert list(monitors["arms"]) == list(ARMS)
    for arm, runs in monitors["arms"].items():
        for seed, run in enumerate(runs):
            assert run["seed"] == seed and run["asked"] == pytest.approx(metrics["arms"][arm]["weights_per_seed"][seed])
            for source, asked in run["asked"].items():
                assert abs(run["sampled"][source] - asked) < 1 / 100
                assert any(run["bits_per_byte"][source]) == (run["sampled"][source] > 0)
    uniform = monitors["arms"]["uniform"][0]["bits_per_byte"]
    assert all(losses[0] > 7 and losses[-1] < 6 for losses in uniform.values())  # 8 bits before any is learned
    assert "Sources were sampled in the shares that were asked for" in (finished / "numbers/report.md").read_text()


def test_what_diverges_is_said_on_stderr_and_first_in_the_report(finished, config, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    rising = Divergence(0, 1, "loss", np.log(2) * 2.0, np.log(2) * 2.5)

    def divergences(monitor, weights_MxK):
        return [rising] if weights_MxK[0, 0] == pytest.approx(1 / 3) else []  # uniform, and unimax

    monkeypatch.setattr(text_mixture_divergence, "divergences", divergences)
    monkeypatch.setattr(text_mixture_report, "_figures", lambda metrics: {})  # they take seconds
    monkeypatch.setattr(text_mixture_report, "loss_panels_figure", lambda levels: loss_figure({"a": [1.0]}))
    main(dataclasses.replace(config, out=out))
    line = "`lower` in the training of `uniform`, seed 1: the training loss rises from 2.000 to 2.500 bits per byte"
    assert f"warning: {line}" in capsys.readouterr().err
    found = [(record["arm"], record["seed"]) for record in load(out)["monitors"]["divergences"]]
    assert found == [("uniform", 0), ("uniform", 1), ("unimax", 0), ("unimax", 1)]
    found = text_mixture_report.text_mixture_report(read_result(out / "numbers" / "metrics.json", TextMetrics)).markdown
    assert "In the training of `uniform` and `unimax` something diverged" in found.split("\n## ")[0]
    assert "| **training loss rises** | `uniform` | `lower` | 0 | 2.0000 | 2.5000 |" in found


def forbid(*_, **__):
    raise AssertionError("computed again")


def test_a_second_run_computes_nothing_and_gives_the_same(finished, config, monkeypatch, capsys):
    before = load(finished)
    for module, name in (
        (language_model_stages, "train_on_mixtures"),
        (language_model_stages, "score_documents"),
        (certified_weights, "solve"),
        (text_mixture_overlap, "find_overlap"),
        (text_mixture_stages, "count_ngrams"),
        (text_mixture_stages, "ngram_score"),
        (search, "bootstrap"),
        (search, "fit_regmix"),
    ):
        monkeypatch.setattr(module, name, forbid)
    without_reports = dataclasses.replace(text_mixture.QUESTION, write=lambda folder, results: None)
    monkeypatch.setattr(text_mixture, "QUESTION", without_reports)  # figures take seconds
    main(config)
    assert without_times(load(finished)) == without_times(before)


def test_a_report_that_cannot_be_rendered_leaves_the_results_whole(finished, config, tmp_path, monkeypatch):
    out = shutil.copytree(finished, tmp_path / "out")
    for path in (*out.glob("*/*.json"), *out.glob("*/report.*")):
        path.unlink()

    def fail(metrics):
        raise ValueError("no such figure")

    monkeypatch.setattr(text_mixture_report, "_figures", fail)
    with pytest.raises(NotRendered, match="no such figure"):
        main(dataclasses.replace(config, out=out))
    for target in ("numbers", "both"):
        metrics = load(out / UNFINISHED, target)
        assert metrics["seeds"] == [0] and metrics["complete"] is False  # reports follow every seed
        assert load(out / UNFINISHED, target, "weights.json")["mixmin"] == metrics["arms"]["mixmin"]["weights"]
        assert (out / UNFINISHED / target / "overlap.json").is_file()
    assert not list(out.glob("*/report.*"))


@pytest.mark.slow
def test_another_run_is_refused_unless_told(finished, config, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    other = dataclasses.replace(config, out=out, split_seed=1)
    with pytest.raises(InputError, match=r"split_seed \(0 there, 1 now\)"):
        main(other)
    assert load(out)["data"]["target"]["split_seed"] == 0
    trained = []
    original = language_model_stages.train_on_mixtures
    monkeypatch.setattr(
        language_model_stages, "train_on_mixtures", lambda *a, **k: trained.append(k["names"]) or original(*a, **k)
    )
    main(dataclasses.replace(other, overwrite=True))
    assert load(out)["data"]["target"]["split_seed"] == 1
    assert len(trained) == 4  # the arms of two targets, two seeds; what does not depend on the split is kept
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        main(dataclasses.replace(config, out=tmp_path / "foreign"))


@pytest.mark.slow
def test_one_mixture_for_all_targets_is_one_more_arm(finished, config, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    together = dataclasses.replace(config, out=out, combine="worst_case", overwrite=True)
    main(together)
    numbers, both = load(out), load(out, "both")
    for metrics in (numbers, both):
        assert list(metrics["arms"]) == [*ARMS, "combined"]
        assert metrics["combined"]["converged"] and len(metrics["combined"]["gap_history"]) == 2
        assert metrics["arms"]["mixmin"] == load(finished, metrics["target"])["arms"]["mixmin"]
        assert "`combined`" in (out / metrics["target"] / "report.md").read_text()
    assert numbers["arms"]["combined"]["weights"] == both["arms"]["combined"]["weights"]
    # neither target's own best: `numbers` wants digits only, `both` none
    assert 0.1 < both["arms"]["combined"]["weights"]["digits"] < 0.9
    solved = both["combined"]["targets"]
    assert solved["numbers"]["excess"] == pytest.approx(solved["both"]["excess"], abs=1e-8)  # a worst case is shared
    extra = costs.in_all(plan_of(together)) - costs.in_all(plan_of(config))
    model = costs.training(plan_of(config), "target")
    assert 2 * model < extra < 3 * model  # two seeds of one model, and its scoring


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [KeyboardInterrupt(), pytest.param(OSError(errno.ENOSPC, "No space left on device"), marks=pytest.mark.slow)],
)
def test_what_is_finished_can_be_read_and_the_rest_follows(finished, config, tmp_path, monkeypatch, capsys, fault):
    """The run stops while the second seed's arms are being written; the first seed's results are there by then."""
    out = tmp_path / "out"
    (out / "stages").mkdir(parents=True)
    (out / "config.json").write_bytes((finished / "config.json").read_bytes())
    for path in (finished / "stages").iterdir():  # as a run leaves them that got so far
        if not path.name.startswith(("train-arms", "score-arms")) or path.name.endswith("seed0.npz"):
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, out / "stages" / path.name)
    go_on = dataclasses.replace(config, out=out, resume=True)
    with monkeypatch.context() as patch:

        def fail(*_, **__):
            raise fault

        patch.setattr(stages.np, "savez", fail)
        with pytest.raises(type(fault)):
            main(go_on)
    status = json.loads((out / "status.json").read_text())
    assert status["complete"] is False and status["how_to_go_on"]
    assert "incomplete" in capsys.readouterr().err
    assert not list((out / "stages").glob("*.partial"))  # no half-written files
    for target in ("numbers", "both"):
        metrics = load(out, target)
        assert metrics["complete"] is False and metrics["seeds"] == [0]
        assert "did not end" in (out / target / "report.md").read_text()
    main(go_on)
    for target in ("numbers", "both"):
        assert without_times(load(out, target)) == without_times(load(finished, target))


@pytest.mark.slow
def test_text_fed_from_the_host_trains_the_same_models(finished, config, tmp_path):
    out = tmp_path / "out"
    main(dataclasses.replace(config, out=out, seeds=1, tokens_on="host"))
    for arm, result in load(out)["arms"].items():
        expected = load(finished)["arms"][arm]["test_bits_per_byte"]["per_seed"][0]
        assert result["test_bits_per_byte"]["mean"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_the_default_job_runs_on_installed_text_and_calls_itself_a_demonstration(config, tmp_path, capsys):
    main(
        TextMixture(
            out=tmp_path / "out", proxy_model=PROXY, model=MODEL, mesh_source=1, fit_bytes=60_000, test_bytes=60_000
        )
    )
    assert "demonstration" in (tmp_path / "out" / "scipy_docs" / "report.md").read_text()
    assert len(load(tmp_path / "out", "scipy_docs")["sources"]) >= 5
    assert "demonstration" in capsys.readouterr().out


def test_reports_are_written_again_from_the_metrics_alone(finished, tmp_path, capsys):
    for target in ("numbers", "both"):
        (tmp_path / target).mkdir()
        shutil.copy(finished / target / "metrics.json", tmp_path / target)
    report.main(report.Report((tmp_path,)))
    names = ("numbers/report.md", "both/loss.png", "both/report.html", "summary.md", "summary.png", "index.html")
    for name in names:
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()
    with pytest.raises(InputError, match="is one target of a run"):
        report.main(report.Report((tmp_path / "numbers",)))


def test_a_finished_run_is_verified_with_stages_and_data(finished):
    held = assert_verified(finished, with_data=True)
    assert {"numbers: the record follows from its stages", "both: the record follows from its stages"} <= held
    assert {line.split(" (")[0] for line in held if line.startswith("data: ")} == {
        "data: source digits", "data: source lower", "data: source upper", "data: target numbers", "data: target both",
    }  # fmt: skip


def test_whatever_was_tampered_with_is_named(finished, data, tmp_path):
    out, moved = shutil.copytree(finished, tmp_path / "out"), shutil.copytree(data, tmp_path / "data")
    edit(out / "numbers" / "metrics.json", lambda m: m["arms"]["uniform"]["test_bits_per_byte"]["per_seed"].reverse())
    edit(out / "both" / "metrics.json", lambda m: m["fidelity"]["rows"]["token"]["arms"].update(spearman=0.999))
    edit(out / "both" / "weights.json", lambda w: w["mixmin"].update(digits=0.5))
    edit(out / "numbers" / "overlap.json", lambda o: o["sources"].update(digits=7))
    edit(out / "status.json", lambda status: status.update(complete=False))
    edit(out / "config.json", lambda config: config.update(split_seed=9))
    place = str(moved / "sources" / "digits.jsonl")
    for target in ("numbers", "both"):
        edit(out / target / "metrics.json", lambda m: m["data_sets"][0].update(place=place))
    with (moved / "sources" / "digits.jsonl").open("a") as file:
        file.write(json.dumps({"text": "one more"}) + "\n")
    picture = np.array(Image.open(out / "both" / "loss.png"))
    picture[5, 5] = 0
    Image.fromarray(picture).save(out / "both" / "loss.png")
    summary = (out / "summary.md").read_text()
    (out / "summary.md").write_text(summary.replace("| `uniform` | ", "| `uniform` | 1"))
    stage = out / "stages" / f"train-proxies-{PROXY.tokens}-seed0" / "lower.npz"
    stage.write_bytes(stage.read_bytes()[:-200])
    found = failures(out)
    expected = {
        "status.json calls the run complete": "it is not",
        "numbers: config.json is the run's identity": "split_seed is 9, not 0",
        "numbers: its experiment finds nothing wrong": "the point of uniform, seed 0, is not at its test loss",
        "numbers: the record follows from its stages": "arms.uniform.test_bits_per_byte.per_seed[0] is",
        r"numbers: \d+ records with numbers": "comparisons.uniform.",
        "numbers: stages are those of the record": f"train-proxies-{PROXY.tokens}-seed0/lower.npz cannot be read",
        "both: weights.json holds what the record says": "mixmin.digits is 0.5",
        r"both: \d+ records with numbers": "fidelity.rows.token.arms.spearman is 0.999",
        "reports and tables": "summary.md has",
        "figures": "both/loss.png shows something else",
        rf"data: source digits \({place}\) is unchanged": "documents is 121, not 120",
    }
    for what, why in expected.items():
        (line,) = [f"{name}: {reason}" for name, reason in found.items() if re.match(what, name)]
        assert why in line
    assert "overlap.json does not hold" in found["numbers: its experiment finds nothing wrong"]
    # the configuration fails for both targets, as do the stages; nothing else does
    assert len(found) == len(expected) + 2, found


def edit(path, change):
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))


@pytest.mark.slow
def test_a_damaged_stage_is_made_again(finished, config, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    path = out / "stages" / "score-arms-numbers-seed0.npz"
    path.write_bytes(path.read_bytes()[:-200])
    main(dataclasses.replace(config, out=out))
    assert without_times(load(out)) == without_times(load(finished))


@pytest.mark.slow
def test_a_cap_binds_in_every_arm(config, tmp_path):
    out = tmp_path / "out"
    main(dataclasses.replace(config, out=out, seeds=1, target=config.target[:1], max_epochs=0.2, **CAPPED))
    arms = load(out)["arms"]
    assert max(epochs for arm in arms.values() for epochs in arm["epochs"].values()) <= 0.2
    assert arms["mixmin"]["epochs"]["digits"] > 0.18  # as much as allowed
