"""The convex functions of the weights that solvers evaluate, as sums over rows.

An evaluator gives a value, a gradient and a K x K curvature. Each is a sum over rows. Solvers know nothing else, so
rows can be streamed, sharded or of several targets without any change to a solver.

Axes: N examples, R of them; K sources, M of them; C blocks of B examples.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float, Int

BLOCK = 1024  # rows per block: they and their scaled copy fit in a core's cache while the curvature is summed
_HOST_BLOCK = 2**17  # numbers in a block of rows in NumPy: one MB, which stays in a core's cache
_SMALL = 2**19  # in float64, rows with up to this many numbers form one block (float32 needs the sums of blocks)


@runtime_checkable
class Evaluator(Protocol):
    """A convex function f of the weights, as solvers see it."""

    @property
    def homogeneous(self) -> bool:
        """Whether f(c w) = f(w) - scale log c, which gives w . grad f = -scale. Known without data."""

    @property
    def scale(self) -> Float[Array, ""]:
        """The unit of a relative tolerance, in the units of f."""

    @property
    def offset(self) -> Float[Array, ""]:
        """A constant that the values below leave out, because small improvements would vanish next to it."""

    def value(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        """f(w) - offset; +inf outside the domain."""

    def value_and_gradient(self, w_K: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"]]:
        """f(w) - offset, and the gradient."""

    def rounding(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        """A bound on the rounding error of grad . (w - u) for u in the simplex; 0 if it is negligible."""

    def curvature(self, w_K: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"], Float[Array, "K K"]]:
        """f(w) - offset, the gradient and the Hessian, in one pass over the rows."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Likelihoods:
    """f(w) = offset - sum_n v_n log (p_n . w), with every row of p scaled to a maximum of 1.

    Rows are stored in blocks that fit in the cache, as columns. Sums over blocks carry their rounding errors.
    """

    p_CxKxB: Float[Array, "C K B"]
    weights_CxB: Float[Array, "C B"]
    offset: Float[Array, ""]
    homogeneous: ClassVar[bool] = True

    @classmethod
    def of_log_rows(
        cls,
        logp_NxK: Float[Array, "N K"],
        v_N: Float[Array, " N"],
        shift_N: Float[Array, " N"] | None = None,
        *,
        finite: bool = False,
    ) -> "Likelihoods":
        """Put rows of log-likelihoods into blocks.

        The last block ends with the last row; rows that it shares with the block before get weight 0 there. No other
        array is as large as the rows, because new memory costs as much time as the computation.

        Args:
            logp_NxK: the rows, without the shift.
            v_N: weights of the rows.
            shift_N: constants that were subtracted from the rows before.
            finite: whether every row has a finite maximum. Rows without one have weight 0 or no density.
        """
        n, k = logp_NxK.shape
        block = n if n * k <= _SMALL and logp_NxK.dtype == jnp.float64 else _rows_of_block(n)

        def prepared(logp_RxK: Float[Array, "R K"]) -> tuple[Float[Array, "C K B"], Float[Array, "C B"]]:
            most_CxB = jax.lax.stop_gradient(logp_RxK.max(axis=1)).reshape(-1, block)  # f does not depend on this
            logp_CxKxB = logp_RxK.reshape(-1, block, k).swapaxes(1, 2)
            if not finite:  # these selections cost as much as everything else here
                good_CxB = jnp.isfinite(most_CxB)
                most_CxB = jnp.where(good_CxB, most_CxB, 0)
                logp_CxKxB = jnp.where(good_CxB[:, None], logp_CxKxB, -jnp.inf)
            return jnp.exp(logp_CxKxB - most_CxB[:, None]), most_CxB

        # All blocks at once, so the compiler distributes them over the cores.
        p_CxKxB, most_CxB = prepared(logp_NxK[: n - n % block])
        if n % block:
            last = prepared(logp_NxK[n - block :])
            p_CxKxB, most_CxB = (jnp.concatenate(pair) for pair in zip((p_CxKxB, most_CxB), last, strict=True))
        # XLA may keep a transposed view, which makes column gathers slow: fix the layout.
        p_CxKxB = with_layout_constraint(p_CxKxB, Layout(major_to_minor=(0, 1, 2)))
        v_CxB = _weights_in_blocks(v_N, block)
        offset = -jnp.vdot(v_CxB, most_CxB)
        return cls(p_CxKxB, v_CxB, offset if shift_N is None else offset - v_N @ shift_N)

    def reweighted(self, v_N: Float[Array, " N"]) -> "Likelihoods":
        """The same rows with other weights and the old offset."""
        return dataclasses.replace(self, weights_CxB=_weights_in_blocks(v_N, self.weights_CxB.shape[1]))

    @property
    def scale(self) -> Float[Array, ""]:
        return self.weights_CxB.sum()

    def rounding(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        return jnp.zeros_like(self.scale)  # sums of terms of one sign, so errors are a few units in the last place

    def value(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        return self._sum(w_K, lambda p_KxB, v_B, d_B, value: value)

    def value_and_gradient(self, w_K: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"]]:
        return self._sum(w_K, lambda p_KxB, v_B, d_B, value: (value, -(p_KxB @ (v_B / d_B))))

    def curvature(self, w_K: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"], Float[Array, "K K"]]:
        def block(
            p_KxB: Float[Array, "K B"], v_B: Float[Array, " B"], d_B: Float[Array, " B"], value: Float[Array, ""]
        ) -> tuple[Float[Array, ""], Float[Array, "K K"]]:
            scaled_KxB = p_KxB * (jnp.sqrt(v_B) / d_B)
            return value, scaled_KxB @ scaled_KxB.T

        value, curvature_KxK = self._sum(w_K, block)
        return value, -(curvature_KxK @ w_K), curvature_KxK  # f is homogeneous: grad f = - hess f . w

    def curvature_among(self, columns_M: Int[Array, " M"] | slice, w_M: Float[Array, " M"]) -> Float[Array, "M M"]:
        """The Hessian for M sources that hold all weight. Rounding errors between blocks are not carried."""

        def add(
            curvature_MxM: Float[Array, "M M"], rows: tuple[Float[Array, "K B"], Float[Array, " B"]]
        ) -> tuple[Float[Array, "M M"], None]:
            p_KxB, v_B = rows
            p_MxB = p_KxB[columns_M]
            d_B = w_M @ p_MxB
            scaled_MxB = p_MxB * (jnp.sqrt(v_B) / jnp.where(d_B > 0, d_B, 1))
            return curvature_MxM + scaled_MxB @ scaled_MxB.T, None

        zeros_MxM = jnp.zeros((w_M.size, w_M.size), w_M.dtype)
        return jax.lax.scan(add, zeros_MxM, (self.p_CxKxB, self.weights_CxB))[0]

    def among(self, columns_M: Int[Array, " M"]) -> "Likelihoods":
        """f as a function of the weights of M sources; all others have weight 0."""
        return dataclasses.replace(self, p_CxKxB=self.p_CxKxB[:, columns_M])

    def part(self, num_rows: int) -> "Likelihoods":
        """About `num_rows` evenly spaced rows that represent all; all rows if there are fewer."""
        blocks, _, block = self.p_CxKxB.shape
        every = max(1, min(8, blocks * block // max(num_rows, 1)))
        taken = slice(None, None, every) if blocks > 1 else (..., slice(None, None, every))
        v_CxB = self.weights_CxB[taken]
        return Likelihoods(self.p_CxKxB[taken], v_CxB * (self.scale / v_CxB.sum()), self.offset)

    def _sum(self, w_K: Float[Array, " K"], block: Callable[..., Any]) -> Any:
        """Sum `block(p, v, densities, value)` over blocks."""

        def add(sums: Any, rows: tuple[Float[Array, "K B"], Float[Array, " B"]]) -> tuple[Any, None]:
            p_KxB, v_B = rows
            d_B = w_K @ p_KxB
            inside = jnp.all((d_B > 0) | (v_B == 0))
            d_B = jnp.where(
                d_B > 0, d_B, 1
            )  # a row of weight 0 may have no density; any other makes the value infinite
            value = jnp.where(inside, -(v_B @ jnp.log(d_B)), jnp.inf)
            return jax.tree.map(accumulate, sums, block(p_KxB, v_B, d_B, value), is_leaf=is_sum), None

        first = self.p_CxKxB[0], self.weights_CxB[0]
        shapes = jax.eval_shape(block, *first, first[1], first[1].sum())
        zeros = jax.tree.map(lambda leaf: RunningSum.zero(leaf.shape, leaf.dtype), shapes)
        sums = jax.lax.scan(add, zeros, (self.p_CxKxB, self.weights_CxB))[0]
        return jax.tree.map(lambda sum: sum.total + sum.lost, sums, is_leaf=is_sum)


def _rows_of_block(n: int) -> int:
    """The largest divisor of n in (BLOCK / 2, BLOCK], so blocks need no padding; else BLOCK, or n if it is less."""
    return next((rows for rows in range(min(n, BLOCK), BLOCK // 2, -1) if n % rows == 0), min(n, BLOCK))


def _weights_in_blocks(v_N: Float[Array, " N"], block: int) -> Float[Array, "C B"]:
    """The weights in the blocks of `Likelihoods.of_log_rows`; 0 for repeated rows in the last block."""
    repeated = -v_N.size % block
    before, last = jnp.split(v_N, [v_N.size + repeated - block])
    return jnp.concatenate([before, jnp.zeros(repeated, v_N.dtype), last]).reshape(-1, block)


@dataclasses.dataclass(frozen=True)
class HostLikelihoods:
    """`Likelihoods` in NumPy: f(w) = offset - sum_n v_n log (p_n . w), rows scaled to a maximum of 1."""

    p_NxK: Float[np.ndarray, "N K"]
    weights_N: Float[np.ndarray, " N"]
    offset: Float[np.ndarray, ""]
    homogeneous: ClassVar[bool] = True

    @classmethod
    def of_log_rows(
        cls, logp_NxK: Float[np.ndarray, "N K"], v_N: Float[np.ndarray, " N"], *, finite: bool
    ) -> "HostLikelihoods":
        """Scale rows of log-likelihoods; unless all are `finite`, rows without a finite maximum get no density."""
        most_N = logp_NxK.max(axis=1)
        p_NxK = np.empty_like(logp_NxK)
        good_N = np.ones(len(most_N), bool) if finite else np.isfinite(most_N)
        most_N = np.where(good_N, most_N, 0)
        for rows in _host_blocks(p_NxK):
            np.exp(logp_NxK[rows] - most_N[rows, None], out=p_NxK[rows])
        p_NxK[~good_N] = 0
        return cls(p_NxK, v_N, -(v_N @ most_N))

    def reweighted(self, v_N: Float[np.ndarray, " N"]) -> "HostLikelihoods":
        """The same rows with other weights and the old offset."""
        return dataclasses.replace(self, weights_N=v_N)

    def among(self, columns_M: Int[np.ndarray, " M"]) -> "HostLikelihoods":
        """f as a function of the weights of M sources; all others have weight 0."""
        return dataclasses.replace(self, p_NxK=self.p_NxK[:, columns_M])

    def part(self, num_rows: int) -> "HostLikelihoods":
        """About `num_rows` evenly spaced rows that represent all; an eighth of all at least."""
        every = max(1, min(8, len(self.weights_N) // num_rows))
        v_R = self.weights_N[::every]
        return dataclasses.replace(self, p_NxK=self.p_NxK[::every], weights_N=v_R * (self.scale / v_R.sum()))

    def covering(self, columns_M: Int[np.ndarray, " M"]) -> Int[np.ndarray, " M"]:
        """These sources, and the best source of every row that none of them explains; sorted."""
        bare_N = ~(self.p_NxK[:, columns_M] > 0).any(axis=1)
        return np.union1d(columns_M, self.p_NxK[bare_N].argmax(axis=1))

    @property
    def scale(self) -> Float[np.ndarray, ""]:
        return self.weights_N.sum()

    def rounding(self, w_K: Float[np.ndarray, " K"]) -> Float[np.ndarray, ""]:
        return np.zeros(())

    def value_and_gradient(self, w_K: Float[np.ndarray, " K"]) -> tuple[Float[np.ndarray, ""], Float[np.ndarray, " K"]]:
        value, d_N = self._densities(w_K)
        return value, -((self.weights_N / d_N) @ self.p_NxK)

    def curvature(
        self, w_K: Float[np.ndarray, " K"]
    ) -> tuple[Float[np.ndarray, ""], Float[np.ndarray, " K"], Float[np.ndarray, "K K"]]:
        value, d_N = self._densities(w_K)
        factor_N = np.sqrt(self.weights_N) / d_N
        curvature_KxK = np.zeros((w_K.size, w_K.size))
        for rows in _host_blocks(self.p_NxK):
            scaled_BxK = self.p_NxK[rows] * factor_N[rows, None]
            curvature_KxK += scaled_BxK.T @ scaled_BxK
        return value, -(curvature_KxK @ w_K), curvature_KxK  # f is homogeneous: grad f = - hess f . w

    def _densities(self, w_K: Float[np.ndarray, " K"]) -> tuple[Float[np.ndarray, ""], Float[np.ndarray, " N"]]:
        """f without its offset, and p . w, with 1 for rows without density."""
        d_N = self.p_NxK @ w_K
        positive_N = d_N > 0
        d_N = np.where(positive_N, d_N, 1)
        inside = (positive_N | (self.weights_N == 0)).all()
        return np.where(inside, -(self.weights_N @ np.log(d_N)), np.inf), d_N


def _host_blocks(array_NxK: Float[np.ndarray, "N K"]) -> Iterator[slice]:
    num_rows, step = len(array_NxK), max(_HOST_BLOCK // array_NxK.shape[1], 1)
    return (slice(first, first + step) for first in range(0, num_rows, step))


class RunningSum(NamedTuple):
    """A sum that carries its rounding error; its value is total + lost."""

    total: Array
    lost: Array  # the rounding error of the total

    @classmethod
    def zero(cls, shape: tuple[int, ...] = (), dtype: Any = None) -> "RunningSum":
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def is_sum(node: object) -> bool:
    """Whether a node is a running sum: the `is_leaf` of trees of running sums."""
    return isinstance(node, RunningSum)


def accumulate(sum: RunningSum, term: Array) -> RunningSum:
    """Add a term and keep the rounding error (Knuth's two-sum; Neumaier 1974)."""
    total = sum.total + term
    moved = total - sum.total
    lost = (sum.total - (total - moved)) + (term - moved)
    return RunningSum(total, sum.lost + jnp.where(jnp.isfinite(lost), lost, 0))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Quadratic:
    """f(w) = w' R w with R the mean outer product of the sources' residuals."""

    r_KxK: Float[Array, "K K"]
    scale: Float[Array, ""]
    homogeneous: ClassVar[bool] = False

    @property
    def offset(self) -> Float[Array, ""]:
        return self.scale * 0

    def rounding(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        reach_K = abs(self.r_KxK) @ w_K  # far above grad . w if residuals of opposite sign cancel
        return 2 * np.finfo(w_K.dtype).eps * (w_K @ reach_K + reach_K.max())

    def value(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        return w_K @ self.r_KxK @ w_K

    def value_and_gradient(self, w_K: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"]]:
        half_K = self.r_KxK @ w_K
        return w_K @ half_K, 2 * half_K

    def curvature(self, w_K: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"], Float[Array, "K K"]]:
        return *self.value_and_gradient(w_K), 2 * self.r_KxK


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Known:
    """What a step needs of an evaluator if f, its gradient and its curvature are given to it."""

    scale: Any
    offset: Any
    error: Any
    homogeneous: bool = dataclasses.field(metadata={"static": True})

    def rounding(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        return self.error
