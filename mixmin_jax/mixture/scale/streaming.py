"""Objectives whose rows do not fit in memory: sums over blocks of rows, with one pass per evaluation.

The interior point needs f, its gradient and its curvature once per iteration, all from one pass (`block_pass`). Between
passes only sums are kept in memory, during a pass two blocks.

Axes: N rows in all, B rows in a buffer, R rows in a piece of it, K sources, D outputs of a predictor.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.certificate import Prior
from mixmin_jax.mixture.checks import at_rows, describe_bad_rows, list_names, source_names
from mixmin_jax.mixture.evaluator import BLOCK, Evaluator, Likelihoods, Quadratic, RunningSum, accumulate
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.methods.interior_point import arrive, begin, propose
from mixmin_jax.mixture.objective import HostOrDevice
from mixmin_jax.mixture.problem import Problem, Run, finish, record, start, unfinished
from mixmin_jax.mixture.scale.block_pass import blockwise, layout_of, merge, row_shape
from mixmin_jax.mixture.scale.blocks import Block, Iterated, Part, Table, source, table
from mixmin_jax.mixture.scale.float64 import float64_on_cpu

_NUMBERS = 1 << 20  # default numbers per block: 8 MB, far more than the cost of reading a block
_ROWS, _WEIGHTS, _TARGETS = "log-likelihoods", "example_weights", "targets"


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedCrossEntropy:
    """f(w) = - sum_n v_n log sum_k w_k exp(logp_nk), with rows read anew for each evaluation."""

    rows: Table | Iterated
    weights: Table | None
    names: tuple[str, ...] | None  # of all columns
    block_rows: int
    columns: np.ndarray | None = None  # those in use; None for all

    @property
    def sources(self) -> tuple[str, ...] | None:
        if self.names is None or self.columns is None:
            return self.names
        return tuple(self.names[k] for k in self.columns)

    @property
    def num_sources(self) -> int:
        return row_shape(self.rows)[0] if self.columns is None else len(self.columns)

    def take(self, columns: np.ndarray) -> "StreamedCrossEntropy":
        """The same objective over some of the sources; rows are checked when they are read."""
        return dataclasses.replace(self, columns=columns if self.columns is None else self.columns[columns])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StreamedSquaredError:
    """f(w) = w' R w with R = 1/N sum_n r_n r_n', r_n the residuals of the K sources; built by `stream_squared_error`.

    Only R is kept of the rows, so every method and `solve_traced` take it.
    """

    r_KxK: Float[HostOrDevice, "K K"]
    variance: Float[HostOrDevice, ""]
    sources: tuple[str, ...] | None = dataclasses.field(default=None, metadata={"static": True})

    @property
    def num_sources(self) -> int:
        return self.r_KxK.shape[0]

    def prepare(self) -> Quadratic:
        return Quadratic(jnp.asarray(self.r_KxK), jnp.asarray(self.variance))

    def take(self, columns: np.ndarray) -> "StreamedSquaredError":
        names = None if self.sources is None else tuple(self.sources[k] for k in columns)
        return StreamedSquaredError(self.r_KxK[np.ix_(columns, columns)], self.variance, names)

    def anonymous(self) -> "StreamedSquaredError":
        return dataclasses.replace(self, sources=None)

    def rounded(self, dtype: Any) -> "StreamedSquaredError":
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), self)


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
    rows = source(blocks, _ROWS)
    shape = row_shape(rows)
    if len(shape) != 1 or 0 in shape or (not isinstance(rows, Iterated) and rows.shape[0] == 0):
        got = ("n", *shape) if isinstance(rows, Iterated) else rows.shape
        raise InputError(f"log-likelihoods must have the shape (examples, sources), both at least 1; got {got}")
    names = source_names(sources, shape[0])
    weights = _beside(rows, example_weights, (), _WEIGHTS)
    return StreamedCrossEntropy(rows, weights, names, _block_rows(block_rows, shape[0]))


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
    rows = source(blocks, "predictions")
    shape = row_shape(rows)
    if len(shape) not in (1, 2) or 0 in shape or (not isinstance(rows, Iterated) and rows.shape[0] == 0):
        got = ("n", *shape) if isinstance(rows, Iterated) else rows.shape
        raise InputError(f"predictions must have the shape (examples, sources[, outputs]); got {got}")
    names = source_names(sources, shape[0])
    y = _beside(rows, targets, shape[1:], _TARGETS)
    if y is None and not (isinstance(rows, Iterated) and rows.beside_shape is not None):
        raise InputError("targets are missing; give an array, the path of a .npy file, or pairs (predictions, targets)")
    layout = layout_of(_block_rows(block_rows, int(np.prod(shape))))
    moments = _Moments(0, 0.0, 0.0, 0.0, 0.0)
    sums: Any = None
    with float64_on_cpu():
        for block, products in blockwise(rows, y, layout, "predictions", _squares):
            sums = products if sums is None else merge(sums, products)
            if not np.isfinite(np.asarray(products.total)).all():
                _refuse_infinite(block)
            y_BxD = np.reshape(cast(np.ndarray, block.beside)[: block.num_rows], (block.num_rows, -1))
            moments = moments.with_rows(y_BxD)
    if sums is None:
        raise InputError("predictions: there are no rows; give at least one")
    r_KxK = np.asarray(sums.total + sums.lost) / moments.num_rows
    variance, worst = moments.variance, r_KxK.diagonal().max()
    scale = variance if variance > 0 else worst if worst > 0 else 1.0
    return StreamedSquaredError(r_KxK, np.asarray(scale, np.float64), names)


def iterate_streamed(
    objective: StreamedCrossEntropy,
    feasible: FeasibleSet,
    prior: Prior | None,
    tolerance: float,
    max_iterations: int,
    history_length: int,
) -> tuple[Problem, Run]:
    """The interior point over streamed rows: `problem.iterate`, driven from Python, with one pass per iteration.

    Call it under `float64_on_cpu`.
    """
    w_K = _first_weights(feasible)
    first = _evaluated(objective, w_K)
    if not first.scale > 0:
        raise InputError("example_weights are all 0: nothing is left to fit; give at least one row a positive weight")
    problem = Problem(cast(Evaluator, _Summary(first.scale, first.offset)), feasible, prior)
    progress = _begin(problem, w_K, first.values, history_length)
    while _unfinished(problem, progress, tolerance, max_iterations):
        ahead = _propose(problem, progress.state)
        found = _evaluated(objective, ahead.weights)
        _check_same(first, found)
        progress = _advance(problem, progress, ahead, found.values)
    return problem, _finish(problem, progress, tolerance)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Summary:
    """The part of an evaluator that a step needs beside the values of a pass."""

    scale: Float[Array, ""]
    offset: Float[Array, ""]
    homogeneous: ClassVar[bool] = True

    def rounding(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        return jnp.zeros_like(self.scale)


class _Found(NamedTuple):
    """The results of a pass."""

    values: tuple[np.ndarray, np.ndarray, np.ndarray]  # f without its offset, its gradient and its curvature
    scale: np.ndarray
    offset: np.ndarray
    reach: np.ndarray  # sum_n v_n |max_k logp_nk|, the unit of the offset's rounding error
    rows: int
    blocks: int


class _LogTerms(NamedTuple):
    """The sums over rows of log-likelihoods."""

    value: Any
    gradient_K: Any
    curvature_KxK: Any
    scale: Any
    offset: Any
    reach: Any


def _evaluated(objective, w_K):
    """f, its gradient and its curvature by one pass over the rows."""
    sums: Any = None
    seen = 0, 0

    def of_piece(values_RxK, weights_R, first, count, chunk):
        return _log_terms(values_RxK, weights_R, first, count, w_K, objective.columns, chunk)

    def check(block):
        if block.beside is not None:
            _check_weights(block)
            block.values[block.beside == 0] = 0  # rows of weight 0 may hold anything

    layout = layout_of(objective.block_rows)
    for block, (terms, bad) in blockwise(objective.rows, objective.weights, layout, _ROWS, of_piece, check):
        if bad:
            _refuse_rows(objective, block)
        sums = terms if sums is None else merge(sums, terms)
        seen = seen[0] + block.num_rows, block.parts[-1].number + 1
    if sums is None:
        raise InputError("log-likelihoods: there are no rows; give at least one")
    weighted = objective.weights is not None or (
        isinstance(objective.rows, Iterated) and objective.rows.beside_shape is not None
    )
    share = 1.0 if weighted else 1 / seen[0]  # f is linear in the weights, which are 1 in a pass and 1/N afterwards
    value, gradient_K, curvature_KxK, scale, offset, reach = (
        share * (sum.total + sum.lost) for sum in jax.device_get(sums)
    )
    return _Found((value, gradient_K, curvature_KxK), scale, offset, reach, *seen)


@functools.partial(jax.jit, static_argnames="chunk")
def _log_terms(values_RxK, weights_R, first, count, w_K, columns, chunk):
    """Sums over a piece of a buffer that starts at row `first`, and the number of its rows that are invalid."""
    k = w_K.size
    if weights_R is None:
        weights_R = (first + jnp.arange(len(values_RxK)) < count).astype(w_K.dtype)

    def add(carry, rows):
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
def _squares(values, targets, first, count, chunk):
    """sum_n r_n r_n' over a piece of a buffer, with r = yhat - y; rows of padding are 0 in both."""
    k = values.shape[1]

    def add(sum_KxK, rows):
        yhat_RxKxD = rows[0].astype(jnp.float64).reshape(chunk, k, -1)
        r_RxKxD = yhat_RxKxD - rows[1].reshape(chunk, 1, -1)
        return accumulate(sum_KxK, jnp.einsum("rkd,rld->kl", r_RxKxD, r_RxKxD)), None

    zeros = RunningSum.zero((k, k))
    pieces = values.reshape(-1, chunk, *values.shape[1:]), targets.reshape(-1, chunk, *targets.shape[1:])
    return jax.lax.scan(add, zeros, pieces)[0]


