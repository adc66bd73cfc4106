"""The problem that all methods solve, and the loop that drives them.

    minimize  F(w) = f(w) + s KL(w || q)   over w in C

A method is two pure functions: `init(problem) -> state` and `step(problem, state) -> state`. The field `point` of a
state holds feasible weights with the loss, gradient and gap at exactly these weights.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from mixmin_jax.mixture.arrays import namespace
from mixmin_jax.mixture.certificate import Prior, gap
from mixmin_jax.mixture.checks import SLACK
from mixmin_jax.mixture.evaluator import Evaluator
from mixmin_jax.mixture.feasible import FeasibleSet


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Problem:
    """F = f + prior over the feasible set."""

    f: Evaluator
    feasible: FeasibleSet
    prior: Prior | None = None

    @property
    def homogeneous(self) -> bool:
        """Whether the constraint sum w = 1 can be dropped: the minimum of F(w) + scale sum w then has sum 1."""
        return self.f.homogeneous and self.feasible.plain and self.prior is None

    def penalty(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        """s KL(w || q); 0 without a prior."""
        return namespace(w_K).zeros((), w_K.dtype) if self.prior is None else self.prior.value(w_K)

    def certified(self, w_K: Float[Array, " K"], loss: Float[Array, ""], gradient_K: Float[Array, " K"]) -> "Point":
        """The point w in C with its certificate; outside the domain of f the gap is infinite."""
        bound = gap(w_K, gradient_K, self.feasible, self.prior) + self.f.rounding(w_K)
        return Point(w_K, loss, gradient_K, namespace(w_K).where(loss == np.inf, np.inf, bound))

    def point(self, w_K: Float[Array, " K"]) -> "Point":
        """f, its gradient and the certificate at w in C."""
        return self.certified(w_K, *self.f.value_and_gradient(w_K))


class Point(NamedTuple):
    """Feasible weights with the values there."""

    weights: Float[Array, " K"]
    loss: Float[Array, ""]  # f, without its offset and the prior's penalty
    gradient: Float[Array, " K"]  # of f
    gap: Float[Array, ""]


class Method(NamedTuple):
    """A solver: its first state, and one iteration."""

    init: Callable[[Problem], Any]
    step: Callable[[Problem, Any], Any]
    iterations: int = 20_000  # default of max_iterations
    priors: bool = True  # whether it can take a prior


class Limits(NamedTuple):
    """When a solve ends, and what it keeps."""

    tolerance: float  # relative to the scale of f
    max_iterations: int
    history_length: int  # gaps that are kept; the same for most limits saves compilations


class Progress(NamedTuple):
    """The state of a run."""

    state: Any
    best: Any  # the state with the smallest gap so far, among those whose F is not above `ceiling`
    ceiling: Float[Array, ""]  # F at the start, with room for rounding
    iterations: Int[Array, ""]
    gap_history: Float[Array, " T"]


class Run(NamedTuple):
    """The result of a run."""

    best: Any  # the state with the smallest gap
    converged: Bool[Array, ""]
    iterations: Int[Array, ""]
    gap_history: Float[Array, " T"]  # the gap at the start and after each iteration, NaN after the last


def iterate(
    method: Method,
    problem: Problem,
    tolerance: ArrayLike,
    max_iterations: ArrayLike,
    history_length: int = 1,
    first: Any = None,
) -> Run:
    """Iterate until gap <= tolerance x scale, from the state `first` or else from `method.init(problem)`.

    Pure; works under jit and vmap.

    Returns:
        The state with the smallest gap among those whose F is not above F at the start. Weights outside the feasible
        set (traced bounds may leave it empty) have not converged.
    """
    progress = jax.lax.while_loop(
        lambda progress: unfinished(problem, progress, tolerance, max_iterations),
        lambda progress: record(problem, progress, method.step(problem, progress.state)),
        start(problem, method.init(problem) if first is None else first, history_length),
    )
    return finish(problem, progress, tolerance)


def start(problem: Problem, first: Any, history_length: int = 1) -> Progress:
    """A run in its first state; it will keep its first `history_length` gaps."""
    highest = ceiling(problem, first.point)
    history_T = jnp.full(history_length, jnp.nan, highest.dtype).at[0].set(first.point.gap)
    return Progress(first, first, highest, jnp.asarray(0), history_T)


def ceiling(problem: Problem, point: Point) -> Float[Array, ""]:
    """F at a point, with room for rounding."""
    xp, initial = namespace(point.weights), _total(problem, point)
    initial = xp.where(xp.isfinite(initial), initial, np.inf)
    return initial + 16 * np.finfo(initial.dtype).eps * (xp.abs(initial) + problem.f.scale)


def unfinished(
    problem: Problem, progress: Progress, tolerance: ArrayLike, max_iterations: ArrayLike
) -> Bool[Array, ""]:
    """Whether to take another step."""
    within = progress.best.point.gap <= tolerance * problem.f.scale
    return (progress.iterations < max_iterations) & ~within & ~jnp.isnan(progress.state.point.gap)


def record(problem: Problem, progress: Progress, state: Any) -> Progress:
    """The run after a step to this state."""
    best, t = progress.best, progress.iterations + 1
    better = is_better(problem, state.point, best.point, progress.ceiling)
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state, best)
    history_T = progress.gap_history.at[t].set(state.point.gap, mode="drop")
    return Progress(state, best, progress.ceiling, t, history_T)


def is_better(problem: Problem, point: Point, best: Point, ceiling: Float[Array, ""]) -> Bool[Array, ""]:
    """Whether a point is more certain than the best one, and F no larger than at the start."""
    return (point.gap < best.gap) & (_total(problem, point) <= ceiling)


def reached(problem: Problem, point: Point, tolerance: ArrayLike) -> Bool[Array, ""]:
    """Whether a point has converged: within the tolerance, and in the feasible set."""
    most = max(SLACK, 1e3 * float(np.finfo(point.weights.dtype).eps))
    return (point.gap <= tolerance * problem.f.scale) & (problem.feasible.violation(point.weights) <= most)


def finish(problem: Problem, progress: Progress, tolerance: ArrayLike) -> Run:
    """The result of the run."""
    converged = reached(problem, progress.best.point, tolerance)
    return Run(progress.best, converged, progress.iterations, progress.gap_history)


def _total(problem: Problem, point: Point) -> Float[Any, ""]:
    """F, without the offset of f."""
    return point.loss + problem.penalty(point.weights)
