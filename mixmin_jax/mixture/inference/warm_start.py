"""Solve many similar problems (resamples), each from a state of the first one.

Restart from the central-path point whose gap matches the expected difference of the problems: a solve then saves up to
half of its iterations. Starting at the optimum stalls: zero weights grow slowly. If the sum of weights is free, only
the weights are reused: a few steps of expectation maximization and new multipliers do at least as well as the old
multipliers. Otherwise the multipliers are reused too.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Int

from mixmin_jax.mixture.methods.interior_point import INTERIOR_POINT, Ahead, State, arrive, begin, head_start
from mixmin_jax.mixture.problem import Limits, Problem, Run, iterate
from mixmin_jax.mixture.scale.host import iterate_on_host

_PATIENCE = 25  # iterations after which a warm start is given up and the solve starts anew


def iterate_near(
    problem: Problem, state: State, tolerance: ArrayLike, max_iterations: ArrayLike, ratio: Array | float = 1.0
) -> Run:
    """`iterate` by the interior point from a state of a similar problem; if that fails, from the beginning.

    Multipliers are scaled by `ratio`, the scale of this problem over that of the other. The iterations of the run
    include those of a failed first attempt.
    """
    near = _near(state, ratio)

    def attempt(carry: tuple[Int[Array, ""], Int[Array, ""], Run]) -> tuple[Int[Array, ""], Int[Array, ""], Run]:
        tries, spent, _ = carry
        w_K = jnp.where(tries == 0, near.weights, problem.feasible.start())
        carried, first = _first(problem, near, w_K)
        first = jax.tree.map(lambda old, new: jnp.where(tries == 0, old, new), carried, first)
        limit = jnp.where(tries == 0, jnp.minimum(max_iterations, _PATIENCE), max_iterations)
        run = iterate(INTERIOR_POINT, problem, tolerance, limit, first=first)
        return tries + 1, spent + run.iterations, run

    def unfinished(carry: tuple[Int[Array, ""], Int[Array, ""], Run]) -> Bool[Array, ""]:
        tries, _, run = carry
        return (tries < 2) & ~run.converged

    # A loop over the attempts, so that the solver is compiled only once.
    none = jnp.full(1, jnp.nan, state.y.dtype)
    first = Run(state, jnp.asarray(False), jnp.asarray(0), none)
    _, spent, run = jax.lax.while_loop(unfinished, attempt, (jnp.asarray(0), jnp.asarray(0), first))
    return run._replace(iterations=spent)


def iterate_near_on_host(problem: Problem, state: State, limits: Limits, ratio: Any = 1.0) -> Run:
    """`iterate_near` in NumPy."""
    near = _near(state, ratio)
    first, _ = _first(problem, near, near.weights)
    warm = limits._replace(max_iterations=min(limits.max_iterations, _PATIENCE))
    run = iterate_on_host(problem, first, warm)
    if run.converged:
        return run
    _, first = _first(problem, near, problem.feasible.start())
    again = iterate_on_host(problem, first, limits)
    return again._replace(iterations=run.iterations + again.iterations)


def _near(state: State, ratio: Any) -> Ahead:
    return Ahead(state.point.weights, ratio * state.y, state.slack_M, ratio * state.z_M)


def _first(problem: Problem, near: Ahead, w_K: Any) -> tuple[State, State]:
    """Two first states at weights: with the multipliers from near by, where they are of use, and with new ones."""
    if problem.homogeneous:
        w_K = head_start(problem, w_K)
    values = problem.f.curvature(w_K)
    new = begin(problem, w_K, values)
    return new if problem.homogeneous else arrive(problem, near, values), new
