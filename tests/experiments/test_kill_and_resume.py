"""Real processes, killed at any moment and gone on with: the results are those of a run that nothing happened to."""

import signal

import pytest
from killed_runs import Runs, assert_same, checkpoint_of, finished, text_mixture


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    runs = Runs(text_mixture(folder), folder / "cache")
    runs.finish(folder / "whole")
    return runs, folder / "whole"


def test_killed_runs_go_on_to_the_same_results(text, tmp_path):
    """Once in the proxies' training, by SIGTERM in the arms', and once while the report is written."""
    runs, whole = text
    out = tmp_path / "out"
    status, _ = runs.end(out, lambda: checkpoint_of(out, "train-proxies-seed0"))
    assert status == -signal.SIGKILL and not finished(out) & {"train-proxies-seed0"}

    status, lines = runs.end(out, lambda: checkpoint_of(out, "train-arms-numbers-seed0"), signal.SIGTERM)
    assert (
        "train-proxies-seed0: goes on after step 50" in lines or "train-proxies-seed0: goes on after step 100" in lines
    )
    assert status == 143 and lines[-1].startswith("stopped by SIGTERM: incomplete; what is finished is kept in")
    assert lines[-1].endswith(f"--out {out} --resume")
    saved = checkpoint_of(out, "train-arms-numbers-seed0")
    assert saved and any(f"stopped after step {saved} of 300; the state is saved" in line for line in lines)

    status, lines = runs.end(out, (out / "numbers" / "weights.json").exists)
    assert f"train-arms-numbers-seed0: goes on after step {saved}" in lines
    assert status == -signal.SIGKILL and not (out / "numbers" / "report.md").exists()
    runs.finish(out, "--resume")
    assert_same(out, whole)
