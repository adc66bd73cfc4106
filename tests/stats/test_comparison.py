"""Comparisons of arms, against SciPy and answers known by hand."""

import math

import numpy as np
import pytest
import scipy.stats

from mixmin_jax.errors import InputError
from mixmin_jax.stats import comparison


def test_summary_has_a_spread_only_where_there_is_one():
    assert comparison.summary([1.0, 2.0, 6.0]) == comparison.Summary(3.0, math.sqrt(7), (1.0, 2.0, 6.0))
    assert comparison.summary(np.float32([2.5])) == comparison.Summary(2.5, None, (2.5,))


def test_paired_difference_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    level_S = rng.standard_normal(5)  # what the seeds share cancels
    a_S, b_S = level_S + 0.01 * rng.standard_normal(5), level_S + 0.02
    difference = comparison.paired_difference(a_S, b_S)
    expected = scipy.stats.ttest_rel(a_S, b_S)
    assert difference.mean / difference.standard_error == pytest.approx(expected.statistic)
    assert difference.per_seed == pytest.approx(tuple(a_S - b_S))
    assert (difference.n, difference.basis) == (5, "seeds")


def test_one_seed_is_a_difference_without_an_error():
    assert comparison.paired_difference([1.0], [2.0]) == comparison.Difference(-1.0, None, 1, (-1.0,), "seeds")


@pytest.mark.parametrize(
    "mean, error, expected",
    [
        (-0.21, 0.1, "wins"),
        (0.21, 0.1, "loses"),
        (0.19, 0.1, "ties"),
        (-0.2, 0.1, "ties"),
        (0.0, 0.0, "ties"),
        (1.0, 0.0, "loses"),
        (-1.0, None, "ties"),
    ],
)
def test_verdict_needs_more_than_two_standard_errors_in_the_better_direction(mean, error, expected):
    difference, negative = (comparison.Difference(sign * mean, error, 3, (), "seeds") for sign in (1, -1))
    assert comparison.verdict(difference) == comparison.verdict(negative, better="higher") == expected
    assert comparison.verdict(difference, num_standard_errors=math.inf) == "ties"
    assert comparison.verdict(difference, matters=abs(mean)) == expected
    assert comparison.verdict(difference, matters=1.001 * abs(mean) + 1e-9) == "ties"


def test_an_interval_decides_in_the_better_direction_if_it_excludes_0_and_the_mean_matters():
    assert (
        comparison.interval_verdict(0.2, 0.1, 0.3) == comparison.interval_verdict(-0.2, -0.3, -0.1, "lower") == "wins"
    )
    assert (
        comparison.interval_verdict(-0.2, -0.3, -0.1) == comparison.interval_verdict(0.2, 0.1, 0.3, "lower") == "loses"
    )
    assert (
        comparison.interval_verdict(0.2, 0.0, 0.3) == comparison.interval_verdict(0.2, 0.1, 0.3, matters=0.21) == "ties"
    )


def test_the_p_value_is_that_of_the_paired_t_test():
    a_S, b_S = np.random.default_rng(0).standard_normal((2, 4))
    assert comparison.paired_difference(a_S, b_S).p_value == pytest.approx(scipy.stats.ttest_rel(a_S, b_S).pvalue)
    assert comparison.paired_difference([1.0], [2.0]).p_value is None
    assert comparison.paired_difference([1.0, 2.0], [1.0, 2.0]).p_value == 1
    assert comparison.paired_difference([1.0, 2.0], [2.0, 3.0]).p_value == 0


@pytest.mark.parametrize(
    "scores, level, cost",
    [
        ([0.1, 0.3, 0.5], 0.4, 30.0),  # half way between the last two
        ([0.1, 0.3, 0.5], 0.5, 40.0),
        ([0.1, 0.3, 0.5], 0.05, 10.0),  # never below: the first cost bounds it
        ([0.1, 0.3, 0.5], 0.51, None),
        ([0.1, 0.6, 0.5], 0.55, None),  # one lucky checkpoint, lost again
        ([0.6, 0.3, 0.5], 0.4, 30.0),  # the same early on: counted from where it stays
        ([0.4, 0.4, 0.4], 0.4, 10.0),
    ],
)
def test_cost_to_reach_a_level_for_good(scores, level, cost):
    assert comparison.cost_to_reach([10.0, 20.0, 40.0], scores, level) == (cost and pytest.approx(cost))


