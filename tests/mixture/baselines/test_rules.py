import numpy as np
import pytest
from scipy.optimize import minimize

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.baselines.random_search import best_random_mixture, candidate_mixtures, random_mixtures
from mixmin_jax.mixture.baselines.rules import fit_under_caps, natural_weights, uniform_weights, unimax_weights

SIZES_K = np.array([300.0, 100.0, 50.0, 25.0, 25.0])


def test_uniform_and_natural_weights():
    np.testing.assert_allclose(uniform_weights(4), [0.25] * 4)
    np.testing.assert_allclose(natural_weights([3, 1, 0]), [0.75, 0.25, 0.0])


@pytest.mark.parametrize(
    ("budget", "epochs", "expected"),
    [
        (100, 1, [0.2] * 5),  # every source lasts: uniform
        (200, 1, [0.25, 0.25, 0.25, 0.125, 0.125]),  # two are used up
        (200, 0.5, [0.5, 0.25, 0.125, 0.0625, 0.0625]),
        (10_000, 4, natural_weights(SIZES_K)),  # all are used up
    ],
)
def test_unimax_is_uniform_as_far_as_sources_last(budget, epochs, expected):
    np.testing.assert_allclose(unimax_weights(SIZES_K, budget, epochs), expected, rtol=1e-12)


@pytest.mark.parametrize("sizes_K", [[], [0, 0], [1, -1], [1, np.nan], [[1, 2]]])
def test_natural_weights_refuse_bad_sizes(sizes_K):
    with pytest.raises(InputError, match="sizes must be"):
        natural_weights(sizes_K)


@pytest.mark.parametrize(
    "weights_K, caps_K, expected_K",
    [
        (natural_weights(SIZES_K), natural_weights(SIZES_K), natural_weights(SIZES_K)),  # caps that hold already
        # 0.6 -> 0.3 leaves 0.7 for the rest in proportion 2:1:0.5:0.5, of which the second may only have 0.3
        (natural_weights(SIZES_K), [0.3, 0.3, 1, 1, 1], [0.3, 0.3, 0.2, 0.1, 0.1]),
        # sources of weight zero take only what others cannot
        ([0.5, 0.5, 0, 0], [0.4, 1, 1, 1], [0.4, 0.6, 0, 0]),
        ([1.0, 0, 0, 0], [0.4, 0.4, 0.8, 0], [0.4, 0.2, 0.4, 0]),
        ([0.5, 0.5], [0.4, 0.6 - 1e-10], [0.4 / (1 - 1e-10), (0.6 - 1e-10) / (1 - 1e-10)]),  # short of 1 by rounding
    ],
)
def test_excess_goes_to_the_others_in_proportion(weights_K, caps_K, expected_K):
    np.testing.assert_allclose(fit_under_caps(weights_K, caps_K), expected_K, rtol=1e-14)


def test_fit_under_caps_is_the_kl_projection():
    rng = np.random.default_rng(0)
    for _ in range(5):
        weights_K, caps_K = rng.dirichlet(np.ones(5)), rng.uniform(0.1, 0.6, 5)
        caps_K *= max(1.0, 1.2 / caps_K.sum())
        reference = minimize(
            lambda u_K, w_K=weights_K: np.sum(u_K * np.log(u_K / w_K)),
            caps_K / caps_K.sum(),
            bounds=[(1e-9, cap) for cap in caps_K],
            constraints={"type": "eq", "fun": lambda u_K: u_K.sum() - 1},
            options={"ftol": 1e-13, "maxiter": 500},
        )
        # SLSQP stops near 1e-7 in the weights
        np.testing.assert_allclose(fit_under_caps(weights_K, caps_K), reference.x, atol=1e-5)


def test_fit_under_caps_takes_batches_row_by_row():
    rng = np.random.default_rng(1)
    weights_RxK, caps_K = rng.dirichlet(np.full(6, 0.3), size=50), np.array([0.3, 0.1, 0.25, 0.2, 0.3, 0.05])
    fitted_RxK = fit_under_caps(weights_RxK, caps_K)
    assert (fitted_RxK <= caps_K).all()
    np.testing.assert_allclose(fitted_RxK.sum(1), 1, atol=1e-12)
    for weights_K, fitted_K in zip(weights_RxK, fitted_RxK, strict=True):
        np.testing.assert_allclose(fit_under_caps(weights_K, caps_K), fitted_K, atol=1e-15)


@pytest.mark.parametrize(
    "weights_K, caps_K, message",
    [
        ([0.5, 0.5], [0.5, 0.33], "caps allow at most 0.83 in total"),
        ([0.5, 0.5], [0.5, 0.5 - 1e-8], "caps allow at most 1 - 1e-08 in total"),
        ([0.5, 0.5], [1.0, -0.1], "negative or not a number"),
        ([0.5, 0.5], [1.0, np.nan], "negative or not a number"),
        ([0.5, 0.5], [1.0], "do not match"),
        ([0.5, 0.6], [1.0, 1.0], "sum to 1"),
    ],
)
def test_fit_under_caps_refuses_bad_input(weights_K, caps_K, message):
    with pytest.raises(InputError, match=message):
        fit_under_caps(weights_K, caps_K)


