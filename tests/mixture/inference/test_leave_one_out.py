"""What sources are worth, against solves without them."""

import jax
import numpy as np
import pytest

from mixmin_jax import InputError, NotConverged, cross_entropy, leave_one_out, solve, squared_error
from mixmin_jax.mixture.targets import weighted_sum
from tests.mixture import problems
from tests.mixture.problems import CROSS_ENTROPIES, PRIOR, K, N

OBJECTIVE = cross_entropy(problems.classifiers())
CAPS = {
    "lower_bounds": np.array([0, 0, 0, 0, 0.05, 0]),
    "upper_bounds": np.full(K, 0.4),
    "groups": {(0, 2): 0.3, (1, 4, 5): 0.65},
    "prior": PRIOR,
    "prior_strength": 0.05,
}


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("classifiers", "scales", "dominating")),
        "text, 1000 nats",
        "near-duplicates",
    ],
)
def test_worth_is_the_difference_of_two_solves(name):
    logp_NxK = CROSS_ENTROPIES[name]
    result, full = leave_one_out(cross_entropy(logp_NxK)), solve(cross_entropy(logp_NxK))
    for k in range(K):
        without = solve(cross_entropy(np.delete(logp_NxK, k, axis=1)))
        worth = without.loss - full.loss
        rounding = 1e-14 * abs(full.loss)  # of solves whose losses are thousands of nats
        assert result.lower[k] - full.gap - rounding <= worth <= result.upper[k] + without.gap + rounding
        np.testing.assert_allclose(result.worth[k], worth, atol=3e-9 + rounding)
        np.testing.assert_allclose(result.weights[k].sum(), 1, atol=1e-12)
        if name in ("classifiers", "scales"):
            np.testing.assert_allclose(np.delete(result.weights[k], k), without.weights, atol=1e-4)
        assert result.weights[k, k] == 0
    assert (result.lower <= result.worth).all() and (result.worth <= result.upper).all()
    assert (result.upper - result.lower).max() < 3e-9 and (result.gaps <= 1e-9).all()
    assert not result.reasons and "all 6 solves" in result.status


def test_sources_without_weight_need_no_solve():
    result = leave_one_out(cross_entropy(problems.dominating()))
    assert (np.delete(result.iterations, 2) == 0).all() and result.iterations[2] > 0
    assert (np.delete(result.upper, 2) < 3e-9).all() and result.lower[2] > 0.1


def test_small_worth_does_not_drown_in_large_losses():
    near = leave_one_out(OBJECTIVE).worth
    far = leave_one_out(cross_entropy(problems.classifiers() - 1e9)).worth  # so that losses resolve 1e-7 only
    np.testing.assert_allclose(far, near, atol=1e-6)
    result = leave_one_out(cross_entropy(problems.classifiers() + 2.0**20 * np.arange(N)[:, None]))
    np.testing.assert_allclose(result.worth, near, atol=3e-9)


def test_sources_that_alone_explain_a_row_cannot_be_left_out():
    objective = cross_entropy(problems.zero_cells(), sources=list("abcdef"))
    result = leave_one_out(objective)
    finite_NxK = np.isfinite(problems.zero_cells())
    row = np.flatnonzero(finite_NxK.sum(axis=1) == 1)[0]
    assert result.worth[0] == result.lower[0] == result.upper[0] == np.inf and np.isnan(result.weights[0]).all()
    assert list(result.reasons) == [0] and f"only a explains row {row}" in result.reasons[0]
    assert np.isfinite(result.worth[1:]).all() and result.sources == tuple("abcdef")
    assert (leave_one_out(cross_entropy(problems.disjoint())).worth == np.inf).all()


def test_rows_of_weight_zero_that_one_source_alone_explains_do_not_count():
    logp_NxK, v_N = problems.classifiers(), np.r_[0, np.full(N - 1, 1 / N)]
    expected = leave_one_out(cross_entropy(logp_NxK, v_N)).worth
    logp_NxK[0, 1:] = -np.inf
    np.testing.assert_allclose(leave_one_out(cross_entropy(logp_NxK, v_N)).worth, expected, atol=1e-8)


@pytest.mark.slow
def test_all_constraints_at_once():
    result, full = leave_one_out(OBJECTIVE, **CAPS), solve(OBJECTIVE, **CAPS)
    assert list(result.reasons) == [3, 4] and (result.worth[3:5] == np.inf).all()
    assert "allow at most 0.95" in result.reasons[3] and "4 has a floor of 0.05" in result.reasons[4]
    upper_bounds = np.where(np.arange(K) == 1, 0, 0.4)
    without = solve(OBJECTIVE, **{**CAPS, "upper_bounds": upper_bounds})
    worth = without.loss + without.penalty - full.loss - full.penalty
    assert result.lower[1] - 1e-9 <= worth <= result.upper[1] + 1e-9
    np.testing.assert_allclose(result.weights[1], without.weights, atol=1e-4)
    for k in (0, 1, 2, 5):
        problems.assert_feasible(result.weights[k], CAPS, 1e-9)


def test_sources_that_may_not_be_used_are_worth_nothing():
    result = leave_one_out(cross_entropy(problems.classifiers(N, K + 1)), upper_bounds={2: 0.0})
    assert result.worth[2] == result.upper[2] == 0
    np.testing.assert_array_equal(result.weights[2], result.solution.weights)
    assert (result.weights[:, 2] == 0).all()
    excluded = leave_one_out(OBJECTIVE, prior=[0.4, 0.3, 0, 0.1, 0.1, 0.1], prior_strength=0.05)
    assert excluded.worth[2] == 0 and np.isfinite(excluded.upper).all() and (excluded.worth[[0, 1]] > 0).all()


def test_squared_error():
    yhat, y = problems.predictions()
    result, full = leave_one_out(squared_error(yhat, y, list("abcdef"))), solve(squared_error(yhat, y))
    without = solve(squared_error(np.delete(yhat, 4, axis=1), y))
    np.testing.assert_allclose(result.worth[4], without.loss - full.loss, atol=1e-7)


def test_a_solve_that_fails_is_named_and_bounds_still_hold():
    full = solve(OBJECTIVE)
    with pytest.raises(NotConverged):
        leave_one_out(OBJECTIVE, max_iterations=2)
    early, late = leave_one_out(OBJECTIVE, max_iterations=2, throw=False), leave_one_out(OBJECTIVE)
    assert "not converged: the solves with all sources, without 0" in early.status and not early.solution.converged
    assert (early.lower <= late.worth + 1e-9).all() and (late.worth <= early.upper + 1e-9).all()
    assert full.converged and (early.upper - early.lower).max() > 1e-6


def test_bad_input():
    with pytest.raises(InputError, match="at least two sources"):
        leave_one_out(cross_entropy(problems.classifiers(N, 1)))
    with pytest.raises(InputError, match="got WeightedSum"):
        leave_one_out(weighted_sum([OBJECTIVE, OBJECTIVE]))
    with pytest.raises(InputError, match="leave only source 2"):
        leave_one_out(OBJECTIVE, upper_bounds=np.eye(K)[2])
    with pytest.raises(InputError, match="outside jit"):
        jax.jit(lambda logp_NxK: leave_one_out(cross_entropy(logp_NxK)).worth)(problems.classifiers())
