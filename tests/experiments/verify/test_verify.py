"""The command that reads results again: what it says, its exit status, and what earlier versions wrote."""

import importlib.metadata
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.harness import provenance
from experiments.harness.command_line import parse, run
from experiments.mixtraining import report_files as mixtraining_report
from experiments.verify import files as verify_files
from experiments.verify.__main__ import Verify, main
from experiments.verify.findings import differences
from experiments.weights_from_file import __main__ as weights_from_file
from tests.experiments.mixtraining.made_up_metrics import made_up_reconstructions, mixtraining_metrics
from tests.experiments.verify.verified import assert_verified, failures, findings

PUBLISHED = Path(__file__).parents[3] / "experiments" / "results"


@pytest.fixture
def cli(monkeypatch, capsys):
    """Exit status, stdout and stderr of the command."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["verify", *map(str, arguments)])
        try:
            run(Verify, main)
            status = 0
        except SystemExit as stopped:
            status = stopped.code
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def scores(tmp_path):
    """A file of log-likelihoods."""
    logp_NxK = np.random.default_rng(0).normal(-5, 2, size=(50, 3))
    np.savez(tmp_path / "scores.npz", log_likelihoods=logp_NxK, sources=["code", "math", "news"])
    return tmp_path / "scores.npz"


@pytest.fixture
def weights(scores, monkeypatch):
    """The weights found from it, at a commit."""
    monkeypatch.setattr(provenance, "git_commit", lambda: "0123abc")
    out = scores.parent / "weights"
    weights_from_file.main(parse(weights_from_file.Config, arguments=[f"--log-likelihoods={scores}", f"--out={out}"]))
    return out


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A MixTraining result with pictures; no training behind it."""
    folder = tmp_path_factory.mktemp("drawn")
    metrics = mixtraining_metrics() | {"experiment": "image_mixtraining", "stage_commits": ["0123abc"]}
    metrics["made_by"]["versions"]["matplotlib"] = importlib.metadata.version("matplotlib")
    write(folder / "metrics.json", metrics)
    write(folder / "config.json", metrics["identity"])
    write(folder / "status.json", {"complete": True})
    np.savez(folder / "reconstructions.npz", **made_up_reconstructions())
    mixtraining_report.write_report(folder, metrics)
    return folder


@pytest.fixture
def copied(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / "copied")


@pytest.fixture
def undrawn(monkeypatch):
    """Reports are written again without figures."""
    monkeypatch.setattr(mixtraining_report, "mixtraining_figures", lambda *_: {})


def write(path, record):
    path.write_text(json.dumps(record))


def edit(path, change):
    held = json.loads(path.read_text())
    change(held)
    write(path, held)


def test_every_check_is_a_line_and_the_last_one_counts_them(weights, cli):
    status, out, err = cli(weights)
    lines = out.splitlines()
    assert (status, err) == (0, "") and lines[0] == str(weights)
    assert all(line.split()[0] in ("ok", "not") for line in lines[1:-1])
    assert lines[-1] == f"one result: {len(lines) - 2} ok, 0 FAILED and 0 not checked"
    edit(weights / "weights.json", lambda held: held["mixmin"].update(code=0.99))
    status, out, _ = cli(weights, shutil.copytree(weights, weights.with_name("copy")))
    line = "FAILED       weights.json holds the weights of the metrics: mixmin.code is 0.99"
    assert status == 1 and out.count(line) == 2
    assert out.splitlines()[-1].startswith("2 results:") and "2 FAILED" in out.splitlines()[-1]


def test_provenance_is_on_record(weights, scores):
    metrics = json.loads((weights / "metrics.json").read_text())
    (record,) = metrics["data_sets"]
    assert record["place"] == str(scores) and record["reader"] == "file" and record["bytes"] == scores.stat().st_size
    assert record["counts"] == {"examples": 50, "sources": 3} and len(record["sha256"]) == 64
    edit(weights / "metrics.json", lambda held: [held.pop(key) for key in ("device", "seeds")])
    found = failures(weights)
    assert "no device; no seeds" in found.values()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: m["arms"]["mixmin"]["weights"].update(code=-0.1), "has a weight outside of 0 to 1"),
        (lambda m: m["arms"]["uniform"]["weights"].update(code=0.4), "arms.uniform.weights sums to 1.0"),
        (lambda m: m["mixmin"].update(gap=1e-3), "mixmin: the gap 0.001 is above the goal"),
        (lambda m: m["mixmin"].update(converged=False), "mixmin did not converge"),
        (lambda m: m["mixmin"].update(loss=1.0), "arms.mixmin.loss is"),
        (lambda m: m.pop("arms"), "the result does not hold what it should (KeyError: 'arms')"),
        (lambda m: m.update(schema_version=99), "its schema version is 99; known are 1"),
        (lambda m: m.update(experiment="alchemy"), "it is of alchemy; known are text_mixture"),
        (lambda m: m.update(seeds=float("nan")), "NaN is no JSON"),
    ],
)
def test_a_tampered_number_is_found(weights, change, why):
    edit(weights / "metrics.json", change)
    found = failures(weights)
    assert any(why in reason for reason in found.values())


def test_losses_are_computed_again_from_the_scores(weights, scores):
    edit(weights / "metrics.json", lambda m: [part.update(loss=4.0) for part in (m["mixmin"], m["arms"]["mixmin"])])
    assert list(failures(weights)) == ["losses follow from the files of log-likelihoods"]


def test_data_that_changed_or_went_are_found(weights, scores):
    content = scores.read_bytes()
    scores.unlink()
    (line,) = [found for found in findings(weights) if found.what.startswith("data")]
    assert line.outcome == "not checked" and f"there is no {scores}" in line.why
    assert "No such file" in next(iter(failures(weights, with_data=True).values()))
    scores.write_bytes(content + b" ")
    (why,) = (why for what, why in failures(weights).items() if what.startswith("data"))
    assert f"{len(content) + 1} bytes, not {len(content)}" in why and "sha256 is" in why


