"""Objectives over mixture weights, as data that users build: cross-entropy and squared error.

Inside a compiled program, `prepare()` makes an `Evaluator` of them, which solvers evaluate.

Axes: N examples, K sources, D outputs of a predictor.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.arrays import HostOrDevice, log_sum_exp, namespace
from mixmin_jax.mixture.checks import (
    as_float64,
    bad_example_weights,
    describe_bad_rows,
    infinite_rows,
    is_traced,
    refuse_reversed_sign,
    source_names,
)
from mixmin_jax.mixture.evaluator import Evaluator, HostLikelihoods, Likelihoods, Quadratic
from mixmin_jax.mixture.labels import Labeled, by_row, columns_as_sources
from mixmin_jax.mixture.scale.sharding import Exchange, Mesh, RowShards, sum_of_squares


@runtime_checkable
class Objective(Protocol):
    """Data that defines a convex function of the weights of K sources."""

    @property
    def sources(self) -> tuple[str, ...] | None:
        """Names of the K sources."""

    @property
    def num_sources(self) -> int:
        """K."""

    def prepare(self) -> Evaluator:
        """The function that solvers evaluate. Called once per solve, inside the compiled program."""

    def take(self, columns: np.ndarray) -> "Objective":
        """The same objective over some of the sources, validated again."""

    def anonymous(self) -> "Objective":
        """The same objective without names, so that names cause no new compilation."""

    def rounded(self, dtype: Any) -> "Objective":
        """The same objective in a float type. Large constants are subtracted from host arrays in float64 before."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """f(w) = - sum_n v_n log sum_k w_k exp(logp_nk); built by `cross_entropy`."""

    logp_NxK: Float[HostOrDevice, "N K"]
    weights_N: Float[HostOrDevice, " N"]
    sources: tuple[str, ...] | None = dataclasses.field(default=None, metadata={"static": True})
    shift_N: Float[HostOrDevice, " N"] | None = None  # constants already subtracted from the rows
    even: bool = dataclasses.field(default=False, metadata={"static": True})  # whether the weights are the default, 1/N
    finite: bool = dataclasses.field(default=False, metadata={"static": True})  # whether every row has a finite maximum

    @property
    def num_sources(self) -> int:
        return self.logp_NxK.shape[1]

    def prepare(self) -> Likelihoods:
        shift_N = None if self.shift_N is None else jnp.asarray(self.shift_N)
        rows = jnp.asarray(self.logp_NxK), jnp.asarray(self.weights_N), shift_N
        return Likelihoods.of_log_rows(*rows, finite=self.finite)

    def on_host(self) -> HostLikelihoods:
        """As `prepare`, from rows on the host, without compilation."""
        rows = np.asarray(self.logp_NxK), np.asarray(self.weights_N)
        f = HostLikelihoods.of_log_rows(*rows, finite=self.finite)
        return f if self.shift_N is None else dataclasses.replace(f, offset=f.offset - f.weights_N @ self.shift_N)

    def take(self, columns: np.ndarray) -> "CrossEntropy":
        names = None if self.sources is None else [self.sources[k] for k in columns]
        taken = cross_entropy(self.logp_NxK[:, columns], self.weights_N, names, densities=True)  # signs are checked
        return dataclasses.replace(taken, even=self.even)

    def anonymous(self) -> "CrossEntropy":
        return dataclasses.replace(self, sources=None, even=False)

    def centered(self) -> "CrossEntropy":
        """With rows shifted to a maximum of 0 in float64, if they are on the host."""
        if not isinstance(self.logp_NxK, np.ndarray) or self.shift_N is not None:
            return self
        shift_N = self.logp_NxK.max(axis=1)
        shift_N = np.where(np.isfinite(shift_N), shift_N, 0)
        return dataclasses.replace(self, logp_NxK=self.logp_NxK - shift_N[:, None], shift_N=shift_N)

    def row_losses(self, w_NxK: Float[ArrayLike, "*N K"]) -> Float[Array, " N"]:
        """- log p_n . w for each row, under weights for all rows or its own; +inf for rows without density.

        Unlike an evaluator's densities, these do not underflow if a row is far below its maximum.
        """
        xp = namespace(w_NxK)
        with np.errstate(divide="ignore"):  # weights may be 0
            return -log_sum_exp(xp.asarray(self.logp_NxK) + xp.log(w_NxK))

    def rounded(self, dtype: Any) -> "CrossEntropy":
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), self.centered())

    def pooled(self, exchange: Exchange) -> "CrossEntropy":
        """This process's part of the objective over all rows: means are over the rows of all processes."""
        num_rows = exchange(np.array([len(self.logp_NxK)])).sum()
        return dataclasses.replace(self, weights_N=np.full(len(self.logp_NxK), 1 / num_rows)) if self.even else self

    def shard_rows(self, mesh: Mesh, dtype: Any) -> RowShards:
        """The same with its rows on the devices of a mesh, in a float type; it only needs `prepare`."""
        return RowShards.of_rows(self, len(self.logp_NxK), mesh, dtype)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SquaredError:
    """f(w) = 1/N sum_n ||sum_k w_k yhat_nk - y_n||^2 as a function of residuals; built by `squared_error`."""

    residuals_NxKxD: Float[HostOrDevice, "N K D"]  # yhat - y: the weights sum to 1, so f = 1/N sum_n ||r_n^T w||^2
    variance: Float[HostOrDevice, ""]
    sources: tuple[str, ...] | None = dataclasses.field(default=None, metadata={"static": True})
    target: "Target | None" = None  # moments of this process's targets
    num_rows: Float[HostOrDevice, ""] | None = None  # N, if other processes hold rows too

    @property
    def num_sources(self) -> int:
        return self.residuals_NxKxD.shape[1]

    def prepare(self) -> Quadratic:
        r_NxKxD = jnp.asarray(self.residuals_NxKxD)
        num_rows = r_NxKxD.shape[0] if self.num_rows is None else self.num_rows
        return Quadratic(jnp.einsum("nkd,nld->kl", r_NxKxD, r_NxKxD) / num_rows, jnp.asarray(self.variance))

    def on_host(self) -> Quadratic:
        r_KxR = self.residuals_NxKxD.swapaxes(0, 1).reshape(self.num_sources, -1)
        values: Any = r_KxR @ r_KxR.T / len(self.residuals_NxKxD), np.float64(self.variance)
        return Quadratic(*values)

    def take(self, columns: np.ndarray) -> "SquaredError":
        names = None if self.sources is None else tuple(self.sources[k] for k in columns)
        return dataclasses.replace(self, residuals_NxKxD=self.residuals_NxKxD[:, columns], sources=names)

    def anonymous(self) -> "SquaredError":
        return dataclasses.replace(self, sources=None, target=None)

    @property
    def weights_N(self) -> Float[HostOrDevice, " N"]:
        return np.full(self.residuals_NxKxD.shape[0], 1 / self.residuals_NxKxD.shape[0])

    def row_losses(self, w_NxK: Float[ArrayLike, "*N K"]) -> Float[Array, " N"]:
        """||r_n^T w||^2 for each row, under weights for all rows or its own."""
        xp = namespace(w_NxK)
        w_NxK = xp.broadcast_to(w_NxK, self.residuals_NxKxD.shape[:2])
        return (xp.einsum("nk,nkd->nd", w_NxK, self.residuals_NxKxD) ** 2).sum(axis=1)

    def rounded(self, dtype: Any) -> "SquaredError":
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), self)

    def pooled(self, exchange: Exchange) -> "SquaredError":
        n, target = len(self.residuals_NxKxD), self.target
        if target is None:
            return self
        worst_K = (self.residuals_NxKxD**2).sum(axis=2).mean(axis=0)
        parts_PxR = exchange(np.concatenate([[n, target.variance], target.mean_D, worst_K]))
        mean_PxD, worst_PxK = np.split(parts_PxR[:, 2:], [target.mean_D.size], axis=1)
        num_rows = parts_PxR[:, 0].sum()
        share_P = parts_PxR[:, 0] / num_rows
        mean_D = share_P @ mean_PxD
        variance = share_P @ (parts_PxR[:, 1] + ((mean_PxD - mean_D) ** 2).sum(axis=1))
        scale = tolerance_unit(np, variance, variance + mean_D @ mean_D, (share_P @ worst_PxK).max(), np.float64)
        return dataclasses.replace(self, variance=scale, num_rows=np.asarray(num_rows))

    def shard_rows(self, mesh: Mesh, dtype: Any) -> "StreamedSquaredError":
        num_rows = len(self.residuals_NxKxD) if self.num_rows is None else self.num_rows
        r_KxK = sum_of_squares(self.residuals_NxKxD, mesh, dtype) / np.asarray(num_rows, dtype)
        return StreamedSquaredError(r_KxK, np.asarray(self.variance, dtype))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StreamedSquaredError:
    """f(w) = w' R w with R = 1/N sum_n r_n r_n', r_n the residuals of the K sources.

    Only R is kept of the rows, by `stream_squared_error` and on a mesh. So every method and `solve_traced` take it.
    """

    r_KxK: Float[HostOrDevice, "K K"]
    variance: Float[HostOrDevice, ""]
    sources: tuple[str, ...] | None = dataclasses.field(default=None, metadata={"static": True})

    @property
    def num_sources(self) -> int:
        return self.r_KxK.shape[0]

    def prepare(self) -> Quadratic:
        return Quadratic(jnp.asarray(self.r_KxK), jnp.asarray(self.variance))

    def on_host(self) -> Quadratic:
        values: Any = np.asarray(self.r_KxK), np.float64(self.variance)
        return Quadratic(*values)

    def take(self, columns: np.ndarray) -> "StreamedSquaredError":
        names = None if self.sources is None else tuple(self.sources[k] for k in columns)
        return StreamedSquaredError(self.r_KxK[np.ix_(columns, columns)], self.variance, names)

    def anonymous(self) -> "StreamedSquaredError":
        return dataclasses.replace(self, sources=None)

    def rounded(self, dtype: Any) -> "StreamedSquaredError":
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), self)


