"""The gap is a bound at every feasible point, and 0 at the optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax import cross_entropy, solve
from mixmin_jax.mixture.certificate import gap, kl_terms
from tests.mixture import problems
from tests.mixture.problems import CONSTRAINTS, K

jitted_gap = jax.jit(gap)
pytestmark = pytest.mark.usefixtures("x64")


value = jax.jit(lambda evaluator, w_K: evaluator.value(w_K))
value_and_gradient = jax.jit(lambda evaluator, w_K: evaluator.value_and_gradient(w_K))


def setup(constraint):
    problem = problems.problem(constraint)
    return problem.f, problem.feasible, problem.prior


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_gap_bounds_what_any_other_point_can_gain(constraint):
    evaluator, feasible, prior = setup(constraint)
    rng = np.random.default_rng(0)
    repair = jax.jit(feasible.repair)
    points = [repair(jnp.asarray(rng.dirichlet(np.full(K, 0.4)))) for _ in range(30)]
    optimum = solve(cross_entropy(problems.classifiers()), tolerance=1e-12, **CONSTRAINTS[constraint])
    points.append(repair(jnp.asarray(optimum.weights)))
    totals = [value(evaluator, w_K) + (prior.value(w_K) if prior else 0) for w_K in points]
    assert min(totals) == totals[-1]
    for w_K, total in zip(points, totals, strict=True):
        bound = jitted_gap(w_K, value_and_gradient(evaluator, w_K)[1], feasible, prior)
        assert bound >= total - min(totals) - 1e-12


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_gap_is_the_largest_gain_of_the_linearisation(constraint):
    evaluator, feasible, prior = setup(constraint)
    rng = np.random.default_rng(1)
    w_K = feasible.repair(jnp.asarray(rng.dirichlet(np.ones(K))))
    gradient_K = value_and_gradient(evaluator, w_K)[1]

    def gain(u_K):
        return gradient_K @ (w_K - u_K) + (prior.value(w_K) - prior.value(u_K) if prior else 0)

    if prior is None:
        best_K = feasible.minimize_linear(gradient_K)
    else:
        best_K = feasible.project_kl(jnp.log(prior.q_K) - gradient_K / prior.strength)[0]
    bound = gap(w_K, gradient_K, feasible, prior)
    np.testing.assert_allclose(bound, gain(best_K), rtol=1e-9)
    repair = jax.jit(feasible.repair)
    for _ in range(30):
        assert gain(repair(jnp.asarray(rng.dirichlet(np.ones(K))))) <= bound + 1e-12


def test_closed_forms_on_the_simplex():
    evaluator, feasible, _ = setup("simplex")
    w_K = jnp.asarray(problems.PRIOR)
    _, gradient_K = value_and_gradient(evaluator, w_K)
    np.testing.assert_allclose(gap(w_K, gradient_K, feasible), (-gradient_K).max() - 1, rtol=1e-12)
    _, _, prior = setup("prior")
    s, q_K, other_K = prior.strength, prior.q_K, jnp.full(K, 1 / K)
    _, gradient_K = evaluator.value_and_gradient(other_K)
    closed = gradient_K @ other_K + prior.value(other_K) + s * jnp.log(q_K @ jnp.exp(-gradient_K / s))
    np.testing.assert_allclose(gap(other_K, gradient_K, feasible, prior), closed, rtol=1e-11)


def test_divergence_terms_do_not_cancel():
    a_K = jnp.asarray([0.0, 1e-310, 0.2, 0.3])
    log_b_K = jnp.asarray([-1.0, -2.0, np.log(0.2) + 1e-9, -900.0])
    terms_K = kl_terms(a_K, log_b_K)
    assert (terms_K >= 0).all() and jnp.isfinite(terms_K).all()
    np.testing.assert_allclose(terms_K[0], np.exp(-1), rtol=1e-14)
    np.testing.assert_allclose(terms_K[2], 0.2 * 0.5e-18, rtol=1e-6)
    np.testing.assert_allclose(terms_K[3], 0.3 * (np.log(0.3) + 900) - 0.3, rtol=1e-14)
