"""Primal-dual interior point for the worst of several targets: minimize max_t g_t(w) + s KL(w || q) over w in C.

In epigraph form there is one more unknown, tau >= g_t for all t. With slacks and multipliers (t, z) of A w <= b as in
`interior_point`, slacks s_t > 0 and prices lambda_t >= 0 of the targets, each iteration solves the Newton equations of

    sum_t lambda_t grad g_t + grad prior + y 1 + A' z = 0     sum lambda = 1     g_t(w) - tau + s_t = 0
    sum w = 1     A w + t = b     t_m z_m = mu     s_t lambda_t = mu

with the system of `interior_point`: the gradients of the targets are borders of sum_t lambda_t hess g_t + D, as groups
of sources are, and tau is eliminated last. (Boyd and Vandenberghe 2004, sections 4.1.3 and 11.7.)

Certificate. For prices lambda on the simplex and any u in C, max_t g_t(u) >= lambda . g(u), which is convex in u. So

    F(w) - F(u) <= max_t g_t(w) - lambda . g(w)  +  lambda . (g(w) - g(u)) + s [KL(w || q) - KL(u || q)]
                <= max_t g_t(w) - lambda . g(w)  +  gap_C(w; sum_t lambda_t grad g_t, prior)

with gap_C from `certificate`. The first difference is the error of the prices, gap_C that of w for these prices.

Axes: T targets, K sources, M inequalities of C, G groups, R borders, I = M + T inequalities in all.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixmin_jax.mixture.certificate import gap
from mixmin_jax.mixture.evaluator import Evaluator
from mixmin_jax.mixture.methods.interior_point import TO_BOUNDARY, bordered, factored, step_to_boundary, total_gradient
from mixmin_jax.mixture.problem import Method, Point, Problem

_KEPT = 0.1  # least share of a target's planned slack that a step must leave
_RISE = 0.5  # most that a step may raise tau above its plan, as a share of the gap
_SHORTEST = 1e-6  # shortest step; shorter ones are not tried


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Targets:
    """g_t(w) = f_t(w) - r_t for all targets, as the method evaluates them."""

    parts: tuple[Evaluator, ...]
    reference_T: Float[Array, " T"]  # r_t, with the offset of f_t
    reference_error: Float[Array, ""]  # largest amount by which an r_t may be too high

    @property
    def homogeneous(self) -> bool:
        return False

    @property
    def scale(self) -> Float[Array, ""]:
        """The largest scale of the targets."""
        return jnp.stack([part.scale for part in self.parts]).max()

    @property
    def offset_T(self) -> Float[Array, " T"]:
        return jnp.stack([part.offset for part in self.parts])

    @property
    def offset(self) -> Float[Array, ""]:
        """A constant that all values g_t leave out, so their differences do not vanish next to it."""
        return (self.offset_T - self.reference_T).max()

    def rounding(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        """A bound on the error of the certificate from rounding and from inexact references."""
        rounding = jnp.stack([part.rounding(w_K) for part in self.parts]).max()
        if len(self.parts) == 1:  # with one target a constant cancels
            return rounding
        largest = (jnp.abs(self.offset_T) + jnp.abs(self.reference_T)).max()
        return rounding + self.reference_error + jnp.finfo(largest.dtype).eps * largest

    def values(self, w_K: Float[Array, " K"]) -> Float[Array, " T"]:
        """g_t(w), less the offset."""
        return jnp.stack([part.value(w_K) for part in self.parts]) + self._shift_T

    def values_and_gradients(self, w_K: Float[Array, " K"]) -> tuple[Float[Array, " T"], Float[Array, "T K"]]:
        """g_t(w), less the offset, and their gradients."""
        values, gradients = zip(*(part.value_and_gradient(w_K) for part in self.parts), strict=True)
        return jnp.stack(values) + self._shift_T, jnp.stack(gradients)

    def curvature(
        self, w_K: Float[Array, " K"], prices_T: Float[Array, " T"]
    ) -> tuple[Float[Array, " T"], Float[Array, "T K"], Float[Array, "K K"]]:
        """g_t(w), less the offset; their gradients; and sum_t prices_t times the Hessian of g_t."""
        values, gradients, curvatures = zip(*(part.curvature(w_K) for part in self.parts), strict=True)
        curvature_KxK = jnp.tensordot(prices_T, jnp.stack(curvatures), axes=1)
        return jnp.stack(values) + self._shift_T, jnp.stack(gradients), curvature_KxK

    @property
    def _shift_T(self) -> Float[Array, " T"]:
        return self.offset_T - self.reference_T - self.offset


class State(NamedTuple):
    point: Point  # its loss is max_t g_t, its gradient sum_t lambda_t grad g_t
    values_T: Float[Array, " T"]  # g_t, without the common offset
    gradient_TxK: Float[Array, "T K"]
    curvature_KxK: Float[Array, "K K"]  # sum_t lambda_t hess g_t
    y: Float[Array, ""]
    tau: Float[Array, ""]
    slack_I: Float[Array, " I"]  # of the M inequalities, then of the T targets
    z_I: Float[Array, " I"]  # their multipliers; the last T are the prices

    @property
    def prices_T(self) -> Float[Array, " T"]:
        """lambda, on the simplex."""
        prices_T = self.z_I[-self.values_T.size :]
        return prices_T / prices_T.sum()


def init(problem: Problem) -> State:
    """The start of the feasible set. Worse targets get higher prices."""
    f, feasible = _targets(problem), problem.feasible
    w_K = feasible.start()
    values_T, gradient_TxK, _ = f.curvature(w_K, jnp.ones(len(f.parts)))
    # mu: gives the worst target a slack of about the error, estimated from the reduced gradients
    reduced_TxK = gradient_TxK - (gradient_TxK @ w_K)[:, None]
    error = jnp.maximum((jnp.abs(reduced_TxK) @ w_K).max(), 1e-8 * f.scale)
    tau = values_T.max() + error
    slack_T = tau - values_T
    mu = 1 / (1 / slack_T).sum()
    prices_T = mu / slack_T
    slack_M = jnp.maximum(feasible.limits() - feasible.rows(w_K), 1e-2 / feasible.num_sources)
    values_T, gradient_TxK, curvature_KxK = f.curvature(w_K, prices_T)
    point = certified(problem, w_K, values_T, gradient_TxK, prices_T)
    y = -(w_K @ total_gradient(problem, point))
    slack_I = jnp.concatenate([slack_M, slack_T])
    return State(point, values_T, gradient_TxK, curvature_KxK, y, tau, slack_I, mu / slack_I)


def step(problem: Problem, state: State) -> State:
    """One predictor and corrector step."""
    f, feasible = _targets(problem), problem.feasible
    point, values_T, gradient_TxK, _, y, tau, slack_I, z_I = state
    m, b, w_K = slack_I.size - values_T.size, feasible.num_bounds, point.weights
    dual_K = total_gradient(problem, point._replace(gradient=z_I[m:] @ gradient_TxK)) + y + feasible.adjoint(z_I[:m])
    missed_I = jnp.concatenate([feasible.limits() - feasible.rows(w_K), tau - values_T]) - slack_I
    mu = slack_I @ z_I / slack_I.size
    solve = newton(problem, state)

    def direction(
        complementarity_I: Float[Array, " I"], primal_I: Float[Array, " I"]
    ) -> tuple[Float[Array, " K"], Float[Array, ""], Float[Array, ""], Float[Array, " I"], Float[Array, " I"]]:
        """The Newton step that takes t z to t z - complementarity and corrects the constraints by `primal`."""
        push_I = (complementarity_I + z_I * primal_I) / slack_I
        give_I = complementarity_I / z_I + primal_I
        dw_K, dprices_T, dz_G, dy, dtau = solve(
            feasible.bounds_adjoint(push_I[:m]) - dual_K, give_I[m:], give_I[b:m], 1 - z_I[m:].sum()
        )
        dslack_I = primal_I - jnp.concatenate([feasible.rows(dw_K), gradient_TxK @ dw_K - dtau])
        dz_I = -(complementarity_I + z_I * dslack_I) / slack_I
        return dw_K, dy, dtau, dslack_I, jnp.concatenate([dz_I[:b], dz_G, dprices_T])

    dw_K, _, _, dslack_I, dz_I = direction(slack_I * z_I, missed_I)
    primal = TO_BOUNDARY * jnp.minimum(1, step_to_boundary(slack_I, dslack_I))
    dual = jnp.minimum(1, step_to_boundary(z_I, dz_I))
    # How far targets bend away from their tangents along the predictor step. The corrector needs this: a target far
    # below now may be the worst there.
    bend_T = f.values(feasible.repair(w_K + primal * dw_K)) - values_T - primal * gradient_TxK @ dw_K
    bend_T = jnp.where(jnp.isfinite(bend_T), jnp.maximum(bend_T, 0), 0)
    bend_I = jnp.concatenate([jnp.zeros(m), bend_T])
    after = jnp.maximum(slack_I + primal * dslack_I - bend_I, 0) @ (z_I + dual * dz_I) / slack_I.size
    second_I = primal * dual * dslack_I * dz_I
    dw_K, dy, dtau, dslack_I, dz_I = direction(slack_I * z_I + second_I - (after / mu) ** 3 * mu, missed_I - bend_I)

    primal = jnp.minimum(1, TO_BOUNDARY * step_to_boundary(slack_I, dslack_I))
    dual = jnp.minimum(1, TO_BOUNDARY * step_to_boundary(z_I, dz_I))

    def ahead(primal: Float[Array, ""]) -> tuple[Float[Array, " K"], Float[Array, " T"], Float[Array, ""]]:
        """The weights after a step, the slack wanted for each target, and the rise of tau that leaves that slack."""
        there_K = feasible.repair(w_K + primal * dw_K)
        wanted_T = _KEPT * (slack_I + primal * dslack_I)[m:]
        return there_K, wanted_T, (f.values(there_K) + wanted_T).max() - (tau + primal * dtau)

    # A rise is harmless only if it is small next to the error. Larger ones mean that the step is too long.
    most = _RISE * jnp.maximum(slack_I @ z_I, point.gap)
    primal, (w_K, wanted_T, rise) = jax.lax.while_loop(
        lambda tried: ~(tried[1][2] <= most) & (tried[0] > _SHORTEST),
        lambda tried: (tried[0] / 4, ahead(tried[0] / 4)),
        (4 * primal, (w_K, values_T, jnp.asarray(jnp.inf))),
    )
    y, tau = y + dual * dy, tau + primal * dtau + jnp.maximum(rise, 0)
    slack_I, z_I = slack_I + primal * dslack_I, z_I + dual * dz_I
    values_T, gradient_TxK, curvature_KxK = f.curvature(w_K, z_I[m:])
    slack_I = slack_I.at[m:].set(jnp.maximum(tau - values_T, wanted_T))  # rounding may leave less than wanted
    point = certified(problem, w_K, values_T, gradient_TxK, z_I[m:] / z_I[m:].sum())
    return State(point, values_T, gradient_TxK, curvature_KxK, y, tau, slack_I, z_I)


def newton(problem: Problem, state: State) -> Any:
    """The solver (r_K, r_T, r_G, r) -> (dw, dlambda, dz_G, dy, dtau) of the Newton equations without single bounds.

        M dw + J' dlambda + G' dz_G + 1 dy = r_K      J dw - (s / lambda) dlambda - dtau = r_T
        G dw - (t_G / z_G) dz_G = r_G                 1' dw = 0               1' dlambda = r

    where M = sum_t lambda_t hess g_t + D and J holds the gradients of the targets.
    """
    feasible, t, m = problem.feasible, state.values_T.size, state.slack_I.size - state.values_T.size
    ratio_I = state.z_I / state.slack_I
    diagonal_K = feasible.bounds_gram(ratio_I[:m])
    if problem.prior is not None:
        diagonal_K = diagonal_K + problem.prior.strength / state.point.weights
    borders, gives = [state.gradient_TxK], [1 / ratio_I[m:]]
    if feasible.groups is not None:
        borders.append(jnp.asarray(feasible.groups.members_GxK))
        gives.append(1 / ratio_I[feasible.num_bounds : m])
    border_RxK = jnp.concatenate([*borders, jnp.ones((1, diagonal_K.size))])
    give_R = jnp.append(jnp.concatenate(gives), 0)
    within = bordered(factored(state.curvature_KxK + jnp.diag(diagonal_K)), border_RxK, give_R)
    raised_R = jnp.where(jnp.arange(give_R.size) < t, 1.0, 0.0)
    by_tau = within(jnp.zeros_like(diagonal_K), raised_R)

    def solve(
        r_K: Float[Array, " K"], r_T: Float[Array, " T"], r_G: Float[Array, " G"], r: Float[Array, ""]
    ) -> tuple[Float[Array, " K"], Float[Array, " T"], Float[Array, " G"], Float[Array, ""], Float[Array, ""]]:
        dw_K, dual_R = within(r_K, jnp.concatenate([r_T, r_G, jnp.zeros(1)]))
        dtau = (r - dual_R[:t].sum()) / by_tau[1][:t].sum()
        dw_K, dual_R = dw_K + dtau * by_tau[0], dual_R + dtau * by_tau[1]
        return dw_K, dual_R[:t], dual_R[t:-1], dual_R[-1], dtau

    return solve


def certified(
    problem: Problem,
    w_K: Float[Array, " K"],
    values_T: Float[Array, " T"],
    gradient_TxK: Float[Array, "T K"],
    prices_T: Float[Array, " T"],
) -> Point:
    """The point w in C with max_t g_t and the certificate above, for prices on the simplex."""
    loss, gradient_K = values_T.max(), prices_T @ gradient_TxK
    bound = prices_T @ (loss - values_T) + gap(w_K, gradient_K, problem.feasible, problem.prior)
    bound = bound + problem.f.rounding(w_K)
    return Point(w_K, loss, gradient_K, jnp.where(loss == jnp.inf, jnp.inf, bound))


def _targets(problem: Any) -> Targets:
    return problem.f


WORST_CASE = Method(init, step, iterations=100)
