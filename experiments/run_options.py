"""The options that all experiments with trainings share: where results go, and what happens to a run that stops."""

import dataclasses
from pathlib import Path

from mixmin_jax.errors import InputError


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
NO_NUMBER = tuple(field.name for field in dataclasses.fields(RunOptions))
