"""The quadratic programmes against SciPy, the model against the full curvature, and convergence on hard problems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

from mixmin_jax import InputError, NotConverged, cross_entropy, solve
from mixmin_jax.mixture import registry as methods
from mixmin_jax.mixture.evaluator import Likelihoods
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.methods.active_set import ACTIVE_SET, nonnegative_minimum
from mixmin_jax.mixture.problem import Problem, iterate
from tests.mixture import problems
from tests.mixture.methods.test_interior_point import random_logp

pytestmark = pytest.mark.usefixtures("x64")
minimum = jax.jit(nonnegative_minimum)


def quadratic(seed, m=12, rank=None):
    rng = np.random.default_rng(seed)
    half_MxR = rng.normal(size=(m, rank or m)) * np.exp(3 * rng.normal(size=(m, 1)))
    matrix_MxM = half_MxR @ half_MxR.T
    return matrix_MxM, matrix_MxM @ np.maximum(rng.normal(size=m), 0) + 0.1 * np.diag(matrix_MxM) * rng.normal(size=m)


def assert_least(matrix_MxM, linear_M, starts):
    lower_MxM = np.linalg.cholesky(matrix_MxM)
    expected_M, _ = scipy.optimize.nnls(lower_MxM.T, scipy.linalg.solve_triangular(lower_MxM, linear_M, lower=True))
    for start_M in (*starts, expected_M):
        found_M = np.asarray(minimum(matrix_MxM, linear_M, start_M))
        assert (found_M >= 0).all()
        values = [x @ matrix_MxM @ x / 2 - linear_M @ x for x in (found_M, expected_M)]
        np.testing.assert_allclose(*values, rtol=1e-8)


@pytest.mark.parametrize("seed", range(20))
def test_quadratic_programmes_agree_with_nnls(seed):
    assert_least(*quadratic(seed), (np.zeros(12), np.ones(12)))


@pytest.mark.parametrize("seed", range(10))
def test_quadratic_programmes_of_neighbours_much_alike_agree_with_nnls(seed):
    """Exchanges of blocks alone go round in circles in most of these."""
    place_M, rng = np.arange(30.0), np.random.default_rng(seed)
    matrix_MxM = np.exp(-((place_M[:, None] - place_M) ** 2) / 30) + 1e-6 * np.eye(30)
    linear_M = matrix_MxM @ np.where(rng.random(30) < 0.2, rng.random(30), 0) + 1e-3 * rng.normal(size=30)
    assert_least(matrix_MxM, linear_M, (np.zeros(30), rng.random(30)))


def test_quadratic_programmes_of_duplicates_end():
    matrix_MxM, linear_M = quadratic(0, rank=4)
    linear_M = matrix_MxM @ np.ones(12)  # inside the range, or there is no minimum
    found_M = np.asarray(minimum(matrix_MxM, linear_M, np.ones(12)))
    least = -linear_M @ np.ones(12) / 2
    assert (found_M >= 0).all()
    np.testing.assert_allclose(found_M @ matrix_MxM @ found_M / 2 - linear_M @ found_M, least, rtol=1e-6)


def test_curvature_among_some_sources_is_a_part_of_all_of_it():
    logp_NxK = problems.classifiers(3000, 6)
    f = jax.jit(lambda logp: cross_entropy(logp).prepare())(logp_NxK)
    w_K, columns_M = jnp.array([0.2, 0.0, 0.5, 0.0, 0.3, 0.0]), jnp.array([4, 0, 2, 1])
    found_MxM = jax.jit(Likelihoods.curvature_among)(f, columns_M, w_K[columns_M])
    *_, expected_KxK = jax.jit(Likelihoods.curvature)(f, w_K)
    np.testing.assert_allclose(found_MxM, expected_KxK[np.ix_(columns_M, columns_M)], rtol=1e-12)


@pytest.mark.parametrize("num_rows, blocks, rows", [(20_000, 1, 2500), (200_000, 25, 1000), (200_003, 25, 1024)])
def test_a_part_of_the_rows_stands_for_all(num_rows, blocks, rows):
    logp_NxK = problems.classifiers(num_rows, 4)
    f = cross_entropy(logp_NxK).prepare()
    part, w_K = f.part(128), jnp.full(4, 0.25)
    assert part.p_CxKxB.shape == (blocks, 4, rows) and f.part(10**6).p_CxKxB.shape == f.p_CxKxB.shape
    np.testing.assert_allclose(part.scale, f.scale)
    gradients_2xK = [jax.jit(Likelihoods.value_and_gradient)(x, w_K)[1] for x in (f, part)]
    np.testing.assert_allclose(*gradients_2xK, rtol=0.1)


@jax.jit
def run(objective):
    problem = Problem(objective.prepare(), FeasibleSet(objective.num_sources))
    return iterate(ACTIVE_SET, problem, 1e-9, ACTIVE_SET.iterations)


def assert_solved(result, objective):
    """By another way than ours."""
    weights_K, v_N = np.asarray(result.best.point.weights), objective.weights_N
    np.testing.assert_allclose(weights_K.sum(), 1, atol=1e-9)
    assert result.converged and (weights_K >= 0).all()
    p_NxK = np.exp(objective.logp_NxK - objective.logp_NxK.max(axis=1, keepdims=True))
    assert (p_NxK.T @ (v_N / (p_NxK @ weights_K))).max() - v_N.sum() <= 2e-9 * v_N.sum()


def test_few_sources_are_solved_among_themselves_before_all_are_looked_at():
    objective = cross_entropy(problems.classifiers(3000, 90))
    result = run(objective)
    assert_solved(result, objective)
    assert 1 < (result.best.point.weights > 0).sum() <= 15 and result.iterations <= 3


def test_many_sources_much_alike_are_no_obstacle():
    scale_K, rng = np.geomspace(0.1, 10, 40), np.random.default_rng(0)
    x_Nx1 = rng.normal(size=(2000, 1)) * np.where(rng.random((2000, 1)) < 0.5, 1, 4)
    objective = cross_entropy(-0.5 * (x_Nx1 / scale_K) ** 2 - np.log(scale_K))
    result = run(objective)
    assert_solved(result, objective)
    assert result.iterations <= 8


def test_random_problems_are_solved_or_left_to_the_interior_point():
    left = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        objective = cross_entropy(random_logp(rng), rng.random(problems.N) ** 4 / problems.N)
        result = run(objective)
        left += not result.converged
        if result.converged:
            assert_solved(result, objective)
    assert left <= 6


def large():
    """Large enough for `auto` to take the active set; more rows than a block, and models of three sizes."""
    return cross_entropy(problems.classifiers(2100, 48))


@pytest.mark.slow
def test_auto_takes_the_active_set_where_it_pays():
    objective = large()
    found = solve(objective, compiled=True)
    assert found.method == "active_set" and found.converged and found.status.startswith("converged: active_set")
    expected = solve(objective, method="interior_point")
    assert expected.method == "interior_point" and abs(found.loss - expected.loss) <= expected.gap + found.gap
    assert max(np.sum(found.weights > 0), np.sum(expected.weights > 0)) < 24
    assert solve(cross_entropy(problems.classifiers()), compiled=True).method == "interior_point"
    assert solve(objective, upper_bounds=0.5, compiled=True).method == "interior_point"


def test_auto_goes_on_with_the_interior_point(monkeypatch):
    stuck = ACTIVE_SET._replace(step=lambda problem, state: state)
    monkeypatch.setitem(methods.METHODS, "active_set", stuck)
    objective = cross_entropy(problems.classifiers(2101, 48))  # a shape that nothing is compiled for
    found = solve(objective, compiled=True)
    assert found.method == "interior_point" and found.converged
    with pytest.raises(NotConverged, match="interior_point'"):
        solve(objective, method="active_set")


@pytest.mark.parametrize(
    "options", [{"upper_bounds": 0.5}, {"prior": problems.PRIOR, "prior_strength": 0.1}, {"precision": "float32"}]
)
def test_what_the_active_set_cannot_solve_is_refused(options):
    with pytest.raises(InputError, match=r"is for one cross-entropy over the whole simplex|cannot take a prior"):
        solve(cross_entropy(problems.classifiers()), method="active_set", **options)
