"""Calibration of class probabilities: known errors, known temperatures."""

import numpy as np
import pytest
from scipy.special import softmax

from mixmin_jax.errors import InputError
from mixmin_jax.stats.class_probabilities import calibration_error, cross_fitted_temperature, fit_temperature

RNG = np.random.default_rng(0)
LOGITS_NxA = 2 * RNG.normal(size=(4000, 5))
LABELS_N = (softmax(LOGITS_NxA, axis=1).cumsum(axis=1) < RNG.random((4000, 1))).sum(axis=1)  # drawn from them


def test_the_error_of_known_bins():
    probability_NxA = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.0, 1.0]])
    labels_N = np.array([0, 1, 0, 1])
    # bins of 0.9, 0.6 and 1: |1 - 1.8| + |0 - 0.6| + |1 - 1| over four examples
    assert calibration_error(probability_NxA, labels_N) == pytest.approx((0.8 + 0.6) / 4)
    with pytest.raises(InputError, match="at least one example"):
        calibration_error(np.zeros((0, 2)), np.zeros(0, int))


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_and_lowers_the_error(true):
    assert fit_temperature(true * LOGITS_NxA, LABELS_N) == pytest.approx(true, rel=0.05)
    found = cross_fitted_temperature(softmax(true * LOGITS_NxA, axis=1), LABELS_N)
    assert found.temperature == pytest.approx(true, rel=0.05)
    assert found.error_after < 0.03 and (found.error > 0.08) == (true != 1.0)


def test_a_temperature_that_does_not_help_others_is_left_out():
    """Nearly all are right in one half, and few in the other."""
    probability_NxA = np.tile([[0.7, 0.3]], (200, 1))
    labels_N = np.zeros(200, int)
    labels_N[0:10:2], labels_N[1:121:2] = 1, 1
    found = cross_fitted_temperature(probability_NxA, labels_N)
    assert found.temperature == 1.0 and found.error_after == found.error


def test_a_model_that_makes_no_errors_does_not_become_certain():
    probability_NxA = np.tile([[0.9, 0.1]], (200, 1))
    assert fit_temperature(np.log(probability_NxA), np.zeros(200, int)) < 0.1
    found = cross_fitted_temperature(probability_NxA, np.zeros(200, int))
    assert found.temperature == 1.0 and found.error_after == found.error == pytest.approx(0.1)
    with pytest.raises(InputError, match="two examples or more"):
        cross_fitted_temperature(np.ones((1, 2)), np.zeros(1, int))
