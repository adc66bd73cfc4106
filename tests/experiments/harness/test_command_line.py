import dataclasses
import sys

import pytest

from experiments.harness.command_line import run
from experiments.harness.result_files import rendering
from experiments.reporting import render
from mixmin_jax.errors import InputError
from mixmin_jax.training.checkpoint import Stopped
from mixmin_jax.training.proxies import Diverged


@dataclasses.dataclass(frozen=True)
class Config:
    """What the example does."""

    size: int = 1
    """How large."""

    def __post_init__(self):
        if self.size < 0:
            raise InputError("--size must not be negative")


PRESETS = {"small": Config(1), "big": Config(100)}


def call(monkeypatch, main, *arguments, presets=None):
    monkeypatch.setattr(sys, "argv", ["example", *arguments])
    return run(Config, main, presets)


@pytest.mark.parametrize(
    ("arguments", "size"),
    [((), 1), (("--preset", "big"), 100), (("--preset=big",), 100), (("--preset", "big", "--size", "7"), 7)],
)
def test_options_override_the_preset(monkeypatch, arguments, size):
    seen = []
    call(monkeypatch, seen.append, *arguments, presets=PRESETS)
    assert seen[0].size == size


@pytest.mark.parametrize(
    ("fault", "status"),
    [(InputError("row 3 is NaN"), 2), (FileNotFoundError(2, "No such file", "x.csv"), 2), (KeyboardInterrupt(), 130)],
)
def test_faults_become_exit_statuses(monkeypatch, capsys, fault, status):
    def main(config):
        raise fault

    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, main)
    assert stopped.value.code == status
    error = capsys.readouterr().err
    assert error.startswith("error: ") == (status == 2) and error.count("\n") == (status == 2)


def test_a_bad_value_is_found_before_main_runs(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call(monkeypatch, lambda config: pytest.fail("main ran"), "--size", "-1")
    assert "--size must not be negative" in capsys.readouterr().err


def test_a_training_that_diverges_is_one_line(monkeypatch, capsys):
    def main(config):
        raise Diverged("the loss of general became nan at step 7")

    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, main)
    assert stopped.value.code == 1 and capsys.readouterr().err == "error: the loss of general became nan at step 7\n"


def test_a_report_that_cannot_be_rendered_is_one_line(monkeypatch, capsys, tmp_path):
    def main(config):
        with rendering(tmp_path):
            render.report("index", "a context without verdicts", {})

    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, main)
    expected = f"error: {tmp_path}: the report cannot be rendered, metrics.json is whole (UndefinedError: "
    found = capsys.readouterr().err
    assert stopped.value.code == 1 and found.startswith(expected) and found.count("\n") == 1


def test_a_run_that_stopped_with_another_process_ends_as_that_does(monkeypatch, capsys):
    def main(config):
        raise Stopped("stopped after step 5 of 9; the state is saved")

    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, main)
    assert stopped.value.code == 143 and capsys.readouterr().err == ""  # the run's folder has told of it


def test_a_defect_keeps_its_traceback(monkeypatch):
    def main(config):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        call(monkeypatch, main)


def test_help_shows_the_docstrings_and_the_presets(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, lambda config: None, "--preset", "big", "--help", presets=PRESETS)
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "What the example does" in shown and "How large" in shown
    assert "--preset NAME" in shown and "small, big" in shown and "100" in shown
