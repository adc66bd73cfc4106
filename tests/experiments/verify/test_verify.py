"""The command that reads results again: what it says, its exit status, and that it finds what was tampered with."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.harness import result_files, stages
from experiments.harness.command_line import run
from experiments.molecule_mixture import report as molecule_report
from experiments.reporting.schema import MadeBy
from experiments.verify import data, files
from experiments.verify.__main__ import Verify, main
from experiments.verify.findings import differences
from tests.experiments.verify import made_up
from tests.experiments.verify.verified import assert_verified, failures, findings

PUBLISHED = Path(__file__).parents[3] / "experiments" / "results"
DERIVED = "5 records with numbers that follow from others hold them"


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


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return made_up.write_run(tmp_path_factory.mktemp("written") / "run")


@pytest.fixture
def copied(written, tmp_path, monkeypatch):
    made_up.known(monkeypatch)
    return shutil.copytree(written, tmp_path / "copied")


def edit(path, change):
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))


def test_every_check_is_a_line_and_the_last_one_counts_them(copied, cli):
    status, out, err = cli(copied)
    lines = out.splitlines()
    assert (status, err) == (0, "") and lines[0] == str(copied)
    assert all(line.split()[0] in ("ok", "not") for line in lines[1:-1])
    assert f"  ok           {DERIVED}" in lines
    assert lines[-1] == f"one result: {len(lines) - 4} ok, 0 FAILED and 2 not checked"  # it has no stages
    edit(copied / "weights.json", lambda held: held["mixmin"].update(code=0.99))
    status, out, _ = cli(copied, shutil.copytree(copied, copied.with_name("copy")))
    assert status == 1 and out.count("FAILED       weights.json holds what the record says: mixmin.code is 0.99") == 2
    assert out.splitlines()[-1].startswith("2 results:") and "2 FAILED" in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: m["arms"]["mixmin"]["weights_per_seed"][0].update(code=-0.1), "has a weight outside of 0 to 1"),
        (lambda m: m["arms"]["uniform"]["weights_per_seed"][1].update(code=0.4), "weights_per_seed[1] sums to 0.9"),
        (lambda m: m["arms"]["mixmin"]["weights"].update(code=0.7), "arms.mixmin.weights.code is 0.7, not 0.8"),
        (lambda m: m["arms"]["mixmin"]["loss"].update(mean=1.0), "arms.mixmin.loss.mean is 1.0, not 1.1"),
        (lambda m: m["arms"]["mixmin"]["loss"].update(per_seed=[1.0, 1.1]), "arms.mixmin.loss.mean is 1.1, not 1.05"),
        (lambda m: m["arms"]["uniform"]["loss"]["per_seed"].append(2.0), "arms.uniform.loss has 3 values"),
        (lambda m: m["comparison"].update(verdict="ties"), "comparison.verdict is 'ties', not 'wins'"),
        (lambda m: m["mixmin"].update(gap=1e-3), "mixmin: the gap 0.001 is above the tolerance 1e-09"),
        (lambda m: m["mixmin"].update(gap=1e-10), "mixmin, gap of seed 1 is 1e-10, not 2e-10"),
        (lambda m: m["mixmin"].update(converged=False), "mixmin did not converge"),
        (lambda m: m.update(complete=False), "the run did not end"),
        (lambda m: m["config"].update(seeds=3), "seeds is [0, 1], not [0, 1, 2]"),
        (lambda m: m["config"].update(odd=1), "it is odd"),
        (lambda m: m.pop("arms"), "metrics.json holds no MadeUp: Object missing required field `arms`"),
        (lambda m: m["made_by"].pop("device"), "Object missing required field `device` - at `$.made_by`"),
        (lambda m: m["arms"].update(x=3), "holds no MadeUp: Expected `object`, got `int` - at `$.arms[...]`"),
        (lambda m: m["mixmin"].update(extra=3), "holds no MadeUp: nothing is called $.mixmin.extra"),
        (lambda m: m.update(experiment="alchemy"), "is of alchemy; known are text_mixture"),
        (lambda m: m.update(seeds=float("nan")), "NaN is no JSON"),
    ],
)
def test_a_tampered_number_is_found(copied, monkeypatch, change, why):
    monkeypatch.setattr(files, "reports", lambda _: iter(()))
    edit(copied / "metrics.json", change)
    found = failures(copied)
    assert any(why in reason for reason in found.values()), found


def test_numbers_are_computed_again_from_their_stages(copied):
    (copied / "stages").mkdir()
    stage = copied / "stages" / "losses.npz"
    record = stages.StageRecord(2.0, MadeBy("", "", "0123abc", {}), {})
    edit(copied / "metrics.json", lambda m: m.update(seconds={"losses": 2.0}, stage_commits=["0123abc"]))
    for losses, outcome in (([1.0, 1.2], "ok"), ([1.0, 1.3], "FAILED")):
        stages._write(stage, "stamp", record, {"losses": np.array(losses)})
        found = {finding.what: finding for finding in findings(copied)}
        assert found["stages are those of the record (1)"].outcome == "ok"
        assert found["the record follows from its stages"].outcome == outcome
    assert "arms.mixmin.loss.mean is 1.1, not 1.15" in found["the record follows from its stages"].why
    stage.write_bytes(stage.read_bytes()[:100])
    assert "losses.npz cannot be read" in failures(copied)["stages are those of the record (1)"]


def test_data_that_changed_or_went_are_found(copied, written):
    data = written.parent / "data.bin"
    data.unlink()
    (line,) = [found for found in findings(copied) if found.what.startswith("data")]
    assert line.outcome == "not checked" and f"there is no {data}" in line.why
    assert "No such file" in next(iter(failures(copied, with_data=True).values()))
    data.write_bytes(b"data ")
    (why,) = (why for what, why in failures(copied).items() if what.startswith("data"))
    assert "5 bytes, not 4" in why and "sha256 is" in why
    data.write_bytes(b"data")
    assert_verified(copied, with_data=True)


def test_figures_are_compared_by_their_pixels(copied, written):
    assert "figures (2) follow from the records, pixel by pixel" in assert_verified(copied)
    path = copied / "loss.png"
    picture = Image.open(path)
    picture.save(path, compress_level=1)  # other bytes, the same pixels
    assert path.read_bytes() != (written / "loss.png").read_bytes()
    assert compared(copied, written).outcome == "ok"
    changed = np.array(picture)
    changed[3, 3] ^= 255
    Image.fromarray(changed).save(path)
    assert compared(copied, written).why == "loss.png shows something else"
    path.write_bytes(b"no picture")
    (copied / "gap.png").unlink()
    assert compared(copied, written).why == "gap.png is not there; loss.png shows something else"


@pytest.mark.parametrize(
    ("drawn_by", "alike", "outcome", "why"),
    [
        ("3.0", 1, "not checked", "version 3.0"),
        (None, 0, "not checked", "unknown version"),
        (None, 1, "FAILED", "something else"),  # the other figure shows that this version draws as that one did
    ],
)
def test_figures_of_another_matplotlib_are_not_called_wrong(copied, written, drawn_by, alike, outcome, why):
    Image.new("RGB", (10, 10)).save(copied / "loss.png")
    finding = compared(copied, written, ["loss.png", "gap.png"][: 1 + alike], drawn_by)
    assert finding.outcome == outcome and why in finding.why


def compared(folder, written, names=("loss.png", "gap.png"), drawn_by=made_up.matplotlib.__version__):
    (finding,) = files.figures_agree(folder, {name: (written / name).read_bytes() for name in names}, drawn_by)
    return finding


def test_a_report_is_compared_byte_by_byte(copied):
    text = (copied / "report.md").read_text()
    (copied / "report.md").write_text(text.replace("1.1", "6.1", 1))
    (copied / "notes.md").write_text("mine")
    (found,) = failures(copied).values()
    assert found.startswith("report.md has ") and "6.1" in found and "1.1" in found
    others = [finding for finding in findings(copied) if finding.what.startswith("other reports")]
    assert others[0].outcome == "not checked" and "notes.md" in others[0].why


def test_an_incomplete_run_and_another_configuration_fail(copied):
    unfinished = {"complete": False, "how_to_go_on": "python -m experiments.x --resume"}
    (copied / "status.json").write_text(json.dumps(unfinished))
    edit(copied / "metrics.json", lambda m: m["made_by"].update(git_commit="0123abc+changes"))
    (copied / "config.json").write_text('{"format": 2, "options": 3}')
    found = failures(copied)
    assert found["status.json calls the run complete"] == "it is not; go on with: python -m experiments.x --resume"
    assert found["config.json is the run's identity"] == "options is 3, not 1"
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


def test_a_result_that_cannot_be_read_is_a_failure_and_others_go_on(copied, cli):
    broken = shutil.copytree(copied, copied.with_name("broken"))
    (broken / "metrics.json").write_text("{")
    status, out, _ = cli(broken, copied)
    assert status == 1 and "FAILED       broken/metrics.json is a record of its experiment: " in out
    assert out.splitlines()[-1].startswith("2 results:") and "1 FAILED" in out.splitlines()[-1]


def test_differences_allow_for_rounding_only():
    assert not list(differences({"a": [1.0, None]}, {"a": [1 + 1e-12, None]}))
    assert list(differences({"a": 1.0}, {"a": 1 + 1e-12}, exact=True)) == ["a is 1.0, not 1.000000000001"]
    assert list(differences({"a": True}, {"a": 1.1})) == ["a is True, not 1.1"]
    assert list(differences({"b": 1}, {"a": 1})) == ["a is not there", "b is there, and should not be"]
    assert list(differences([1], [1, 2], "x")) == ["x is [1], not [1, 2]"]


@pytest.mark.parametrize("name", sorted(path.name for path in PUBLISHED.iterdir()))
def test_all_published_results_agree_with_themselves(name, monkeypatch):
    """Figures and data apart, which `python -m experiments.verify experiments/results/*` draws and reads again."""
    monkeypatch.setattr(files, "figures_agree", lambda *_: iter(()))
    monkeypatch.setattr(data, "unchanged", lambda *_: iter(()))
    monkeypatch.setattr(result_files, "figure_png", lambda figure: b"")
    monkeypatch.setattr(result_files, "page", lambda report: "")
    names = ("growth.png", "scores.png", "weights.png", "gap.png", "fidelity.png")
    monkeypatch.setattr(molecule_report, "molecule_figures", lambda metrics: dict.fromkeys(names))
    assert_verified(PUBLISHED / name)