def test_random_mixtures_are_distinct_mixtures_and_repeat_with_their_seed():
    mixtures_RxK = random_mixtures(64, SIZES_K, seed=0)
    assert mixtures_RxK.shape == (64, 5)
    np.testing.assert_allclose(mixtures_RxK.sum(1), 1, atol=1e-12)
    assert len(np.unique(mixtures_RxK.round(5), axis=0)) == 64
    np.testing.assert_array_equal(mixtures_RxK, random_mixtures(64, SIZES_K, seed=0))
    assert not np.array_equal(mixtures_RxK, random_mixtures(64, SIZES_K, seed=1))


def test_random_mixtures_have_no_weight_between_zero_and_the_minimum():
    mixtures_RxK = random_mixtures(64, SIZES_K, seed=0, minimum=0.05)
    assert (mixtures_RxK == 0).any()
    for weights_K in mixtures_RxK:  # multiples of 0.05, then normalised: rounding leaves 18 to 22 steps a row
        steps_K = [weights_K * num for num in range(18, 23)]
        assert any(np.allclose(s_K, s_K.round(), atol=1e-9) for s_K in steps_K)


def test_random_mixtures_centre_on_the_flattened_natural_weights():
    flattened_K = np.sqrt(SIZES_K) / np.sqrt(SIZES_K).sum()
    mixtures_RxK = random_mixtures(2000, SIZES_K, seed=0)
    # 2000 draws of standard deviation below 0.5
    np.testing.assert_allclose(mixtures_RxK.mean(0), flattened_K, atol=0.035)
    assert mixtures_RxK.max() > 0.999  # small strengths give nearly pure mixtures
    assert (mixtures_RxK.max(1) < 0.5).any()  # great ones give spread ones


@pytest.mark.parametrize("caps_K", [[1.0, 0.2, 0.3, 0.1, 0.1], [0.22] * 5], ids=["few over", "almost all over"])
def test_random_mixtures_obey_caps(caps_K):
    mixtures_RxK = random_mixtures(50, SIZES_K, seed=0, upper_bounds_K=caps_K)
    assert mixtures_RxK.shape == (50, 5) and (mixtures_RxK <= caps_K).all()
    np.testing.assert_allclose(mixtures_RxK.sum(1), 1, atol=1e-12)
    if max(caps_K) == 1:  # most of them are draws that obeyed the caps, not draws that were moved onto them
        assert np.mean((np.abs(mixtures_RxK - caps_K) < 1e-6).any(1)) < 0.2


def test_random_mixtures_give_an_empty_source_nothing():
    assert (random_mixtures(20, [1, 1, 0], seed=0)[:, 2] == 0).all()
    assert (candidate_mixtures([1, 1, 0], seed=0, num=20)[:, 2] == 0).all()


@pytest.mark.parametrize(
    "num, sizes_K, options, message",
    [
        (2, [1.0], {}, "only 1 distinct"),
        (2, [1, 1], {"upper_bounds_K": [0.5, 0.5]}, "only 1 distinct"),
        (2, [1, 1], {"upper_bounds_K": [0.5, 0.33]}, "at most 0.83"),
        (2, [1, 1], {"minimum": 0.6}, "minimum must lie"),
        (2, [1, 1], {"strengths": (0.0, 1.0)}, "strengths"),
        (2, [1, 1], {"temperature": -1.0}, "temperature"),
        (0, [1, 1], {}, "at least 1"),
    ],
)
def test_random_mixtures_refuse_bad_input(num, sizes_K, options, message):
    with pytest.raises(InputError, match=message):
        random_mixtures(num, sizes_K, seed=0, **options)


def test_candidates_follow_the_natural_weights_and_the_caps():
    natural_K, caps_K = natural_weights(SIZES_K), np.array([0.5, 0.5, 0.5, 0.5, 0.1])
    candidates_MxK = candidate_mixtures(SIZES_K, seed=0, num=20_000)
    np.testing.assert_allclose(candidates_MxK.mean(0), natural_K, atol=0.01)
    # a Dirichlet's variance is p (1 - p) / (1 + total concentration), and that is 1
    np.testing.assert_allclose(candidates_MxK.var(0), natural_K * (1 - natural_K) / 2, rtol=0.1)
    capped_MxK = candidate_mixtures(SIZES_K, seed=0, num=20_000, upper_bounds_K=caps_K)
    assert (capped_MxK <= caps_K).all()
    np.testing.assert_allclose(capped_MxK.sum(1), 1, atol=1e-12)
    with pytest.raises(InputError, match="at least 1; got 0"):
        candidate_mixtures(SIZES_K, seed=0, num=0)


def test_best_random_mixture():
    mixtures_RxK = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    np.testing.assert_array_equal(best_random_mixture(mixtures_RxK, [3.0, 1.0, 1.0]), [0.5, 0.5])
    with pytest.raises(InputError, match=r"run 2 .* not finite"):
        best_random_mixture(mixtures_RxK, [3.0, 1.0, np.nan])
    with pytest.raises(InputError, match="do not match"):
        best_random_mixture(mixtures_RxK, [3.0, 1.0])
