"""Records that all result files share."""

import math

import numpy as np

from experiments.reporting.schema import SHARE_OF_TOKENS, mean_weights, weights_file


def test_mean_weights_sum_to_exactly_1_and_zeros_stay():
    rng = np.random.default_rng(0)
    for _ in range(50):
        drawn = rng.dirichlet(np.ones(9), size=3).round(15)
        drawn[:, 4] = 0
        drawn[:, 0] += 1 - drawn.sum(axis=1)
        per_seed = [dict(zip("abcdefghi", weights.tolist(), strict=True)) for weights in drawn]
        means = mean_weights(per_seed)
        assert math.fsum(means.values()) == 1 and means["e"] == 0
        np.testing.assert_allclose(list(means.values()), drawn.mean(axis=0), rtol=1e-12)
    assert mean_weights([{"a": 0.1, "b": 0.2}]) == {"a": 0.1, "b": 0.2}  # no mixture: as they are


def test_a_file_of_weights_says_its_unit_if_it_is_known():
    arms = {"mixmin": {"a": 1.0}}
    assert weights_file(arms, None, {}) == arms
    assert weights_file(arms, SHARE_OF_TOKENS, {}) == {"mixmin": {"a": 1.0}, "unit": "share of tokens"}
