"""Objectives whose rows do not fit in memory: sums over blocks of rows, with one pass per evaluation.

The interior point needs f, its gradient and its curvature once per iteration, all from one pass. Each core sums over a
buffer of its own while the next ones are read. Sums of buffers carry their rounding errors, so they are as accurate
over 10^9 rows as over one block.

Axes: B rows in a buffer, R of them from one block, K sources, D outputs of a predictor.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.certificate import Prior
from mixmin_jax.mixture.checks import (
    bad_example_weights,
    describe_bad_rows,
    infinite_rows,
    refuse_reversed_sign,
    source_names,
)
from mixmin_jax.mixture.constraints import left_out_message
from mixmin_jax.mixture.evaluator import BLOCK, Known, Likelihoods, RunningSum, accumulate, is_sum
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.methods.interior_point import State, arrive, begin, propose
from mixmin_jax.mixture.objective import StreamedSquaredError, tolerance_unit
from mixmin_jax.mixture.outputs import Outputs, outputs
from mixmin_jax.mixture.problem import Limits, Point, Problem
from mixmin_jax.mixture.scale.blocks import Buffer, Rows, buffers, open_rows
from mixmin_jax.mixture.scale.float64 import float64_on_cpu
from mixmin_jax.mixture.scale.host import iterate_on_host
from mixmin_jax.mixture.scale.memory import too_large

_SHARE = 4 * BLOCK  # fewest rows for which a core is used
_ROWS, _PREDICTIONS, _TARGETS = "log-likelihoods", "predictions", "targets"
_ZERO: Any = RunningSum(*np.zeros(2))
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedCrossEntropy:
    """f(w) = - sum_n v_n log sum_k w_k exp(logp_nk), with rows read anew for each evaluation."""

    rows: Rows
    names: tuple[str, ...] | None  # of all columns
    columns: np.ndarray | None = None  # those in use; None for all
    densities: bool = False  # whether values may be above 0 everywhere

    @property
    def sources(self) -> tuple[str, ...] | None:
        if self.names is None or self.columns is None:
            return self.names
        return tuple(self.names[k] for k in self.columns)

    @property
    def num_sources(self) -> int:
        return self.rows.row_shape[0] if self.columns is None else len(self.columns)

    def take(self, columns: np.ndarray) -> "StreamedCrossEntropy":
        """The same objective over some of the sources; rows are checked when they are read."""
        return dataclasses.replace(self, columns=columns if self.columns is None else self.columns[columns])


def stream_cross_entropy(
    blocks: Any,
    example_weights: Any = None,
    sources: Sequence[str] | None = None,
    *,
    block_rows: int | None = None,
    densities: bool = False,
) -> StreamedCrossEntropy:
    """`cross_entropy` with rows that are read block by block, once per iteration of a solve (some ten times).

    `solve` takes it with method="interior_point" and gives the same solution as in memory. Two blocks are in memory at
    a time, and what is read to fill the next one.

    Args:
        blocks: log-likelihoods logp_NxK in nats, as one of
            - the path of a .npy file of real numbers, which may not change until the solve is done;
            - an array, (N, K);
            - a list of blocks (n_i, K), or a function that gives an iterator of blocks. It is called for every pass,
              and every pass must give the same rows. A block may be a pair (block, weights (n_i,)).
        example_weights: v_N >= 0, used as given: an array or the path of a .npy file; default 1/N. Not with pairs.
        sources: names of the K columns.
        block_rows: rows to work on at a time; default: about a million numbers per block. In messages about files and
            arrays, a block is what is read at once: these rows, or fewer.
        densities: as in `cross_entropy`.

    Returns:
        An objective for `solve`.

    Raises:
        InputError: blocks that can be read only once, are not numbers or differ in their columns; weights that do not
            match, are negative or not finite. `solve` raises it for values that it reads later: NaN, +inf or all -inf
            in rows that count, a source without a value below 0, changed files, passes that differ.
    """
    rows = open_rows(blocks, _ROWS, example_weights, "example_weights", 2, block_rows)
    return StreamedCrossEntropy(rows, source_names(sources, rows.row_shape[0]), densities=densities)


def stream_squared_error(
    blocks: Any, targets: Any = None, sources: Sequence[str] | None = None, *, block_rows: int | None = None
) -> StreamedSquaredError:
    """`squared_error` with rows that are read block by block, once, now; only K x K numbers are kept.

    Args:
        blocks: predictions yhat, (N, K) or (N, K, D), given like the blocks of `stream_cross_entropy`; or pairs of a
            block and its targets, (n_i,) or (n_i, D).
        targets: y, (N,) or (N, D): an array or the path of a .npy file. Not with pairs.
        sources: names of the K sources.
        block_rows: rows to work on at a time; default: about a million numbers per block.

    Returns:
        An objective for `solve` and `solve_traced`.

    Raises:
        InputError: values that are not finite, shapes that do not match, files that change while they are read, blocks
            that do not fit in memory.
    """
    rows = open_rows(blocks, _PREDICTIONS, targets, _TARGETS, 3, block_rows)
    names = source_names(sources, rows.row_shape[0])
    if not rows.beside:
        raise InputError("targets are missing; give an array, the path of a .npy file, or pairs (predictions, targets)")

    def of_buffer(buffer: Buffer) -> tuple[Float[Array, "K K"], np.ndarray]:
        squares_KxK = _squares(buffer.values, buffer.beside)
        if not np.isfinite(squares_KxK).all():
            _refuse_infinite(buffer)
        return squares_KxK, np.concatenate([part.beside for part in buffer.parts])

    sums, n, square = _ZERO, 0, 0.0
    origin_D = sum_D = np.zeros(())
    with float64_on_cpu():
        for squares_KxK, y_BxD in _of_buffers(rows, _PREDICTIONS, of_buffer):
            origin_D = y_BxD[0] if n == 0 else origin_D  # so a constant has variance 0
            moved_BxD = y_BxD - origin_D
            sums, n = _add(sums, squares_KxK), n + len(y_BxD)
            sum_D, square = sum_D + moved_BxD.sum(axis=0), square + (moved_BxD**2).sum()
    r_KxK, mean_D = np.asarray(sums.total + sums.lost) / n, sum_D / n
    variance = square / n - (mean_D**2).sum()
    size = variance + ((origin_D + mean_D) ** 2).sum()
    unit = tolerance_unit(np, variance, size, r_KxK.diagonal().max(), np.float64)
    return StreamedSquaredError(r_KxK, unit, names)


def minimize_streamed(
    objective: StreamedCrossEntropy, feasible: FeasibleSet, prior: Prior | None, limits: Limits
) -> Outputs:
    """The interior point over streamed rows, with a pass per iteration and one at the end.

    Call it under `float64_on_cpu`.
    """
    feasible = feasible.to_host()
    w_K = feasible.start()
    ranges = list[tuple[np.ndarray, np.ndarray]]()
    first = _evaluated(objective, w_K, ranges)
    if not first.scale > 0:
        raise InputError("example_weights are all 0: nothing is left to fit; give at least one row a positive weight")
    least_K, most_K = np.min([low_K for low_K, _ in ranges], axis=0), np.max([high_K for _, high_K in ranges], axis=0)
    refuse_reversed_sign(least_K, most_K, objective.sources, objective.densities)
    share = np.float64(1 if objective.rows.beside else 1 / first.scale)  # weights are 1 in a pass, 1/N in f
    known: Any = Known(share * first.scale, share * first.offset, np.zeros(()), True)
    problem = Problem(known, feasible, prior)

    def evaluated(w_K: Any) -> Any:
        later = _evaluated(objective, w_K)
        moved = abs(later.offset - first.offset) > 1e-12 * first.reach
        if moved or abs(later.scale - first.scale) > 1e-12 * first.scale:
            raise InputError(
                "log-likelihoods: a later pass gave other rows than the first; every call must give an iterator over "
                "the same rows, without sampling or dropout"
            )
        return jax.tree.map(share.__mul__, later[:3])

    def step(problem: Problem, state: State) -> State:
        ahead = propose(problem, state)
        return arrive(problem, ahead, evaluated(ahead.weights))

    def point(w_K: Any) -> Point:
        return problem.certified(w_K, *evaluated(w_K)[:2])

    with np.errstate(all="ignore"):
        run = iterate_on_host(problem, begin(problem, w_K, jax.tree.map(share.__mul__, first[:3])), limits, step)
        return outputs(problem, run, limits.tolerance, point)


def _of_buffers(rows: Rows, what: str, of_buffer: Callable[[Buffer], T]) -> Iterator[T]:
    """One pass: what a core makes of each buffer, in order, while the next ones are read."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = max(1, min(cores, rows.block_rows // _SHARE))
    chunk = min(BLOCK, rows.block_rows)
    size = -(-rows.block_rows // (cores * chunk)) * chunk

    def work(buffer: Buffer) -> T:
        with float64_on_cpu():  # JAX's settings are per thread
            return jax.block_until_ready(of_buffer(buffer))

    waiting: collections.deque[concurrent.futures.Future[T]] = collections.deque()
    most = 1  # the first buffer is worked on alone, so the program is compiled only once
    try:
        with concurrent.futures.ThreadPoolExecutor(cores) as pool:
            for buffer in buffers(rows.blocks(), size):
                if len(waiting) == most:
                    yield waiting.popleft().result()
                    most = 2 * cores - 1  # with the one that is read: two blocks
                waiting.append(pool.submit(work, buffer))
            if not waiting:
                raise InputError(f"{what}: there are no rows; give at least one")
            while waiting:
                yield waiting.popleft().result()
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if (described := too_large(error, rows.block_rows, math.prod(rows.row_shape), 8)) is not None:
            raise described from error
        raise


@jax.jit
def _add(sums: Any, terms: Any) -> Any:
    """Add terms to a tree of running sums."""
    return jax.tree.map(accumulate, sums, terms, is_leaf=is_sum)


class _LogTerms(NamedTuple):
    """The sums over rows of log-likelihoods."""

    value: Any  # f without its offset
    gradient_K: Any
    curvature_KxK: Any
    scale: Any
    offset: Any
    reach: Any  # sum_n v_n |max_k logp_nk|, the unit of the offset's rounding error


def _evaluated(
    objective: StreamedCrossEntropy, w_K: Float[Array, " K"], ranges: list[tuple[np.ndarray, np.ndarray]] | None = None
) -> _LogTerms:
    """The sums by one pass over the rows; `ranges` gets the least and the largest number of each column in a buffer."""

    def of_buffer(buffer: Buffer) -> _LogTerms:
        buffer.values[buffer.beside == 0] = 0  # rows of weight 0 may hold anything
        if ranges is not None:
            values_BxK = buffer.values if objective.columns is None else buffer.values[:, objective.columns]
            ranges.append((values_BxK.min(axis=0), values_BxK.max(axis=0)))
        sums, valid = _log_terms(buffer.values, buffer.beside, w_K, objective.columns)
        if not valid:
            _refuse_rows(objective, buffer)
        return sums

    found = _of_buffers(objective.rows, _ROWS, of_buffer)
    sums = jax.device_get(functools.reduce(_add, found, _LogTerms(*6 * [_ZERO])))
    return _LogTerms(*(sum.total + sum.lost for sum in sums))


@jax.jit
def _log_terms(
    logp_BxK: Float[Array, "B _"], v_B: Float[Array, " B"], w_K: Float[Array, " K"], columns: Int[Array, " K"] | None
) -> tuple[_LogTerms, Bool[Array, ""]]:
    """Sums over a buffer of all columns, of which K are in use, and whether all its rows and weights are valid."""
    chunk = min(BLOCK, len(logp_BxK))  # rows that stay in a core's cache

    def of_chunk(rows: tuple[Float[Array, "R _"], Float[Array, " R"]]) -> tuple[_LogTerms, Bool[Array, ""]]:
        logp_RxK, v_R = rows
        # not by isfinite of the maximum, which loses NaN in this program where a row is long
        finite_R = (logp_RxK < jnp.inf).all(axis=1) & (logp_RxK > -jnp.inf).any(axis=1)
        valid_R = finite_R & (v_R >= 0) & (v_R < jnp.inf)
        if columns is not None:
            logp_RxK = logp_RxK[:, columns]
        most_R = logp_RxK.max(axis=1)
        f = Likelihoods(jnp.exp(logp_RxK - most_R[:, None]).T[None], v_R[None], -(v_R @ most_R))
        terms = _LogTerms(*f.curvature(w_K), f.scale, f.offset, v_R @ jnp.abs(most_R))
        return terms, (valid_R & jnp.isfinite(most_R)).all()

    chunks = logp_BxK.reshape(-1, chunk, logp_BxK.shape[1]), v_B.reshape(-1, chunk)
    terms, valid_C = jax.lax.map(of_chunk, chunks)
    return jax.tree.map(lambda term: term.sum(axis=0), terms), valid_C.all()


@jax.jit
def _squares(values: Float[Array, "B K *D"], targets: Float[Array, "B *D"]) -> Float[Array, "K K"]:
    """sum_n r_n r_n' over a buffer, with r = yhat - y; rows of padding are 0 in both."""
    b, k = values.shape[:2]
    r_BxKxD = values.reshape(b, k, -1) - targets.reshape(b, 1, -1)
    return jnp.einsum("bkd,bld->kl", r_BxKxD, r_BxKxD)


def _refuse_rows(objective: StreamedCrossEntropy, buffer: Buffer) -> None:
    """Raise InputError that names the invalid rows, or weights, of a block."""
    for part in buffer.parts:
        bad_R = ~((part.beside >= 0) & (part.beside < np.inf))
        if bad_R.any():
            message = bad_example_weights(part.done + np.flatnonzero(bad_R), part.beside[bad_R][0])
            raise InputError(f"{part.block}: {message}")
        logp_RxK, names, before = part.values, objective.names, ""
        if objective.columns is not None and np.isfinite(logp_RxK.max(axis=1)).all():
            before = left_out_message(objective.columns, logp_RxK.shape[1], names)
            logp_RxK, names = logp_RxK[:, objective.columns], objective.sources
        if not np.isfinite(logp_RxK.max(axis=1)).all():
            raise InputError(f"{before}{part.block}: {describe_bad_rows(logp_RxK, names, part.label)}")


def _refuse_infinite(buffer: Buffer) -> None:
    for part in buffer.parts:
        for what, values in ((_TARGETS, part.beside), (_PREDICTIONS, part.values)):
            bad_R = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
            if bad_R.any():
                raise InputError(f"{part.block}: {infinite_rows(what, part.done + np.flatnonzero(bad_R))}")
    raise InputError(f"{part.block}: predictions or targets are so large that their squares overflow; rescale them")
