"""Newton's method with an active set: the fewest passes over the rows, for cross-entropy on the whole simplex.

The sum of weights is not constrained: F(w) = f(w) + V sum_k w_k over w >= 0 (see `interior_point`). Each iteration
minimizes a second-order model of F over w >= 0 exactly. Three facts make this cheap:
- Solutions are sparse. After the first iteration the model covers only the m sources that have weight or would gain by
  it: N m^2 operations instead of N K^2.
- If m is small, F is minimized over these sources to the end before all sources are looked at again.
- The first model can be rough, so it is made from a part of the rows.

The certificate always comes from all rows and sources. mixsqp (Kim, Carbonetto, Stephens and Anitescu 2020) is a method
of this kind with all K sources.

If a model leads to rows with almost no density, steps become short and the method may fail. Callers then continue with
the interior point.

Axes: K sources, M of them in a model.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mixmin_jax.mixture.evaluator import Likelihoods
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.methods.interior_point import factored, head_start
from mixmin_jax.mixture.problem import Method, Point, Problem

ITERATIONS = 30  # most iterations; two to ten are usual, and more mean that steps have become short
_ROWS_PER_SOURCE = 32  # rows per source in the rough first model: enough for a good start
_FEW = 6  # K // 6 sources or fewer: solve them to the end before looking at all sources again
_SOME = 3  # K // 3 sources or fewer: use the model of these sources, which is cheaper than that of all
_SMALLEST = 4  # fewest sources for which such a smaller model pays
_INNER = 6  # most steps among few sources before all are looked at again
_CLOSER = 1e-8  # share of the gap at which steps among few sources stop
_NEAR = 1e-9  # relative damping of the curvature: keeps weights of near-duplicate sources; the minimum does not change
_DECREASE = 1e-4  # least decrease as a share of the one that the slope predicts (Armijo)
_PATIENCE = 3  # exchanges in a row that need not reduce the number of wrong signs
_TRIES = 5  # most steps of the descent, per variable


class State(NamedTuple):
    point: Point
    toward_K: Float[Array, " K"]  # the minimum of the model
    step: Float[Array, ""]  # how far to go there next; 1 asks for a new model
    iterations: Int[Array, ""]


def init(problem: Problem) -> State:
    """A few steps of expectation maximization on a part of the rows."""
    part = Problem(_part(problem), problem.feasible)
    point = problem.point(head_start(part, problem.feasible.start()))
    return State(point, point.weights, jnp.ones_like(point.gap), jnp.asarray(0))


def step(problem: Problem, state: State) -> State:
    """Step to the minimum of the model. If few sources matter, step to the minimum of F over them instead."""
    few = problem.feasible.num_sources // _FEW
    if few < _SMALLEST:
        return _newton(problem, state)
    alone = (_matter(problem, state.point).sum() <= few) & (state.step == 1)
    return jax.lax.cond(alone, lambda: _among_few(problem, state, few), lambda: _newton(problem, state))


def _among_few(problem: Problem, state: State, m: int) -> State:
    """Minimize over m sources that hold all weight, by steps that ignore the others."""
    point = state.point
    columns_M = _foremost(problem, point, m)
    face = Problem(_likelihoods(problem).among(columns_M), FeasibleSet(m))
    w_M = point.weights[columns_M]
    start = face.certified(w_M, point.loss, point.gradient[columns_M])
    last = jax.lax.while_loop(
        lambda state: (state.iterations < _INNER) & (state.point.gap > _CLOSER * point.gap),
        lambda state: _newton(face, state, whole=False),
        State(start, w_M, state.step, jnp.asarray(0)),
    )
    w_K = jnp.zeros_like(point.weights).at[columns_M].set(last.point.weights)
    return State(problem.point(w_K), w_K, state.step, state.iterations + 1)


def _newton(problem: Problem, state: State, whole: bool = True) -> State:
    """Step to the minimum of the model, or half way (a quarter, ...) if F does not decrease enough.

    whole: whether the problem has all sources. Then the first model is rough, and later ones may have fewer sources.
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
        jnp.where(enough | first, 1.0, state.step / 2),  # the rough model is not tried again
        state.iterations + 1,
    )


