"""Solves of many similar problems, each from a state of the first, as its resamples or subsets of its sources.

The state to start from lies well inside: from a point of the central path whose gap is about what the problems differ
by, a solve takes up to half the iterations of one from the beginning, while at the end of the path the weights that are
0 there, and that a similar problem may want, hold it up. Where the sum is free, only the weights are taken over: a few
steps of expectation maximisation from them, then new multipliers, do as well as old ones, and better where these steps
alone nearly solve the problem. Otherwise multipliers are taken over too.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from mixmin_jax.mixture.methods.interior_point import INTERIOR_POINT, Ahead, State, arrive, begin, head_start
from mixmin_jax.mixture.problem import Problem, Run, iterate

_PATIENCE = 25  # iterations after which a start is given up


def along(problem: Problem, tolerance_T: Float[Array, " T"], max_iterations: ArrayLike) -> Run:
    """The run at each of some decreasing tolerances, stacked; each goes on from the one before."""

    def further(carry, tolerance):
        first, before = carry
        run = iterate(INTERIOR_POINT, problem, tolerance, max_iterations - before, first=first)
        run = run._replace(iterations=before + run.iterations)
        return (run.best, run.iterations), run

    return jax.lax.scan(further, (INTERIOR_POINT.init(problem), jnp.asarray(0)), tolerance_T)[1]


def iterate_near(
    problem: Problem, state: State, tolerance: ArrayLike, max_iterations: ArrayLike, ratio: Array | float = 1.0
) -> Run:
    """`iterate` by the interior point from a state of a similar problem; should that lead nowhere, from the beginning.

    `ratio` is this problem's scale, and so that of its multipliers, over the other's. All iterations are counted.
    """
    near = Ahead(state.point.weights, ratio * state.y, state.slack_M, ratio * state.z_M)

    def attempt(carry):
        tries, spent, _ = carry
        w_K = jnp.where(tries == 0, near.weights, problem.feasible.start())
        if problem.homogeneous:
            w_K = head_start(problem, w_K)
        values = problem.f.curvature(w_K)
        first = begin(problem, w_K, values)
        if not problem.homogeneous:
            carried = arrive(problem, near, values)
            first = jax.tree.map(lambda old, new: jnp.where(tries == 0, old, new), carried, first)
        limit = jnp.where(tries == 0, jnp.minimum(max_iterations, _PATIENCE), max_iterations)
        run = iterate(INTERIOR_POINT, problem, tolerance, limit, first=first)
        return tries + 1, spent + run.iterations, run

    def unfinished(carry):
        tries, _, run = carry
        return (tries < 2) & ~run.converged

    # One loop around the other, so that both attempts are compiled as one.
    none = jnp.full(1, jnp.nan, state.y.dtype)
    first = Run(state, jnp.asarray(False), jnp.asarray(0), none)
    _, spent, run = jax.lax.while_loop(unfinished, attempt, (jnp.asarray(0), jnp.asarray(0), first))
    return run._replace(iterations=spent)
