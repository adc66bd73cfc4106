"""The numbers of a solution, as compiled programs return them.

Axes: K sources, T iterations.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from mixmin_jax.mixture.arrays import namespace
from mixmin_jax.mixture.checks import SLACK
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.methods.worst_case import Targets, certified
from mixmin_jax.mixture.problem import Point, Problem, Run
from mixmin_jax.mixture.targets import per_target

_NEGLIGIBLE = (1e-6, 1e-9, 1e-12, 0.0)  # weights below one of these become 0, if the certificate allows it


class Outputs(NamedTuple):
    """The numbers of a solution."""

    weights: Any
    loss: Any  # including the offset
    gap: Any
    penalty: Any
    goal: Any
    rounding: Any  # the gap that the number type can resolve
    converged: Any
    iterations: Any
    gap_history: Any
    targets: Any = None  # losses, references and prices


def outputs(
    problem: Problem, run: Run, tolerance: ArrayLike, evaluate: Callable[[Any], Point] | None = None
) -> Outputs:
    """The numbers of a run, at its weights without negligible ones.

    `evaluate` gives the point at some weights, for problems whose f cannot.
    """

    def of_targets(w_K: Any) -> Point:
        values_T, gradient_TxK = f.values_and_gradients(w_K)
        return certified(problem, w_K, values_T, gradient_TxK, run.best.prices_T)

    f: Any = problem.f
    evaluate = evaluate or (of_targets if isinstance(f, Targets) else problem.point)
    reached = run.best.point.gap
    point = without_negligible(problem, run.best.point, tolerance, evaluate)
    best = run.best._replace(point=point)
    return Outputs(
        weights=point.weights,
        loss=point.loss + problem.f.offset,
        gap=point.gap,
        penalty=problem.penalty(point.weights),
        goal=tolerance * problem.f.scale,
        rounding=64 * np.finfo(point.loss.dtype).eps * (abs(point.loss) + problem.f.scale),
        converged=run.converged,
        iterations=run.iterations,
        gap_history=namespace(point.weights).where(run.gap_history == reached, point.gap, run.gap_history),
        targets=per_target(f, best),
    )


def without_negligible(problem: Problem, point: Point, tolerance: ArrayLike, evaluate: Callable[[Any], Point]) -> Point:
    """The point with weights of exactly 0 where the certificate cannot tell a weight from 0.

    These are the weights below the largest of `_NEGLIGIBLE` without which the gap, evaluated again, stays within the
    tolerance, or is not larger than before. The weights sum to 1 exactly, in any order.
    """
    xp, goal = namespace(point.weights), tolerance * problem.f.scale
    most = xp.maximum(point.gap, goal)

    def fine(found: Point) -> Any:
        return (found.gap <= most) & (problem.feasible.violation(found.weights) <= SLACK)

    if xp is np:
        for least in _NEGLIGIBLE:
            found = evaluate(_exact(problem.feasible, point.weights, least))
            if fine(found):
                return found
        return point

    def attempt(tried: tuple[Any, Point]) -> tuple[Any, Point]:
        least = jnp.asarray(_NEGLIGIBLE, point.weights.dtype)[tried[0]]
        return tried[0] + 1, evaluate(_exact(problem.feasible, point.weights, least))

    def unfinished(tried: tuple[Any, Point]) -> Any:
        return (tried[0] < len(_NEGLIGIBLE)) & ~fine(tried[1])

    none = point._replace(gap=jnp.full_like(point.gap, jnp.inf))
    _, found = jax.lax.while_loop(unfinished, attempt, (jnp.asarray(0), none))
    return jax.tree.map(lambda new, old: jnp.where(fine(found), new, old), found, point)


def _exact(feasible: FeasibleSet, w_K: Any, least: Any) -> Any:
    """Weights near w with a sum of exactly 1: multiples of epsilon, with 0 for those below `least` that may be 0."""
    xp = namespace(w_K)
    is_zero_K = (w_K < least) & (feasible.lower_K == 0)
    if not feasible.plain:
        feasible = dataclasses.replace(feasible, cap_K=xp.where(is_zero_K, 0, feasible.upper_K))  # zeros get nothing
    w_K = feasible.repair(xp.where(is_zero_K, 0, w_K))
    unit = np.finfo(w_K.dtype).eps  # sums of multiples of it are exact up to 2
    w_K = xp.round(w_K / unit) * unit
    return w_K + xp.where(xp.arange(w_K.size) == xp.argmax(w_K), 1 - w_K.sum(), 0)


def packed(problem: Problem, run: Run, tolerance: ArrayLike) -> Float[Array, "..."]:
    """The outputs joined into one vector, because fetching many small arrays takes as long as a small solve."""
    dtype = run.best.point.loss.dtype
    return jnp.concatenate(
        [jnp.ravel(leaf).astype(dtype) for leaf in jax.tree.leaves(outputs(problem, run, tolerance))]
    )


def unpacked(vector: ArrayLike, num_sources: int, history_length: int) -> Outputs:
    """The outputs from their vector."""
    vector = np.asarray(vector)
    end = num_sources + len(Outputs._fields) - 3  # of the single numbers
    weights_K, numbers, history_T, rest = np.split(vector, [num_sources, end, end + history_length])
    return Outputs._make([weights_K, *numbers, history_T, rest.reshape(3, -1) if rest.size else None])
