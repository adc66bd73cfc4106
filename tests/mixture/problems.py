"""A bank of small problems for the solvers, all of one shape so that compilations are shared, and independent answers.

Axes: N examples, K sources, D outputs.
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from mixmin_jax import cross_entropy, squared_error
from mixmin_jax.mixture.constraints import build
from mixmin_jax.mixture.problem import Problem

N, K, D = 48, 6, 2


def _rng(name):
    return np.random.default_rng([ord(letter) for letter in name])


def classifiers(n=N, k=K):
    """Log-probabilities that k classifiers of different quality give to the true class."""
    rng = _rng("classifiers")
    logits = rng.normal(size=(n, k, 8)) * 1.5
    logits[:, :, 0] += rng.uniform(0.5, 2.5, size=k)
    return logits[:, :, 0] - np.log(np.exp(logits).sum(axis=2))


def text(spread=1000.0):
    """Documents whose log-likelihoods lie around -2000 and spread over hundreds of nats between sources."""
    rng = _rng("text")
    return -2000 + rng.normal(size=(N, 1)) * spread + rng.normal(size=(N, K)) * spread / 4


def scales():
    """A sample of a scale mixture of normals, under normals of different scales."""
    rng = _rng("scales")
    scale = np.geomspace(0.1, 10, K)
    x = rng.normal(size=N) * np.where(rng.random(N) < 0.5, 1, 4)
    return -0.5 * (x[:, None] / scale) ** 2 - np.log(scale)


def near_duplicates(distance=1e-8):
    """Two families of sources with hardly a difference inside each; distance 0 for duplicates."""
    base = classifiers()[:, :2]
    return np.repeat(base, K // 2, axis=1) + distance * _rng("near").normal(size=(N, K))


def zero_cells():
    """Many examples that a source excludes, -inf, with source 0 as the only one that excludes none."""
    logp = classifiers().copy()
    logp[_rng("zeros").random((N, K)) < 0.5] = -np.inf
    logp[:, 0] = -7.0
    return logp


def dominating():
    """Source 2 gives every example the most: it gets all the weight."""
    logp = classifiers().copy()
    logp[:, 2] = 0.0
    return logp


def disjoint():
    """Each example belongs to one source: the weights are the shares of examples."""
    return np.where(_disjoint_owner()[:, None] == np.arange(K), -3.0, -np.inf)


def _disjoint_owner():
    return np.sort(np.concatenate([np.arange(K), _rng("owner").integers(K, size=N - K)]))


CROSS_ENTROPIES = {
    "classifiers": classifiers(),
    "text, 1000 nats": text(),
    "scales": scales(),
    "duplicates": near_duplicates(0.0),
    "near-duplicates": near_duplicates(),
    "zero cells": zero_cells(),
    "dominating": dominating(),
    "disjoint": disjoint(),
}

KNOWN_WEIGHTS = {
    "dominating": np.eye(K)[2],
    "disjoint": np.bincount(_disjoint_owner(), minlength=K) / N,
}

PRIOR = np.array([0.3, 0.25, 0.2, 0.15, 0.06, 0.04])

CONSTRAINTS = {
    "simplex": {},
    "caps": {"upper_bounds": np.array([0.25, 0.3, 0.2, 0.4, 1.0, 0.1])},
    "groups": {"groups": {(0, 2): 0.3, (1, 4, 5): 0.45}},
    "bounds": {
        "lower_bounds": np.full(K, 0.02),
        "upper_bounds": np.full(K, 0.4),
        "groups": {(0, 2): 0.3, (1, 4, 5): 0.45},
    },
    "prior": {"prior": PRIOR, "prior_strength": 0.05},
    "all": {
        "lower_bounds": np.full(K, 0.02),
        "upper_bounds": np.full(K, 0.4),
        "groups": {(0, 2): 0.3, (1, 4, 5): 0.45},
        "prior": PRIOR,
        "prior_strength": 0.05,
    },
}


def example_weights():
    """Uneven, and one of them 0."""
    v_N = _rng("weights").random(N) / N
    v_N[3] = 0
    return v_N


def predictions():
    """Predictions (N, K, D) and targets (N, D) near a mixture of some of them."""
    rng = _rng("predictions")
    yhat = rng.normal(size=(N, K, D)) * np.linspace(0.5, 2, K)[:, None]
    return yhat, 3 + yhat[:, 1] * 0.6 + yhat[:, 4] * 0.4 + 0.3 * rng.normal(size=(N, D))


def objectives():
    """Name -> objective, all of the bank."""
    bank = {name: cross_entropy(logp) for name, logp in CROSS_ENTROPIES.items()}
    bank["weighted"] = cross_entropy(classifiers(), example_weights())
    bank["squared error"] = squared_error(*predictions())
    return bank


def rows_of(name):
    """Log-likelihoods and example weights of a cross-entropy of the bank."""
    v_N = example_weights() if name == "weighted" else np.full(N, 1 / N)
    return CROSS_ENTROPIES.get(name, classifiers()), v_N


def problem(constraint, objective=None):
    """A problem as methods see it; call it under x64."""
    objective = cross_entropy(classifiers()) if objective is None else objective
    return Problem(objective.prepare(), *jax.tree.map(jnp.asarray, build(K, None, **CONSTRAINTS[constraint])))


@functools.cache
def reference(name, constraint):
    """loss + penalty at the optimum of a problem of the bank, by an independent solver, good to about 1e-8."""
    rows = (None, None) if name == "squared error" else rows_of(name)
    return reference_optimum(*rows, CONSTRAINTS[constraint])


def assert_certified(solution, objective, name, constraint, tolerance):
    """Converged, feasible, and as good as the independent solver's optimum."""
    scale = float(objective.variance) if name == "squared error" else objective.weights_N.sum()
    assert solution.converged and 0 <= solution.gap <= tolerance * scale * (1 + 1e-12)
    assert_feasible(solution.weights, CONSTRAINTS[constraint])
    excess = solution.loss + solution.penalty - reference(name, constraint)
    assert -1e-6 <= excess <= solution.gap + 1e-6  # Clarabel's own error


