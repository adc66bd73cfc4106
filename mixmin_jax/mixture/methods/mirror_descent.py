"""Entropic mirror descent: the method of the MixMin paper, with a safeguarded step and stopping on the gap.

    w+ = argmin over u in C of  eta [grad f(w) . u + s KL(u || q)] + KL(u || w)

On the simplex without a prior this multiplies weights by exp(-eta grad f) and normalizes them (MixMin,
arXiv:2502.10510; Beck and Teboulle 2003). The published loop takes eta = 1 and a fixed number of steps. Here eta
shrinks until f(w+) <= f(w) + grad f(w) . (w+ - w) + KL(w+ || w) / eta, so a step decreases F except by
rounding. Afterwards eta grows again. If no step is short enough, the weights stay.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mixmin_jax.mixture.certificate import kl_terms
from mixmin_jax.mixture.problem import Method, Point, Problem

_SHRINK, _GROW = 0.5, 1.5  # factors on eta after a rejected and after an accepted step
_MOST_HALVINGS = 60  # of eta in one step; more would leave the weights where they are


# A step: eta, the weights after it, f and its gradient there, and the number of steps tried before.
Tried = tuple[Float[Array, ""], Float[Array, " K"], tuple[Float[Array, ""], Float[Array, " K"]], Any]


class State(NamedTuple):
    point: Point
    eta: Float[Array, ""]  # the next step to try


def init(problem: Problem) -> State:
    """The start of the feasible set, with the paper's eta = 1 in units of the objective."""
    return State(problem.point(problem.feasible.start()), 1 / problem.f.scale)


def step(problem: Problem, state: State) -> State:
    """One descent step, with backtracking."""
    here = state.point
    tiny = jnp.finfo(here.weights.dtype).tiny
    log_K = jnp.log(jnp.maximum(here.weights, tiny))  # so a weight that has underflowed can grow again

    def move(eta: Float[Array, ""]) -> tuple[Float[Array, " K"], tuple[Float[Array, ""], Float[Array, " K"]]]:
        logx_K = log_K - eta * here.gradient
        if problem.prior is not None:
            damping = 1 + eta * problem.prior.strength
            logx_K = (logx_K + eta * problem.prior.strength * jnp.log(problem.prior.q_K)) / damping
        w_K = problem.feasible.repair(problem.feasible.project_kl(logx_K)[0])
        return w_K, problem.f.value_and_gradient(w_K)

    def rejected(carry: Tried) -> Bool[Array, ""]:
        eta, w_K, (loss, _), tries = carry
        bound = here.loss + here.gradient @ (w_K - here.weights) + kl_terms(w_K, log_K).sum() / eta
        rounding = 4 * jnp.finfo(loss.dtype).eps * (jnp.abs(here.loss) + problem.f.scale)
        return ~(loss <= bound + rounding) & (tries < _MOST_HALVINGS)

    def shrink(carry: Tried) -> Tried:
        eta, _, _, tries = carry
        eta = eta * _SHRINK
        return eta, *move(eta), tries + 1

    eta, w_K, outcome, _ = jax.lax.while_loop(rejected, shrink, (state.eta, *move(state.eta), 0))
    moved, stays = problem.certified(w_K, *outcome), rejected((eta, w_K, outcome, 0))
    return State(jax.tree.map(lambda new, old: jnp.where(stays, old, new), moved, here), eta * _GROW)


MIRROR_DESCENT = Method(init, step)
