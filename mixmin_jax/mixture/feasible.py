"""The set of allowed weights: the simplex with floors, caps, and disjoint groups of sources with caps.

    C = { w : sum_k w_k = 1,  floor_k <= w_k <= cap_k,  sum_{k in G} w_k <= cap_G }

All that solvers and certificates need to know about C is here. It works under jit, vmap and grad.

Axes: K sources, G groups, M inequalities (K floors, then K caps and G group caps if there are any).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mixmin_jax.mixture.arrays import HostOrDevice, log_sum_exp, namespace, repeat

_BISECTIONS = 100  # halvings; enough to narrow any bracket here to the resolution of float64


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Groups:
    """Disjoint groups of sources, each with a cap on the sum of its weights."""

    members_GxK: Float[HostOrDevice, "G K"]  # 1 where source k is in group g; a source is in one group at most
    cap_G: Float[HostOrDevice, " G"]

    def sums(self, x_K: Float[HostOrDevice, " K"]) -> Float[Any, " G"]:
        """The sum over each group."""
        return self.members_GxK @ x_K

    def to_sources(self, x_G: Float[HostOrDevice, " G"], otherwise: Float[Any, ""] | float = 0.0) -> Float[Any, " K"]:
        """The value of each source's group; `otherwise` for sources in no group."""
        return x_G @ self.members_GxK + otherwise * (1 - self.members_GxK.sum(axis=0))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FeasibleSet:
    """Bounds as arrays. They are None if there are none, so the plain simplex compiles to closed forms."""

    num_sources: int = dataclasses.field(metadata={"static": True})
    floor_K: Float[HostOrDevice, " K"] | None = None
    cap_K: Float[HostOrDevice, " K"] | None = None
    groups: Groups | None = None
    on_host: bool = dataclasses.field(default=False, metadata={"static": True})  # NumPy computes, not JAX

    def to_host(self) -> "FeasibleSet":
        """The same set, for NumPy's arrays."""
        return dataclasses.replace(self, on_host=True)

    @property
    def xp(self) -> Any:
        """The module of NumPy's functions that computes here."""
        return np if self.on_host else jnp

    @property
    def plain(self) -> bool:
        """Whether this is the whole simplex."""
        return self.floor_K is None and self.cap_K is None and self.groups is None

    @property
    def lower_K(self) -> Float[Any, " K"]:
        return self.xp.zeros(self.num_sources) if self.floor_K is None else self.xp.asarray(self.floor_K)

    @property
    def upper_K(self) -> Float[Any, " K"]:
        return self.xp.ones(self.num_sources) if self.cap_K is None else self.xp.minimum(self.cap_K, 1)

    # The inequalities A w <= b, for interior-point methods.

    def limits(self) -> Float[Any, " M"]:
        """b. sum w = 1 implies caps of 1 or more; they are moved to 2, so they are never active."""
        parts = [-self.lower_K]
        if self.cap_K is not None:
            parts.append(self.xp.where(self.upper_K < 1, self.upper_K, 2))
        if self.groups is not None:
            parts.append(self.xp.where(self.groups.cap_G < 1, self.groups.cap_G, 2))
        return self.xp.concatenate(parts)

    def rows(self, w_K: Float[HostOrDevice, " K"]) -> Float[Any, " M"]:
        """A w."""
        parts = [-w_K]
        if self.cap_K is not None:
            parts.append(w_K)
        if self.groups is not None:
            parts.append(self.groups.sums(w_K))
        return self.xp.concatenate(parts)

    @property
    def num_bounds(self) -> int:
        """The number of inequalities that bound a single source; the rest are caps of groups."""
        return self.num_sources if self.cap_K is None else 2 * self.num_sources

    def bounds_adjoint(self, z_M: Float[HostOrDevice, " M"]) -> Float[Any, " K"]:
        """A' z of the bounds on single sources only."""
        k = self.num_sources
        return -z_M[:k] if self.cap_K is None else z_M[k : 2 * k] - z_M[:k]

    def adjoint(self, z_M: Float[HostOrDevice, " M"]) -> Float[Any, " K"]:
        """A' z."""
        bounds_K = self.bounds_adjoint(z_M)
        return bounds_K if self.groups is None else bounds_K + self.groups.to_sources(z_M[self.num_bounds :])

    def bounds_gram(self, d_M: Float[HostOrDevice, " M"]) -> Float[Any, " K"]:
        """The diagonal of A' diag(d) A of the bounds on single sources only."""
        k = self.num_sources
        return d_M[:k] if self.cap_K is None else d_M[:k] + d_M[k : 2 * k]

    def violation(self, w_K: Float[HostOrDevice, " K"]) -> Float[Any, ""]:
        """The largest violation of a bound or of the sum; 0 up to rounding for w in C."""
        return self.xp.maximum(self.xp.abs(w_K.sum() - 1), self.xp.max(self.rows(w_K) - self.limits()))

    # Points of C.

    def start(self) -> Float[Any, " K"]:
        """An interior point of C if there is one: every source takes the same share of its room."""
        return self.repair(self.lower_K)

    def repair(self, w_K: Float[HostOrDevice, " K"]) -> Float[Any, " K"]:
        """A point of C near w. It is w up to rounding if w is in C."""
        xp = self.xp
        if self.plain:
            w_K = xp.maximum(w_K, 0)
            total = w_K.sum()
            return xp.where(total > 0, w_K / xp.where(total > 0, total, 1), 1 / self.num_sources)

        def positive(x: Float[Any, ""]) -> Float[Any, ""]:
            return xp.maximum(x, np.finfo(x.dtype).tiny)

        low_K = self.lower_K
        above_K = xp.clip(w_K, low_K, self.upper_K) - low_K
        if self.groups is not None:
            sum_G = self.groups.sums(above_K)
            fit_G = xp.minimum(1, (self.groups.cap_G - self.groups.sums(low_K)) / xp.where(sum_G > 0, sum_G, 1))
            above_K = above_K * self.groups.to_sources(fit_G, 1.0)
        free = 1 - low_K.sum()
        above_K = above_K * xp.minimum(1, free / positive(above_K.sum()))
        # The rest goes first to sources in proportion to their weights, so zeros stay 0, then to all.
        above_K = above_K + xp.clip(above_K * (free / positive(above_K.sum()) - 1), 0, self._room(low_K + above_K))
        room_K = self._room(low_K + above_K)
        above_K = above_K + xp.clip(room_K * (free - above_K.sum()) / positive(room_K.sum()), 0, room_K)
        return low_K + above_K

    def _room(self, w_K: Float[HostOrDevice, " K"]) -> Float[Any, " K"]:
        """Amounts by which all sources can grow at the same time."""
        room_K = self.xp.maximum(self.upper_K - w_K, 0)
        if self.groups is None:
            return room_K
        room_G, left_G = self.groups.sums(room_K), self.xp.maximum(self.groups.cap_G - self.groups.sums(w_K), 0)
        return room_K * self.groups.to_sources(self.xp.minimum(1, left_G / self.xp.where(room_G > 0, room_G, 1)), 1.0)

    def minimize_linear(self, cost_K: Float[HostOrDevice, " K"]) -> Float[Any, " K"]:
        """argmin over u in C of cost . u, by a greedy rule that is exact: floors first, then the cheapest sources."""
        xp = self.xp
        if self.plain:
            return xp.where(xp.arange(self.num_sources) == xp.argmin(cost_K), 1.0, 0.0)
        order_K = xp.argsort(cost_K)
        low_K = self.lower_K
        room_K = (self.upper_K - low_K)[order_K]
        if self.groups is not None:
            members_GxK = xp.asarray(self.groups.members_GxK)[:, order_K]
            left_G = self.groups.cap_G - self.groups.sums(low_K)
            # Inside its group a source gets what cheaper members leave; other groups do not matter.
            before_GxK = xp.cumsum(members_GxK * room_K, axis=1) - members_GxK * room_K
            left_K = (members_GxK * (left_G[:, None] - before_GxK)).sum(axis=0)
            room_K = xp.where(members_GxK.sum(axis=0) > 0, xp.clip(left_K, 0, room_K), room_K)
        taken_K = xp.clip(1 - low_K.sum() - (xp.cumsum(room_K) - room_K), 0, room_K)
        return low_K + taken_K[xp.argsort(order_K)]

    def project(self, x_K: Float[HostOrDevice, " K"]) -> Float[Any, " K"]:
        """argmin over u in C of ||u - x||^2 = clip(x - nu_k, floor, cap); nu by bisection."""
        nu_K, _ = self._level(lambda nu: x_K - nu, x_K.min() - 1, x_K.max())
        return self.repair(self.xp.clip(x_K - nu_K, self.lower_K, self.upper_K))

    def project_kl(
        self, logx_K: Float[HostOrDevice, " K"]
    ) -> tuple[Float[Any, " K"], Float[Any, " K"], Float[Any, " G"] | None]:
        """argmin over u in C of KL(u || x) = clip(x exp(-nu_k), floor, cap), from log x.

        Returns:
            u; the multipliers nu_k (that of sum u = 1 plus that of the source's group); the groups' multipliers.
        """
        if self.plain:
            nu = log_sum_exp(logx_K)
            return self.xp.exp(logx_K - nu), self.xp.full_like(logx_K, nu), None
        # At the top of the bracket weights are exp(-80) or the floor.
        nu_K, lambda_G = self._level(lambda nu: self.xp.exp(logx_K - nu), logx_K.min(), logx_K.max() + 80)
        u_K = self.xp.clip(self.xp.exp(logx_K - nu_K), self.lower_K, self.upper_K)
        return u_K, nu_K, lambda_G

    def _level(
        self, response: Callable[[Any], Any], low: Float[Any, ""], high: Float[Any, ""]
    ) -> tuple[Float[Any, " K"], Float[Any, " G"] | None]:
        """The levels nu_K at which clip(response(nu)) lies in C: one nu for all sources plus their group's multiplier.

        A full group stays full as nu falls. Let nu_G be the level at which group G is just full: then all its sources
        have the level max(nu, nu_G). So one bisection for all groups and one for the total suffice.
        """

        def filled(nu_K: Float[Any, "..."]) -> Float[Any, " K"]:
            return self.xp.clip(response(nu_K), self.lower_K, self.upper_K)

        if self.groups is None:
            nu = _bisect(lambda nu: filled(nu).sum() - 1, low, high)
            return self.xp.full_like(self.lower_K, nu), None
        groups = self.groups
        low_G, high_G = low + self.xp.zeros_like(groups.cap_G), high + self.xp.zeros_like(groups.cap_G)

        def excess(nu_G: Float[HostOrDevice, " G"]) -> Float[Any, " G"]:
            return groups.sums(filled(groups.to_sources(nu_G))) - groups.cap_G

        nu_G = self.xp.where(
            excess(low_G) > 0, _bisect(excess, low_G, high_G), low
        )  # a cap that cannot bind has no level of its own

        def levels(nu: Float[Any, ""]) -> Float[Any, " K"]:
            return groups.to_sources(self.xp.maximum(nu, nu_G), nu)

        nu = _bisect(lambda nu: filled(levels(nu)).sum() - 1, low, high)
        return levels(nu), self.xp.maximum(nu_G - nu, 0)


def _bisect(
    decreasing: Callable[[Any], Any], low: Float[Any, "*shape"], high: Float[Any, "*shape"]
) -> Float[Any, "*shape"]:
    """The root of a decreasing function between low and high, elementwise."""

    def halve(bracket: tuple[Any, Any]) -> tuple[Any, Any]:
        low, high = bracket
        middle = (low + high) / 2
        above = decreasing(middle) > 0
        xp = namespace(middle)
        return xp.where(above, middle, low), xp.where(above, high, middle)

    low, high = repeat(_BISECTIONS, halve, (low, high))
    return (low + high) / 2
