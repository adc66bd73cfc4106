"""The options that every benchmark has, and how they become settings."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from benchmarks.machine import device_slug
from mixmin_jax.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PUBLISHED = Path("benchmarks/results")
TRIALS = Path("runs/benchmarks")

Settings = TypeVar("Settings", bound="DataclassInstance")


@dataclasses.dataclass(frozen=True)
class Rounds:
    """How often calls are timed; see the options of these names."""

    repeats: int
    budget: float  # seconds


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of every benchmark. Numbers must be above 0; None stands for a default that depends on --quick."""

    quick: bool = False
    """Measure a small part in about a minute, and write to runs/benchmarks instead of the published results."""

    out: Path | None = None
    """Folder for the result files; benchmarks/results, with --quick runs/benchmarks."""

    report: Path | None = None
    """Measure nothing: read this result file (.json) and write its report again, beside it."""

    repeats: int | None = None
    """Rounds, in each of which every call has a turn."""

    budget: float | None = None
    """Seconds that the turns of one call may take in all before its other rounds are left out; it has one at least."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
                raise InputError(f"--{field.name.replace('_', '-')} must be above 0; got {value}")

    def fill(self, defaults: Settings) -> Settings:
        """A dataclass of defaults, with the options that were given in their place."""
        given = {field.name: getattr(self, field.name, None) for field in dataclasses.fields(defaults)}
        return dataclasses.replace(defaults, **{name: value for name, value in given.items() if value is not None})

    def stem(self, benchmark: str, whole: bool) -> Path:
        """The result files without their suffix; `whole` tells that nothing is left out or of another size."""
        kind = "-quick" if self.quick else "" if whole else "-part"
        return (self.out or (TRIALS if self.quick else PUBLISHED)) / f"{benchmark}-{device_slug()}{kind}"
