"""Objectives whose rows do not fit in memory: sums over blocks of rows, with one pass per evaluation.

The interior point needs f, its gradient and its curvature once per iteration, all from one pass (`block_pass`). Between
passes only sums are kept in memory, during a pass two blocks.

Axes: N rows in all, B rows in a buffer, R rows in a piece of it, K sources, D outputs of a predictor.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.certificate import Prior
from mixmin_jax.mixture.checks import (
    bad_example_weights,
    checked_whole,
    describe_bad_rows,
    infinite_rows,
    source_names,
)
from mixmin_jax.mixture.constraints import left_out_message
from mixmin_jax.mixture.evaluator import BLOCK, Known, Likelihoods, RunningSum, accumulate
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.labels import by_row
from mixmin_jax.mixture.methods.interior_point import State, arrive, begin, propose
from mixmin_jax.mixture.objective import StreamedSquaredError, tolerance_unit
from mixmin_jax.mixture.outputs import Outputs, outputs
from mixmin_jax.mixture.problem import Limits, Problem
from mixmin_jax.mixture.scale.block_pass import Layout, blockwise, layout_of
from mixmin_jax.mixture.scale.blocks import Block, Part, RowSource, Table, source, table
from mixmin_jax.mixture.scale.float64 import float64_on_cpu
from mixmin_jax.mixture.scale.host import iterate_on_host

_NUMBERS = 1 << 20  # default numbers per block: 8 MB, far more than the cost of reading a block
_ROWS, _WEIGHTS, _PREDICTIONS, _TARGETS = "log-likelihoods", "example_weights", "predictions", "targets"


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedCrossEntropy:
    """f(w) = - sum_n v_n log sum_k w_k exp(logp_nk), with rows read anew for each evaluation."""

    rows: RowSource
    weights: Table | None
    names: tuple[str, ...] | None  # of all columns
    layout: Layout
    columns: np.ndarray | None = None  # those in use; None for all

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
) -> StreamedCrossEntropy:
    """`cross_entropy` with rows that are read block by block, once per iteration of a solve (some ten times).

    `solve` takes it with method="interior_point" and gives the same solution as in memory. Two blocks are in memory at
    a time.

    Args:
        blocks: log-likelihoods logp_NxK in nats, as one of
            - the path of a .npy file of real numbers. Neither it nor the file of a memory-mapped array may change until
              the solve is done;
            - an array, (N, K);
            - a list of blocks (n_i, K), or a function that gives an iterator of blocks. It is called for every pass,
              and every pass must give the same rows. A block may be a pair (block, weights (n_i,)).
        example_weights: v_N >= 0, used as given: an array or the path of a .npy file; default 1/N. Not with pairs.
        sources: names of the K columns.
        block_rows: rows to work on at a time, also the unit of blocks in messages about files; default: about a million
            numbers per block.

    Returns:
        An objective for `solve`.

    Raises:
        InputError: blocks that can be read only once, are not numbers or differ in their columns; weights that do not
            match, are negative or not finite. `solve` raises it for values that it reads later: NaN, +inf or all -inf
            in rows that count, changed files, passes that differ.
    """
    rows, names, layout = _opened(blocks, _ROWS, "(examples, sources), both at least 1", (1,), sources, block_rows)
    return StreamedCrossEntropy(rows, _beside(rows, example_weights, (), _WEIGHTS), names, layout)


def stream_squared_error(
    blocks: Any,
    targets: Any = None,
    sources: Sequence[str] | None = None,
    *,
    block_rows: int | None = None,
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
    rows, names, layout = _opened(blocks, _PREDICTIONS, "(examples, sources[, outputs])", (1, 2), sources, block_rows)
    y = _beside(rows, targets, rows.row_shape[1:], _TARGETS)
    if y is None and rows.beside_shape is None:
        raise InputError("targets are missing; give an array, the path of a .npy file, or pairs (predictions, targets)")
    n, sums = 0, cast(Any, None)
    origin_D, sum_D, square = cast(Any, None), cast(Any, 0.0), cast(Any, 0.0)
    with float64_on_cpu():
        for block, sums in blockwise(rows, y, layout, _PREDICTIONS, _squares):
            if not np.isfinite(np.asarray(sums.total)).all():
                _refuse_infinite(block)
            y_BxD = np.reshape(cast(np.ndarray, block.beside)[: block.num_rows], (block.num_rows, -1))
            origin_D = y_BxD[0].copy() if origin_D is None else origin_D  # so a constant has variance 0
            moved_BxD = y_BxD - origin_D
            n, sum_D, square = n + len(y_BxD), sum_D + moved_BxD.sum(axis=0), square + (moved_BxD**2).sum()
    r_KxK, mean_D = np.asarray(sums.total + sums.lost) / n, sum_D / n
    variance, worst = square / n - mean_D @ mean_D, r_KxK.diagonal().max()
    size = variance + ((origin_D + mean_D) ** 2).sum()
    return StreamedSquaredError(r_KxK, tolerance_unit(np, variance, size, worst, np.float64), names)


def minimize_streamed(
    objective: StreamedCrossEntropy, feasible: FeasibleSet, prior: Prior | None, limits: Limits
) -> Outputs:
    """The interior point over streamed rows, with one pass per iteration. Call it under `float64_on_cpu`."""
    feasible = feasible.to_host()
    w_K = feasible.start()
    terms, counted = _evaluated(objective, w_K)
    if not terms.scale > 0:
        raise InputError("example_weights are all 0: nothing is left to fit; give at least one row a positive weight")
    problem = Problem(cast(Any, Known(terms.scale, terms.offset, np.zeros(()), True)), feasible, prior)

    def step(problem: Problem, state: State) -> State:
        ahead = propose(problem, state)
        later, count = _evaluated(objective, ahead.weights)
        _check_same(terms, counted, later, count)
        return arrive(problem, ahead, later[:3])

    with np.errstate(all="ignore"):
        run = iterate_on_host(problem, begin(problem, w_K, terms[:3]), limits, step)
        return outputs(problem, run, limits.tolerance)


class _LogTerms(NamedTuple):
    """The sums over rows of log-likelihoods."""

    value: Any  # f without its offset
    gradient_K: Any
    curvature_KxK: Any
    scale: Any
    offset: Any
    reach: Any  # sum_n v_n |max_k logp_nk|, the unit of the offset's rounding error


def _evaluated(objective: StreamedCrossEntropy, w_K: Float[Array, " K"]) -> tuple[_LogTerms, tuple[int, int]]:
    """The sums by one pass over the rows, and the numbers of rows and of blocks."""
    rows = blocks = 0

    def of_piece(values_RxK: Any, weights_R: Any, first: Any, count: Any, chunk: int) -> Any:
        return _log_terms(values_RxK, weights_R, first, count, w_K, objective.columns, chunk)

    def check(block: Block) -> None:
        if block.beside is not None:
            _check_weights(block)
            block.values[block.beside == 0] = 0  # rows of weight 0 may hold anything

    for block, found in blockwise(objective.rows, objective.weights, objective.layout, _ROWS, of_piece, check):
        if found[1]:
            _refuse_rows(objective, block)
        rows, blocks = rows + block.num_rows, block.parts[-1].number + 1
    weighted = objective.weights is not None or objective.rows.beside_shape is not None
    share = 1.0 if weighted else 1 / rows  # f is linear in the weights, which are 1 in a pass and 1/N afterwards
    return _LogTerms(*(share * (sum.total + sum.lost) for sum in jax.device_get(found[0]))), (rows, blocks)


@functools.partial(jax.jit, static_argnames="chunk")
def _log_terms(
    values_RxK: Float[Array, "R _"],  # all columns; K are in use
    weights_R: Float[Array, " R"] | None,
    first: Int[Array, ""],
    count: Int[Array, ""],
    w_K: Float[Array, " K"],
    columns: Int[Array, " K"] | None,
    chunk: int,
) -> tuple[_LogTerms, Int[Array, ""]]:
    """Sums over a piece of a buffer that starts at row `first`, and the number of its rows that are invalid."""
    k = w_K.size
    if weights_R is None:
        weights_R = (first + jnp.arange(len(values_RxK)) < count).astype(w_K.dtype)

    def add(
        carry: tuple[_LogTerms, Int[Array, ""]], rows: tuple[Float[Array, "R _"], Float[Array, " R"]]
    ) -> tuple[tuple[_LogTerms, Int[Array, ""]], None]:
        sums, bad = carry
        logp_RxK, v_R = rows[0].astype(w_K.dtype), rows[1]
        finite_R = jnp.isfinite(logp_RxK.max(axis=1))
        if columns is not None:
            logp_RxK = logp_RxK[:, columns]
        most_R = logp_RxK.max(axis=1)
        finite_R = finite_R & jnp.isfinite(most_R)
        bad = bad + jnp.sum(~finite_R & (v_R > 0))
        most_R = jnp.where(finite_R, most_R, 0)
        p_KxR = jnp.exp(logp_RxK - most_R[:, None]).T
        f = Likelihoods(p_KxR[None], v_R[None], jnp.zeros(()))
        terms = _LogTerms(*f.curvature(w_K), v_R.sum(), -(v_R @ most_R), v_R @ jnp.abs(most_R))
        return (_LogTerms(*map(accumulate, sums, terms)), bad), None

    zeros = _LogTerms(*map(RunningSum.zero, ((), (k,), (k, k), (), (), ()))), jnp.asarray(0)
    pieces = values_RxK.reshape(-1, chunk, values_RxK.shape[1]), weights_R.reshape(-1, chunk)
    return jax.lax.scan(add, zeros, pieces)[0]


@functools.partial(jax.jit, static_argnames="chunk")
def _squares(
    values: Float[Array, "R K *D"],
    targets: Float[Array, "R *D"],
    first: Int[Array, ""],
    count: Int[Array, ""],
    chunk: int,
) -> RunningSum:
    """sum_n r_n r_n' over a piece of a buffer, with r = yhat - y; rows of padding are 0 in both."""
    k = values.shape[1]

    def add(sum_KxK: RunningSum, rows: tuple[Float[Array, "R K *D"], Float[Array, "R *D"]]) -> tuple[RunningSum, None]:
        yhat_RxKxD = rows[0].astype(jnp.float64).reshape(chunk, k, -1)
        r_RxKxD = yhat_RxKxD - rows[1].reshape(chunk, 1, -1)
        return accumulate(sum_KxK, jnp.einsum("rkd,rld->kl", r_RxKxD, r_RxKxD)), None

    zeros = RunningSum.zero((k, k))
    pieces = values.reshape(-1, chunk, *values.shape[1:]), targets.reshape(-1, chunk, *targets.shape[1:])
    return jax.lax.scan(add, zeros, pieces)[0]


