"""The problem that every method solves, and the loop that drives every method.

    minimise  F(w) = f(w) + s KL(w || q)   over w in C

A method is two pure functions: `init(problem) -> state` and `step(problem, state) -> state`. Its states have a field
`point`: feasible weights, with the loss, gradient and gap at exactly these weights.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

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
        """Whether the constraint sum w = 1 can be dropped: F(w) + scale sum w is then least where the sum is 1."""
        return self.f.homogeneous and self.feasible.plain and self.prior is None

    def penalty(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        """s KL(w || q); 0 without a prior."""
        return jnp.zeros((), w_K.dtype) if self.prior is None else self.prior.value(w_K)

    def certified(self, w_K: Float[Array, " K"], loss: Float[Array, ""], gradient_K: Float[Array, " K"]) -> "Point":
        """w in C, f and its gradient there, and the certificate; outside the domain of f nothing is certified."""
        bound = gap(w_K, gradient_K, self.feasible, self.prior) + self.f.rounding(w_K)
        return Point(w_K, loss, gradient_K, jnp.where(loss == jnp.inf, jnp.inf, bound))

    def point(self, w_K: Float[Array, " K"]) -> "Point":
        """f, its gradient and the certificate at w in C."""
        return self.certified(w_K, *self.f.value_and_gradient(w_K))


class Point(NamedTuple):
    """Feasible weights with what is known there."""

    weights: Float[Array, " K"]
    loss: Float[Array, ""]  # f, without its offset and the prior's penalty
    gradient: Float[Array, " K"]  # of f
    gap: Float[Array, ""]


class Method(NamedTuple):
    """A solver: how it begins, and one iteration."""

    init: Callable[[Problem], Any]
    step: Callable[[Problem, Any], Any]
    iterations: int = 20_000  # allowed by default
    priors: bool = True  # whether it can minimise s KL(w || q) as well


class Progress(NamedTuple):
    """A run that is under way."""

    state: Any
    best: Any  # the state with the smallest gap so far, among those whose F is not above `ceiling`
    ceiling: Float[Array, ""]  # F at the start, with room for rounding
    iterations: Int[Array, ""]
    gap_history: Float[Array, " T"]


class Run(NamedTuple):
    """What the loop leaves: the state with the smallest gap."""

    best: Any
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
    """Iterates until gap <= tolerance x scale, at most max_iterations times. Pure; usable under jit and vmap.

    The state returned is the best one seen: its gap is the smallest among those whose F is not above that of the start.
    The first `history_length` gaps are kept. Weights that miss the feasible set, as where traced bounds leave none,
    have not converged.
    """
    progress = jax.lax.while_loop(
        lambda progress: unfinished(problem, progress, tolerance, max_iterations),
        lambda progress: record(problem, progress, method.step(problem, progress.state)),
        start(problem, method.init(problem) if first is None else first, history_length),
    )
    return finish(problem, progress, tolerance)


def start(problem: Problem, first: Any, history_length: int = 1) -> Progress:
    """A run that has reached its first state; of its gaps, the first `history_length` will be kept."""
    initial = _total(problem, first.point)
    initial = jnp.where(jnp.isfinite(initial), initial, jnp.inf)
    slack = 16 * jnp.finfo(initial.dtype).eps * (jnp.abs(initial) + problem.f.scale)
    history_T = jnp.full(history_length, jnp.nan, initial.dtype).at[0].set(first.point.gap)
    return Progress(first, first, initial + slack, jnp.asarray(0), history_T)


def unfinished(
    problem: Problem, progress: Progress, tolerance: ArrayLike, max_iterations: ArrayLike
) -> Bool[Array, ""]:
    """Whether another step is to be taken."""
    reached = progress.best.point.gap <= tolerance * problem.f.scale
    return (progress.iterations < max_iterations) & ~reached & ~jnp.isnan(progress.state.point.gap)


def record(problem: Problem, progress: Progress, state: Any) -> Progress:
    """The run after a step to this state."""
    best, t = progress.best, progress.iterations + 1
    better = (state.point.gap < best.point.gap) & (_total(problem, state.point) <= progress.ceiling)
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state, best)
    history_T = progress.gap_history.at[t].set(state.point.gap, mode="drop")
    return Progress(state, best, progress.ceiling, t, history_T)


def finish(problem: Problem, progress: Progress, tolerance: ArrayLike) -> Run:
    """What the run leaves."""
    point = progress.best.point
    rounding = float(jnp.finfo(progress.ceiling.dtype).eps)
    inside = problem.feasible.violation(point.weights) <= max(SLACK, 1e3 * rounding)
    converged = (point.gap <= tolerance * problem.f.scale) & inside
    return Run(progress.best, converged, progress.iterations, progress.gap_history)


def _total(problem, point):
    """F, without the offset of f."""
    return point.loss + problem.penalty(point.weights)
