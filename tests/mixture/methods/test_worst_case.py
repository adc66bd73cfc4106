"""The worst case's Newton system against a dense solve of the full one, and convergence on random problems."""

import jax
import numpy as np
import pytest

from mixmin_jax import cross_entropy
from mixmin_jax.mixture.constraints import build
from mixmin_jax.mixture.methods.worst_case import WORST_CASE, init, newton, step
from mixmin_jax.mixture.problem import Problem, iterate
from mixmin_jax.mixture.targets import WorstCase, worst_case
from tests.mixture import problems
from tests.mixture.methods.test_interior_point import random_logp
from tests.mixture.problems import CONSTRAINTS, K, N

pytestmark = pytest.mark.usefixtures("x64")


def test_newton_solves_the_full_system():
    targets = worst_case([cross_entropy(problems.classifiers()), cross_entropy(problems.scales())])
    p = problems.problem("all", targets)
    feasible, prior = p.feasible, p.prior
    state = jax.jit(lambda p: step(p, init(p)))(p)
    rng, members_GxK = np.random.default_rng(0), np.asarray(feasible.groups.members_GxK)
    t, g = 2, len(members_GxK)
    ratio_I = np.asarray(state.z_I / state.slack_I)
    right = rng.normal(size=K), rng.normal(size=t), rng.normal(size=g), rng.normal()
    found = jax.jit(lambda p, state, right: newton(p, state)(*right))(p, state, right)
    matrix = np.zeros((K + t + g + 2, K + t + g + 2))
    matrix[:K, :K] = state.curvature_KxK + np.diag(feasible.bounds_gram(ratio_I[:-t]))
    matrix[:K, :K] += np.diag(prior.strength / state.point.weights)
    border = np.concatenate([state.gradient_TxK, members_GxK, np.ones((1, K))])
    matrix[K:-1, :K], matrix[:K, K:-1] = border, border.T
    matrix[K:-1, K:-1] = -np.diag(np.concatenate([1 / ratio_I[-t:], 1 / ratio_I[feasible.num_bounds : -t], [0.0]]))
    matrix[K : K + t, -1], matrix[-1, K : K + t] = -1, 1
    expected = np.linalg.solve(matrix, np.concatenate([*right[:3], [0.0], [right[3]]]))
    np.testing.assert_allclose(np.concatenate([np.atleast_1d(x) for x in found]), expected, rtol=1e-6, atol=1e-9)


@jax.jit
def run(targets, feasible, prior):
    return iterate(WORST_CASE, Problem(targets.prepare(), feasible, prior), 1e-9, 100)


def random_targets(rng):
    """Three of all sizes and kinds, some of them twice or turned around."""
    sizes = np.exp(rng.normal(size=3) * rng.choice([0, 1, 3], size=3)) / N
    parts = [cross_entropy(random_logp(rng), np.full(N, size)) for size in sizes]
    if rng.random() < 0.3:
        parts[1] = parts[0]
    if rng.random() < 0.3:
        parts[2] = cross_entropy(parts[0].logp_NxK[:, ::-1].copy())
    return parts


@pytest.mark.slow
@pytest.mark.parametrize("constraint", [pytest.param("simplex", marks=pytest.mark.slow), "all"])
def test_random_problems_converge_in_few_steps(constraint):
    """With references near the losses, so that now one target is the worst and now several are."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        parts, options = random_targets(rng), dict(CONSTRAINTS[constraint])
        if "prior" in options:
            options["prior_strength"] = 10 ** rng.uniform(-6, 2)
        near_K = rng.dirichlet(np.ones(K))
        references = [losses(part, near_K) - rng.choice([0, 1]) * rng.normal() for part in parts]
        found = run(WorstCase(tuple(parts), np.array(references), np.zeros(())), *build(K, None, **options))
        assert found.converged and found.iterations <= 25, seed
        problems.assert_feasible(np.asarray(found.best.point.weights), options)


def losses(part, w_K):
    return -part.weights_N @ np.logaddexp.reduce(part.logp_NxK + np.log(w_K), axis=1)
