"""The options of all experiments that train: the folder for results, the devices, and how to stop and resume."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mixmin_jax.data.text.shards import without_secrets
from mixmin_jax.errors import InputError
from mixmin_jax.training.nonfinite import OnNonfinite

MATTERS = 0.005  # bits per byte, or a share (half a point of accuracy): less than this hardly changes a decision
# Bounds of options by their names, which mean the same in every experiment that has them.
_LEAST = {
    **dict.fromkeys(("checkpoint_every", "mesh_data", "mesh_source", "seeds", "batch_size", "ssl_batch_size"), 1),
    **dict.fromkeys(("fit_bytes", "test_bytes", "windows", "unlabeled_windows", "test_windows", "max_bytes"), 1),
    **dict.fromkeys(("length", "patch_length", "image_size", "patch_size"), 1),
    **dict.fromkeys(("padding", "shift", "split_seed"), 0),
}
_SHARES = ("fit_fraction", "test_fraction", "validation_fraction")  # of a part and of the rest: neither is empty
_POSITIVE = ("max_epochs", "price_per_hour")
_DISTINCT = ("sources", "target", "task", "unlabeled", "arms", "compare", "numbers_of_sources")  # of several values


def check_matters(matters: float) -> None:
    """Raise InputError unless it is a size of a difference."""
    if not 0 <= matters < math.inf:
        raise InputError(f"--matters must be a finite number of at least 0, not {matters}")


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Options of every run."""

    out: Path = Path("runs/run")
    """Folder for the results."""
    checkpoint_every: int = 500
    """Steps between two saved states of a training (rounded up to whole blocks of steps). Ctrl-C, SIGTERM,
    SIGHUP and SIGUSR1 also save."""
    resume: bool = False
    """Go on with the run in --out where it stopped (an empty folder: begin)."""
    on_nonfinite: OnNonfinite = "stop"
    """What a training does at a step whose loss or gradient is not finite: stop, or skip and count the step.
    It also stops when it skips more than a tenth of its steps, or 20 in a row."""
    overwrite: bool = False
    """Replace the results of another run in --out (stages that still fit are kept)."""
    no_locks: bool = False
    """Go on where the file system of --out has no locks. Nothing then keeps two runs from writing there at once, which
    mixes their results."""
    dry_run: bool = False
    """Print the plan and its cost, and stop."""

    matters: float = MATTERS
    """The smallest difference of two arms that matters, in the unit that they are compared in: bits per byte, a share
    of right answers (0.005 is half a point), or a metric of molecules. Smaller ones are called ties, whatever their
    interval. --resume with another value changes the verdicts of results that are there."""
    mesh_data: int = 1
    """Devices over which the rows of every batch are split (and those of a solver)."""
    coordinator: str | None = None
    """Several processes: HOST:PORT of the one with --process-id 0. Start the same command in each, with its own
    --process-id and an --out that all see."""
    num_processes: int | None = None
    """Several processes: how many."""
    process_id: int | None = None
    """Several processes: which one this is, from 0 on."""
    distributed: bool = False
    """Several processes that Slurm, Open MPI, Kubernetes or a TPU pod starts: it says how many there are and where."""

    def __post_init__(self) -> None:
        self._check_common()
        if self.resume and self.overwrite:
            raise InputError("--resume goes on with the run in --out, --overwrite replaces it: give one of them")
        check_matters(self.matters)
        self._check_processes()

    def _check_common(self) -> None:
        for field in dataclasses.fields(self):
            name, value, option = field.name, getattr(self, field.name), f"--{field.name.replace('_', '-')}"
            if value is None:
                continue
            if name in _LEAST and not value >= _LEAST[name]:
                raise InputError(f"{option} must be at least {_LEAST[name]}, not {value}")
            if name in _SHARES and not 0 < value < 1:
                raise InputError(f"{option} must lie between 0 and 1, not {value}")
            if name in _POSITIVE and not 0 < value < math.inf:
                raise InputError(f"{option} must be positive and finite, not {value}")
            several = value if name in _DISTINCT and isinstance(value, tuple) else ()
            if twice := [one for one in several if several.count(one) > 1]:
                shown = " ".join(twice[0]) if isinstance(twice[0], tuple) else twice[0]
                raise InputError(f"{option} names {shown} twice")

    def _check_processes(self) -> None:
        place = (self.coordinator, self.num_processes, self.process_id)
        if self.distributed and any(given is not None for given in place):
            raise InputError(
                "--distributed takes --coordinator, --num-processes and --process-id from the cluster: leave them out"
            )
        if any(given is not None for given in place) and None in place:
            raise InputError("--coordinator, --num-processes and --process-id belong together: give all three")
        if self.coordinator is None or self.num_processes is None or self.process_id is None:
            return
        host, _, port = self.coordinator.rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 2**16):
            raise InputError(f"--coordinator must be HOST:PORT, as in 10.0.0.1:1234, not {self.coordinator}")
        if not 0 <= self.process_id < self.num_processes:
            raise InputError(
                f"--process-id must be 0 or more and less than --num-processes, not {self.process_id} of"
                f" {self.num_processes}"
            )

    def check_batches(self, **sizes: int) -> None:
        """Raise InputError if a batch size, given by its option's name, does not divide over --mesh-data."""
        for name, size in sizes.items():
            if size % self.mesh_data:
                raise InputError(
                    f"--{name.replace('__', '.').replace('_', '-')} {size} does not divide over --mesh-data"
                    f" {self.mesh_data}"
                )


@dataclasses.dataclass(frozen=True)
class ManyModelsOptions(RunOptions):
    """Options of every run that trains many models at once."""

    mesh_source: int | None = None
    """Devices over which models are split. Default: all; on a CPU one virtual device per core, at most 8."""


# Options that change results by rounding at most (sums over devices have another order), and `matters`, which changes
# verdicts and no other number.
_SAME_RESULTS = tuple(field.name for field in dataclasses.fields(ManyModelsOptions) if field.name != "on_nonfinite")


# Options that were added after results were published, with the values that leave everything as it was.
_ADDED: dict[str, Any] = {
    "on_nonfinite": "stop",
    "ssl_sees": "visible",
    "times_cheaper": None,
    "extend": False,
    "label_fractions": [],
    "unlabeled": None,
    "unlabeled_windows": None,
    "follow_links": False,
    "probe": False,
    "contradictions": "drop",
    "init": None,
    "init_normalization": None,
}


def numbers_of(config: Mapping[str, Any], without: Iterable[str] = ()) -> dict[str, Any]:
    """The options, as JSON, that can change results: all of `config` but `_SAME_RESULTS` and `without`.

    Options of `_ADDED` are left out at those values, so that published runs stay the same.
    """
    left_out = {*_SAME_RESULTS, *without} | {name for name, before in _ADDED.items() if config.get(name) == before}
    return {key: _shown(value) for key, value in config.items() if key not in left_out}


def _shown(value: Any) -> Any:
    """The value of an option, its URLs without secrets: with a new signature, a run is the same."""
    if isinstance(value, list | tuple):
        return type(value)(map(_shown, value))
    return without_secrets(value) if isinstance(value, str) else value
