import os

import numpy as np
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.baselines.random_search import candidate_mixtures
from mixmin_jax.mixture.baselines.regmix import fit_regmix, propose

SLOPE_K = np.array([3.0, 1.0, 2.0, 5.0])


def runs(num, seed=0, concentration=0.5):
    mixtures_RxK = np.random.default_rng(seed).dirichlet(np.full(4, concentration), size=num)
    return mixtures_RxK, mixtures_RxK @ SLOPE_K


@pytest.mark.parametrize("ridge", [0.0, None])
def test_linear_recovers_a_linear_loss(ridge):
    predictor = fit_regmix(*runs(40), ridge=ridge)
    unseen_RxK, losses_R = runs(20, seed=1)
    # the least strength of the grid, 1e-5, is what ridge falls short by
    np.testing.assert_allclose(predictor(unseen_RxK), losses_R, atol=1e-12 if ridge == 0.0 else 1e-4)


def test_linear_is_ordinary_least_squares():
    mixtures_RxK, losses_R = runs(30)
    losses_R = losses_R + np.random.default_rng(2).normal(size=30)
    design = np.column_stack([np.ones(30), mixtures_RxK])
    expected_R = design @ np.linalg.lstsq(design, losses_R, rcond=None)[0]
    np.testing.assert_allclose(fit_regmix(mixtures_RxK, losses_R, ridge=0.0)(mixtures_RxK), expected_R, atol=1e-10)


def test_linear_predictions_follow_a_permutation_of_sources_and_a_shift_of_losses():
    mixtures_RxK, losses_R = runs(12)
    losses_R = losses_R + np.random.default_rng(2).normal(size=12)
    predicted_R = fit_regmix(mixtures_RxK, losses_R)(mixtures_RxK)
    order_K = [2, 0, 3, 1]
    permuted = fit_regmix(mixtures_RxK[:, order_K], losses_R + 7)
    np.testing.assert_allclose(permuted(mixtures_RxK[:, order_K]), predicted_R + 7, atol=1e-9)


def test_under_determined_least_squares_has_minimum_norm():
    mixtures_RxK, losses_R = runs(3)
    predictor = fit_regmix(mixtures_RxK, losses_R, ridge=0.0)
    np.testing.assert_allclose(predictor(mixtures_RxK), losses_R, atol=1e-10)
    centred_RxK = mixtures_RxK - mixtures_RxK.mean(0)
    expected_K = np.linalg.pinv(centred_RxK) @ (losses_R - losses_R.mean())
    np.testing.assert_allclose(predictor.slope_K, expected_K, atol=1e-8)


def test_the_chosen_ridge_has_the_least_leave_one_out_error():
    mixtures_RxK, losses_R = runs(9)
    losses_R = losses_R + np.random.default_rng(3).normal(size=9)

    def error(strength):
        residuals = []
        for r in range(9):
            rest = np.arange(9) != r
            predictor = fit_regmix(mixtures_RxK[rest], losses_R[rest], ridge=strength)
            residuals.append(float(predictor(mixtures_RxK[[r]])[0]) - losses_R[r])
        return np.mean(np.square(residuals))

    chosen = fit_regmix(mixtures_RxK, losses_R).ridge
    # leaving a run out also moves the centre, so the closed form is that of hat matrices with the intercept in them
    assert error(chosen) <= min(error(s) for s in np.geomspace(1e-5, 1e2, 29)) * (1 + 1e-9)