def test_share_of_cost_is_per_seed_and_averages_those_that_reach():
    curve = ([10.0, 20.0, 40.0], [0.1, 0.3, 0.5])
    found = comparison.share_of_cost([curve] * 3, [60.0, 80.0, 60.0], [0.4, 0.5, 0.9])
    assert found.per_seed == (pytest.approx(0.5), pytest.approx(0.5), None)
    assert (found.num_reached, found.mean, found.std) == (2, pytest.approx(0.5), pytest.approx(0, abs=1e-12))
    assert comparison.share_of_cost([curve], [60.0], [0.9]) == comparison.CostShare(None, None, 0, (None,))
    # in another unit of cost the share is the same
    scaled = ([1e12 * cost for cost in curve[0]], curve[1])
    assert comparison.share_of_cost([scaled], [60e12], [0.4]).mean == pytest.approx(0.5)


def test_chance_of_a_false_verdict_is_the_share_seen_in_a_simulation():
    a_RxS, b_RxS = np.random.default_rng(0).standard_normal((2, 4000, 3))
    verdicts = [
        comparison.verdict(comparison.paired_difference(a_S, b_S)) for a_S, b_S in zip(a_RxS, b_RxS, strict=True)
    ]
    assert 1 - verdicts.count("ties") / 4000 == pytest.approx(comparison.chance_of_false_verdict(3), abs=0.02)
    assert comparison.chance_of_false_verdict(1) == 1


def test_bootstrap_is_the_ratio_estimator_in_bits():
    rng = np.random.default_rng(0)
    bytes_N = rng.integers(100, 5000, 500).astype(float)
    nats_b_N = bytes_N * rng.normal(2, 0.3, 500)
    nats_a_N = nats_b_N - bytes_N * rng.normal(0.02, 0.1, 500)
    difference = comparison.paired_bootstrap_over_documents(nats_a_N, nats_b_N, bytes_N, num_samples=4000)
    bits_N = (nats_a_N - nats_b_N) / math.log(2)
    mean = bits_N.sum() / bytes_N.sum()
    linearised = math.sqrt(500) * np.std(bits_N - mean * bytes_N, ddof=1) / bytes_N.sum()
    assert difference.mean == pytest.approx(mean)
    assert difference.standard_error == pytest.approx(linearised, rel=0.05)
    assert (difference.n, difference.basis, difference.per_seed) == (500, "documents", (difference.mean,))


def test_bootstrap_is_the_same_for_the_same_seed_only():
    nats_a_N, nats_b_N, bytes_N = np.random.default_rng(0).uniform(1, 2, (3, 40))

    def error(seed):
        return comparison.paired_bootstrap_over_documents(nats_a_N, nats_b_N, bytes_N, 50, seed).standard_error

    assert error(0) == error(0) != error(1)


def test_bootstrap_sees_no_noise_in_a_constant_difference_and_none_in_one_document():
    bytes_N = np.array([10.0, 200.0, 3000.0])
    shifted = comparison.paired_bootstrap_over_documents(2 * bytes_N, 3 * bytes_N, bytes_N)
    assert shifted.mean == pytest.approx(-1 / math.log(2))
    assert shifted.standard_error == pytest.approx(0, abs=1e-12)
    assert comparison.verdict(shifted) == "wins"
    assert comparison.paired_bootstrap_over_documents([1.0], [2.0], [3.0]).standard_error is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: comparison.summary([]),
        lambda: comparison.summary([1.0, math.nan]),
        lambda: comparison.paired_difference([1.0, 2.0], [1.0]),
        lambda: comparison.paired_bootstrap_over_documents([1.0, 2.0], [1.0, 2.0], [1.0]),
        lambda: comparison.paired_bootstrap_over_documents([1.0, 2.0], [1.0, 2.0], [1.0, 0.0]),
        lambda: comparison.stratified_spearman([1.0, 2.0], [1.0, 2.0], [0]),
        lambda: comparison.cost_to_reach([1.0, 1.0], [0.1, 0.2], 0.1),
        lambda: comparison.cost_to_reach([1.0], [0.1, 0.2], 0.1),
        lambda: comparison.share_of_cost([([1.0], [0.5])], [0.0], [0.5]),
        lambda: comparison.share_of_cost([([1.0], [0.5])], [1.0, 1.0], [0.5, 0.5]),
    ],
)
def test_values_that_cannot_be_compared_are_refused(call):
    with pytest.raises(InputError):
        call()