class Target(NamedTuple):
    """Moments of the target values of a squared error."""

    mean_D: Float[HostOrDevice, " D"]
    variance: Float[HostOrDevice, ""]


def cross_entropy(
    logp_NxK: Shaped[ArrayLike, "N K"] | Labeled,
    example_weights: Shaped[ArrayLike, " N"] | Labeled | None = None,
    sources: Sequence[str] | None = None,
    *,
    densities: bool = False,
) -> CrossEntropy:
    """Cross-entropy of a mixture of K sources on N examples (MixMin, arXiv:2502.10510).

        f(w) = - sum_n v_n log sum_k w_k p_nk          grad_k f = - sum_n v_n p_nk / (p_n . w)

    Minimising it over the simplex is maximum likelihood for mixture proportions (Kiefer and Wolfowitz 1956). Rows of
    conditional log-likelihoods, log p(y | x), additionally assume that all sources share the distribution of x.

    Args:
        logp_NxK: log-likelihood of example n under the proxy of source k, in nats; -inf if a source excludes an
            example. A NumPy or JAX array, torch tensor or pandas DataFrame of any real type, held in float64 on the
            host. A traced array is not checked and keeps its type (float32 at least).
        example_weights: v_N >= 0, used as given. The default 1/N gives f in nats per example. With length_n tokens,
            v_n = 1 / sum of lengths gives nats per token of the whole set: all tokens count alike. v_n = 1 / (N
            length_n) gives the mean of each example's nats per token: tokens of short examples count more. Rows of
            weight 0 are ignored, whatever they hold. A Series is matched with the rows of a DataFrame by label.
        sources: names of the K columns; by default those of a DataFrame.
        densities: whether values are log densities of continuous data, which may all be above 0. By default a source
            without a value below 0 is refused: it holds negative log-likelihoods or probabilities.

    Returns:
        An objective for `solve`, `solve_traced`, `bootstrap`, `leave_one_out`, `weighted_sum` and `worst_case`.

    Raises:
        InputError: NaN, +inf or all -inf in rows that count; a source without a value below 0, unless `densities`;
            negative or non-finite weights, or none above 0; lengths or labels that do not match.
    """
    sources = columns_as_sources(logp_NxK, "log-likelihoods", sources)
    example_weights = by_row(example_weights, "example_weights", logp_NxK, "log-likelihoods")
    logp: Any = (_at_least_single if is_traced(logp_NxK) else as_float64)(logp_NxK, "log-likelihoods")
    shape = logp.shape
    if len(shape) != 2 or 0 in shape:
        raise InputError(f"log-likelihoods must have the shape (examples, sources), both at least 1; got {shape}")
    names = source_names(sources, shape[1])
    even = example_weights is None
    v_N: Any = np.full(shape[0], 1 / shape[0])
    if example_weights is not None:
        v_N = (_at_least_single if is_traced(example_weights) else as_float64)(example_weights, "example_weights")
    if v_N.shape != shape[:1]:
        raise InputError(
            f"example_weights has the shape {v_N.shape}, but there are {shape[0]} rows: give one weight a row"
        )
    if not even and not is_traced(v_N):
        bad = np.flatnonzero(~(np.isfinite(v_N) & (v_N >= 0)))
        if bad.size:
            raise InputError(bad_example_weights(bad, v_N[bad[0]]))
        if not v_N.any():
            raise InputError(
                "example_weights are all 0: nothing is left to fit; give at least one row a positive weight"
            )
    if is_traced(logp):
        return CrossEntropy(logp, v_N, names, even=even)
    with np.errstate(all="ignore"):
        all_finite = np.isfinite(logp.sum())  # the fastest check of all numbers; rows are checked only if it fails
    if not all_finite:
        logp = _usable_rows(logp, np.ones(shape[0], bool) if is_traced(v_N) else v_N > 0, names)
    if not densities and logp.max() > 0:
        counted_RxK = logp if even or is_traced(v_N) else logp[v_N > 0]
        refuse_reversed_sign(counted_RxK.min(axis=0), counted_RxK.max(axis=0), names, densities)
    return CrossEntropy(logp, v_N, names, even=even, finite=True)


