import dataclasses
import sys

import pytest

from experiments.command_line import run
from mixmin_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Config:
    """What the example does."""

    size: int = 1
    """How large."""
    preset: str = "small"

    def __post_init__(self):
        if self.size < 0:
            raise InputError("--size must not be negative")


PRESETS = {"small": Config(1, "small"), "big": Config(100, "big")}


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


def test_a_defect_keeps_its_traceback(monkeypatch):
    def main(config):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        call(monkeypatch, main)


def test_help_shows_the_docstrings(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, lambda config: None, "--help")
    assert stopped.value.code == 0
    assert "What the example does" in (shown := capsys.readouterr().out) and "How large" in shown
