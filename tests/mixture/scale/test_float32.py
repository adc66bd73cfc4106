"""Solves in float32 with certificates in float64."""

import jax
import numpy as np
import pytest

from mixmin_jax import NotConverged, cross_entropy, solve, squared_error
from tests.mixture import problems
from tests.mixture.problems import CONSTRAINTS

OBJECTIVES = problems.objectives()
QUICK = ["simplex", "caps"]


def cases(constraints):
    return [(name, constraint) for name in OBJECTIVES for constraint in constraints]


def check(name, constraint):
    solution = solve(OBJECTIVES[name], precision="float32", **CONSTRAINTS[constraint])
    problems.assert_certified(solution, OBJECTIVES[name], name, constraint, 1e-6)
    assert solution.weights.dtype == np.float64 and len(solution.gap_history) == solution.iterations + 1
    assert solution.gap in solution.gap_history
    if name != "squared error":
        exact = problems.penalised(*problems.rows_of(name), solution.weights, CONSTRAINTS[constraint])
        total = solution.loss + solution.penalty  # in float64, at the weights returned
        np.testing.assert_allclose(total, exact, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name, constraint", [case for case in cases(QUICK) if case != ("squared error", "caps")])
def test_float32_reaches_a_millionth_on_every_problem(name, constraint):
    check(name, constraint)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, constraint", [*cases([one for one in CONSTRAINTS if one not in QUICK]), ("squared error", "caps")]
)
def test_float32_reaches_a_millionth_under_all_constraints(name, constraint):
    check(name, constraint)


def test_refinement_reaches_what_float32_cannot_resolve():
    objective = OBJECTIVES["classifiers"]
    rough, fine = (solve(objective, precision="float32", tolerance=tolerance) for tolerance in (1e-6, 1e-12))
    assert rough.gap > 1e-12 >= fine.gap and fine.iterations > rough.iterations
    np.testing.assert_allclose(fine.weights, solve(objective, tolerance=1e-12).weights, atol=1e-9)


@pytest.mark.slow
def test_methods_of_first_order_are_certified_or_refused():
    for tolerance, converged in ((1e-3, True), (1e-12, False)):
        solution = solve(
            OBJECTIVES["scales"], method="mirror_descent", precision="float32", tolerance=tolerance, throw=False
        )
        assert solution.converged is converged
        exact = solve(OBJECTIVES["scales"])
        assert exact.loss - exact.gap <= solution.loss <= exact.loss + solution.gap
    assert "float32 cannot resolve less" in solution.status
    with pytest.raises(NotConverged, match="use precision='float64', or method='interior_point'"):
        solve(OBJECTIVES["scales"], method="mirror_descent", precision="float32", tolerance=1e-12)


def test_runs_on_the_callers_default_device_without_float64():
    device = jax.devices()[3]
    with jax.default_device(device), jax.debug_nans(True):
        here = solve(OBJECTIVES["classifiers"], precision="float32")
    np.testing.assert_array_equal(here.weights, solve(OBJECTIVES["classifiers"], precision="float32").weights)
    assert not jax.config.jax_enable_x64


@pytest.mark.slow
@pytest.mark.parametrize("spread", [3.0, 60.0, 1000.0])
def test_float32_reaches_a_millionth_on_many_rows_of_text(spread):
    rng = np.random.default_rng(0)
    n, k = 100_000, 20
    logp_NxK = -2000 + 500 * rng.normal(size=(n, 1)) + spread * rng.normal(size=(n, k)) + rng.normal(size=k)
    solution, exact = solve(cross_entropy(logp_NxK), precision="float32"), solve(cross_entropy(logp_NxK))
    assert solution.converged and solution.gap <= 1e-6
    assert exact.loss - 1e-9 <= solution.loss <= exact.loss + solution.gap


@pytest.mark.slow
def test_float32_reaches_a_millionth_of_a_squared_error_of_many_rows():
    rng = np.random.default_rng(0)
    y_N = rng.normal(size=100_000)
    yhat_NxK = y_N[:, None] * 0.5 + rng.normal(size=(100_000, 20)) * np.linspace(0.5, 2, 20)
    solution = solve(squared_error(yhat_NxK, y_N), precision="float32")
    np.testing.assert_allclose(solution.loss, solve(squared_error(yhat_NxK, y_N)).loss, atol=2e-6)
