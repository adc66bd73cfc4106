"""Newton's method with an active set: fewest passes over the rows, for cross-entropy on the whole simplex.

With the sum left free (F(w) = f(w) + V sum_k w_k over w >= 0; see `interior_point`), each iteration minimises the
second-order model of F over w >= 0 exactly. Answers are sparse, so that after the first iteration the model is needed
only for the few sources that have weight or would gain by some: N m^2 operations instead of N K^2, and where these are
few, F is minimised over them to the end before all sources are looked at again. The first model only has to be rough,
and is made from a part of the rows. The certificate always comes from all rows and sources. (Kim, Carbonetto, Stephens
and Anitescu 2020, mixsqp, is of this kind, with all K sources.)

It is not proof against everything: where a model leads to rows with almost no density, steps become short. Callers go
on with the interior point then.

Axes: K sources, M of them in a model.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.methods.interior_point import factored, head_start
from mixmin_jax.mixture.problem import Method, Point, Problem

ITERATIONS = 30  # some two to ten are usual; more mean that steps are short
_ROWS_PER_SOURCE = 32  # in a rough model
_FEW, _SOME = 6, 3  # parts of all sources that are few, and that make a model cheaper than all
_SMALLEST = 4  # sources in such a model
_INNER, _CLOSER = 6, 1e-8  # steps among few sources: how many at most, and down to what part of the gap
_NEAR = 1e-9  # of the curvature: holds weights of sources that are much alike where they are; the minimum stays
_DECREASE = 1e-4  # of what the slope promises (Armijo)
_PATIENCE = 3  # exchanges that may leave as many signs wrong as before
_TRIES = 5  # times the number of variables: steps down from the start


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
    """To the minimum of the model; where few sources matter, on to that of F among them, before all are looked at."""
    few = problem.feasible.num_sources // _FEW
    if few < _SMALLEST:
        return _newton(problem, state)
    alone = (_matter(problem, state.point).sum() <= few) & (state.step == 1)
    return jax.lax.cond(alone, lambda: _among_few(problem, state, few), lambda: _newton(problem, state))


def _among_few(problem, state, m):
    """The minimum over m sources that hold all weight, by steps that look at no others."""
    point = state.point
    columns_M = _foremost(problem, point, m)
    face = Problem(problem.f.among(columns_M), FeasibleSet(m))
    w_M = point.weights[columns_M]
    start = face.certified(w_M, point.loss, point.gradient[columns_M])
    last = jax.lax.while_loop(
        lambda state: (state.iterations < _INNER) & (state.point.gap > _CLOSER * point.gap),
        lambda state: _newton(face, state, whole=False),
        State(start, w_M, state.step, jnp.asarray(0)),
    )
    w_K = jnp.zeros_like(point.weights).at[columns_M].set(last.point.weights)
    return State(problem.point(w_K), w_K, state.step, state.iterations + 1)


def _newton(problem, state, whole=True):
    """To the minimum of the model; half way, and so on, where that does not decrease F enough.

    `whole`: of all sources, where a first model is rough and a later one may need fewer.
    """
    point = state.point
    first = whole & (state.iterations == 0)
    model = functools.partial(_model_minimum, problem, point, first) if whole else _model_of(problem, point)
    toward_K = jax.lax.cond(state.step < 1, lambda: state.toward_K, model)
    ahead_K = toward_K - point.weights
    slope = (point.gradient + problem.f.scale) @ ahead_K
    new = problem.point(problem.feasible.repair(point.weights + state.step * ahead_K))
    rounding = 16 * jnp.finfo(new.loss.dtype).eps * (jnp.abs(point.loss) + problem.f.scale)
    enough = new.loss <= point.loss + _DECREASE * state.step * slope + rounding
    return State(
        jax.tree.map(lambda new, old: jnp.where(enough, new, old), new, point),
        toward_K,
        jnp.where(enough | first, 1.0, state.step / 2),  # after a rough model a better one
        state.iterations + 1,
    )


def _model_minimum(problem, point, first):
    """The minimum of the model over the smaller of two numbers of sources that holds all that matter."""
    models = [_model_of(problem, point, _part(problem)), _model_of(problem, point)]
    which = jnp.where(first, 0, 1)
    if (some := point.weights.size // _SOME) >= _SMALLEST:
        models.append(_model_of(problem, point, m=some))
        which = jnp.where(~first & (_matter(problem, point).sum() <= some), 2, which)
    return jax.lax.switch(which, models)


def _model_of(problem, point, part=None, m=None):
    """What finds the minimum of the model over m sources, or all; of the rows of a part alone, a rough one."""

    def minimum():
        columns_M = slice(None) if m is None else _foremost(problem, point, m)
        w_M = point.weights[columns_M]
        curvature_MxM = (part or problem.f).curvature_among(columns_M, w_M)
        if part is not None:  # hess f . w = -grad f tells how much of it is missing where few rows need a source
            missing_M = -point.gradient[columns_M] - curvature_MxM @ w_M
            curvature_MxM = curvature_MxM + jnp.diag(jnp.maximum(missing_M, 0) / w_M)
        curvature_MxM = curvature_MxM + jnp.diag(_NEAR * jnp.diag(curvature_MxM))
        linear_M = curvature_MxM @ w_M - (point.gradient + problem.f.scale)[columns_M]
        found_M = nonnegative_minimum(curvature_MxM, linear_M, w_M)
        return jnp.zeros_like(point.weights).at[columns_M].set(found_M)

    return minimum


def _part(problem):
    return problem.f.part(_ROWS_PER_SOURCE * problem.feasible.num_sources)


def _matter(problem, point):
    """The sources with weight, and those on which weight would help."""
    return (point.weights > 0) | (point.gradient + problem.f.scale < 0)


def _foremost(problem, point, m):
    """The m sources that matter most, those with weight first."""
    reduced_K = point.gradient + problem.f.scale
    return jax.lax.top_k(jnp.where(point.weights > 0, jnp.inf, -reduced_K), m)[1]


def nonnegative_minimum(
    matrix_MxM: Float[Array, "M M"], linear_M: Float[Array, " M"], start_M: Float[Array, " M"]
) -> Float[Array, " M"]:
    """The minimum of 1/2 x' H x - c' x over x >= 0, H positive definite, from some x >= 0.

    First by block principal pivoting: all variables of the wrong sign change sides at once, as long as that leaves
    fewer of them, or nearly (Portugal, Judice and Vicente 1994).  Where this goes round in circles, by going down from
    the start (Lawson and Hanson 1974, chapter 23).
    """
    m = linear_M.size
    diagonal_M = jnp.diag(matrix_MxM)
    scale_M = jax.lax.rsqrt(jnp.maximum(diagonal_M, jnp.finfo(linear_M.dtype).eps * diagonal_M.max()))
    scaled_MxM, c_M = matrix_MxM * jnp.outer(scale_M, scale_M), linear_M * scale_M
    scaled_MxM = scaled_MxM + jnp.diag(1 - jnp.diag(scaled_MxM))  # no curvature at all: a source that explains nothing
    blur = 8 * m * jnp.finfo(c_M.dtype).eps * jnp.max(jnp.abs(c_M))

    def solved(free_M):
        """x where only these are not 0, and what is below 0 that must not be: x, or the slope at 0."""
        free_MxM = jnp.where(jnp.outer(free_M, free_M), scaled_MxM, 0) + jnp.diag(jnp.where(free_M, 0.0, 1.0))
        x_M = factored(free_MxM).inverse(jnp.where(free_M, c_M, 0)[:, None])[:, 0]
        return x_M, jnp.where(free_M, x_M, scaled_MxM @ x_M - c_M)

    def exchange(carry):
        free_M, _, value_M, least, patience = carry
        free_M = free_M ^ (value_M < -blur)
        x_M, value_M = solved(free_M)
        count = (value_M < -blur).sum()
        patience = jnp.where(count < least, _PATIENCE, patience - 1)
        return free_M, x_M, value_M, jnp.minimum(count, least), patience

    def descend(carry):
        x_M, free_M, _, tries = carry
        ahead_M, value_M = solved(free_M)
        falling_M = free_M & (ahead_M < 0)
        # As far as no x falls below 0; if that is all the way, the one that gains most is set free.
        reach_M = jnp.where(falling_M, x_M / (x_M - ahead_M), jnp.inf)
        gain_M = jnp.where(free_M, 0, -value_M)
        arrived, most, first = ~falling_M.any(), jnp.argmax(gain_M), jnp.argmin(reach_M)
        free_M = jnp.where(arrived, free_M.at[most].set(True), free_M.at[first].set(False))
        x_M = jnp.where(arrived, ahead_M, x_M + jnp.minimum(reach_M.min(), 1) * (ahead_M - x_M))
        return jnp.where(free_M, jnp.maximum(x_M, 0), 0), free_M, ~arrived | (gain_M[most] > blur), tries + 1

    free_M = start_M > 0
    x_M, value_M = solved(free_M)
    first = free_M, x_M, value_M, jnp.asarray(m + 1), jnp.asarray(_PATIENCE)
    _, x_M, value_M, *_ = jax.lax.while_loop(lambda carry: (carry[2] < -blur).any() & (carry[4] >= 0), exchange, first)
    lost = (value_M < -blur).any()
    x_M, *_ = jax.lax.while_loop(
        lambda carry: carry[2] & (carry[3] < _TRIES * m),
        descend,
        (jnp.where(lost, start_M / scale_M, x_M), free_M, lost, jnp.asarray(0)),
    )
    return scale_M * jnp.maximum(x_M, 0)


ACTIVE_SET = Method(init, step, iterations=ITERATIONS, priors=False)