def test_one_stratum_is_the_usual_rank_correlation_with_ties():
    x_P, y_P = np.random.default_rng(0).integers(0, 6, (2, 30)).astype(float)
    result = comparison.stratified_spearman(x_P, y_P, ["all"] * 30)
    assert result.spearman == pytest.approx(scipy.stats.spearmanr(x_P, y_P).statistic)
    assert result.n == 30


def test_strata_of_equal_size_average_and_their_levels_do_not_matter():
    rng = np.random.default_rng(0)
    x_HxM = rng.standard_normal((4, 9))
    y_HxM = x_HxM + rng.standard_normal((4, 9))
    expected = np.mean([scipy.stats.spearmanr(x, y).statistic for x, y in zip(x_HxM, y_HxM, strict=True)])
    for level in (0.0, 100.0):  # strata far apart: without them the correlation would be near -1
        shift_Hx1 = level * np.arange(4)[:, None]
        strata = np.repeat(np.arange(4), 9)
        result = comparison.stratified_spearman((x_HxM + shift_Hx1).ravel(), (y_HxM - shift_Hx1).ravel(), strata)
        assert result.spearman == pytest.approx(expected)
        assert result.n == 36


def test_lone_points_are_dropped_and_what_is_undefined_is_none():
    result = comparison.stratified_spearman([1, 2, 3, 9], [1, 2, 3, 0], ["a", "a", "a", "b"])
    assert result == comparison.RankCorrelation(1.0, 3)
    assert comparison.stratified_spearman([1, 2], [1, 2], ["a", "b"]) == comparison.RankCorrelation(None, 0)
    assert comparison.stratified_spearman([], [], []) == comparison.RankCorrelation(None, 0)
    assert comparison.stratified_spearman([1, 1, 1], [1, 2, 3], [0, 0, 0]) == comparison.RankCorrelation(None, 3)
    assert comparison.stratified_spearman([1, math.nan, 1], [1, 2, 3], [0, 0, 0]).spearman is None


def test_fidelity_keeps_seeds_sizes_and_groups_apart():
    random = comparison.RANDOM_MIXTURE
    points = [
        # seed 0 ranks the arms rightly by documents and wrongly by tokens; seed 1 is far away but ranks likewise
        comparison.Point(s, arm, "target", 5 * s + r, {"document": r - 9 * s, "token": -r})
        for s in (0, 1)
        for arm, r in [("mixmin", 1.0), ("uniform", 2.0), ("natural", 3.0)]
    ] + [
        comparison.Point(0, random, "proxy", r, {"document": p, "token": p})
        for r, p in [(7.0, 3.0), (8.0, 2.0), (9.0, 1.0), (10.0, 0.0)]
    ]
    result = comparison.fidelity(points)
    document, token = result.rows["document"], result.rows["token"]
    assert (document.arms.spearman, document.arms.n) == (pytest.approx(1), 6)
    assert (token.arms.spearman, token.arms.n) == (pytest.approx(-1), 6)
    assert (document.random_mixtures.spearman, document.random_mixtures.n) == (pytest.approx(-1), 4)
    # pooled: the centred ranks' products are 2 + 2 for the arms of each seed and -5 for the random mixtures
    assert (document.all.spearman, document.all.n) == (pytest.approx((2 + 2 - 5) / (2 + 2 + 5)), 10)
    assert result.points == tuple(points) and result.derived() == result
    assert comparison.fidelity([]) == comparison.Fidelity({}, ())