_begin = jax.jit(
    lambda problem, w_K, values, length: start(problem, begin(problem, w_K, values), length), static_argnums=3
)
_first_weights = jax.jit(lambda feasible: feasible.start())
_propose, _unfinished, _finish = jax.jit(propose), jax.jit(unfinished), jax.jit(finish)


@jax.jit
def _advance(problem, progress, ahead, values):
    return record(problem, progress, arrive(problem, ahead, values))


def _check_same(first, found):
    """Raise InputError for a pass over other rows than those of the first pass."""
    if (found.rows, found.blocks) != (first.rows, first.blocks):
        raise InputError(
            f"log-likelihoods: a later pass gave {found.rows} rows in {found.blocks} blocks, but the first gave "
            f"{first.rows} in {first.blocks}; every call must give an iterator over the same blocks"
        )
    moved = abs(found.offset - first.offset) > 1e-12 * first.reach
    if moved or abs(found.scale - first.scale) > 1e-12 * first.scale:
        raise InputError(
            "log-likelihoods: a later pass gave other values than the first; every call must give the same rows, "
            "without sampling or dropout"
        )


def _check_weights(block):
    v_B = block.beside[: block.num_rows]
    good_B = np.isfinite(v_B) & (v_B >= 0)
    if good_B.all():
        return
    part, rows = _first_part(block, ~good_B)
    raise InputError(
        f"{part}: example_weights must be finite and at least 0; {at_rows(rows + part.done)} (the first is "
        f"{v_B[part.start + rows[0]]}). Leave out rows that should not count, or give them weight 0"
    )


