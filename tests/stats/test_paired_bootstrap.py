"""The paired bootstrap over held-out examples and seeds keeps its promises."""

import numpy as np
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.stats.comparison import interval_verdict
from mixmin_jax.stats.multiple_targets import holm
from mixmin_jax.stats.paired_bootstrap import bootstrap_difference, resample_counts, resampled_metric
from mixmin_jax.stats.prediction_metrics import evaluate


def verdict(found):
    return interval_verdict(found.mean, found.lower, found.upper)


def examples(seed, num):
    rng = np.random.default_rng(seed)
    labels_N = (rng.random(num) < 0.2).astype(float)
    return rng.normal(size=num) + labels_N, labels_N


def test_resamples_are_of_equal_size_and_draw_evenly():
    values_N = np.arange(50.0)
    counts_RxN = resample_counts(values_N, 4000, seed=0)
    assert (counts_RxN.sum(1) == 50).all() and counts_RxN.mean(0) == pytest.approx(np.ones(50), abs=0.1)
    assert (counts_RxN == resample_counts(values_N, 4000, seed=0)).all()


def test_groups_come_together():
    groups_N = np.array([7, 7, 7, 2, 2, 5])
    counts_RxN = resample_counts(np.arange(6.0), 500, seed=0, groups_N=groups_N)
    assert (counts_RxN[:, 0] == counts_RxN[:, 2]).all() and (counts_RxN[:, 3] == counts_RxN[:, 4]).all()
    assert (counts_RxN[:, [0, 3, 5]].sum(1) == 3).all()


def test_every_resample_holds_both_classes_however_rare_one_is():
    counts_RxN = resample_counts([1.0] * 2 + [0.0] * 48, 2000, seed=0)  # without care one in seven has no positive
    assert len(counts_RxN) == 2000 and (counts_RxN[:, :2].sum(1) > 0).all() and (counts_RxN[:, 2:].sum(1) > 0).all()
    with pytest.raises(InputError, match="so few differ"):
        resample_counts([1.0, 1.0, 1.0], 10, seed=0)


def test_an_arm_ties_with_itself_and_with_its_like_but_not_with_a_better_one():
    scores_N, labels_N = examples(0, 400)
    rng = np.random.default_rng(1)
    a_SxN, same_SxN = (np.stack([scores_N + 0.05 * rng.normal(size=400) for _ in range(3)]) for _ in range(2))
    better_SxN = a_SxN + 1.5 * labels_N
    values = resampled_metric({"a": a_SxN, "b": better_SxN, "c": same_SxN}, labels_N, "average_precision", 300)
    assert {name: value_SxR.shape for name, value_SxR in values.items()} == dict.fromkeys("abc", (3, 301))
    itself = bootstrap_difference(values["a"], values["a"])
    assert (itself.mean, itself.lower, itself.upper) == (0, 0, 0) and verdict(itself) == "ties"
    assert verdict(bootstrap_difference(values["a"], values["c"])) == "ties"
    gain = bootstrap_difference(values["b"], values["a"])
    assert verdict(gain) == "wins" and gain.lower < gain.mean < gain.upper
    assert verdict(bootstrap_difference(values["a"], values["b"])) == "loses"
    a_S, better_S = (
        np.concatenate([evaluate("average_precision", scores_N, labels_N) for scores_N in scores_SxN])
        for scores_SxN in (a_SxN, better_SxN)
    )
    assert gain.per_seed == pytest.approx(better_S - a_S) and gain.mean == pytest.approx(np.mean(better_S - a_S))


def test_seeds_that_disagree_widen_the_interval():
    """The same examples, differences of -1, 1 and 1.5 whatever the resample: only the seeds speak."""
    a_SxR = np.repeat([[-1.0], [1.0], [1.5]], 2001, axis=1)
    found = bootstrap_difference(a_SxR, np.zeros((3, 2001)))
    assert found.mean == pytest.approx(0.5) and (found.lower, found.upper) == (-1, 1.5)
    one = bootstrap_difference(a_SxR[:1], np.zeros((1, 2001)))
    assert (one.mean, one.lower, one.upper) == (-1, -1, -1)


def test_the_p_value_counts_resamples_on_the_other_side():
    none_below_0 = bootstrap_difference(np.full((2, 1000), 0.5), np.zeros((2, 1000)))
    assert (
        none_below_0.p_value == 2 / 1000 == bootstrap_difference(np.full((1, 1000), -1.0), np.zeros((1, 1000))).p_value
    )
    difference_1xR = np.r_[0.1, np.full(980, 0.1), np.full(19, -0.1)][None]
    assert bootstrap_difference(difference_1xR, np.zeros((1, 1000))).p_value == 2 * 20 / 1000
    assert bootstrap_difference(np.zeros((1, 1000)), np.zeros((1, 1000))).p_value == 1  # equal arms


@pytest.mark.parametrize(("mean", "expected"), [(0.45, 6.8e-6), (-0.45, 6.8e-6), (0.27, None)])
def test_where_no_resample_is_on_the_other_side_the_tail_is_normal(mean, expected):
    """So Holm's correction can leave a verdict however many targets there are."""
    difference_1xR = np.r_[mean, mean + 0.1 * np.random.default_rng(0).normal(size=1000)][None]
    p_value = bootstrap_difference(difference_1xR, np.zeros((1, 1001))).p_value
    if expected is None:
        assert p_value == 2 * (1 + (difference_1xR[0, 1:] <= 0).sum()) / 1001 > 2 / 1001
    else:
        assert p_value == pytest.approx(expected, rel=0.5) and holm([p_value] * 600).max() < 0.05


def test_measured_values_are_resampled_too():
    rng = np.random.default_rng(0)
    values_N = rng.normal(size=100)
    scores = {"good": (values_N + 0.3 * rng.normal(size=100))[None], "bad": rng.normal(size=(1, 100))}
    found = resampled_metric(scores, values_N, "spearman", 200)
    assert verdict(bootstrap_difference(found["good"], found["bad"])) == "wins"
    mostly_one = np.r_[np.ones(19), 2.0]  # one draw in three holds nothing but ones
    assert np.isfinite(resampled_metric({"a": rng.normal(size=(1, 20))}, mostly_one, "r_squared", 200)["a"]).all()


def test_the_interval_covers_the_true_difference_at_about_its_rate():
    truth = evaluate("roc_auc", *examples(99, 200_000))[0] - 0.5
    held = 0
    for seed in range(100):
        scores_N, labels_N = examples(seed, 150)
        values = resampled_metric({"a": scores_N[None], "b": np.zeros((1, 150))}, labels_N, "roc_auc", 200, seed)
        found = bootstrap_difference(values["a"], values["b"])
        held += found.lower <= truth <= found.upper
    assert 88 <= held <= 100