def _check_same(first: _LogTerms, counted: tuple[int, int], terms: _LogTerms, count: tuple[int, int]) -> None:
    """Raise InputError for a pass over other rows than those of the first pass."""
    if count != counted:
        raise InputError(
            f"log-likelihoods: a later pass gave {count[0]} rows in {count[1]} blocks, but the first gave {counted[0]} "
            f"in {counted[1]}; every call must give an iterator over the same blocks"
        )
    moved = abs(terms.offset - first.offset) > 1e-12 * first.reach
    if moved or abs(terms.scale - first.scale) > 1e-12 * first.scale:
        raise InputError(
            "log-likelihoods: a later pass gave other values than the first; every call must give the same rows, "
            "without sampling or dropout"
        )


def _check_weights(block: Block) -> None:
    v_B = cast(np.ndarray, block.beside)[: block.num_rows]
    bad_B = ~(np.isfinite(v_B) & (v_B >= 0))
    if bad_B.any():
        part, rows = _first_bad(block, bad_B)
        raise InputError(f"{part}: {bad_example_weights(rows, v_B[bad_B][0])}")


def _refuse_rows(objective: StreamedCrossEntropy, block: Block) -> None:
    """Raise InputError that names the invalid rows of a block."""
    logp_BxK, names, before = block.values[: block.num_rows].astype(np.float64), objective.names, ""
    if np.isfinite(logp_BxK.max(axis=1)).all():  # rows are invalid only without the columns that are not in use
        columns = cast(np.ndarray, objective.columns)
        before = left_out_message(columns, logp_BxK.shape[1], names)
        logp_BxK, names = logp_BxK[:, columns], objective.sources
    part, _ = _first_bad(block, ~np.isfinite(logp_BxK.max(axis=1)))

    def label(row: int) -> str:
        return f"{part.done + row} (row {part.first + part.done + row} of all)"

    raise InputError(f"{before}{part}: {describe_bad_rows(logp_BxK[part.start : part.stop], names, label)}")


