"""Olmix: the log-linear fit, and its proposal against a generic minimizer."""

import numpy as np
import pytest
from scipy.optimize import minimize

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.baselines.olmix import LogLinearPredictor, fit_log_linear, propose_near
from mixmin_jax.mixture.baselines.regmix import LinearPredictor

SLOPE_K = np.array([0.8, -0.5, 0.1, -1.2])
PRIOR_K = np.array([0.4, 0.3, 0.2, 0.1])


def mixtures(num, seed):
    return np.random.default_rng(seed).dirichlet(np.full(4, 0.5), size=num)


def test_a_log_linear_loss_is_recovered():
    train_RxK, unseen_RxK = mixtures(40, 0), mixtures(20, 1)
    law = LogLinearPredictor(2.0, LinearPredictor(SLOPE_K, 0.3, 0.0))
    found = fit_log_linear(train_RxK, law(train_RxK))
    assert found.floor == pytest.approx(2.0, rel=0.15)  # c comes from a grid
    np.testing.assert_allclose(found(unseen_RxK), law(unseen_RxK), rtol=0.01)


@pytest.mark.parametrize("caps", [None, [1.0, 0.3, 0.35, 0.25]])
@pytest.mark.parametrize("strength", [0.05, 0.5, 5.0])
def test_the_proposal_is_the_minimum_with_the_prior(caps, strength):
    law = LogLinearPredictor(2.0, LinearPredictor(SLOPE_K, 0.3, 0.0))

    def loss(w_K):
        return law(w_K) + strength * np.sum(w_K * np.log(w_K / PRIOR_K))

    found_K = propose_near(law, PRIOR_K, strength, caps)
    bounds = [(1e-9, cap) for cap in caps or np.ones(4)]
    sums_to_one = {"type": "eq", "fun": lambda w_K: w_K.sum() - 1}
    best = minimize(loss, [0.4, 0.2, 0.2, 0.2], bounds=bounds, constraints=sums_to_one, options={"ftol": 1e-12})
    assert found_K.sum() == pytest.approx(1) and loss(found_K) <= best.fun + 1e-7
    np.testing.assert_allclose(found_K, best.x, atol=2e-3)


def test_what_has_no_proposal_is_refused():
    law = fit_log_linear(mixtures(9, 0), mixtures(9, 0) @ SLOPE_K + 3)
    with pytest.raises(InputError, match="strength must be positive; got 0"):
        propose_near(law, PRIOR_K, 0)
    with pytest.raises(InputError, match="positive losses"):
        fit_log_linear(mixtures(9, 0), mixtures(9, 0) @ SLOPE_K)


@pytest.mark.parametrize(
    ("losses", "message"),
    [([3.0], "at least 2 runs; got 1"), ([3.0, np.nan, 2.0], "run 1"), ([3.0, np.inf, 2.0], "run 1")],
)
def test_runs_that_cannot_be_fitted_are_refused(losses, message):
    with pytest.raises(InputError, match=message):
        fit_log_linear(mixtures(len(losses), 0), losses)
