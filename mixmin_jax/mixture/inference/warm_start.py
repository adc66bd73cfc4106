"""Solve many similar problems (resamples), each from a state of the first one.

Restart from the central-path point whose gap matches the expected difference of the problems: a solve then saves up to
half of its iterations. Starting at the optimum stalls: zero weights grow slowly. If the sum of weights is free, only
the weights are reused: a few steps of expectation maximization and new multipliers do at least as well as the old
multipliers. Otherwise the multipliers are reused too.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from mixmin_jax.mixture.methods.interior_point import INTERIOR_POINT, Ahead, State, arrive, begin, head_start
from mixmin_jax.mixture.problem import Problem, Run, iterate

_PATIENCE = 25  # iterations after which a warm start is given up and the solve starts anew


def iterate_near(
    problem: Problem, state: State, tolerance: ArrayLike, max_iterations: ArrayLike, ratio: Array | float = 1.0
) -> Run:
    """`iterate` by the interior point from a state of a similar problem; if that fails, from the beginning.

    Multipliers are scaled by `ratio`, the scale of this problem over that of the other. The iterations of the run
    include those of a failed first attempt.
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

    # A loop over the attempts, so that the solver is compiled only once.
    none = jnp.full(1, jnp.nan, state.y.dtype)
    first = Run(state, jnp.asarray(False), jnp.asarray(0), none)
    _, spent, run = jax.lax.while_loop(unfinished, attempt, (jnp.asarray(0), jnp.asarray(0), first))
    return run._replace(iterations=spent)