def _refuse_rows(objective, block):
    """Raise InputError that names the invalid rows of a block."""
    logp_BxK = block.values[: block.num_rows].astype(np.float64)
    counts_B = np.ones(block.num_rows, bool) if block.beside is None else block.beside[: block.num_rows] > 0
    names, most_B = objective.names, logp_BxK.max(axis=1)
    left_out = np.isfinite(
        most_B[counts_B]
    ).all()  # whether rows are invalid only without the columns that are not in use
    if left_out:
        k = logp_BxK.shape[1]
        without = list_names([names[j] if names else str(j) for j in range(k) if j not in objective.columns])
        logp_BxK, names = logp_BxK[:, objective.columns], objective.sources
        most_B = logp_BxK.max(axis=1)
    part, _ = _first_part(block, counts_B & ~np.isfinite(most_B))
    here = slice(part.start, part.stop)
    counts_B, logp_BxK, most_B = counts_B[here], logp_BxK[here], most_B[here]
    message = f"{part}: " + describe_bad_rows(
        np.where(counts_B[:, None], logp_BxK, 0),
        np.where(counts_B, most_B, 0),
        names,
        lambda row: f"{part.done + row} (row {part.first + part.done + row} of all)",
    )
    if left_out:
        message = f"caps, floors, groups or the prior leave no weight for {without}, and without: {message}"
    raise InputError(message)


