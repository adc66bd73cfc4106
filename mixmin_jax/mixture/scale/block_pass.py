"""One pass over rows that do not fit in memory: read a block while the cores work on the one before it.

Each core works on its piece of a block, in chunks that fit in its cache. Sums carry their rounding errors, so they are
as accurate over 10^9 rows as over one block.
"""

import concurrent.futures
import functools
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.evaluator import BLOCK, RunningSum, accumulate, is_sum
from mixmin_jax.mixture.scale.blocks import Block, RowSource, Table, read
from mixmin_jax.mixture.scale.float64 import float64_on_cpu
from mixmin_jax.mixture.scale.memory import ran_out

_PIECE = 4 * BLOCK  # fewest rows for which a core is used


@jax.jit
def merge(one: Any, other: Any) -> Any:
    """Add the sums, or counts, over two sets of rows."""

    def merged(a: Any, b: Any) -> Any:
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


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def blockwise(
    rows: RowSource,
    beside: Table | None,
    layout: Layout,
    what: str,
    of_piece: Callable[..., Any],
    check: Callable[[Block], None] = lambda block: None,
) -> Iterator[tuple[Block, Any]]:
    """One pass: yield each block with the sums so far. A block is read while the cores work on the one before it.

    Args:
        rows, beside, what: as in `read`.
        layout: of a block.
        of_piece: sums over a piece of a block, from its values, what stands beside them, its first row, the number of
            rows in the block, and the layout's `chunk`.
        check: called with each block before the cores work on it.
    """

    def work(block: Block, piece: int) -> Any:
        start = piece * layout.piece_rows
        taken = slice(start, start + layout.piece_rows)
        with float64_on_cpu():  # JAX's settings are per thread
            weights = None if block.beside is None else block.beside[taken]
            count = np.int64(block.num_rows)
            return jax.block_until_ready(of_piece(block.values[taken], weights, np.int64(start), count, layout.chunk))

    total: Any = None
    before: Any = None
    with concurrent.futures.ThreadPoolExecutor(layout.pieces) as pool:
        try:
            for block in itertools.chain(read(rows, beside, layout.block_rows, layout.buffer_rows, what), [None]):
                futures = []
                if block is not None:
                    check(block)
                    futures = [pool.submit(work, block, 0)]
                    if before is None:
                        concurrent.futures.wait(futures)  # so the program is compiled only once
                    futures += [pool.submit(work, block, piece) for piece in range(1, layout.pieces)]
                if before is not None:
                    terms = [future.result() for future in before[1]]
                    total = functools.reduce(merge, terms if total is None else [total, *terms])
                    yield before[0], total
                before = block, futures
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if ran_out(error):
                raise _too_large(rows, beside, layout.block_rows, of_piece, error) from error
            raise
    if total is None:
        raise InputError(f"{what}: there are no rows; give at least one")


def _too_large(
    rows: RowSource, beside: Table | None, block_rows: int, of_piece: Callable[..., Any], error: BaseException
) -> InputError:
    """The error for a block that does not fit in memory, with a size that was tried and fits."""
    beside_shape = rows.beside_shape if beside is None else beside.row_shape
    fit = block_rows // 2
    while fit >= 1 and not _fits(fit, rows.row_shape, beside_shape, of_piece):
        fit //= 2
    advice = f"block_rows={fit} fits" if fit >= 1 else "not even one row fits; use fewer sources, or a larger machine"
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"a block of {block_rows} rows does not fit into memory ({reason}): {advice}")


def _fits(
    block_rows: int, shape: tuple[int, ...], beside_shape: tuple[int, ...] | None, of_piece: Callable[..., Any]
) -> bool:
    layout = layout_of(block_rows)
    try:
        values = np.zeros((2 * layout.buffer_rows, *shape))
        extra = None if beside_shape is None else np.zeros((layout.piece_rows, *beside_shape))
        count = np.int64(block_rows)
        jax.block_until_ready(of_piece(values[: layout.piece_rows], extra, np.int64(0), count, layout.chunk))
    except (MemoryError, jax.errors.JaxRuntimeError):
        return False
    return True