def _refuse_infinite(block: Block) -> None:
    for what, values in ((_TARGETS, cast(np.ndarray, block.beside)), (_PREDICTIONS, block.values)):
        bad_B = ~np.isfinite(values[: block.num_rows]).reshape(block.num_rows, -1).all(axis=1)
        if bad_B.any():
            part, rows = _first_bad(block, bad_B)
            raise InputError(f"{part}: {infinite_rows(what, rows)}")
    raise InputError(f"{block.parts[0]}: predictions or targets are so large that their squares overflow; rescale them")


def _first_bad(block: Block, bad_B: Bool[np.ndarray, " B"]) -> tuple[Part, Int[np.ndarray, " R"]]:
    """The first of the user's blocks with bad rows, and these rows, counted from its first row."""
    part = next(part for part in block.parts if bad_B[part.start : part.stop].any())
    return part, np.flatnonzero(bad_B[part.start : part.stop]) + part.done


def _opened(
    blocks: Any, what: str, shape: str, axes: tuple[int, ...], sources: Sequence[str] | None, block_rows: Any
) -> tuple[RowSource, tuple[str, ...] | None, Layout]:
    """The rows with so many axes each, the names of their columns, and the layout of a block."""
    rows = source(blocks, what)
    if len(rows.row_shape) not in axes or 0 in rows.row_shape or rows.num_rows == 0:
        got = rows.shape if isinstance(rows, Table) else ("n", *rows.row_shape)
        raise InputError(f"{what} must have the shape {shape}; got {got}")
    names = source_names(sources, rows.row_shape[0])
    if block_rows is None:
        block_rows = max(BLOCK, _NUMBERS // int(np.prod(rows.row_shape)))
    return rows, names, layout_of(checked_whole(block_rows, "block_rows", 1))


def _beside(rows: RowSource, given: Any, row_shape: tuple[int, ...], what: str) -> Table | None:
    """The weights or targets of rows as a table; None if they come in pairs, or are missing."""
    if given is None:
        if rows.beside_shape not in (None, row_shape):
            raise InputError(
                f"{what}: beside the rows of block 0 stand rows of shape {rows.beside_shape}, where {row_shape} belongs"
            )
        return None
    if rows.beside_shape is not None:
        raise InputError(f"{what} are given twice, in pairs with the blocks and on their own; drop one of them")
    found = table(by_row(given, what, None, "streamed rows"), what)
    if not found.shape or found.row_shape != row_shape:
        raise InputError(f"{what} has the shape {found.shape}; it must have the shape {('n', *row_shape)}")
    if rows.num_rows not in (None, found.num_rows):
        raise InputError(f"{what} has the shape {found.shape}, but there are {rows.num_rows} rows: give one each")
    return found
