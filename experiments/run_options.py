"""The options that all experiments with trainings share: where results go, and what happens to a run that stops."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mixmin_jax.errors import InputError
from mixmin_jax.training.nonfinite import OnNonfinite


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Options of every run."""

    out: Path = Path("runs/run")
    """Folder for the results."""
    checkpoint_every: int = 500
    """Save the state of a training every so many steps (at the next end of a block of steps); Ctrl-C and SIGTERM save
    it as well."""
    resume: bool = False
    """Go on with the run in --out where it stopped (an empty folder: begin)."""
    on_nonfinite: OnNonfinite = "stop"
    """What a training does at a step whose loss or gradient is not finite: stop, or skip the step, count it and go on.
    More than a tenth of its steps, or 20 in a row, stop it all the same."""
    overwrite: bool = False
    """Replace the results of another run in --out (stages that still fit are kept)."""
    dry_run: bool = False
    """Print the plan and its cost, and stop."""

    def __post_init__(self) -> None:
        if self.checkpoint_every < 1:
            raise InputError(f"--checkpoint-every must be at least 1, not {self.checkpoint_every}")
        if self.resume and self.overwrite:
            raise InputError("--resume goes on with the run in --out, --overwrite replaces it: give one of them")


# Options that change no number of a run.
NO_NUMBER = tuple(field.name for field in dataclasses.fields(RunOptions) if field.name != "on_nonfinite")


def numbers_of(config: Mapping[str, Any], without: Iterable[str] = ()) -> dict[str, Any]:
    """What of a configuration, as JSON, can change numbers: all but NO_NUMBER and `without`.

    `on_nonfinite` is left out at its default, as it is in runs from before it was there, so that they stay the same.
    """
    left_out = {*NO_NUMBER, *without} | ({"on_nonfinite"} if config["on_nonfinite"] == "stop" else set())
    return {key: value for key, value in config.items() if key not in left_out}
