"""Calibration against SciPy's optimiser and against what was put in."""

import numpy as np
import pytest
import scipy.optimize

from mixmin_jax.errors import InputError
from mixmin_jax.training.calibration import calibrate
from mixmin_jax.training.weighted_examples import WeightedExamples


def examples(target_N, weight_N=None):
    weight_N = np.ones(len(target_N)) if weight_N is None else weight_N
    return WeightedExamples(np.asarray(target_N, np.float32)[None], np.asarray(weight_N, np.float32)[None])


def cross_entropy(line, score_N, target_N, weight_N):
    logit_N = line[0] * score_N + line[1]
    return weight_N @ (np.logaddexp(0, logit_N) - target_N * logit_N) / weight_N.sum()


def test_the_line_is_the_minimum_that_scipy_finds_with_soft_targets_and_weights():
    rng = np.random.default_rng(0)
    score_N = 3 + 5 * rng.normal(size=300)
    target_N, weight_N = rng.random(300) * (score_N > 0) + 0.1 * rng.random(300), rng.random(300)
    target_N = np.clip(target_N, 0, 1)
    found = calibrate(score_N[:, None], examples(target_N, weight_N), "cross_entropy")
    target_N, weight_N = (values.astype(np.float32).astype(float) for values in (target_N, weight_N))
    best = scipy.optimize.minimize(cross_entropy, [0.1, 0.0], (score_N, target_N, weight_N), tol=1e-12)
    reached = cross_entropy([found.slope_M[0], found.intercept_M[0]], score_N, target_N, weight_N)
    assert reached == pytest.approx(best.fun, abs=1e-7) and found.slope_M[0] == pytest.approx(best.x[0], rel=1e-3)


def test_scores_that_are_four_times_too_sure_are_made_a_quarter():
    rng = np.random.default_rng(1)
    logit_N = rng.normal(size=20_000) - 1
    label_N = rng.random(20_000) < 1 / (1 + np.exp(-logit_N))
    found = calibrate(4 * logit_N[:, None], examples(label_N), "cross_entropy")
    assert found.slope_M[0] == pytest.approx(0.25, abs=0.02) and found.intercept_M[0] == pytest.approx(0, abs=0.05)


def test_scores_in_the_wrong_order_become_the_best_constant():
    rng = np.random.default_rng(2)
    score_N = rng.normal(size=500)
    label_N = rng.random(500) < 0.3
    for scores_N in (np.where(label_N, -1.0, 1.0) + 0.1 * score_N, np.zeros(500)):
        found = calibrate(scores_N[:, None], examples(label_N), "cross_entropy")
        assert found.slope_M[0] == 0
        assert 1 / (1 + np.exp(-found.intercept_M[0])) == pytest.approx(label_N.mean(), abs=1e-6)


def test_measured_values_get_the_regression_line_of_the_molecules_with_weight():
    rng = np.random.default_rng(3)
    score_N = rng.normal(size=(200, 2))
    value_N = 2 * score_N[:, 0] - 3 + 0.1 * rng.normal(size=200)
    weight_N = np.r_[np.ones(100), np.zeros(100)]
    score_N[150:] = np.nan
    both = WeightedExamples(
        np.stack([value_N, -score_N[:, 1]]).astype(np.float32), np.stack([weight_N, weight_N]).astype(np.float32)
    )
    both.target_MxN[:, 100:] = 0
    found = calibrate(score_N, both, "squared_error")
    slope, intercept = np.polyfit(score_N[:100, 0], value_N[:100], 1)
    assert (found.slope_M[0], found.intercept_M[0]) == pytest.approx((slope, intercept), rel=1e-4)
    assert found.slope_M[1] == 0 and found.intercept_M[1] == pytest.approx(-score_N[:100, 1].mean(), rel=1e-4)


def test_calibration_never_makes_the_fitted_loss_worse_than_the_scores_or_a_constant():
    rng = np.random.default_rng(4)
    for seed in range(10):
        label_N = (rng.random(60) < 0.4).astype(float)
        score_N = rng.normal(size=60) * 10**seed / 1e4 + label_N
        found = calibrate(score_N[:, None], examples(label_N), "cross_entropy")
        ones_N = np.ones(60)
        reached = cross_entropy([found.slope_M[0], found.intercept_M[0]], score_N, label_N, ones_N)
        mean = label_N.mean()
        assert reached <= cross_entropy([1, 0], score_N, label_N, ones_N) + 1e-6
        assert reached <= cross_entropy([0, np.log(mean / (1 - mean))], score_N, label_N, ones_N) + 1e-6


def test_bad_input_is_named():
    with pytest.raises(InputError, match="model 0 has no finite score for 1"):
        calibrate(np.array([[1.0], [np.nan]]), examples([0, 1]), "cross_entropy")
    with pytest.raises(InputError, match="one class"):
        calibrate(np.array([[1.0], [2.0]]), examples([1, 1]), "cross_entropy")
