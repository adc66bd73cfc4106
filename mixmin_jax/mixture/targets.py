"""Several targets at once, as data that users build: a weighted sum of objectives, or their worst case.

`weighted_sum` is an objective like any other. The maximum of several losses is not smooth, so `worst_case` has its own
interior point (`methods/worst_case.py`).

Axes: T targets, K sources.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.arrays import HostOrDevice
from mixmin_jax.mixture.checks import as_float64, is_traced, list_names
from mixmin_jax.mixture.constraints import PerSource, distribution
from mixmin_jax.mixture.evaluator import Evaluator
from mixmin_jax.mixture.labels import by_row
from mixmin_jax.mixture.methods.worst_case import Targets
from mixmin_jax.mixture.objective import Objective
from mixmin_jax.mixture.scale.float64 import float64_on_cpu
from mixmin_jax.mixture.scale.sharding import Exchange, Mesh, Result


@dataclasses.dataclass(frozen=True)
class _Parts:
    """Several objectives over the same sources."""

    parts: tuple[Objective, ...]

    @property
    def sources(self) -> tuple[str, ...] | None:
        return self.parts[0].sources

    @property
    def num_sources(self) -> int:
        return self.parts[0].num_sources

    def take(self, columns: np.ndarray) -> Self:
        return dataclasses.replace(self, parts=_each(self.parts, lambda part: part.take(columns)))

    def anonymous(self) -> Self:
        return dataclasses.replace(self, parts=_each(self.parts, lambda part: part.anonymous()))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WeightedSum(_Parts):
    """f(w) = sum_t lambda_t f_t(w); built by `weighted_sum`."""

    weights_T: Float[HostOrDevice, " T"]

    def prepare(self) -> "Sum":
        return Sum(tuple(part.prepare() for part in self.parts), jnp.asarray(self.weights_T))

    def rounded(self, dtype: Any) -> "WeightedSum":
        parts = _each(self.parts, lambda part: part.rounded(dtype))
        return WeightedSum(parts, jnp.asarray(self.weights_T, dtype))

    def pooled(self, exchange: Exchange) -> "WeightedSum":
        return dataclasses.replace(self, parts=_each(self.parts, lambda part: part.pooled(exchange)))

    def shard_rows(self, mesh: Mesh, dtype: Any) -> "WeightedSum":
        parts = _each(self.parts, lambda part: part.shard_rows(mesh, dtype))
        return WeightedSum(parts, np.asarray(self.weights_T, dtype))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sum:
    """sum_t lambda_t f_t(w) for solvers. Targets of weight 0 do not count, even if they are infinite."""

    parts: tuple[Evaluator, ...]
    weights_T: Float[Array, " T"]

    @property
    def homogeneous(self) -> bool:
        return all(part.homogeneous for part in self.parts)

    @property
    def scale(self) -> Float[Array, ""]:
        return self._sum(part.scale for part in self.parts)

    @property
    def offset(self) -> Float[Array, ""]:
        return self._sum(part.offset for part in self.parts)

    def losses(self, w_K: Float[Array, " K"]) -> Float[Array, " T"]:
        """f_t(w), with their offsets."""
        return jnp.stack([part.value(w_K) + part.offset for part in self.parts])

    def rounding(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        return self._sum(part.rounding(w_K) for part in self.parts)

    def value(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        return self._sum(part.value(w_K) for part in self.parts)

    def value_and_gradient(self, w_K: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"]]:
        values, gradients = zip(*(part.value_and_gradient(w_K) for part in self.parts), strict=True)
        return self._sum(values), self._sum(gradients)

    def curvature(self, w_K: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"], Float[Array, "K K"]]:
        values, gradients, curvatures = zip(*(part.curvature(w_K) for part in self.parts), strict=True)
        return self._sum(values), self._sum(gradients), self._sum(curvatures)

    def _sum(self, terms: Iterable[Array]) -> Any:
        counted = (
            (weight, jnp.where((weight == 0) & ~jnp.isfinite(term), 0, term))
            for weight, term in zip(self.weights_T, terms, strict=True)
        )
        return sum(weight * term for weight, term in counted)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WorstCase(_Parts):
    """max_t [f_t(w) - r_t]; built by `worst_case`. `solve` takes it with its own interior point."""

    reference_T: Float[HostOrDevice, " T"]  # r_t, in the units of f_t
    reference_error: Float[HostOrDevice, ""]  # largest amount by which an r_t may be too high
    to_best: bool = dataclasses.field(default=False, metadata={"static": True})  # whether the r_t are still to be found

    def prepare(self) -> Targets:
        parts = tuple(part.prepare() for part in self.parts)
        return Targets(parts, jnp.asarray(self.reference_T), jnp.asarray(self.reference_error))

    def with_references(self, least: Callable[[Objective], tuple[float, float]]) -> "WorstCase":
        """With r_t = min f_t, if asked for; `least` finds a minimum and bounds its error."""
        if not self.to_best:
            return self
        losses, errors = zip(*map(least, self.parts), strict=True)
        return WorstCase(self.parts, np.array(losses), np.array(max(errors)))


def per_target(f: Any, best: Any) -> tuple[Array, Array, Array] | None:
    """The losses f_t, references r_t and prices lambda_t at the best state of a solve; None for a single target."""
    if isinstance(f, Targets):
        values_T = jnp.stack([part.value(best.point.weights) for part in f.parts])
        return values_T + f.offset_T, f.reference_T, best.prices_T
    if isinstance(f, Sum):
        losses_T = f.losses(best.point.weights)
        return losses_T, jnp.zeros_like(losses_T), f.weights_T
    return None


def weighted_sum(objectives: Sequence[Objective], weights: ArrayLike | Sequence[Any] | None = None) -> WeightedSum:
    """The weighted sum of several targets' losses, over the same K sources.

        f(w) = sum_t lambda_t f_t(w)

    It is an objective like its parts: every method, constraint and prior applies to it, and `solve_traced` also
    differentiates with respect to lambda. A tolerance is relative to sum_t lambda_t scale_t, where scale_t is the sum
    of target t's example weights or the variance of its values.

    Args:
        objectives: at least one, from `cross_entropy`, `squared_error` or `weighted_sum`, with the same sources in the
            same order.
        weights: lambda_t >= 0, used as given; default 1 / T. A target of weight 0 does not count.

    Returns:
        An objective.

    Raises:
        InputError: no objectives, or other things; sources that differ; negative or non-finite weights, none above 0,
            or not one per target.
    """
    parts = _checked(objectives, "weighted_sum")
    if weights is None:
        return WeightedSum(parts, np.full(len(parts), 1 / len(parts)))
    given: Any = by_row(weights, "weights", None, "targets")
    weights_T: Any = jnp.asarray(given) if is_traced(given) else as_float64(given, "weights")
    if weights_T.shape != (len(parts),):
        raise InputError(
            f"weights has the shape {weights_T.shape}, but there are {len(parts)} targets: give one weight a target"
        )
    if not is_traced(weights_T):
        bad = np.flatnonzero(~(np.isfinite(weights_T) & (weights_T >= 0)))
        if bad.size:
            raise InputError(
                f"weights must be finite and at least 0, but target {bad[0]} has {weights_T[bad[0]]}; give 0 to "
                "targets that should not count"
            )
        if not weights_T.any():
            raise InputError("weights are all 0: nothing is left to fit; give at least one target a positive weight")
    return WeightedSum(parts, weights_T)


def worst_case(objectives: Sequence[Objective], relative_to: str | PerSource | None = None) -> WorstCase:
    """The worst of several targets' losses, over the same K sources, for `solve` to minimize.

        minimize over w in C   max_t [f_t(w) - r_t] + s KL(w || q)

    The solution has prices lambda_t >= 0 with sum 1, in `Solution.targets`: `weighted_sum` with these weights has the
    same solution. Targets that are not the worst have price 0.

    Losses in different units (documents of different length) are better compared with `relative_to`, or with example
    weights that give the same units (nats per token). A tolerance is relative to the largest scale of the targets (the
    sum of the example weights, or the variance of the values).

    Args:
        objectives: at least one, from `cross_entropy`, `squared_error` or `weighted_sum`, with the same sources in the
            same order.
        relative_to: the choice of r_t. None: 0. "best": the least f_t over the allowed weights without the prior
            (excess loss, or regret); `solve` finds it first, and its error is part of the gap. Weights of a
            reference mixture, one per source or a mapping from sources to weights (others 0): f_t there.

    Returns:
        A problem for `solve`.

    Raises:
        InputError: no objectives, or other things; sources that differ; a reference that is not a distribution, or
            that gives a row no density.
    """
    parts = _checked(objectives, "worst_case")
    if is_traced(jax.tree.leaves(parts), [relative_to]):
        raise InputError("worst_case takes no traced arrays; inside jit, vmap and grad use weighted_sum")
    zeros_T = np.zeros(len(parts))
    if relative_to is None:
        return WorstCase(parts, zeros_T, np.zeros(()))
    if isinstance(relative_to, str):
        if relative_to != "best":
            raise InputError(
                f"unknown relative_to {relative_to!r}; use 'best', the weights of a reference mixture, or None"
            )
        return WorstCase(parts, zeros_T, np.zeros(()), to_best=True)
    reference_K = distribution(relative_to, "relative_to", parts[0].num_sources, parts[0].sources)
    return WorstCase(parts, np.array(_each(parts, lambda part: _loss(part, reference_K))), np.zeros(()))


def _checked(objectives: Sequence[Objective], what: str) -> tuple[Objective, ...]:
    """The parts as a tuple, over the same sources."""
    usage = f"{what} takes a list of objectives, as cross_entropy(log_likelihoods) builds"
    if not isinstance(objectives, Sequence):
        raise InputError(f"{usage}; got {type(objectives).__name__}")
    if not objectives:
        raise InputError(f"{usage}; it is empty: give at least one")
    parts = tuple(objectives)
    for t, part in enumerate(parts):
        if isinstance(part, WorstCase):
            raise InputError(f"target {t} is a worst_case, which can be part of nothing; give its targets themselves")
        if not isinstance(part, Objective):
            raise InputError(
                f"target {t} is a {type(part).__name__}; several targets at once need objectives held in memory, as "
                "cross_entropy, squared_error and weighted_sum build"
            )
        first = parts[0]
        if part.num_sources != first.num_sources:
            raise InputError(
                f"targets must have the same sources, but target 0 has {first.num_sources} and target {t} has "
                f"{part.num_sources}"
            )
        if part.sources != first.sources:
            raise InputError(_difference(first.sources, part.sources, t))
    return parts


def _difference(first: tuple[str, ...] | None, other: tuple[str, ...] | None, t: int) -> str:
    if first is None or other is None:
        named, unnamed = (0, t) if other is None else (t, 0)
        return f"target {named} names its sources and target {unnamed} does not; name them in all targets or in none"
    if missing := [name for name in first if name not in other]:
        return (
            f"targets must have the same sources, but target {t} lacks {list_names(missing)} of target 0 and has "
            f"{list_names([name for name in other if name not in first])}"
        )
    return (
        f"targets must have their sources in the same order, but target {t} has {list_names(other)} where target 0 has "
        f"{list_names(first)}; reorder its columns"
    )


def _loss(part: Objective, weights_K: Float[np.ndarray, " K"]) -> float:
    """f at weights; rows are scaled to the sources in use, so nothing underflows."""
    used = np.flatnonzero(weights_K)
    with float64_on_cpu():
        f = part.take(used).prepare()
        return float(f.value(jnp.asarray(weights_K[used])) + f.offset)


def _each(parts: Sequence[Any], change: Callable[[Any], Result]) -> tuple[Result, ...]:
    """Apply a function to each target; its errors name the target."""
    results = []
    for t, part in enumerate(parts):
        try:
            results.append(change(part))
        except InputError as error:
            raise InputError(f"target {t}: {error}") from None
    return tuple(results)
