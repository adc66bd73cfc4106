"""What solvers evaluate: a convex function of the weights, as sums over rows.

An evaluator gives a value, a gradient and a K x K curvature, each of them a sum over rows. Solvers know nothing else,
so rows may be streamed, sharded or belong to several targets without a change to any solver.

Axes: N examples, K sources; C blocks of B examples.
"""

import dataclasses
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float, Int

BLOCK = 1024  # rows that stay in the cache, with their scaled copy, while the curvature is summed
_SMALL = 2**19  # numbers that make one block; in float32 sums over many rows need what is carried between blocks


@runtime_checkable
class Evaluator(Protocol):
    """A convex function f of the weights, as solvers see it."""

    @property
    def homogeneous(self) -> bool:
        """Whether f(c w) = f(w) - scale log c, so that w . grad f = -scale everywhere; known without data."""

    @property
    def scale(self) -> Float[Array, ""]:
        """What a relative tolerance refers to, in the units of f."""

    @property
    def offset(self) -> Float[Array, ""]:
        """A constant left out of the values below, beside which small improvements would drown."""

    def value(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        """f(w) - offset; +inf outside the domain."""

    def value_and_gradient(self, w_K: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"]]:
        """f(w) - offset, and the gradient."""

    def rounding(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        """How far rounding may have moved grad . (w - u) for u in the simplex, where that can matter; else 0."""

    def curvature(self, w_K: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"], Float[Array, "K K"]]:
        """f(w) - offset, the gradient and the Hessian, in one pass over the rows."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Likelihoods:
    """f(w) = offset - sum_n v_n log (p_n . w), with every row of p scaled to a maximum of 1.

    Rows stand in blocks that stay in the cache, as columns, and sums over blocks carry what rounding took from them.
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
        """Rows of log-likelihoods, less `shift`, in blocks.

        The last block ends with the last row; what it has in common with the block before gets weight 0. Nothing else
        is as large as the rows: memory that a process gets anew costs as much time as what is computed there.

        `finite`: every row has a finite maximum. Other rows have weight 0, or never any density.
        """
        n, k = logp_NxK.shape
        block = n if n * k <= _SMALL and logp_NxK.dtype == jnp.float64 else _rows_of_block(n)

        def prepared(logp_RxK):
            most_CxB = jax.lax.stop_gradient(logp_RxK.max(axis=1)).reshape(-1, block)  # f does not depend on it
            logp_CxKxB = logp_RxK.reshape(-1, block, k).swapaxes(1, 2)
            if not finite:  # choosing costs as much as the rest
                good_CxB = jnp.isfinite(most_CxB)
                most_CxB = jnp.where(good_CxB, most_CxB, 0)
                logp_CxKxB = jnp.where(good_CxB[:, None], logp_CxKxB, -jnp.inf)
            return jnp.exp(logp_CxKxB - most_CxB[:, None]), most_CxB

        # All blocks at once, not one after the other: so the compiler spreads them over the cores.
        p_CxKxB, most_CxB = prepared(logp_NxK[: n - n % block])
        if n % block:
            last = prepared(logp_NxK[n - block :])
            p_CxKxB, most_CxB = (jnp.concatenate(pair) for pair in zip((p_CxKxB, most_CxB), last, strict=True))
        # Else the compiler may keep rows as they are and call them columns, and choosing columns would be slow.
        p_CxKxB = with_layout_constraint(p_CxKxB, Layout(major_to_minor=(0, 1, 2)))
        v_CxB = _weights_in_blocks(v_N, block)
        offset = -jnp.vdot(v_CxB, most_CxB)
        return cls(p_CxKxB, v_CxB, offset if shift_N is None else offset - v_N @ shift_N)

    def reweighted(self, v_N: Float[Array, " N"]) -> "Likelihoods":
        """The same rows with other weights, and the offset as it was."""
        return dataclasses.replace(self, weights_CxB=_weights_in_blocks(v_N, self.weights_CxB.shape[1]))

    @property
    def scale(self) -> Float[Array, ""]:
        return self.weights_CxB.sum()

    def rounding(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        return jnp.zeros_like(self.scale)  # sums of terms of one sign: a few units in the last place of the scale

    def value(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        return self._sum(w_K, lambda p_KxB, v_B, d_B, value: value)

    def value_and_gradient(self, w_K: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"]]:
        return self._sum(w_K, lambda p_KxB, v_B, d_B, value: (value, -(p_KxB @ (v_B / d_B))))

    def curvature(self, w_K: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"], Float[Array, "K K"]]:
        def block(p_KxB, v_B, d_B, value):
            scaled_KxB = p_KxB * (jnp.sqrt(v_B) / d_B)
            return value, scaled_KxB @ scaled_KxB.T

        value, curvature_KxK = self._sum(w_K, block)
        return value, -(curvature_KxK @ w_K), curvature_KxK  # f is homogeneous: grad f = - hess f . w

    def curvature_among(self, columns_M: Int[Array, " M"] | slice, w_M: Float[Array, " M"]) -> Float[Array, "M M"]:
        """The Hessian among M sources that hold all weight; without what rounding takes from sums over blocks."""

        def add(curvature_MxM, rows):
            p_KxB, v_B = rows
            p_MxB = p_KxB[columns_M]
            d_B = w_M @ p_MxB
            scaled_MxB = p_MxB * (jnp.sqrt(v_B) / jnp.where(d_B > 0, d_B, 1))
            return curvature_MxM + scaled_MxB @ scaled_MxB.T, None

        zeros_MxM = jnp.zeros((w_M.size, w_M.size), w_M.dtype)
        return jax.lax.scan(add, zeros_MxM, (self.p_CxKxB, self.weights_CxB))[0]

    def among(self, columns_M: Int[Array, " M"]) -> "Likelihoods":
        """f as a function of the weights of M sources, where no others have any."""
        return dataclasses.replace(self, p_CxKxB=self.p_CxKxB[:, columns_M])

    def part(self, num_rows: int) -> "Likelihoods":
        """About so many of the rows, taken evenly, that stand for all; where there are no more, all."""
        blocks, _, block = self.p_CxKxB.shape
        every = max(1, min(8, blocks * block // max(num_rows, 1)))
        taken = slice(None, None, every) if blocks > 1 else (..., slice(None, None, every))
        v_CxB = self.weights_CxB[taken]
        return Likelihoods(self.p_CxKxB[taken], v_CxB * (self.scale / v_CxB.sum()), self.offset)

    def _sum(self, w_K, block):
        """The sum over blocks of what `block` makes of the densities of its rows."""

        def add(sums, rows):
            p_KxB, v_B = rows
            d_B = w_K @ p_KxB
            inside = jnp.all((d_B > 0) | (v_B == 0))
            d_B = jnp.where(d_B > 0, d_B, 1)  # rows of weight 0 may have no density; others make the value infinite
            value = jnp.where(inside, -(v_B @ jnp.log(d_B)), jnp.inf)
            return jax.tree.map(accumulate, sums, block(p_KxB, v_B, d_B, value), is_leaf=is_sum), None

        def shape(leaf):
            return RunningSum(jnp.zeros(leaf.shape, leaf.dtype), jnp.zeros(leaf.shape, leaf.dtype))

        first = self.p_CxKxB[0], self.weights_CxB[0]
        zeros = jax.tree.map(shape, jax.eval_shape(block, *first, first[1], first[1].sum()))
        sums = jax.lax.scan(add, zeros, (self.p_CxKxB, self.weights_CxB))[0]
        return jax.tree.map(lambda sum: sum.total + sum.lost, sums, is_leaf=is_sum)


def _rows_of_block(n):
    """The most rows up to BLOCK of which there are whole blocks, where that is not much less: else BLOCK, or all."""
    return next((rows for rows in range(min(n, BLOCK), BLOCK // 2, -1) if n % rows == 0), min(n, BLOCK))


def _weights_in_blocks(v_N, block):
    """The weights of rows as `Likelihoods.of_log_rows` cuts them, 0 where the last block repeats rows."""
    repeated = -v_N.size % block
    before, last = jnp.split(v_N, [v_N.size + repeated - block])
    return jnp.concatenate([before, jnp.zeros(repeated, v_N.dtype), last]).reshape(-1, block)


class RunningSum(NamedTuple):
    """A sum that carries what rounding took from it; its value is total + lost."""

    total: Array
    lost: Array  # what rounding took from the total


def is_sum(node: object) -> bool:
    """For trees whose leaves are running sums."""
    return isinstance(node, RunningSum)


def accumulate(sum: RunningSum, term: Array) -> RunningSum:
    """Adds a term and keeps what that rounds off (Knuth's two-sum; Neumaier 1974)."""
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
        return jnp.zeros_like(self.scale)

    def rounding(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        reach_K = jnp.abs(self.r_KxK) @ w_K  # far above grad . w where residuals of opposite sign cancel
        return 2 * jnp.finfo(w_K.dtype).eps * (w_K @ reach_K + reach_K.max())

    def value(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        return w_K @ self.r_KxK @ w_K

    def value_and_gradient(self, w_K: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"]]:
        half_K = self.r_KxK @ w_K
        return w_K @ half_K, 2 * half_K

    def curvature(self, w_K: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"], Float[Array, "K K"]]:
        return *self.value_and_gradient(w_K), 2 * self.r_KxK
