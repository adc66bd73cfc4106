"""Stages of a run: each writes its product once and finds it again, so that a second run does nothing twice."""

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.interruption import Interruption
from experiments.progress import OnFraction, RunProgress
from experiments.result_files import replacing
from experiments.run_options import RunOptions
from mixmin_jax.training.checkpoint import Checkpoints, Stopped

Product = dict[str, Any]  # NumPy arrays, and anything else that JSON can hold


class StageRecord(NamedTuple):
    """How a product came about, whether in this run or in an earlier one."""

    seconds: float  # those of attempts that were interrupted, up to the checkpoint that was gone on from, included
    made_by: dict[str, Any]  # commit and versions of the code that computed it
    target: str | None  # None for stages that all targets share


class Running(NamedTuple):
    """What the computation of a stage is given."""

    advance: OnFraction  # to be told how far it is
    checkpoints: Callable[[], contextlib.AbstractContextManager[Checkpoints]]  # of its training; kept until it is done


class Stages:
    """Products in one folder, one .npz a stage, each stamped with a hash of everything that it was computed from.

    A stage that trains leaves checkpoints, `checkpoint_every` steps apart, until its product is written: it then goes
    on from the newest.  A signal stops the run (`Interrupted`), in a training after its state was saved.
    """

    def __init__(
        self,
        folder: Path,
        progress: RunProgress,
        made_by: Mapping[str, Any],
        *,
        checkpoint_every: int = RunOptions.checkpoint_every,
        interruption: Interruption | None = None,
    ) -> None:
        self._folder, self._progress, self._made_by = folder, progress, dict(made_by)
        self._checkpoint_every, self._interruption = checkpoint_every, interruption or Interruption()
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

        `inputs` is whatever determines the product, as JSON can hold it; `cost` is its share of the run's progress.  A
        product that cannot be read (cut off, damaged) is made again.
        """
        stamp, path = fingerprint(inputs), self._folder / f"{name}.npz"
        found = _read(path, stamp)
        saved, opened = self._folder / f"{name}.checkpoints", list[Checkpoints]()
        if found is not None:
            self._progress.skip(name, cost)
            product, record = found
        else:
            started = time.perf_counter()

            def earlier() -> float:
                return sum(checkpoints.earlier_seconds for checkpoints in opened)

            with self._progress.stage(name, cost, earlier) as advance:
                product = compute(Running(advance, lambda: self._checkpoints(saved, stamp, opened)))
            record = {"seconds": time.perf_counter() - started + earlier(), "made_by": self._made_by}
            _write(path, stamp, record, product)
        shutil.rmtree(saved, ignore_errors=True)
        self._interruption.check()
        self.records[name] = StageRecord(record["seconds"], record["made_by"], target)
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
            self._interruption.check()
            raise

    def records_of(self, target: str) -> dict[str, StageRecord]:
        """The stages that one target's results rest on."""
        return {name: record for name, record in self.records.items() if record.target in (None, target)}


def fingerprint(inputs: Any) -> str:
    """sha256 of the inputs' JSON, keys sorted."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _read(path: Path, stamp: str) -> tuple[Product, dict[str, Any]] | None:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            if str(file["stamp"]) != stamp:
                return None
            arrays = {key.removeprefix("array/"): file[key] for key in file.files if key.startswith("array/")}
            return json.loads(str(file["values"])) | arrays, json.loads(str(file["record"]))
    except Exception:  # np.load raises half a dozen kinds on a damaged file; all mean the same: make it again
        return None


def _write(path: Path, stamp: str, record: dict[str, Any], product: Product) -> None:
    arrays: dict[str, Any] = {f"array/{key}": value for key, value in product.items() if isinstance(value, np.ndarray)}
    values = {key: value for key, value in product.items() if not isinstance(value, np.ndarray)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, stamp=stamp, record=json.dumps(record), values=json.dumps(values), **arrays)
