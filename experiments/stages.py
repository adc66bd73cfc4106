"""Stages of a run: each writes its product once and finds it again, so that a second run does nothing twice."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

Product = dict[str, Any]  # NumPy arrays, and anything else that JSON can hold


class Stages:
    """Products in one folder, one .npz a stage, each stamped with a hash of everything that it was computed from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.seconds: dict[str, float] = {}  # what each stage took when it was computed

    def run(self, name: str, inputs: Any, compute: Callable[[], Product]) -> Product:
        """The product of stage `name`: read back if it was made from the same `inputs`, else computed and written.

        `inputs` is whatever determines the product, as JSON can hold it.  A product that cannot be read (cut off,
        damaged) is made again.
        """
        stamp = fingerprint(inputs)
        path = self._folder / f"{name}.npz"
        product = _read(path, stamp)
        if product is None:
            started = time.perf_counter()
            product = compute()
            seconds = time.perf_counter() - started
            _write(path, stamp, seconds, product)
        else:
            seconds = float(product.pop("seconds"))
        self.seconds[name] = seconds
        return product

    def has(self, name: str, inputs: Any) -> bool:
        """Whether `run` would find the product."""
        return _read(self._folder / f"{name}.npz", fingerprint(inputs)) is not None

    def seconds_by_kind(self, without: Iterable[str] = ()) -> dict[str, float]:
        """Seconds by stage over all seeds, leaving out stages of the targets named in `without`."""
        sums: dict[str, float] = {}
        for name, seconds in self.seconds.items():
            kind = name.rsplit("-seed", 1)[0]
            if not any(kind.endswith(f"-{target}") for target in without):
                sums[kind] = sums.get(kind, 0.0) + seconds
        return sums


def fingerprint(inputs: Any) -> str:
    """sha256 of the inputs' JSON, keys sorted."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


def _read(path: Path, stamp: str) -> Product | None:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            if str(file["stamp"]) != stamp:
                return None
            record = json.loads(str(file["record"]))
            return record | {key.removeprefix("array/"): file[key] for key in file.files if key.startswith("array/")}
    except Exception:  # np.load raises half a dozen kinds on a damaged file; all mean the same: make it again
        return None


def _write(path: Path, stamp: str, seconds: float, product: Product) -> None:
    arrays: dict[str, Any] = {f"array/{key}": value for key, value in product.items() if isinstance(value, np.ndarray)}
    record = {key: value for key, value in product.items() if not isinstance(value, np.ndarray)}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, stamp=stamp, record=json.dumps(record | {"seconds": seconds}), **arrays)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
