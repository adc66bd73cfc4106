"""The command that writes reports again, and judges again."""

import json

import pytest

from experiments.report import Report, main
from mixmin_jax.errors import InputError
from tests.experiments.verify import made_up
from tests.experiments.verify.verified import assert_verified


@pytest.fixture
def run(tmp_path, monkeypatch):
    made_up.known(monkeypatch)
    return made_up.write_run(tmp_path / "run")


def test_judging_again_changes_verdicts_and_no_number(run):
    before = json.loads((run / "metrics.json").read_text())
    assert before["comparison"]["verdict"] == "wins" and before["matters"] == 0
    main(Report((run,), matters=2.0))
    after = json.loads((run / "metrics.json").read_text())
    assert after == before | {"matters": 2, "comparison": before["comparison"] | {"verdict": "ties"}}
    assert_verified(run)
    main(Report((run,), matters=1.0))
    assert json.loads((run / "metrics.json").read_text()) == before | {"matters": 1}


def test_results_from_before_there_was_a_smallest_difference_are_read_and_judged(run):
    held = json.loads((run / "metrics.json").read_text())
    del held["matters"]
    (run / "metrics.json").write_text(json.dumps(held))
    assert_verified(run)
    main(Report((run,), matters=2.0))
    assert_verified(run)
    assert json.loads((run / "metrics.json").read_text())["comparison"]["verdict"] == "ties"


def test_what_follows_from_a_result_file_is_written_again(run):
    for name in ("report.md", "weights.json"):
        (run / name).unlink()
    held = (run / "metrics.json").read_bytes()
    main(Report((run,)))
    assert (run / "metrics.json").read_bytes() == held
    assert_verified(run)


@pytest.mark.parametrize("matters", [-1.0, float("nan"), float("inf")])
def test_what_is_no_size_is_refused_before_anything_is_written(run, matters):
    held = (run / "metrics.json").read_bytes()
    with pytest.raises(InputError, match="--matters must be a finite number of at least 0"):
        main(Report((run,), matters=matters))
    assert (run / "metrics.json").read_bytes() == held