def reference_optimum(logp_NxK, v_N, constraints):
    """The same for any cross-entropy, and for the squared error of the bank without one."""
    num_sources = K if logp_NxK is None else logp_NxK.shape[1]

    def losses(cp, w):
        return [squared_loss(cp, w) if logp_NxK is None else cross_entropy_loss(cp, w, logp_NxK, v_N)]

    return least(losses, num_sources, constraints)


def squared_loss(cp, w):
    """The squared error of the bank, as a CVXPY expression."""
    yhat, y = predictions()
    return cp.sum_squares(np.moveaxis(yhat - y[:, None], 1, 2).reshape(-1, K) @ w) / N


def cross_entropy_loss(cp, w, logp_NxK, v_N):
    shift_N = logp_NxK.max(axis=1)
    return -v_N @ cp.log(np.exp(logp_NxK - shift_N[:, None]) @ w) - v_N @ shift_N


def least(losses, num_sources, constraints, references=None):
    """The least sum of the losses plus the penalty (CVXPY with Clarabel).

    With references, the least worst case: of the largest difference of a loss and its reference.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CVXPY's own deprecations are not ours to answer for
        import cvxpy as cp

        w = cp.Variable(num_sources)
        terms = [w >= constraints.get("lower_bounds", 0), cp.sum(w) == 1]
        if "upper_bounds" in constraints:
            terms.append(w <= constraints["upper_bounds"])
        terms += [cp.sum(w[list(group)]) <= cap for group, cap in constraints.get("groups", {}).items()]
        if references is None:
            total = sum(losses(cp, w))
        else:
            total = cp.Variable()
            terms += [loss - reference <= total for loss, reference in zip(losses(cp, w), references, strict=True)]
        if "prior" in constraints:
            total = total + constraints["prior_strength"] * cp.sum(cp.rel_entr(w, constraints["prior"]))
        problem = cp.Problem(cp.Minimize(total), terms)
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
        return problem.value


def assert_feasible(weights, constraints, atol=1e-12):
    """Weights on the simplex and inside every bound."""
    np.testing.assert_allclose(weights.sum(), 1, rtol=0, atol=max(atol, 1e-12))
    assert (weights >= np.maximum(constraints.get("lower_bounds", 0), 0) - atol).all()
    assert (weights >= 0).all()
    assert (weights <= constraints.get("upper_bounds", 1) + atol).all()
    for group, cap in constraints.get("groups", {}).items():
        assert weights[list(group)].sum() <= cap + atol


def penalised(logp_NxK, v_N, weights, constraints):
    """Cross-entropy plus penalty, term by term, for comparison."""
    with np.errstate(divide="ignore"):
        log_w = np.log(weights)
    loss = -v_N @ np.logaddexp.reduce(logp_NxK + log_w, axis=1)
    if "prior" in constraints:
        used = weights > 0
        ratio = np.log(weights[used] / constraints["prior"][used])
        loss += constraints["prior_strength"] * (weights[used] * ratio).sum()
    return loss
