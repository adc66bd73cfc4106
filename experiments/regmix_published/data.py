"""RegMix's published runs, from its CSV files."""

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mixmin_jax.data.files import BYTE_ORDER_MARK, decode_utf8, read_bytes
from mixmin_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Runs:
    """Published runs: row r of both arrays is one run; columns carry the names in `sources` and `domains`."""

    sources: tuple[str, ...]
    domains: tuple[str, ...]
    mixtures_RxK: Float[np.ndarray, "R K"]
    losses_RxD: Float[np.ndarray, "R D"]


def read_runs(mixture_path: Path, loss_path: Path) -> Runs:
    """Join mixtures and losses by their key, the first column; rows and columns may come in any order.

    Columns are sorted by name, rows by key, and `train_the_pile_NAME` and `metric/the_pile_NAME_val_loss` both become
    NAME.

    Raises:
        InputError: a missing or unreadable file, a key that is there twice or in one file only, a cell that is no
            finite number.
    """
    sources, mixtures = _read_table(mixture_path)
    domains, losses = _read_table(loss_path)
    if unmatched := sorted(mixtures.keys() ^ losses.keys()):
        here, there = (mixture_path, loss_path) if unmatched[0] in mixtures else (loss_path, mixture_path)
        raise InputError(f"run {unmatched[0]} is in {here} only, not in {there} ({len(unmatched)} without a match)")
    keys = sorted(mixtures)
    return Runs(sources, domains, np.array([mixtures[k] for k in keys]), np.array([losses[k] for k in keys]))


def _read_table(path: Path) -> tuple[tuple[str, ...], dict[str, list[float]]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    text = decode_utf8(read_bytes(path).removeprefix(BYTE_ORDER_MARK), path)
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        header = next(rows, [])
        names = [name.removeprefix("train_the_pile_").removeprefix("metric/the_pile_") for name in header[1:]]
        names = [name.removesuffix("_val_loss") for name in names]
        if not names or len(set(names)) < len(names):
            raise InputError(f"{path}: the first line must name a key column and distinct value columns")
        order = np.argsort(names)
        table: dict[str, list[float]] = {}
        for key, *cells in filter(None, rows):
            try:
                values = [float(cell) for cell in cells]
            except ValueError as error:
                raise InputError(f"{path}: line {rows.line_num}: {error}") from None
            if len(values) != len(names) or not np.isfinite(values).all():
                raise InputError(f"{path}: line {rows.line_num}: {len(names)} finite numbers expected after the key")
            if key in table:
                raise InputError(f"{path}: line {rows.line_num}: key {key} is there twice")
            table[key] = [values[i] for i in order]
    except csv.Error as error:
        raise InputError(f"{path}: line {rows.line_num}: cannot be read as CSV: {error}") from None
    if not table:
        raise InputError(f"{path}: no runs")
    return tuple(names[i] for i in order), table
