"""Primal-dual interior point with Mehrotra's predictor and corrector: the default method.

With slacks t > 0 and multipliers z > 0 of the inequalities A w <= b, and the multiplier y of sum w = 1, each iteration
solves the Newton equations of

    grad F(w) + y 1 + A' z = 0        sum w = 1        A w + t = b        t_m z_m = mu

twice with one Cholesky factor, that of the K x K matrix hess F + D. The diagonal D holds z / t of the bounds on single
sources. Groups and the sum are borders of this matrix, eliminated last. For cross-entropy on the whole simplex the sum
need not be imposed: f(c w) = f(w) - V log c, so the minimum of f(w) + V sum_k w_k over w >= 0 has sum w = 1, and y = V.
(Mehrotra 1992; Boyd and Vandenberghe 2004, section 11.7; for mixture proportions Kim, Carbonetto, Stephens and Anitescu
2020: mixsqp works on the same reduced problem.)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from mixmin_jax.mixture.arrays import cholesky, namespace, repeat, solve_factored, solve_lower
from mixmin_jax.mixture.problem import Method, Point, Problem

TO_BOUNDARY = 0.995  # longest step as a share of the way to the nearest bound: Mehrotra's choice; longer near the end
_CLOSEST = 1e-6  # least share of a distance to a bound that a step leaves
_EM_STEPS = 5  # cheap first steps; they save several Newton steps if most examples are clearly of one source
_LEAST = 1e-4  # least weight at the start, as a share of 1 / K: Newton steps need room

Curvature = tuple[Float[Array, ""], Float[Array, " K"], Float[Array, "K K"]]  # f, its gradient, its Hessian


class State(NamedTuple):
    point: Point
    curvature_KxK: Float[Array, "K K"]  # of f
    y: Float[Array, ""]
    slack_M: Float[Array, " M"]
    z_M: Float[Array, " M"]


class Ahead(NamedTuple):
    """The weights and multipliers after a step, before f is known there."""

    weights: Float[Array, " K"]
    y: Float[Array, ""]
    slack_M: Float[Array, " M"]
    z_M: Float[Array, " M"]


def init(problem: Problem) -> State:
    """The start of the feasible set, improved by a few cheap steps for a homogeneous f, with its multipliers."""
    w_K = problem.feasible.start()
    if problem.homogeneous:
        w_K = head_start(problem, w_K)
    return begin(problem, w_K, problem.f.curvature(w_K))


def step(problem: Problem, state: State) -> State:
    """One predictor and corrector step."""
    ahead = propose(problem, state)
    return arrive(problem, ahead, problem.f.curvature(ahead.weights))


def head_start(problem: Problem, w_K: Float[Array, " K"]) -> Float[Array, " K"]:
    """A few steps of expectation maximization, w_k <- -w_k grad_k f / scale, for a homogeneous f.

    They need no curvature, and the first ones gain most.
    """

    def em(w_K: Float[Any, " K"]) -> Float[Any, " K"]:
        _, gradient_K = problem.f.value_and_gradient(w_K)
        return problem.feasible.repair(-w_K * gradient_K)

    w_K = repeat(_EM_STEPS, em, w_K)
    return problem.feasible.repair(namespace(w_K).maximum(w_K, _LEAST / w_K.size))  # a step needs room


def begin(problem: Problem, w_K: Float[Array, " K"], values: Curvature) -> State:
    """The first state, from f, its gradient and its Hessian at w_K, with consistent multipliers."""
    loss, gradient_K, curvature_KxK = values
    xp = namespace(w_K)
    feasible, point = problem.feasible, problem.certified(w_K, loss, gradient_K)
    slack_M = feasible.limits() - feasible.rows(w_K)
    # Slacks must start above 0, also in a set without interior (caps that sum to 1); they shrink later.
    if not problem.homogeneous:
        slack_M = xp.maximum(slack_M, 1e-2 / feasible.num_sources)
    gradient_K = total_gradient(problem, point)
    y = problem.f.scale if problem.homogeneous else -(w_K @ gradient_K)
    # mu: about the size of the error, estimated from the reduced gradients
    mu = xp.maximum(xp.abs(gradient_K + y) @ w_K, 1e-8 * problem.f.scale) / feasible.num_sources
    return State(point, curvature_KxK, y, slack_M, mu / slack_M)


def propose(problem: Problem, state: State) -> Ahead:
    """The weights and multipliers after one predictor-corrector step. Evaluates nothing: the state holds f."""
    feasible, (point, _, y, slack_M, z_M) = problem.feasible, state
    w_K, b, xp = point.weights, feasible.num_bounds, namespace(point.weights)
    dual_K = total_gradient(problem, point) + y + feasible.adjoint(z_M)
    primal_M = feasible.limits() - feasible.rows(w_K) - slack_M
    mu = slack_M @ z_M / slack_M.size
    solve = newton(problem, state)

    def direction(
        complementarity_M: Float[Any, " M"],
    ) -> tuple[Float[Any, " K"], Float[Any, ""], Float[Any, " M"], Float[Any, " M"]]:
        """The Newton step that takes t z to t z - complementarity."""
        push_M = (complementarity_M + z_M * primal_M) / slack_M
        dw_K, dz_G, dy = solve(feasible.bounds_adjoint(push_M) - dual_K, (complementarity_M / z_M + primal_M)[b:])
        dslack_M = primal_M - feasible.rows(dw_K)
        dz_M = -(complementarity_M + z_M * dslack_M) / slack_M
        return dw_K, dy, dslack_M, xp.concatenate([dz_M[:b], dz_G])

    _, _, dslack_M, dz_M = direction(slack_M * z_M)
    primal, dual = xp.minimum(1, step_to_boundary(slack_M, dslack_M)), xp.minimum(1, step_to_boundary(z_M, dz_M))
    after = (slack_M + primal * dslack_M) @ (z_M + dual * dz_M) / slack_M.size
    # Scale the second-order term by the predictor's steps; in full it can throw a blocked iterate far off.
    second_M = primal * dual * dslack_M * dz_M
    dw_K, dy, dslack_M, dz_M = direction(slack_M * z_M + second_M - (after / mu) ** 3 * mu)

    # The share of a distance that is left shrinks with the error, which gives quadratic convergence.
    most = xp.maximum(TO_BOUNDARY, 1 - xp.maximum(slack_M @ z_M / problem.f.scale, _CLOSEST))
    primal = xp.minimum(1, most * step_to_boundary(slack_M, dslack_M))
    dual = xp.minimum(1, most * step_to_boundary(z_M, dz_M))
    w_K = feasible.repair(w_K + primal * dw_K)
    new_slack_M = w_K if problem.homogeneous else slack_M + primal * dslack_M
    return Ahead(w_K, y + dual * dy, new_slack_M, z_M + dual * dz_M)


def arrive(problem: Problem, ahead: Ahead, values: Curvature) -> State:
    """The state after a step, from f, its gradient and its Hessian there."""
    loss, gradient_K, curvature_KxK = values
    point = problem.certified(ahead.weights, loss, gradient_K)
    return State(point, curvature_KxK, ahead.y, ahead.slack_M, ahead.z_M)


def newton(problem: Problem, state: State) -> Callable:
    """The solver (r_K, r_G) -> (dw, dz_G, dy) of the Newton equations with the bounds on single sources eliminated.

        M dw + G' dz_G + 1 dy = r_K,      G dw - (t_G / z_G) dz_G = r_G,      1' dw = 0

    where M = hess F + D, and D is the diagonal of the bounds' z / t. If the sum is free, dy and the last equation drop
    out. Groups and the sum stay as borders: if a full group were eliminated like a bound, its large z / t would swamp
    the curvature inside the group.
    """
    feasible, ratio_M = problem.feasible, state.z_M / state.slack_M
    xp = namespace(ratio_M)
    diagonal_K = feasible.bounds_gram(ratio_M)
    if problem.prior is not None:
        diagonal_K = diagonal_K + problem.prior.strength / state.point.weights
    factor = factored(state.curvature_KxK + xp.diag(diagonal_K))
    k = diagonal_K.size
    if problem.homogeneous:
        return lambda r_K, r_G: (factor.inverse(r_K[:, None])[:, 0], r_G, xp.zeros_like(state.y))
    border_RxK, give_R = xp.ones((1, k)), xp.zeros(1)
    if feasible.groups is not None:
        border_RxK = xp.concatenate([feasible.groups.members_GxK, border_RxK])
        give_R = xp.concatenate([1 / ratio_M[feasible.num_bounds :], give_R])
    solve = bordered(factor, border_RxK, give_R)

    def with_sum(
        r_K: Float[Any, " K"], r_G: Float[Any, " G"]
    ) -> tuple[Float[Any, " K"], Float[Any, " G"], Float[Any, ""]]:
        dw_K, dual_R = solve(r_K, xp.append(r_G, 0))
        return dw_K, dual_R[:-1], dual_R[-1]

    return with_sum


class Factor(NamedTuple):
    """The Cholesky factor of a positive semidefinite matrix M, scaled to a unit diagonal."""

    lower_KxK: Float[Array, "K K"]
    scale_K: Float[Array, " K"]

    def half(self, x_KxR: Float[Array, "K R"]) -> Float[Array, "K R"]:
        """h(x), with h(x)' h(x) = x' M^-1 x."""
        return solve_lower(self.lower_KxK, self.scale_K[:, None] * x_KxR)

    def inverse(self, x_KxR: Float[Array, "K R"]) -> Float[Array, "K R"]:
        """M^-1 x."""
        return self.scale_K[:, None] * solve_factored(self.lower_KxK, self.scale_K[:, None] * x_KxR)


def factored(matrix_KxK: Float[Array, "K K"]) -> Factor:
    """The factor of a positive semidefinite matrix.

    The unit diagonal gives nearly the best conditioning that scaling can give. A shift of the size of rounding errors
    keeps the factorization possible with duplicate sources, or with groups that together make up the sum.
    """
    xp = namespace(matrix_KxK)
    scale_K = 1 / xp.sqrt(xp.diag(matrix_KxK))
    k = scale_K.size
    shift = 4 * k * np.finfo(scale_K.dtype).eps
    scaled_KxK = matrix_KxK * xp.outer(scale_K, scale_K) + shift * xp.eye(k)
    return Factor(cholesky(scaled_KxK), scale_K)


def bordered(factor: Factor, border_RxK: Float[Array, "R K"], give_R: Float[Array, " R"]) -> Callable:
    """The solver (r_K, r_R) -> (x, y) of M x + B' y = r_K and B x - diag(give) y = r_R, from the factor of M."""
    half_KxR, through_KxR = factor.half(border_RxK.T), factor.inverse(border_RxK.T)
    small = factored(half_KxR.T @ half_KxR + namespace(give_R).diag(give_R))

    def solve(r_K: Float[Any, " K"], r_R: Float[Any, " R"]) -> tuple[Float[Any, " K"], Float[Any, " R"]]:
        free_K = factor.inverse(r_K[:, None])[:, 0]
        y_R = small.inverse((border_RxK @ free_K - r_R)[:, None])[:, 0]
        return free_K - through_KxR @ y_R, y_R

    return solve


def total_gradient(problem: Problem, point: Point) -> Float[Array, " K"]:
    """grad F = grad f + the prior's."""
    return point.gradient if problem.prior is None else point.gradient + problem.prior.gradient(point.weights)


def step_to_boundary(x_M: Float[Array, " M"], dx_M: Float[Array, " M"]) -> Float[Array, ""]:
    """The largest step that keeps x + step dx >= 0."""
    xp = namespace(dx_M)
    return xp.min(xp.where(dx_M < 0, -x_M / xp.where(dx_M < 0, dx_M, -1), np.inf))


INTERIOR_POINT = Method(init, step, iterations=100)
