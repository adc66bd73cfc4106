"""Certificates of optimality: upper bounds on F(w) - min F, computed from the gradient.

F = f + s KL(w || q) is convex, so the linearization of f at w bounds the error of w (Frank-Wolfe gap; for mixture
proportions the directional-derivative condition of Kiefer and Wolfowitz 1956):

    gap(w) = max over u in C of  grad f . (w - u) + s [KL(w || q) - KL(u || q)]   >=   F(w) - min F   >=   0
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from mixmin_jax.mixture.arrays import HostOrDevice, namespace
from mixmin_jax.mixture.feasible import FeasibleSet


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prior:
    """The penalty s KL(w || q), in the units of f; q_k > 0."""

    q_K: Float[HostOrDevice, " K"]
    strength: Float[Any, ""]

    def value(self, w_K: Float[HostOrDevice, " K"]) -> Float[Any, ""]:
        """s sum_k w_k log(w_k / q_k), with 0 log 0 = 0."""
        xp = namespace(w_K)
        log_w_K = xp.log(xp.where(w_K > 0, w_K, 1))
        return self.strength * (w_K * (log_w_K - xp.log(self.q_K))).sum()

    def gradient(self, w_K: Float[HostOrDevice, " K"]) -> Float[Any, " K"]:
        return self.strength * (namespace(w_K).log(w_K) - namespace(w_K).log(self.q_K) + 1)


def gap(
    w_K: Float[HostOrDevice, " K"],
    gradient_K: Float[HostOrDevice, " K"],
    feasible: FeasibleSet,
    prior: Prior | None = None,
) -> Float[Any, ""]:
    """The bound above, in the units of f.

    Without a prior the maximum over u is a linear program over C; on the simplex the gap is grad . w - min_k grad_k.
    With a prior the maximum is at the KL projection u of q exp(-grad / s) on C. Its multipliers give a valid bound even
    if they are not exact (Boyd and Vandenberghe 2004, chapter 5).

    Cancellation: on the simplex, and with a prior on any C, the gap is a sum of terms >= 0. In a linear program with
    bounds, costs are shifted by the price of the last source bought.

    Args:
        w_K: weights in C.
        gradient_K: the gradient of f at w.
        feasible: C.
        prior: s and q.
    """
    if prior is None:
        return _linear_gap(w_K, gradient_K, feasible)
    s, xp = prior.strength, namespace(gradient_K)
    log_target_K = xp.log(prior.q_K) - gradient_K / s
    u_K, nu_K, lambda_G = feasible.project_kl(log_target_K)
    log_free_K = log_target_K - nu_K  # the minimizer without floors and caps: u_K = clip(exp(log_free_K), floor, cap)
    if feasible.plain:
        return s * kl_terms(w_K, log_free_K).sum()
    # Three-point identity where a bound is active: D(w, free) - D(u, free) = D(w, u) + (w - u) log(u / free).
    log_u_K = xp.where(u_K > 0, xp.log(xp.where(u_K > 0, u_K, 1)), log_free_K)
    # The last term is at least 0: u is the allowed value nearest to free.
    terms_K = kl_terms(w_K, log_u_K) + xp.maximum((w_K - u_K) * (log_u_K - log_free_K), 0)
    # A group with a price that w does not fill adds its price times the rest of its cap.
    groups = feasible.groups
    slack = 0.0 if groups is None or lambda_G is None else lambda_G @ xp.maximum(groups.cap_G - groups.sums(w_K), 0)
    return s * (terms_K.sum() + slack)


def _linear_gap(
    w_K: Float[HostOrDevice, " K"], gradient_K: Float[HostOrDevice, " K"], feasible: FeasibleSet
) -> Float[Any, ""]:
    if feasible.plain:
        return w_K @ (gradient_K - gradient_K.min())
    xp = namespace(gradient_K)
    u_K = feasible.minimize_linear(gradient_K)
    # sum (w - u) = 0, so a shift changes nothing. The price of the last source bought avoids cancellation.
    price = xp.max(xp.where(u_K > feasible.lower_K, gradient_K, -np.inf))
    price = xp.where(xp.isfinite(price), price, gradient_K.min())
    return xp.maximum((gradient_K - price) @ (w_K - u_K), 0)


def kl_terms(a_K: Float[HostOrDevice, " K"], log_b_K: Float[HostOrDevice, " K"]) -> Float[Any, " K"]:
    """D(a, b) = a log(a / b) - a + b >= 0 per entry, without cancellation where a is close to b."""
    xp = namespace(a_K)
    positive_K = a_K > np.finfo(a_K.dtype).tiny
    t_K = xp.where(positive_K, xp.log(xp.where(positive_K, a_K, 1)) - log_b_K, 0)
    return xp.where(positive_K, a_K * (xp.expm1(-t_K) + t_K), xp.exp(log_b_K))
