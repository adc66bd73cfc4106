"""Rows in blocks, from a .npy file, an array or an iterator that is made anew for every pass, into buffers of one size.

Files are read, not memory-mapped: a mapped file that shrinks would kill the process.

Axes: B rows in a buffer, R of them from one block; a row is a vector (K,) or a matrix (K, D).
"""

import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.checks import checked_whole, is_traced, refuse_masked
from mixmin_jax.mixture.evaluator import BLOCK
from mixmin_jax.mixture.labels import by_row

_NUMBERS = 1 << 20  # default numbers per block: 8 MB, far more than the cost of reading a block
_READ = 1 << 17  # most numbers that are read from a file at once: one MB, which stays in a core's cache
Pair = tuple[np.ndarray, np.ndarray | None]  # a block, and the weights or targets beside its rows


class Rows(NamedTuple):
    """Rows that can be read any number of times."""

    row_shape: tuple[int, ...]
    beside: bool  # whether weights or targets stand beside them
    block_rows: int
    blocks: Callable[[], Iterator[Pair]]  # one pass


class Part(NamedTuple):
    """The rows of a buffer that come from one block."""

    block: str  # its name in messages
    first: int  # the number, over all rows, of the block's first row
    done: int  # rows of the block in earlier buffers
    values: np.ndarray  # (R, K) or (R, K, D)
    beside: np.ndarray  # (R,) or (R, D)

    def label(self, row: int) -> str:
        """A row of the part in messages."""
        return f"{self.done + row} (row {self.first + self.done + row} of all)"


class Buffer(NamedTuple):
    """Rows of one block or more, of which the parts are views."""

    values: np.ndarray  # (B, K) or (B, K, D); 0 after the last part
    beside: np.ndarray  # (B,) or (B, D): weights or targets, by default ones; 0 after the last part
    parts: list[Part]


