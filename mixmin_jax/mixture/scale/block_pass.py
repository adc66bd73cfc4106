"""One pass over rows that do not fit in memory: read a block while the cores work on the one before it.

Each core works on its piece of a block, in chunks that fit in its cache. Sums carry their rounding errors, so they are
as accurate over 10^9 rows as over one block.
"""

import concurrent.futures
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.evaluator import BLOCK, RunningSum, accumulate, is_sum
from mixmin_jax.mixture.scale.blocks import Block, Iterated, Table, read
from mixmin_jax.mixture.scale.float64 import float64_on_cpu
from mixmin_jax.mixture.scale.memory import ran_out

_PIECE = 4 * BLOCK  # fewest rows for which a core is used
_Terms = TypeVar("_Terms")


@jax.jit
def merge(one, other):
    """Add the sums, or counts, over two sets of rows."""

    def merged(a, b):
        if not is_sum(a):
            return a + b
        sum = accumulate(a, b.total)
        return RunningSum(sum.total, sum.lost + b.lost)

    return jax.tree.map(merged, one, other, is_leaf=is_sum)


class Layout(NamedTuple):
    """How a block is divided among the cores."""

    block_rows: int
    pieces: int  # one per core that is used
    piece_rows: int
    chunk: int  # rows that fit in a core's cache

    @property
    def buffer_rows(self) -> int:
        return self.pieces * self.piece_rows


def layout_of(block_rows: int) -> Layout:
    """One piece for each core, as long as pieces have enough rows."""
    chunk = min(BLOCK, block_rows)
    pieces = max(1, min(_cores(), block_rows // _PIECE))
    return Layout(block_rows, pieces, -(-block_rows // (pieces * chunk)) * chunk, chunk)


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def blockwise(
    rows: Table | Iterated,
    beside: Table | None,
    layout: Layout,
    what: str,
    of_piece: Callable[..., _Terms],
    check: Callable[[Block], None] = lambda block: None,
) -> Iterator[tuple[Block, _Terms]]:
    """One pass: yield each block with its sums. A block is read while the cores work on the one before it."""

    def work(block, piece):
        start = piece * layout.piece_rows
        taken = slice(start, start + layout.piece_rows)
        with float64_on_cpu():  # JAX's settings are per thread
            weights = None if block.beside is None else block.beside[taken]
            count = np.int64(block.num_rows)
            return jax.block_until_ready(of_piece(block.values[taken], weights, np.int64(start), count, layout.chunk))

    def finished(block, futures):
        terms = [future.result() for future in futures]
        return block, functools.reduce(merge, terms[1:], terms[0])

    with concurrent.futures.ThreadPoolExecutor(layout.pieces) as pool:
        before: Any = None
        try:
            for block in read(rows, beside, layout.block_rows, layout.buffer_rows, what):
                check(block)
                futures = [pool.submit(work, block, 0)]
                if before is None:
                    concurrent.futures.wait(futures)  # so the program is compiled only once
                futures += [pool.submit(work, block, piece) for piece in range(1, layout.pieces)]
                if before is not None:
                    yield finished(*before)
                before = block, futures
            if before is not None:
                yield finished(*before)
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if ran_out(error):
                raise _too_large(rows, beside, layout.block_rows, of_piece, error) from error
            raise


def _too_large(rows, beside, block_rows, of_piece, error):
    """The error for a block that does not fit in memory, with a size that was tried and fits."""
    shape = row_shape(rows)
    beside_shape = beside.shape[1:] if beside is not None else getattr(rows, "beside_shape", None)
    fit = block_rows // 2
    if (free := _free_bytes()) is not None:
        fit = min(
            fit, free // (4 * 8 * int(np.prod(shape)))
        )  # two blocks and the intermediate arrays of one, in float64
    while fit >= 1 and not _fits(fit, shape, beside_shape, of_piece):
        fit //= 2
    advice = f"block_rows={fit} fits" if fit >= 1 else "not even one row fits; use fewer sources, or a larger machine"
    return InputError(f"a block of {block_rows} rows does not fit into memory ({_first_line(error)}): {advice}")


def _free_bytes():
    """Free memory of the device in bytes; None if it is unknown."""
    stats = jax.local_devices(backend="cpu")[0].memory_stats() or {}
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0) if "bytes_limit" in stats else None


def _fits(block_rows, shape, beside_shape, of_piece):
    layout = layout_of(block_rows)
    try:
        values = np.zeros((2 * layout.buffer_rows, *shape))
        extra = None if beside_shape is None else np.zeros((layout.piece_rows, *beside_shape))
        count = np.int64(block_rows)
        jax.block_until_ready(of_piece(values[: layout.piece_rows], extra, np.int64(0), count, layout.chunk))
    except (MemoryError, jax.errors.JaxRuntimeError):
        return False
    return True


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]


def row_shape(rows: Table | Iterated) -> tuple[int, ...]:
    """The shape of one row."""
    return rows.row_shape if isinstance(rows, Iterated) else rows.shape[1:]
