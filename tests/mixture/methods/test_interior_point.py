"""The Newton system against a dense solve of the full one, and convergence on random problems of every kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax import cross_entropy, squared_error
from mixmin_jax.mixture.constraints import build
from mixmin_jax.mixture.methods.interior_point import INTERIOR_POINT, init, newton, step
from mixmin_jax.mixture.problem import Problem, iterate
from tests.mixture import problems
from tests.mixture.problems import CONSTRAINTS, K, problem

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("constraint", ["groups", "all"])
def test_newton_solves_the_full_system(constraint):
    p = problem(constraint)
    state = jax.jit(lambda p: step(p, init(p)))(p)
    rng = np.random.default_rng(0)
    ratio_M, bounds = np.asarray(state.z_M / state.slack_M), p.feasible.num_bounds
    members_GxK = np.asarray(p.feasible.groups.members_GxK) if p.feasible.groups else np.zeros((0, K))
    r_K, r_G = rng.normal(size=K), rng.normal(size=len(members_GxK))
    dw_K, dz_G, dy = newton(p, state)(jnp.asarray(r_K), jnp.asarray(r_G))
    hessian_KxK = np.asarray(state.curvature_KxK) + np.diag(p.feasible.bounds_gram(ratio_M))
    if p.prior:
        hessian_KxK += np.diag(p.prior.strength / state.point.weights)
    np.testing.assert_allclose(hessian_KxK @ dw_K + members_GxK.T @ dz_G + dy, r_K, atol=1e-9)
    np.testing.assert_allclose(members_GxK @ dw_K - dz_G / ratio_M[bounds:], r_G, atol=1e-9)
    assert abs(dw_K.sum()) < 1e-12


def test_dropping_the_sum_constraint_changes_nothing_but_the_path():
    free = problem("simplex")
    assert free.homogeneous and not problem("caps").homogeneous and not problem("prior").homogeneous
    assert not problem("simplex", squared_error(*problems.predictions())).homogeneous
    imposed = Problem(free.f, jax.tree.map(jnp.asarray, build(K, None, upper_bounds={0: 0.999})[0]))  # binds nothing
    runs = [jax.jit(lambda p: iterate(INTERIOR_POINT, p, 1e-12, 100))(p) for p in (free, imposed)]
    assert all(run.converged for run in runs)
    np.testing.assert_allclose(runs[0].best.point.weights, runs[1].best.point.weights, atol=1e-9)


@jax.jit
def run(objective, feasible, prior, limit, tolerance=1e-9):
    return iterate(INTERIOR_POINT, Problem(objective.prepare(), feasible, prior), tolerance, limit)


def random_logp(rng, n=problems.N):
    noise = rng.normal(size=(n, K))
    kind = rng.integers(4)
    if kind == 0:
        return noise * np.exp(2 * rng.normal())
    if kind == 1:
        return 300 * noise + 20 * rng.normal(size=K)
    if kind == 2:  # mostly excluded
        noise = np.where(rng.random((n, K)) < 0.8, -np.inf, noise)
        noise[np.arange(n), rng.integers(K, size=n)] = 0
        return noise
    return noise[:, rng.integers(3, size=K)] + 10.0 ** -rng.integers(3, 12) * rng.normal(size=(n, K))


@pytest.mark.parametrize("constraint", ["simplex", "bounds", "all"])
def test_random_problems_converge_in_few_steps(constraint):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        options = dict(CONSTRAINTS[constraint])
        if "prior" in options:
            options["prior"] = rng.dirichlet(np.full(K, 0.5)) * (1 - 1e-9) + 1e-9 / K
            options["prior_strength"] = 10 ** rng.uniform(-6, 3) if seed >= 5 else 0.05  # as Clarabel can take it
        if "upper_bounds" in options:
            inside = rng.dirichlet(np.ones(K))
            options["lower_bounds"] = inside * rng.uniform(0, 1, K)
            options["upper_bounds"] = inside + rng.exponential(0.1, K)
            options["groups"] = {g: inside[list(g)].sum() + rng.exponential(0.05) for g in options["groups"]}
        logp_NxK, v_N = random_logp(rng), rng.random(problems.N) ** 4 / problems.N
        objective, (feasible, prior) = cross_entropy(logp_NxK, v_N), build(K, None, **options)
        result = run(objective, feasible, prior, 100)
        assert result.converged and result.iterations <= 30, seed
        problems.assert_feasible(np.asarray(result.best.point.weights), options)
        if seed < 5:
            total = problems.penalised(logp_NxK, v_N, np.asarray(result.best.point.weights), options)
            assert abs(total - problems.reference_optimum(logp_NxK, v_N, options)) < 1e-6, seed


def test_double_precision_is_used_up():
    feasible, prior = build(K, None, **CONSTRAINTS["all"])
    result = run(cross_entropy(problems.classifiers(), np.full(problems.N, 1 / problems.N)), feasible, prior, 60, 1e-30)
    assert result.best.point.gap < 1e-13  # and going on did no harm