def open_rows(blocks: Any, what: str, beside: Any, what_beside: str, most_axes: int, block_rows: Any) -> Rows:
    """Check what is known without a pass. Of a list or an iterator only the first block is looked at."""
    if isinstance(blocks, str | os.PathLike | np.ndarray | jax.Array):
        values, pairs = _table(blocks, what), False
        shape: tuple[Any, ...] = values.shape
    else:
        values, (block, own) = None, next(_given(blocks, what))
        shape, pairs = ("n", *block.shape[1:]), own is not None
    if not 2 <= len(shape) <= most_axes or 0 in shape:
        axes = "(examples, sources)" if most_axes == 2 else "(examples, sources[, outputs])"
        named = f"{what}: {os.fspath(blocks)}" if isinstance(blocks, str | os.PathLike) else what
        raise InputError(f"{named} must have the shape {axes}, all at least 1; got {shape}")
    if beside is not None:
        if pairs:
            raise InputError(f"{what_beside} are given twice, in pairs with the blocks and on their own; drop one")
        beside = _table(by_row(beside, what_beside, None, "streamed rows"), what_beside)
        expected = shape[:1] + shape[2:]
        if beside.shape != (beside.shape[:1] if values is None else shape[:1]) + shape[2:] or not beside.shape:
            raise InputError(f"{what_beside} has the shape {beside.shape}; it must have the shape {expected}")
    numbers = math.prod(shape[1:])  # in a row
    block_rows = checked_whole(max(BLOCK, _NUMBERS // numbers) if block_rows is None else block_rows, "block_rows", 1)
    step = min(block_rows, max(1, _READ // numbers))

    def one_pass() -> Iterator[Pair]:
        stop = 0
        given = _given(blocks, what, (shape[1:], pairs))
        if values is not None:
            given = ((values[first : first + step], None) for first in range(0, shape[0], step))
        for block, own in given:
            start, stop = stop, stop + len(block)
            if beside is not None and stop > beside.shape[0]:
                break
            yield block, own if beside is None else beside[start:stop]
            del block, own  # not in memory beside the next ones
        if beside is not None and stop != beside.shape[0]:
            more = " or more" if stop > beside.shape[0] else ""
            raise InputError(f"{what}: the blocks hold {stop} rows{more}, but {what_beside} are for {beside.shape[0]}")

    return Rows(shape[1:], pairs or beside is not None, block_rows, one_pass)


def buffers(pairs: Iterator[Pair], size: int) -> Iterator[Buffer]:
    """Copies of rows in float64 buffers of `size` rows, so that one compiled program serves blocks of any length."""
    buffer, count, total = None, 0, 0
    for number, (block, beside) in enumerate(pairs):
        rows, done = len(block), 0
        while done < rows:
            if buffer is None:
                beside_shape = (size,) if beside is None else (size, *beside.shape[1:])
                buffer, count = Buffer(np.zeros((size, *block.shape[1:])), np.zeros(beside_shape), []), 0
            taken = min(size - count, rows - done)
            to, of = slice(count, count + taken), slice(done, done + taken)
            name = f"block {number} (rows {total} to {total + rows - 1})"
            part = Part(name, total, done, buffer.values[to], buffer.beside[to])
            part.values[...], part.beside[...] = block[of], 1 if beside is None else beside[of]
            buffer.parts.append(part)
            count, done = count + taken, done + taken
            if count == size:
                yield buffer
                buffer = None
        total += rows
        del block, beside
    if buffer is not None:
        yield buffer


@dataclasses.dataclass(frozen=True)
class NpyFile:
    """An array in a .npy file that must not change; slices of its rows are read."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    order: Any  # "C" or "F"
    offset: int  # of the data, in bytes
    size: int  # of the file, in bytes
    changed_ns: int

    def __getitem__(self, rows: slice) -> np.ndarray:
        first, stop, _ = rows.indices(self.shape[0])
        count, items = stop - first, math.prod(self.shape[1:])
        spans = [(first * items, count * items)]  # the first number, and how many
        if self.order == "F":  # the file stores columns
            spans = [(column * self.shape[0] + first, count) for column in range(items)]
        try:
            offset, size = self.offset, self.dtype.itemsize
            read = [np.fromfile(self.path, self.dtype, n, offset=offset + start * size) for start, n in spans]
            stat = os.stat(self.path)
        except OSError as error:
            raise InputError(f"{self.path} cannot be read any more: {error.strerror or error}") from None
        if (stat.st_size, stat.st_mtime_ns) != (self.size, self.changed_ns):
            raise InputError(
                f"{self.path} was written to while it was in use ({self.size} bytes before, {stat.st_size} now); wait "
                "until nothing writes to it, or read from a copy"
            )
        numbers = read[0] if len(read) == 1 else np.concatenate(read)
        return numbers.reshape((count, *self.shape[1:]), order=self.order)


def _npy_file(path: str, what: str) -> NpyFile:
    if not os.path.isfile(path):  # opening a pipe may block for ever
        raise InputError(f"{what}: {path} is not a file")
    try:
        stat = os.stat(path)
        mapped = np.lib.format.open_memmap(path, mode="r")  # reads only the header
        if mapped.offset + mapped.nbytes != stat.st_size:
            raise ValueError(f"it has {stat.st_size} bytes, but its array ends at {mapped.offset + mapped.nbytes}")
    except Exception as error:  # of many kinds: headers are parsed as Python
        detail = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            f"{what}: {path} is not a .npy file with one array of numbers, or is cut off or still being written "
            f"({detail}); write it with numpy.save"
        ) from None
    _check_real(mapped.dtype, f"{what}: {path}")
    order = "C" if mapped.flags.c_contiguous else "F"
    return NpyFile(path, mapped.shape, mapped.dtype, order, mapped.offset, stat.st_size, stat.st_mtime_ns)


def _table(given: Any, what: str) -> Any:
    """The array of a file, or one in memory: both have a shape and slices of rows."""
    return _npy_file(os.fspath(given), what) if isinstance(given, str | os.PathLike) else _array(given, what)


def _array(given: Any, what: str) -> np.ndarray:
    if is_traced(given):
        raise InputError(f"{what}: streamed rows cannot be traced; inside jit, vmap and grad use solve_traced")
    refuse_masked(given, what)
    try:
        values = np.asarray(given)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} is no array of numbers: {error}") from None
    _check_real(values.dtype, what)
    return values


def _check_real(dtype: np.dtype, what: str) -> None:
    if dtype.kind not in "fiub" and dtype.name != "bfloat16":
        raise InputError(f"{what} must be real numbers; got {dtype}")


def _given(blocks: Any, what: str, kind: tuple[tuple[int, ...], bool] | None = None) -> Iterator[Pair]:
    """The blocks of one pass over a list or an iterator, with rows and pairs like `kind`, or like the first one."""
    made = blocks() if callable(blocks) else blocks
    if not (isinstance(blocks, list | tuple) or (callable(blocks) and hasattr(made, "__iter__"))):
        raise InputError(
            f"{what} must be the path of a .npy file, an array without labels, a list of blocks, or a function that "
            f"gives an iterator of blocks anew for every pass, as lambda: read_blocks(...); got {type(made).__name__}"
        )
    for number, given in enumerate(made):
        where = f"{what}: block {number}"
        pair = [_array(values, where) for values in (given if isinstance(given, tuple) and given else [given])]
        shapes = " and ".join(str(values.shape) for values in pair)
        kind = kind or (pair[0].shape[1:], len(pair) == 2)
        expected = [pair[0].shape[:1] + kind[0], pair[0].shape[:1] + kind[0][1:]][: 1 + kind[1]]
        if [values.shape for values in pair] != expected:
            raise InputError(
                f"{where} has the shape {shapes}, where {' and '.join(map(str, expected))} belongs; give all blocks "
                "alike: rows of as many columns, one a source, or pairs (rows, what belongs to each row)"
            )
        yield pair[0], pair[1] if kind[1] else None
    if kind is None:
        raise InputError(f"{what}: there are no blocks; give at least one with at least one row")
