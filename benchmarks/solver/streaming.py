"""Streamed rows: what a solve costs beside reading them and taking their exponentials.

Axes: N rows, K columns; B rows of a block.
"""

import dataclasses
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks.records import CallTimes, Times, call_times, times
from benchmarks.solver.cases import tokens
from benchmarks.solver.gap import judge
from benchmarks.solver.methods import TOLERANCE
from benchmarks.solver.records import Settings, StreamedRecord, problem
from benchmarks.timing import Call, Stopped, side_by_side
from mixmin_jax import Solution, cross_entropy, solve, stream_cross_entropy

_BLOCK = 125_000  # rows: 8 MB of eight float64 columns


@dataclasses.dataclass(frozen=True)
class File:
    """A file to stream."""

    name: str = "streaming"
    n: int = 10_000_000
    k: int = 8
    seed: int = 0
    distinct: ClassVar[None] = None  # all blocks differ
    what: ClassVar[str] = "solve(stream_cross_entropy(path)) of a .npy file in the page cache, like tokens"

    def rows(self, folder: Path) -> Any:
        """What `stream_cross_entropy` is given."""
        rng, path = np.random.default_rng(self.seed), folder / "logp.npy"
        mapped_NxK = np.lib.format.open_memmap(path, "w+", np.float64, (self.n, self.k))
        for start in range(0, self.n, _BLOCK):
            mapped_NxK[start : start + _BLOCK] = tokens(rng, min(_BLOCK, self.n - start), self.k)
        mapped_NxK.flush()
        return path

    def blocks(self, rows: Any) -> Iterator[np.ndarray]:
        """The same, read with NumPy."""
        with rows.open("rb") as opened:
            opened.seek(-8 * self.n * self.k, os.SEEK_END)  # where the header ends
            while (block := np.fromfile(opened, np.float64, _BLOCK * self.k)).size:
                yield block.reshape(-1, self.k)


@dataclasses.dataclass(frozen=True)
class Repeated:
    """Blocks from an iterator: a few distinct ones, repeated equally often, whose optimum is that of all rows."""

    name: str = "streaming-blocks"
    n: int = 100_000_000
    k: int = 8
    seed: int = 0
    distinct: int = 8  # blocks; so many have the optimum of all
    what: ClassVar[str] = "solve(stream_cross_entropy(function)) of blocks that come from an iterator, like tokens"

    def rows(self, folder: Path) -> Any:
        """What `stream_cross_entropy` is given."""
        rng, (rounds, left) = np.random.default_rng(self.seed), divmod(self.n, self.distinct)
        block_rows = min(_BLOCK, rounds)
        assert left == 0 and rounds % block_rows == 0, "whole blocks, equally often"
        blocks = [tokens(rng, block_rows, self.k) for _ in range(self.distinct)]

        def iterate() -> Iterator[np.ndarray]:
            for _ in range(rounds // block_rows):
                yield from blocks

        return iterate

    def blocks(self, rows: Any) -> Iterator[np.ndarray]:
        """The same, for a plain pass that works in place."""
        return (block_BxK.copy() for block_BxK in rows())


def measure_streaming(case: File | Repeated, settings: Settings) -> StreamedRecord:
    """Seconds per pass of a streamed solve, and of one plain pass, in turns; and memory.

    A plain pass reads block by block with NumPy, on one core, and takes exp of every number less its row's largest. A
    solve makes one pass more than it has iterations. Its weights are compared with those of a solve in memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        rows = case.rows(Path(folder))

        def plain() -> float:
            total = 0.0
            for block_BxK in case.blocks(rows):
                block_BxK -= block_BxK.max(axis=1, keepdims=True)
                total += float(np.exp(block_BxK, out=block_BxK).sum())
            return total

        def streamed() -> Solution:
            return solve(stream_cross_entropy(rows), tolerance=TOLERANCE)

        calls: dict[str, Call[Any]] = {"plain": Call(plain), "streamed": Call(streamed)}
        timings = side_by_side(calls, settings.repeats, settings.budget)
        plain_time, time = timings["plain"], timings["streamed"]
        assert not isinstance(plain_time, Stopped) and not isinstance(time, Stopped)
        solution = time.last
        logp_NxK = np.concatenate(list(itertools.islice(case.blocks(rows), case.distinct)))
    in_memory = solve(cross_entropy(logp_NxK), tolerance=TOLERANCE)
    return StreamedRecord(
        **problem(case),
        row_bytes=8 * case.n * case.k,
        plain_pass=Times(**times(plain_time)),
        solve=CallTimes(**call_times(time, compiled=True)),
        passes=solution.iterations + 1,
        relative_gap=judge(logp_NxK, None, solution.weights).gap,
        weights_differ_from_memory=float(np.abs(solution.weights - in_memory.weights).max()),
    )
