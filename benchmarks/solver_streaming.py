"""Rows that stay in a file: what a streamed solve costs beside reading the file and exponentiating it.

Axes: N rows, K columns; B rows of a block.
"""

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.solver_cases import tokens
from benchmarks.solver_gap import judge
from benchmarks.solver_methods import TOLERANCE
from benchmarks.timing import Call, Stopped, ratio, side_by_side
from mixmin_jax import Solution, cross_entropy, solve, stream_cross_entropy

_BLOCK = 125_000  # rows


@dataclasses.dataclass(frozen=True)
class File:
    """A file to stream."""

    name: str = "streaming"
    n: int = 10_000_000
    k: int = 8
    seed: int = 0


def measure_streaming(file: File, repeats: int, budget: float) -> dict[str, Any]:
    """The record of one file: seconds per pass of a streamed solve, and of one plain pass, in turns; and memory.

    A plain pass reads the file block by block with NumPy, on one core, and takes exp of every number less its row's
    largest. A solve makes one pass more than it has iterations. What it finds is compared with a solve in memory.
    """
    rng, shape = np.random.default_rng(file.seed), (file.n, file.k)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "logp.npy"
        mapped_NxK = np.lib.format.open_memmap(path, "w+", np.float64, shape)
        for start in range(0, file.n, _BLOCK):
            mapped_NxK[start : start + _BLOCK] = tokens(rng, min(_BLOCK, file.n - start), file.k)
        mapped_NxK.flush()
        del mapped_NxK

        def plain() -> float:
            total = 0.0
            with path.open("rb") as opened:
                np.lib.format.read_magic(opened)
                np.lib.format.read_array_header_1_0(opened)
                while (block := np.fromfile(opened, np.float64, _BLOCK * file.k)).size:
                    block_BxK = block.reshape(-1, file.k)
                    block_BxK -= block_BxK.max(axis=1, keepdims=True)
                    total += float(np.exp(block_BxK, out=block_BxK).sum())
            return total

        def streamed() -> Solution:
            return solve(stream_cross_entropy(path), tolerance=TOLERANCE)

        calls: dict[str, Call[Any]] = {"plain": Call(plain), "streamed": Call(streamed)}
        timings = side_by_side(calls, repeats, max(budget, 1e-9))
        plain_time, time = timings["plain"], timings["streamed"]
        assert not isinstance(plain_time, Stopped) and not isinstance(time, Stopped)
        solution = time.last
        logp_NxK = np.load(path, allow_pickle=False)
    passes = solution.iterations + 1
    in_memory = solve(cross_entropy(logp_NxK), tolerance=TOLERANCE)
    return {
        "name": file.name,
        "what": "solve(stream_cross_entropy(path)) of a .npy file in the page cache, like tokens",
        **dataclasses.asdict(file),
        "file_bytes": 8 * file.n * file.k,
        "plain_pass_seconds": list(plain_time.seconds),
        "solve_seconds": list(time.seconds),
        "first_solve_seconds": time.first,
        "passes": passes,
        "seconds_per_pass": time.median / passes,
        "pass_over_plain": {name: value / passes for name, value in ratio(time, plain_time)._asdict().items()},
        "memory_bytes": time.memory,
        "memory_of_first_call": time.memory_of_first,
        "relative_gap": judge(logp_NxK, None, solution.weights).gap,
        "weights_differ_from_memory": float(np.abs(solution.weights - in_memory.weights).max()),
    }


def describe_streaming(record: Mapping[str, Any]) -> str:
    """One line."""
    memory = "" if record["memory_bytes"] is None else f", {record['memory_bytes'] / 1e6:.0f} MB of memory"
    return (
        f"{record['name']} {record['n']:.0e} x {record['k']} ({record['file_bytes'] / 1e6:.0f} MB): "
        f"{record['passes']} passes of {record['seconds_per_pass']:.2g} s, {record['pass_over_plain']['median']:.2g} "
        f"times reading + exp{memory}, gap {record['relative_gap']:.0e}, weights within "
        f"{record['weights_differ_from_memory']:.0e} of those found in memory"
    )
