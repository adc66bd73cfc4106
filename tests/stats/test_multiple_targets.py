"""Several targets together: answers worked out by hand."""

import math

import numpy as np
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.stats.multiple_targets import SignTest, holm, sign_test


@pytest.mark.parametrize(
    "differences, matters, expected",
    [
        ([1, 2, 3], 0.0, SignTest(3, 0, 0, 2 / 8)),
        ([-1, -2, -3], 0.0, SignTest(0, 3, 0, 2 / 8)),
        ([1] * 8 + [-1], 0.0, SignTest(8, 1, 0, 2 * (1 + 9) / 2**9)),
        ([1, -1], 0.0, SignTest(1, 1, 0, 1.0)),
        ([0.5, 0.004, -0.0049, 0.005, 0.0], 0.005, SignTest(2, 0, 3, 2 / 4)),
        ([0.0, 0.0], 0.0, SignTest(0, 0, 2, 1.0)),  # no sign, whatever matters
        ([], 0.0, SignTest(0, 0, 0, 1.0)),
    ],
)
def test_the_sign_test_counts_heads_of_a_fair_coin(differences, matters, expected):
    found = sign_test(differences, matters)
    assert (found.above, found.below, found.small) == (expected.above, expected.below, expected.small)
    assert found.p_value == pytest.approx(expected.p_value)


@pytest.mark.parametrize(
    "p_values, expected",
    [
        # sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1, which may not lie below the one before
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6, 0.4], [1.0, 1.0, 1.0]),  # 0.4 x 3, cut off at 1
        ([0.02, 0.02], [0.04, 0.04]),
        ((0.03,), [0.03]),
        ([], []),
    ],
)
def test_holm_is_that_of_worked_examples(p_values, expected):
    np.testing.assert_allclose(holm(p_values), expected, rtol=1e-12)


def test_holm_lies_between_the_p_values_and_bonferroni_and_follows_a_permutation():
    p_value_T = np.random.default_rng(0).uniform(0, 0.3, 12)
    q_T, order_T = holm(p_value_T), np.random.default_rng(1).permutation(12)
    assert (p_value_T <= q_T).all() and (q_T <= np.minimum(12 * p_value_T, 1) + 1e-15).all()
    np.testing.assert_array_equal(holm(p_value_T[order_T]), q_T[order_T])


@pytest.mark.parametrize(
    "call", [lambda: sign_test([math.nan]), lambda: holm([-0.1]), lambda: holm([1.1]), lambda: holm([[0.5]])]
)
def test_what_is_no_difference_or_p_value_is_refused(call):
    with pytest.raises(InputError):
        call()