def test_figures_are_compared_by_their_pixels(copied, drawn, monkeypatch):
    held = assert_verified(drawn)
    assert "figures (4) follow from the metrics, pixel by pixel" in held
    path = copied / "curves.png"
    picture = Image.open(path)
    picture.save(path, compress_level=1)  # other bytes, the same pixels
    assert path.read_bytes() != (drawn / "curves.png").read_bytes()
    made = {name: (drawn / name).read_bytes() for name in ("curves.png", "accuracy_compute.png")}
    (finding,) = compared(copied, made)
    assert finding.outcome == "ok"
    changed = np.array(picture)
    changed[3, 3] ^= 255
    Image.fromarray(changed).save(path)
    (finding,) = compared(copied, made)
    assert finding.outcome == "FAILED" and finding.why == "curves.png shows something else"
    path.write_bytes(b"no picture")
    (copied / "accuracy_compute.png").unlink()
    (finding,) = compared(copied, made)
    assert finding.why == "accuracy_compute.png is not there; curves.png shows something else"


@pytest.mark.parametrize(
    ("drawn_by", "alike", "outcome", "why"),
    [
        ("3.0", 1, "not checked", "version 3.0"),
        (None, 0, "not checked", "unknown version"),
        (None, 1, "FAILED", "something else"),  # the other figure shows that this version draws as that one did
    ],
)
def test_figures_of_another_matplotlib_are_not_called_wrong(copied, drawn, drawn_by, alike, outcome, why):
    Image.new("RGB", (10, 10)).save(copied / "curves.png")
    made = {name: (drawn / name).read_bytes() for name in ["curves.png", "accuracy_compute.png"][: 1 + alike]}
    metrics = json.loads((copied / "metrics.json").read_text())
    metrics["made_by"]["versions"]["matplotlib"] = drawn_by
    (finding,) = verify_files.figures_agree(copied, made, metrics)
    assert finding.outcome == outcome and why in finding.why


def compared(folder, made):
    return list(verify_files.figures_agree(folder, made, json.loads((folder / "metrics.json").read_text())))


def test_a_table_row_is_compared_byte_by_byte(copied, undrawn):
    text = (copied / "summary.md").read_text()
    (copied / "summary.md").write_text(text.replace("51.1", "61.1", 1))
    (copied / "notes.md").write_text("mine")
    (found,) = failures(copied).values()
    assert found.startswith("summary.md has ") and "61.1" in found and "51.1" in found
    others = [finding for finding in findings(copied) if finding.what.startswith("other reports")]
    assert others[0].outcome == "not checked" and "notes.md" in others[0].why


def test_an_incomplete_run_and_another_configuration_fail(copied, undrawn):
    write(copied / "status.json", {"complete": False, "how_to_go_on": "python -m experiments.x --resume"})
    edit(copied / "metrics.json", lambda m: m["made_by"].update(git_commit="0123abc+changes"))
    write(copied / "config.json", {"experiment": "another"})
    found = failures(copied)
    assert found["status.json calls the run complete"] == "it is not; go on with: python -m experiments.x --resume"
    assert found["config.json is the run's identity"] == "experiment is 'another', not 'images_mixtraining'"
    assert "not checked  the code is that of a commit: it is 0123abc+changes" in map(str, findings(copied))


def test_what_is_no_result_is_refused_with_status_2(tmp_path, copied, cli):
    (tmp_path / "empty").mkdir()
    for folder, why in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path / "empty", "no result; there is no metrics.json or variants.json in it"),
        (copied.parent, "is no run's folder but holds some"),
        (PUBLISHED / "text_mixture_demo" / "scipy_docs", "is one target of a run: name the run's folder"),
    ):
        status, out, err = cli(copied, folder)
        assert (status, out) == (2, "") and err.startswith(f"error: {folder}") and why in err and err.count("\n") == 1
    status, _, err = cli()
    assert status == 2 and "at least one folder" in err


def test_a_result_that_cannot_be_read_is_a_failure_and_others_go_on(weights, copied, cli, undrawn):
    (copied / "metrics.json").write_text("{")
    status, out, _ = cli(copied, weights)
    assert status == 1 and "FAILED       copied/metrics.json can be read: Expecting" in out
    assert out.splitlines()[-1].startswith("2 results:") and "1 FAILED" in out.splitlines()[-1]


def test_differences_allow_for_rounding_only():
    assert not list(differences({"a": [1.0, None]}, {"a": [1 + 1e-12, None]}))
    assert list(differences({"a": 1.0}, {"a": 1 + 1e-12}, exact=True)) == ["a is 1.0, not 1.000000000001"]
    assert list(differences({"a": True}, {"a": 1.1})) == ["a is True, not 1.1"]
    assert list(differences({"b": 1}, {"a": 1})) == ["a is not there", "b is there, and should not be"]
    assert list(differences([1], [1, 2], "x")) == ["x is [1], not [1, 2]"]


def test_a_result_of_an_earlier_version_is_read():
    found = findings(PUBLISHED / "text_mixture_demo")
    assert not [str(finding) for finding in found if finding.outcome == "FAILED"]
    lines = {str(finding) for finding in found}
    assert "ok           scipy_docs: config.json and the metrics agree in the 12 entries that both hold" in lines
    assert any(line.startswith("not checked  data: source readmes") and "--data" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in PUBLISHED.iterdir()))
def test_all_published_results_agree_with_themselves(name):
    assert_verified(PUBLISHED / name)