def _refuse_infinite(block):
    for what, values in ((_TARGETS, block.beside), ("predictions", block.values)):
        bad_B = ~np.isfinite(values[: block.num_rows]).reshape(block.num_rows, -1).all(axis=1)
        if bad_B.any():
            part, rows = _first_part(block, bad_B)
            raise InputError(f"{part}: {what} must be finite; {at_rows(rows + part.done)}. Remove or repair these rows")
    raise InputError(f"{block.parts[0]}: predictions or targets are so large that their squares overflow; rescale them")


def _first_part(block: Block, bad_B) -> tuple[Part, np.ndarray]:
    """The first of the user's blocks with bad rows, and these rows, counted from its first row in the buffer."""
    for part in block.parts:
        rows = np.flatnonzero(bad_B[part.start : part.stop])
        if rows.size:
            return part, rows
    raise AssertionError("no row is bad")


class _Moments(NamedTuple):
    """Mean and variance of rows, merged block by block (Chan, Golub and LeVeque 1979)."""

    num_rows: int
    origin_D: Any  # the first row; so a constant has variance 0 even if float64 cannot hold it exactly (0.1)
    mean_D: Any  # of the rows less the origin
    squares: Any  # sum_n ||y_n - mean y||^2
    size: Any  # sum_n ||y_n||^2

    def with_rows(self, y_NxD):
        n = len(y_NxD)
        origin_D = self.origin_D if self.num_rows else y_NxD[0].copy()
        moved_NxD = y_NxD - origin_D
        mean_D = moved_NxD.mean(axis=0)
        between = mean_D - self.mean_D
        count = self.num_rows + n
        squares = ((moved_NxD - mean_D) ** 2).sum() + (between**2).sum() * self.num_rows * n / count
        size = self.size + (y_NxD**2).sum()
        return _Moments(count, origin_D, self.mean_D + between * n / count, self.squares + squares, size)

    @property
    def variance(self):
        """mean_n ||y_n - mean y||^2; 0 if it is only rounding."""
        variance = self.squares / self.num_rows
        return variance if variance > (8 * np.finfo(np.float64).eps) ** 2 * self.size / self.num_rows else 0.0


def _beside(rows, given, row_shape, what):
    """The weights or targets of rows as a table; None if they come in pairs, or are missing."""
    in_pairs = isinstance(rows, Iterated) and rows.beside_shape is not None
    if given is None:
        if in_pairs and rows.beside_shape != row_shape:
            raise InputError(
                f"{what}: beside the rows of block 0 stand rows of shape {rows.beside_shape}, where {row_shape} belongs"
            )
        return None
    if in_pairs:
        raise InputError(f"{what} are given twice, in pairs with the blocks and on their own; drop one of them")
    found = table(given, what)
    if len(found.shape) != 1 + len(row_shape) or found.shape[1:] != row_shape:
        raise InputError(f"{what} has the shape {found.shape}; it must have the shape {('n', *row_shape)}")
    if not isinstance(rows, Iterated) and found.shape[0] != rows.shape[0]:
        raise InputError(f"{what} has the shape {found.shape}, but there are {rows.shape[0]} rows: give one each")
    return found


def _block_rows(block_rows, row_numbers):
    if block_rows is None:
        return max(BLOCK, _NUMBERS // row_numbers)
    if isinstance(block_rows, bool) or not isinstance(block_rows, int | np.integer) or block_rows < 1:
        raise InputError(f"block_rows must be a whole number of at least 1; got {block_rows!r}")
    return int(block_rows)
