import dataclasses
import os
import sys
from pathlib import Path

import jax
import pytest

from experiments.harness.command_line import parse, run
from experiments.harness.result_files import NotRendered
from mixmin_jax.errors import InputError
from mixmin_jax.training.checkpoint import Stopped
from mixmin_jax.training.nonfinite import Diverged


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


def failing(fault):
    def main(config):
        raise fault

    return main


@pytest.mark.parametrize(
    ("arguments", "size"),
    [((), 1), (("--preset", "big"), 100), (("--preset=big",), 100), (("--preset", "big", "--size", "7"), 7)],
)
def test_options_override_the_preset(monkeypatch, arguments, size):
    seen = []
    call(monkeypatch, seen.append, *arguments, presets=PRESETS)
    assert seen[0].size == size


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [
        (InputError("row 3 is NaN"), 2, "error: row 3 is NaN\n"),
        (FileNotFoundError(2, "No such file", "x.csv"), 2, "error: [Errno 2] No such file: 'x.csv'\n"),
        (Diverged("the loss of general became nan at step 7"), 1, "error: the loss of general became nan at step 7\n"),
        (NotRendered("out: the report cannot be rendered"), 1, "error: out: the report cannot be rendered\n"),
        (KeyboardInterrupt(), 130, ""),
        (Stopped("stopped after step 5 of 9; the state is saved"), 143, ""),  # the run's folder has told of it
    ],
)
def test_faults_become_exit_statuses_and_at_most_one_line(monkeypatch, capsys, fault, status, error):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, failing(fault))
    assert stopped.value.code == status and capsys.readouterr().err == error


@dataclasses.dataclass(frozen=True)
class Writes:
    """Writes a file."""

    out: Path | None = None
    """The file."""


@pytest.mark.parametrize("device", ["/dev/full", None])
def test_printing_decides_nothing_about_files(tmp_path, monkeypatch, capfd, device):
    """A full disk under stdout and stderr, and a closed pipe; with no file to write, the command ends there."""

    def main(config):
        for stream in (sys.stdout, sys.stderr):
            print("the plan", file=stream, flush=True)
        if config.out is None:
            pytest.fail("it went on")
        config.out.write_text("all")
        print("a result")

    def call(*arguments):
        if device is None:
            reader, stdout = os.pipe()
            os.close(reader)
        else:
            stdout = os.open(device, os.O_WRONLY)
        with open(stdout, "w") as stream, monkeypatch.context() as patched, pytest.raises(SystemExit) as stopped:
            patched.setattr(sys, "argv", ["example", *arguments])
            patched.setattr(sys, "stdout", stream)
            run(Writes, main)
        return stopped.value.code

    status = 141 if device is None else 2
    if device is None:
        assert call() == status
        capfd.readouterr()
    assert call("--out", str(tmp_path / "file")) == status and (tmp_path / "file").read_text() == "all"
    error = "" if device is None else "error: [Errno 28] No space left on device: stdout is cut off, but all files are"
    assert capfd.readouterr().err.startswith(f"the plan\n{error}")


@dataclasses.dataclass(frozen=True)
class Part:
    """A part."""

    batch_size: int = 8
    """Rows."""


@dataclasses.dataclass(frozen=True)
class Trains:
    """Trains."""

    batch_size: int = 64
    """Examples."""
    max_bytes: int | None = None
    """Bytes."""
    part: Part = Part()
    """A part."""


@pytest.mark.parametrize(
    ("fault", "amount"),
    [
        (MemoryError(), "an allocation failed"),
        (MemoryError("Unable to allocate 6.00 GiB for an array with shape (8,)"), "6.00 GiB could not be had"),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 6442450944 bytes.\nmore"),
            "6442450944 bytes could not be had",
        ),
    ],
)
def test_a_lack_of_memory_is_one_line_with_what_lowers_it(monkeypatch, capsys, fault, amount):
    monkeypatch.setattr(sys, "argv", ["example"])
    with pytest.raises(SystemExit) as stopped:
        run(Trains, failing(fault))
    lower = "lower --batch-size (now 64), --part.batch-size (now 8), or use a machine with more memory"
    assert stopped.value.code == 1 and capsys.readouterr().err == f"error: memory ran out: {amount}; {lower}\n"


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Numbers."""

    share: float = 1
    """One."""
    shares: tuple[float, ...] = ()
    """Some."""
    price: float | None = None
    """One, or none."""
    name: str = ""
    """Text."""
    names: tuple[str, ...] = ()
    """Texts."""


@pytest.mark.parametrize("option", ["--share", "--shares", "--price", "--name", "--names"])
def test_no_option_takes_nan_infinity_or_empty_text(capsys, option):
    assert parse(Numbers, None, [option, "0.5"]) != parse(Numbers, None, []) == Numbers()
    for value in ("",) if "name" in option else ("nan", "inf", "-inf"):
        with pytest.raises(SystemExit):
            parse(Numbers, None, [f"{option}={value}"])
        error = capsys.readouterr().err
        assert option in error and value in error


def test_a_defect_keeps_its_traceback(monkeypatch):
    with pytest.raises(ValueError, match="a bug"):
        call(monkeypatch, failing(ValueError("a bug")))


def test_a_bad_value_is_found_before_main_runs(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call(monkeypatch, lambda config: pytest.fail("main ran"), "--size", "-1")
    assert "--size must not be negative" in capsys.readouterr().err


def test_help_shows_the_docstrings_and_the_presets(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, lambda config: None, "--preset", "big", "--help", presets=PRESETS)
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "What the example does" in shown and "How large" in shown
    assert "--preset NAME" in shown and "small, big" in shown and "100" in shown