def _model_minimum(problem: Problem, point: Point, first: Bool[Array, ""]) -> Float[Array, " K"]:
    """The minimum of the model: rough at first, then over K // _SOME sources if these suffice, else over all."""
    models = [_model_of(problem, point, _part(problem)), _model_of(problem, point)]
    which = jnp.where(first, 0, 1)
    if (some := point.weights.size // _SOME) >= _SMALLEST:
        models.append(_model_of(problem, point, m=some))
        which = jnp.where(~first & (_matter(problem, point).sum() <= some), 2, which)
    return jax.lax.switch(which, models)


def _model_of(
    problem: Problem, point: Point, part: Likelihoods | None = None, m: int | None = None
) -> Callable[[], Float[Array, " K"]]:
    """A function that minimizes the model over m sources (None: all), from all rows or from those of `part`."""

    def minimum() -> Float[Array, " K"]:
        columns_M = slice(None) if m is None else _foremost(problem, point, m)
        w_M = point.weights[columns_M]
        curvature_MxM = (part or _likelihoods(problem)).curvature_among(columns_M, w_M)
        if part is not None:  # hess f . w = -grad f shows what the part misses of sources that few rows need
            missing_M = -point.gradient[columns_M] - curvature_MxM @ w_M
            curvature_MxM = curvature_MxM + jnp.diag(jnp.maximum(missing_M, 0) / w_M)
        curvature_MxM = curvature_MxM + jnp.diag(_NEAR * jnp.diag(curvature_MxM))
        linear_M = curvature_MxM @ w_M - (point.gradient + problem.f.scale)[columns_M]
        found_M = nonnegative_minimum(curvature_MxM, linear_M, w_M)
        return jnp.zeros_like(point.weights).at[columns_M].set(found_M)

    return minimum


def _part(problem: Problem) -> Likelihoods:
    return _likelihoods(problem).part(_ROWS_PER_SOURCE * problem.feasible.num_sources)


def _likelihoods(problem: Any) -> Likelihoods:
    return problem.f


def _matter(problem: Problem, point: Point) -> Bool[Array, " K"]:
    """The sources that have weight, or would gain by it."""
    return (point.weights > 0) | (point.gradient + problem.f.scale < 0)


def _foremost(problem: Problem, point: Point, m: int) -> Int[Array, " M"]:
    """The m sources that matter most, those with weight first."""
    reduced_K = point.gradient + problem.f.scale
    return jax.lax.top_k(jnp.where(point.weights > 0, jnp.inf, -reduced_K), m)[1]


def nonnegative_minimum(
    matrix_MxM: Float[Array, "M M"], linear_M: Float[Array, " M"], start_M: Float[Array, " M"]
) -> Float[Array, " M"]:
    """argmin over x >= 0 of 1/2 x' H x - c' x, with H positive definite.

    First block principal pivoting: all variables with a wrong sign change sides at once, while their number falls
    (Portugal, Judice and Vicente 1994). If that cycles, descend from `start` (Lawson and Hanson 1974, chapter 23).

    Args:
        matrix_MxM, linear_M: H and c.
        start_M: some x >= 0.
    """
    m = linear_M.size
    diagonal_M = jnp.diag(matrix_MxM)
    scale_M = jax.lax.rsqrt(jnp.maximum(diagonal_M, jnp.finfo(linear_M.dtype).eps * diagonal_M.max()))
    scaled_MxM, c_M = matrix_MxM * jnp.outer(scale_M, scale_M), linear_M * scale_M
    scaled_MxM = scaled_MxM + jnp.diag(1 - jnp.diag(scaled_MxM))  # 1 also for a source that explains no row
    blur = 8 * m * jnp.finfo(c_M.dtype).eps * jnp.max(jnp.abs(c_M))

    def solved(free_M: Bool[Array, " M"]) -> tuple[Float[Array, " M"], Float[Array, " M"]]:
        """x with all others at 0; and the values that must be at least 0: x if free, else the slope at 0."""
        free_MxM = jnp.where(jnp.outer(free_M, free_M), scaled_MxM, 0) + jnp.diag(jnp.where(free_M, 0.0, 1.0))
        x_M = factored(free_MxM).inverse(jnp.where(free_M, c_M, 0)[:, None])[:, 0]
        return x_M, jnp.where(free_M, x_M, scaled_MxM @ x_M - c_M)

    def exchange(carry: tuple[Array, Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array, Array]:
        free_M, _, value_M, least, patience = carry
        free_M = free_M ^ (value_M < -blur)
        x_M, value_M = solved(free_M)
        count = (value_M < -blur).sum()
        patience = jnp.where(count < least, _PATIENCE, patience - 1)
        return free_M, x_M, value_M, jnp.minimum(count, least), patience

    def descend(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        x_M, free_M, _, tries = carry
        ahead_M, value_M = solved(free_M)
        falling_M = free_M & (ahead_M < 0)
        # Go until an x reaches 0 and fix it there. If none does, free the variable with the largest gain.
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
