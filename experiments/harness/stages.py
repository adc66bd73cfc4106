"""Stages of a run: each writes its product once, and a second run reads it instead of computing it again."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from experiments.harness.interruption import Interrupted, Interruption
from experiments.harness.options import RunOptions
from experiments.harness.processes import any_process, is_first
from experiments.harness.progress import OnFraction, RunProgress
from experiments.harness.provenance import how_to_be_deterministic, is_deterministic
from experiments.harness.result_files import file_name, replacing
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
    skipped: Callable[[Mapping[str, int]], None]  # to call with {model: steps that were skipped}; calls add up


class _Attempt(NamedTuple):
    """A computation that goes on."""

    running: Running
    seconds: Callable[[], float]  # so far, with those of interrupted attempts
    skipped: dict[str, int]


class KeptProducts(Mapping[str, Product]):
    """Products by label, each read from its file when it is asked for."""

    def __init__(self, files: Mapping[str, tuple[Path, str]]) -> None:
        self._files = files  # path and stamp

    def __getitem__(self, label: str) -> Product:
        return _read_written(*self._files[label])[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


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
        found = self._find(path, stamp)
        if found is not None:
            self._progress.skip(name, cost)
            product, record = found
        else:
            with self._computing(name, stamp, cost) as attempt:
                product = compute(attempt.running)
            record = StageRecord(attempt.seconds(), self._made_by, dict(attempt.skipped))
            product, record = self._keep(path, stamp, product, record)
        self._end(name)
        self.records[name] = dataclasses.replace(record, target=target)
        self._warn_of_other_places()
        return product

    def run_each(
        self,
        name: str,
        inputs: Mapping[str, Any],
        compute: Callable[[Running, list[str]], Iterable[Product]],
        *,
        cost: float = 0.0,
        target: str | None = None,
    ) -> Mapping[str, Product]:
        """A stage `name/label` for each label; those whose products are missing are computed together.

        Args:
            name: of the stages, and of the folder of their files.
            inputs: by label, everything that determines its product, as JSON.
            compute: makes the products of the labels that it is given, in their order. Each is written as it comes, so
                that a generator need not hold all. `skipped` takes the labels as the names of models.
            cost, target: of each, as for `run`.

        Returns:
            The products by label, read when they are asked for.
        """
        stages = {label: f"{name}/{file_name(label)}" for label in inputs}
        files = {
            label: (self._folder / f"{stages[label]}.npz", fingerprint([FORMAT, own])) for label, own in inputs.items()
        }
        # products are not held here, but read again where they are needed
        records = {label: found[1] for label in inputs if (found := self._find(*files[label]))}
        missing = [label for label in inputs if label not in records]
        if records:
            counted = f" ({len(records)} of {len(inputs)})" if missing else ""
            self._progress.skip(name + counted, cost * len(records))
        if missing:
            title = f"{name} for {', '.join(missing)}" if records else name
            stamp = fingerprint([files[label][1] for label in missing])
            with self._computing(name, stamp, cost * len(missing), title) as attempt:
                products = iter(compute(attempt.running, missing))
                together = attempt.seconds()  # of all, if they are computed at once
                last = together
                for label, product in zip(missing, products, strict=True):
                    seconds = together / len(missing) + attempt.seconds() - last
                    skipped = {model: steps for model, steps in attempt.skipped.items() if model == label}
                    record = StageRecord(seconds, self._made_by, skipped)
                    _, records[label] = self._keep(*files[label], product, record)
                    self._stop_if_told()
                    last = attempt.seconds()
        self._end(name)
        self.records |= {stages[label]: dataclasses.replace(records[label], target=target) for label in inputs}
        self._warn_of_other_places()
        return KeptProducts(files)

    def _find(self, path: Path, stamp: str) -> Found | None:
        """The product that all processes are to use, if there is one."""
        found = _read(path, stamp, self._progress.tell) if is_first() else None
        return found or _read_written(path, stamp) if any_process(found is not None) else None

    @contextlib.contextmanager
    def _computing(self, name: str, stamp: str, cost: float, title: str = "") -> Iterator[_Attempt]:
        if not self._computes and not is_deterministic():
            self._progress.tell(how_to_be_deterministic())
        self._computes = True
        self._warn_of_other_places()
        started, skipped, opened = time.perf_counter(), Counter[str](), list[Checkpoints]()
        saved = self._folder / f"{name}.checkpoints"

        def earlier() -> float:
            return sum(checkpoints.earlier_seconds for checkpoints in opened)

        with self._progress.stage(title or name, cost, earlier) as advance:
            running = Running(advance, lambda: self._checkpoints(saved, stamp, opened), skipped.update)
            yield _Attempt(running, lambda: time.perf_counter() - started + earlier(), skipped)

    def _keep(self, path: Path, stamp: str, product: Product, record: StageRecord) -> Found:
        """Write a product; all processes go on with what the first has written."""
        if is_first():
            _write(path, stamp, record, product)
        if any_process(False) or not is_first():  # all wait for the first to have written
            return _read_written(path, stamp)
        return product, record

    def _end(self, name: str) -> None:
        """Remove the checkpoints of a stage that is there, and stop if that was asked for."""
        if is_first():
            shutil.rmtree(self._folder / f"{name}.checkpoints", ignore_errors=True)
        self._stop_if_told()

    def _stop_if_told(self) -> None:
        if any_process(self._interruption.requested()):
            self._stop()

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
        here = _versions_and_settings(self._made_by)
        found = [f"on {' and '.join(devices)} (now {self._made_by.device})"] if devices else []
        for name, theirs in versions.items():
            found.append(f"with {name} {' and '.join(theirs)} (now {here[name]})")
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
    """All devices that stages were made on, and all versions and settings that they were made with, by name.

    Each is empty, or without a name, where nothing differs from `here`, where this run computes, or is not on record.
    """
    made_by = [record.made_by for record in records.values()]
    devices = {made.device for made in made_by}
    now, theirs = _versions_and_settings(here), [_versions_and_settings(made) for made in made_by]
    versions = {name: {held.get(name, now[name]) for held in theirs} for name in now}
    return (
        sorted(devices) if devices - {here.device} else [],
        {name: sorted(found) for name, found in versions.items() if found - {now[name]}},
    )


def _versions_and_settings(made_by: MadeBy) -> dict[str, str]:
    return made_by.versions | made_by.settings


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


def _read_written(path: Path, stamp: str) -> Found:
    """What was written or found before, by the first process."""
    found = _read(path, stamp)
    if found is None:
        raise InputError(
            f"{path}: it was written, but it cannot be read here and now; several processes need an --out that all see"
        )
    return found


def _write(path: Path, stamp: str, record: StageRecord, product: Product) -> None:
    arrays: dict[str, Any] = {f"array/{key}": value for key, value in product.items() if isinstance(value, np.ndarray)}
    values = {key: value for key, value in product.items() if f"array/{key}" not in arrays}
    described = to_builtins(record) | {"arrays": sorted(product.keys() - values.keys())}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, stamp=stamp, record=json.dumps(described), values=json.dumps(values), **arrays)