def test_ridge_beats_least_squares_when_runs_are_as_few_as_sources():
    errors = {None: [], 0.0: []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        mixtures_RxK, unseen_RxK = rng.dirichlet(np.full(8, 0.5), size=(2, 8))
        slope_K = rng.normal(size=8)
        losses_R = mixtures_RxK @ slope_K + 0.3 * rng.normal(size=8)
        for ridge, found in errors.items():
            predicted_R = fit_regmix(mixtures_RxK, losses_R, ridge=ridge)(unseen_RxK)
            found.append(np.mean((predicted_R - unseen_RxK @ slope_K) ** 2))
    assert np.median(errors[None]) < 0.5 * np.median(errors[0.0])


def test_trees_fit_what_a_linear_model_cannot_and_repeat_exactly():
    mixtures_RxK, unseen_RxK = np.random.default_rng(0).dirichlet(np.ones(4), size=(2, 300))

    def loss(w_RxK):
        return np.abs(w_RxK[:, 0] - 0.3)

    before = os.environ.get("OMP_NUM_THREADS")
    predictor = fit_regmix(mixtures_RxK, loss(mixtures_RxK), model="boosted_trees")
    linear = fit_regmix(mixtures_RxK, loss(mixtures_RxK))
    assert np.corrcoef(predictor(unseen_RxK), loss(unseen_RxK))[0, 1] > 0.95
    assert np.corrcoef(linear(unseen_RxK), loss(unseen_RxK))[0, 1] < 0.8
    again = fit_regmix(mixtures_RxK, loss(mixtures_RxK), model="boosted_trees")
    np.testing.assert_array_equal(predictor(unseen_RxK), again(unseen_RxK))
    assert os.environ.get("OMP_NUM_THREADS") == before  # which is set while trees grow


def test_all_published_trees_are_used():
    assert fit_regmix(*runs(64), model="boosted_trees").trees.n_iter_ == 1000


def test_propose_averages_the_best_candidates():
    candidates_MxK = np.array([[1.0, 0.0], [0.8, 0.2], [0.4, 0.6], [0.0, 1.0]])
    np.testing.assert_allclose(propose(lambda w_MxK: w_MxK[:, 0], candidates_MxK, top=2), [0.2, 0.8])


def test_propose_finds_the_cheapest_source_and_obeys_caps():
    predictor, sizes_K = fit_regmix(*runs(40)), np.ones(4)
    assert propose(predictor, candidate_mixtures(sizes_K, seed=0, num=10_000), top=10)[1] > 0.95
    caps_K = np.array([1.0, 0.4, 0.3, 1.0])
    capped_K = propose(predictor, candidate_mixtures(sizes_K, seed=0, num=10_000, upper_bounds_K=caps_K), top=10)
    np.testing.assert_allclose(capped_K, [0.3, 0.4, 0.3, 0.0], atol=0.02)
    assert (capped_K <= caps_K + 1e-12).all()


@pytest.mark.parametrize("top", [0, 5])
def test_propose_refuses_a_top_outside_the_candidates(top):
    with pytest.raises(InputError, match="top must lie"):
        propose(lambda w_MxK: w_MxK[:, 0], np.eye(4), top=top)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"losses_R": np.ones(3)}, "do not match"),
        ({"mixtures_RxK": 100 * runs(40)[0]}, r"row 0 .* sums to 100: weights are shares of 1"),
        ({"mixtures_RxK": np.tile([1.5, -0.5], (40, 1))}, r"row 0 .* a negative weight"),
        ({"losses_R": np.where(np.arange(40) == 7, np.nan, 1.0)}, "run 7 "),
        ({"model": "forest"}, "unknown model 'forest'"),
        ({"ridge": -1.0}, "ridge must"),
        ({"ridge": 1.0, "model": "boosted_trees"}, "ridge is for model='linear'"),
        ({"mixtures_RxK": np.eye(4)[:1], "losses_R": np.ones(1)}, "at least 2 runs; got 1"),
        ({"mixtures_RxK": np.eye(4), "losses_R": np.ones(4), "model": "boosted_trees"}, "at least 64 runs; got 4"),
    ],
)
def test_fit_refuses_bad_input(change, message):
    mixtures_RxK, losses_R = runs(40)
    with pytest.raises(InputError, match=message):
        fit_regmix(**({"mixtures_RxK": mixtures_RxK, "losses_R": losses_R} | change))