def _usable_rows(
    logp_NxK: Float[np.ndarray, "N K"], counts_N: Bool[np.ndarray, " N"], names: tuple[str, ...] | None
) -> Float[np.ndarray, "N K"]:
    """Replace unusable rows of weight 0 by zeros; raise InputError for other unusable rows."""
    unusable_N = ~np.isfinite(logp_NxK.max(axis=1))  # NaN or +inf in a row gives NaN or +inf
    if (unusable_N & counts_N).any():
        raise InputError(describe_bad_rows(np.where(counts_N[:, None], logp_NxK, 0), names))
    return np.where(unusable_N[:, None], 0, logp_NxK) if unusable_N.any() else logp_NxK


def _at_least_single(traced: Any, what: str) -> Array:
    """A traced array in its float type, but float32 at least."""
    traced = jnp.asarray(traced.to_numpy() if isinstance(traced, Labeled) else traced)
    if jnp.iscomplexobj(traced):
        raise InputError(f"{what} must be real; got {traced.dtype}")
    return traced.astype(jnp.promote_types(traced.dtype, jnp.float32))


def squared_error(
    yhat: Shaped[ArrayLike, "N K"] | Shaped[ArrayLike, "N K D"] | Labeled,
    y: Shaped[ArrayLike, " N"] | Shaped[ArrayLike, "N D"] | Labeled,
    sources: Sequence[str] | None = None,
) -> SquaredError:
    """Squared error of a mixture of K predictors on N examples (MixMin, arXiv:2502.10510).

        f(w) = 1/N sum_n ||sum_k w_k yhat_nk - y_n||^2

    A tolerance is relative to the variance mean_n ||y_n - mean y||^2, or to the worst source's error if y is constant.

    Args:
        yhat: predictions of the K sources' proxies, (N, K) for one output or (N, K, D). Types as in `cross_entropy`.
        y: the target values, (N,) or (N, D). A Series is matched with the rows of a DataFrame by label.
        sources: names of the K sources; by default the columns of a DataFrame.

    Returns:
        An objective, for the same functions as that of `cross_entropy`.

    Raises:
        InputError: values that are not finite; shapes or labels that do not match.
    """
    sources = columns_as_sources(yhat, "predictions", sources)
    aligned = by_row(y, "targets", yhat, "predictions")
    xp: Any = jnp if is_traced(yhat, aligned) else np
    convert: Any = as_float64 if xp is np else _at_least_single
    predictions, targets = convert(yhat, "predictions"), convert(aligned, "targets")
    shape = predictions.shape
    if len(shape) not in (2, 3) or 0 in shape:
        raise InputError(f"predictions must have the shape (examples, sources[, outputs]); got {shape}")
    if targets.shape != (expected := shape[:1] + shape[2:]):
        raise InputError(f"predictions of shape {shape} need targets of shape {expected}; got {targets.shape}")
    names = source_names(sources, shape[1])
    if xp is np:
        for what, values in (("predictions", predictions), ("targets", targets)):
            bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
            if bad.size:
                raise InputError(infinite_rows(what, bad))
    n, k = shape[:2]
    y_NxD, yhat_NxKxD = xp.reshape(targets, (n, -1)), xp.reshape(predictions, (n, k, -1))
    residuals_NxKxD = yhat_NxKxD - y_NxD[:, None]
    moved_NxD = y_NxD - y_NxD[0]  # so that a constant has variance 0 even if float64 cannot hold it exactly (0.1)
    variance = ((moved_NxD - moved_NxD.mean(axis=0)) ** 2).sum(axis=1).mean()
    worst = (residuals_NxKxD**2).sum(axis=2).mean(axis=0).max()
    scale = tolerance_unit(xp, variance, (y_NxD**2).sum(axis=1).mean(), worst, y_NxD.dtype)
    target = None if xp is jnp else Target(y_NxD[0] + moved_NxD.mean(axis=0), variance)
    return SquaredError(residuals_NxKxD, scale, names, target)


def tolerance_unit(xp: Any, variance: Any, square: Any, worst: Any, dtype: Any) -> Any:
    """The unit of a tolerance, from the variance and mean square of y and the worst source's error."""
    varies = variance > (8 * xp.finfo(dtype).eps) ** 2 * square
    return xp.where(varies, variance, xp.where(worst > 0, worst, 1.0))
