"""Stages of a run: each writes its product once, and a second run reads it instead of computing it again."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from experiments.harness.interruption import Interrupted, Interruption
from experiments.harness.options import RunOptions
from experiments.harness.processes import any_process, is_first
from experiments.harness.progress import OnFraction, RunProgress
from experiments.harness.provenance import how_to_be_deterministic, is_deterministic
from experiments.harness.result_files import replacing
from experiments.reporting.json_files import to_builtins, typed
from experiments.reporting.schema import MadeBy
from mixmin_jax.errors import InputError
from mixmin_jax.training.checkpoint import Checkpoints, Stopped

FORMAT = 2  # of stages and config.json; those of 1, which did not say so, are refused

Product = dict[str, Any]  # NumPy arrays, and anything else that JSON can hold


@dataclasses.dataclass(frozen=True)
class StageRecord:
    """How a product came about, whether in this run or in an earlier one."""

    seconds: float  # with those of interrupted attempts, up to the checkpoint that the last one started from
    made_by: MadeBy
    skipped: dict[str, int]  # {model: steps that its training skipped}, of those with any
    target: str | None = None  # None for stages that all targets share


Found = tuple[Product, StageRecord]


class Running(NamedTuple):
    """What a stage gives to the function that computes its product."""

    advance: OnFraction  # to call with (done, of how many)
    checkpoints: Callable[[], contextlib.AbstractContextManager[Checkpoints]]  # of its training
    skipped: Callable[[Mapping[str, int]], None]  # to call with {model: steps that were skipped}, of those with any


class Stages:
    """Products in one folder, one .npz a stage, each stamped with a hash of everything that it was computed from.

    A stage that trains saves checkpoints, `checkpoint_every` steps apart, and starts from the newest. They are removed
    when its product is written. A signal stops the run (`Interrupted`), in a training after its state was saved.

    All of several processes compute, and the first writes; it also decides which products are there, and the others
    read those. A signal to one of them stops all.
    """

    def __init__(
        self,
        folder: Path,
        progress: RunProgress,
        made_by: MadeBy,
        *,
        checkpoint_every: int = RunOptions.checkpoint_every,
        interruption: Interruption | None = None,
    ) -> None:
        self._folder, self._progress, self._made_by = folder, progress, made_by
        self._checkpoint_every, self._interruption = checkpoint_every, interruption or Interruption()
        self._computes, self._warned = False, False
        self.records: dict[str, StageRecord] = {}

    def run(
        self,
        name: str,
        inputs: Any,
        compute: Callable[[Running], Product],
        *,
        cost: float = 0.0,
        target: str | None = None,
    ) -> Product:
        """The product of stage `name`: read back if it was made from the same `inputs`, else computed and written.

        A product that is damaged (cut off, changed) is reported and made again.

        Args:
            name: of the stage and its file.
            inputs: everything that determines the product, as JSON.
            compute: makes the product.
            cost: of the stage, in the unit of the run's progress.
            target: whose results rest on the stage; None for all.

        Raises:
            InputError: the file system does not give the product, which may be whole.
        """
        stamp, path = fingerprint([FORMAT, inputs]), self._folder / f"{name}.npz"
        found = _read(path, stamp, self._progress.tell) if is_first() else None
        saved, opened = self._folder / f"{name}.checkpoints", list[Checkpoints]()
        if any_process(found is not None):
            self._progress.skip(name, cost)
            product, record = found or _read_from_first(path, stamp)
        else:
            if not self._computes and not is_deterministic():
                self._progress.tell(how_to_be_deterministic())
            self._computes = True
            self._warn_of_other_places()
            started, skipped = time.perf_counter(), dict[str, int]()

            def earlier() -> float:
                return sum(checkpoints.earlier_seconds for checkpoints in opened)

            with self._progress.stage(name, cost, earlier) as advance:
                product = compute(Running(advance, lambda: self._checkpoints(saved, stamp, opened), skipped.update))
            record = StageRecord(time.perf_counter() - started + earlier(), self._made_by, skipped)
            if is_first():
                _write(path, stamp, record, product)
            if any_process(False) or not is_first():  # all wait for the first to have written
                product, record = _read_from_first(path, stamp)
        if is_first():
            shutil.rmtree(saved, ignore_errors=True)
        if any_process(self._interruption.requested()):
            self._stop()
        self.records[name] = dataclasses.replace(record, target=target)
        self._warn_of_other_places()
        return product

    @contextlib.contextmanager
    def _checkpoints(self, folder: Path, stamp: str, opened: list[Checkpoints]) -> Iterator[Checkpoints]:
        checkpoints = Checkpoints(
            folder,
            stamp,
            every=self._checkpoint_every,
            stop=self._interruption.requested,
            warn=self._progress.tell,
            on_restore=lambda step: self._progress.tell(f"{folder.stem}: goes on after step {step}"),
        )
        try:
            with self._interruption.deferred(), checkpoints:
                opened.append(checkpoints)
                yield checkpoints
        except Stopped as stopped:
            self._progress.tell(f"{folder.stem}: {stopped}")
            self._stop()

    def _warn_of_other_places(self) -> None:
        """Warn, once, if this run computes some stages and has found others that were made elsewhere."""
        devices, versions = made_elsewhere(self.records, self._made_by)
        if self._warned or not (self._computes and (devices or versions)):
            return
        self._warned = True
        found = [f"on {' and '.join(devices)} (now {self._made_by.device})"] if devices else []
        for name, theirs in versions.items():
            found.append(f"with {name} {' and '.join(theirs)} (now {self._made_by.versions[name]})")
        self._progress.tell(
            f"warning: stages that were found were made {', '.join(found)}: the numbers of this run need not be, to the"
            " bit, those of a run in one place"
        )

    def _stop(self) -> NoReturn:
        self._interruption.check()
        raise Interrupted(signal.SIGTERM)  # another process was told to

    def records_of(self, target: str) -> dict[str, StageRecord]:
        """The records of the stages that the results of one target rest on."""
        return {name: record for name, record in self.records.items() if record.target in (None, target)}


def made_elsewhere(records: Mapping[str, StageRecord], here: MadeBy) -> tuple[list[str], dict[str, list[str]]]:
    """All devices that stages were made on, and all versions that they were made with, by distribution.

    Each is empty, or without a distribution, where nothing differs from `here`, where this run computes.
    """
    made_by = [record.made_by for record in records.values()]
    devices = {made.device for made in made_by}
    versions = {name: {made.versions.get(name, here.versions[name]) for made in made_by} for name in here.versions}
    return (
        sorted(devices) if devices - {here.device} else [],
        {name: sorted(found) for name, found in versions.items() if found - {here.versions[name]}},
    )


def fingerprint(inputs: Any) -> str:
    """sha256 of the inputs' JSON, keys sorted."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _read(path: Path, stamp: str, warn: Callable[[str], None] = lambda line: None) -> Found | None:
    """The product and its record; None if there is none, if it has other inputs, or, with a warning, is damaged."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return _found(file) if str(file["stamp"]) == stamp else None
    except FileNotFoundError:
        return None
    except Exception as error:  # np.load raises many kinds on a damaged file
        why = " ".join(str(error).split()) or type(error).__name__
        # a damaged archive can make its reader seek to an impossible place (EINVAL)
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise InputError(
                f"{path} cannot be read ({error.strerror}), and may be whole: see to that, or remove it to make it"
                " again"
            ) from error
        warn(f"{path.stem}: {path} cannot be read ({why:.200}); it is made again")
        return None


def read_stage(path: Path) -> Found:
    """The product in a stage's file and its record, whatever the inputs were. A damaged file raises what NumPy does."""
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        return _found(file)


def _found(file: Any) -> Found:
    arrays = {key.removeprefix("array/"): file[key] for key in file.files if key.startswith("array/")}
    record = json.loads(str(file["record"]))
    if sorted(arrays) != record.pop("arrays"):
        raise ValueError("the archive's directory is damaged: arrays are missing")
    return json.loads(str(file["values"])) | arrays, typed(record, StageRecord, "the stage's file")


def _read_from_first(path: Path, stamp: str) -> Found:
    """What the first process has written."""
    found = _read(path, stamp)
    if found is None:
        raise InputError(f"{path}: another process wrote it, but it cannot be read here; name an --out that all see")
    return found


def _write(path: Path, stamp: str, record: StageRecord, product: Product) -> None:
    arrays: dict[str, Any] = {f"array/{key}": value for key, value in product.items() if isinstance(value, np.ndarray)}
    values = {key: value for key, value in product.items() if f"array/{key}" not in arrays}
    described = to_builtins(record) | {"arrays": sorted(product.keys() - values.keys())}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, stamp=stamp, record=json.dumps(described), values=json.dumps(values), **arrays)
