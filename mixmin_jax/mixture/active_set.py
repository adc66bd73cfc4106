"""Newton's method with an active set: fewest passes over the rows, for cross-entropy on the whole simplex.

With the sum left free (F(w) = f(w) + V sum_k w_k over w >= 0; see `interior_point`), each iteration minimises the
second-order model of F over w >= 0 exactly. Answers are sparse, so that after the first iteration the model is needed
only for the few sources that have weight or would gain by some: N m^2 operations instead of N K^2. The first model only
has to be rough, and is made from a part of the rows. f and its gradient, and with them the certificate, always come
from all rows and sources. (Kim, Carbonetto, Stephens and Anitescu 2020, mixsqp, is of this kind, with all K sources;
the quadratic programmes are solved as by Portugal, Judice and Vicente 1994, section 3.)

It is not proof against everything: where a model leads to rows with almost no density, steps become short. Callers go
on with the interior point then.

Axes: K sources, M of them in a model.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mixmin_jax.mixture.interior_point import factored, head_start
from mixmin_jax.mixture.problem import Method, Point, Problem

ITERATIONS = 30  # some four to ten are usual; more mean that steps are short
_ROWS_PER_SOURCE = 32  # in a rough model
_DECREASE = 1e-4  # of what the slope promises (Armijo)
_PATIENCE = 3  # full exchanges of a block that may leave as many signs wrong as before


class State(NamedTuple):
    point: Point
    toward_K: Float[Array, " K"]  # the minimum of the model
    step: Float[Array, ""]  # how far to go there next; 1 asks for a new model
    iterations: Int[Array, ""]


def init(problem: Problem) -> State:
    """A few steps of expectation maximisation on a part of the rows."""
    part = Problem(_part(problem), problem.feasible)
    point = problem.point(head_start(part, problem.feasible.start()))
    return State(point, point.weights, jnp.ones_like(point.gap), jnp.asarray(0))


def step(problem: Problem, state: State) -> State:
    """To the minimum of the model; half way, and so on, where that does not decrease F enough."""
    point = state.point
    toward_K = jax.lax.cond(state.step < 1, lambda: state.toward_K, lambda: _model_minimum(problem, state))
    ahead_K = toward_K - point.weights
    slope = (point.gradient + problem.f.scale) @ ahead_K
    new = problem.point(problem.feasible.repair(point.weights + state.step * ahead_K))
    rounding = 16 * jnp.finfo(new.loss.dtype).eps * (jnp.abs(point.loss) + problem.f.scale)
    enough = new.loss <= point.loss + _DECREASE * state.step * slope + rounding
    return State(
        jax.tree.map(lambda new, old: jnp.where(enough, new, old), new, point),
        toward_K,
        jnp.where(enough | (state.iterations == 0), 1.0, state.step / 2),  # after a rough model a better one
        state.iterations + 1,
    )


def _model_minimum(problem, state):
    """The minimum of the model over the smallest of a few numbers of sources that holds all that matter."""
    f, point, k = problem.f, state.point, state.point.weights.size
    reduced_K = point.gradient + f.scale  # below 0: weight on this source would help

    def among(m, f, rough=False):
        def minimum():
            _, columns_M = jax.lax.top_k(jnp.where(point.weights > 0, jnp.inf, -reduced_K), m)
            w_M = point.weights[columns_M]
            curvature_MxM = f.curvature_among(columns_M, w_M)
            if rough:  # hess f . w = -grad f tells how much of it is missing where few rows need a source
                missing_M = -point.gradient[columns_M] - curvature_MxM @ w_M
                curvature_MxM = curvature_MxM + jnp.diag(jnp.maximum(missing_M, 0) / w_M)
            linear_M = curvature_MxM @ w_M - reduced_K[columns_M]
            found_M = nonnegative_minimum(curvature_MxM, linear_M, w_M > 0)
            return jnp.zeros_like(point.weights).at[columns_M].set(found_M)

        return minimum

    sizes = [m for m in (k // 8, k // 3) if m >= 4] + [k]
    needed = jnp.sum((point.weights > 0) | (reduced_K < 0))
    which = jnp.where(state.iterations == 0, 0, 1 + jnp.searchsorted(jnp.array(sizes), needed))
    return jax.lax.switch(which, [among(k, _part(problem), rough=True), *(among(m, f) for m in sizes)])


def _part(problem):
    return problem.f.part(_ROWS_PER_SOURCE * problem.feasible.num_sources)


def nonnegative_minimum(
    matrix_MxM: Float[Array, "M M"], linear_M: Float[Array, " M"], free_M: Bool[Array, " M"]
) -> Float[Array, " M"]:
    """The minimum of 1/2 x' H x - c' x over x >= 0, by block principal pivoting from the variables taken as free.

    All variables of the wrong sign change sides at once, as long as that leaves fewer of them; else, for a while, only
    the last one (Portugal, Judice and Vicente 1994). Finite for positive definite H; where rounding keeps it from
    ending, what is negative is set to 0.
    """
    m = linear_M.size
    diagonal_M = jnp.diag(matrix_MxM)
    scale_M = jax.lax.rsqrt(jnp.maximum(diagonal_M, jnp.finfo(linear_M.dtype).eps * diagonal_M.max()))
    scaled_MxM, c_M = matrix_MxM * jnp.outer(scale_M, scale_M), linear_M * scale_M
    scaled_MxM = scaled_MxM + jnp.diag(1 - jnp.diag(scaled_MxM))  # no curvature at all: a source that explains nothing
    blur = 8 * m * jnp.finfo(c_M.dtype).eps * jnp.max(jnp.abs(c_M))

    def solved(free_M):
        free_MxM = jnp.where(jnp.outer(free_M, free_M), scaled_MxM, 0) + jnp.diag(jnp.where(free_M, 0.0, 1.0))
        x_M = factored(free_MxM).inverse(jnp.where(free_M, c_M, 0)[:, None])[:, 0]
        wrong_M = jnp.where(free_M, x_M, scaled_MxM @ x_M - c_M) < -blur
        return x_M, wrong_M

    def exchange(carry):
        free_M, _, wrong_M, least, patience, tries = carry
        count = wrong_M.sum()
        fewer = count < least
        last_M = jnp.arange(m) == m - 1 - jnp.argmax(wrong_M[::-1])
        change_M = wrong_M & (fewer | (patience > 0) | last_M)
        patience = jnp.where(fewer, _PATIENCE, patience - 1)
        free_M = free_M ^ change_M
        return free_M, *solved(free_M), jnp.minimum(count, least), patience, tries + 1

    first = free_M, *solved(free_M), jnp.asarray(m + 1), jnp.asarray(_PATIENCE), jnp.asarray(0)
    _, x_M, *_ = jax.lax.while_loop(lambda carry: carry[2].any() & (carry[5] < 5 * m), exchange, first)
    return scale_M * jnp.maximum(x_M, 0)


ACTIVE_SET = Method(init, step, iterations=ITERATIONS, priors=False)
