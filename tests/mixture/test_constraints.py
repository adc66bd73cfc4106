"""Constraints as users write them: what they turn into, and what each mistake says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax import InputError, cross_entropy, solve
from mixmin_jax.mixture.constraints import build, take, usable
from tests.mixture import problems

K = 4
NAMES = ("web", "books", "code", "law")


def test_scalars_sequences_and_mappings_mean_the_same():
    for upper in (0.5, [0.5] * K, {name: 0.5 for name in NAMES}, {0: 0.5, 1: 0.5, 2: 0.5, 3: 0.5}):
        feasible, prior = build(K, NAMES, upper_bounds=upper)
        np.testing.assert_array_equal(feasible.cap_K, np.full(K, 0.5))
        assert prior is None and feasible.floor_K is None
    partial, _ = build(K, NAMES, upper_bounds={"code": 0.1}, lower_bounds={3: 0.2})
    np.testing.assert_array_equal(partial.cap_K, [1, 1, 0.1, 1])
    np.testing.assert_array_equal(partial.floor_K, [0, 0, 0, 0.2])


def test_bounds_that_bind_nothing_vanish():
    assert build(K, None, upper_bounds=1.0, lower_bounds=0.0)[0].plain and build(K, None)[0].plain
    assert all(build(K, None, groups={(0, 1): cap})[0].plain for cap in (1.0, 2.0, np.inf))
    kept = build(K, None, groups={(0, 1): np.inf, (2, 3): 0.5})[0].groups
    np.testing.assert_array_equal(kept.members_GxK, [[0, 0, 1, 1]])


def test_concrete_values_are_checked_beside_traced_ones():
    def check(**options):
        jax.jit(lambda x: build(K, None, **{name: value(x) for name, value in options.items()}) and x)(jnp.full(K, 0.5))

    with pytest.raises(InputError, match=r"at most 0\.4 in total"):
        check(upper_bounds=lambda x: 0.1, lower_bounds=lambda x: x)
    with pytest.raises(InputError, match="sums to 2"):
        check(upper_bounds=lambda x: x, prior=lambda x: [0.5] * K, prior_strength=lambda x: 1.0)
    with pytest.raises(InputError, match="needs a finite prior_strength above 0"):
        check(prior=lambda x: x)
    with pytest.raises(InputError, match="there is no prior"):
        check(prior_strength=lambda x: x[0])
    with pytest.raises(InputError, match=r"shape \(2,\)"):
        check(upper_bounds=lambda x: x[:2])


def test_traced_values_in_lists_and_mappings():
    @jax.jit
    def caps(x):
        feasible, _ = build(K, NAMES, upper_bounds={"web": x, 2: 0.25}, lower_bounds=[x] * K)
        return feasible.cap_K, feasible.floor_K

    by_name, by_column = caps(0.125)
    np.testing.assert_array_equal(by_name, [0.125, 1, 0.25, 1])
    np.testing.assert_array_equal(by_column, [0.125] * K)
    np.testing.assert_array_equal(jax.jit(lambda x: build(K, None, groups={(0,): x})[0].groups.cap_G)(np.inf), [1])


def test_totals_short_of_one_by_rounding_are_rescaled():
    feasible, _ = build(3, None, upper_bounds=[0.1, 0.2, 0.7 - 1e-12])
    np.testing.assert_allclose(np.sum(feasible.cap_K), 1, atol=1e-15)


def test_sources_that_cannot_have_weight():
    feasible, prior = build(
        K, NAMES, upper_bounds={"web": 0}, groups={("law",): 0}, prior=[0.2, 0.4, 0.2, 0.2], prior_strength=1
    )
    columns = usable(feasible, prior)
    np.testing.assert_array_equal(columns, [1, 2])
    smaller, smaller_prior = take(feasible, prior, columns)
    assert smaller.num_sources == 2
    np.testing.assert_allclose(smaller_prior.q_K, [0.4, 0.2])
    assert smaller.plain  # neither the group that is gone nor a cap of 1 remains
    np.testing.assert_array_equal(usable(*build(2, None, prior=[0, 1], prior_strength=1)), [1])
    np.testing.assert_array_equal(usable(*build(2, None, prior=[1e-310, 1], prior_strength=1)), [1])
    np.testing.assert_array_equal(usable(*build(K, None, lower_bounds=[0.1, 0.2, 0.7, 0])), [0, 1, 2])
    filled = build(K, None, lower_bounds={0: 0.1, 1: 0.2}, groups={(0, 1, 2): 0.3})
    np.testing.assert_array_equal(usable(*filled), [0, 1, 3])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"upper_bounds": [0.2, 0.3, 0.23, 0.1]}, "caps allow at most 0.83 in total"),
        ({"upper_bounds": [0.2, 0.3, 0.4, 0.1 - 1e-8]}, "caps allow at most 1 - 1e-08 in total"),
        ({"upper_bounds": {0.7: 0.5}}, "by column, a whole number; got 0.7"),
        ({"upper_bounds": {None: 0.5}}, "whole number; got None"),
        ({"upper_bounds": {"web": 0.5, 0: 0.1}}, "gives 'web' two values"),
        ({"groups": [0.5]}, "tuples of sources"),
        ({"groups": {(0, 1): [0.5, 0.6]}}, "every cap must be a number"),
        ({"prior": [0.25] * 4, "prior_strength": "x"}, "prior_strength must be"),
        ({"upper_bounds": 0.5j}, "real numbers"),
        ({"upper_bounds": 0.2}, "caps allow at most 0.8 in total"),
        ({"groups": {(0, 1): 0.3, (2, 3): 0.4}}, "caps allow at most 0.7 in total"),
        ({"groups": {(0, 1, 2): 0.3}, "upper_bounds": {3: 0.5}}, "caps allow at most 0.8 in total"),
        (
            {"upper_bounds": {0: 0.6}, "prior": [0.5, 0, 0, 0.5], "prior_strength": 1, "groups": {(3,): 0.1}},
            "where the prior is above 0, allow at most 0.7",
        ),
        ({"upper_bounds": [0.5, -0.1, 1, 1]}, "books has -0.1"),
        ({"upper_bounds": [0.5, np.nan, 1, 1]}, "books has nan"),
        ({"lower_bounds": [0.5, -0.1, 0, 0]}, "books has -0.1"),
        ({"lower_bounds": 0.3}, "floors need 1.2 in total"),
        (
            {"lower_bounds": {"code": 0.3}, "upper_bounds": {"code": 0.2}},
            "code has a floor of 0.3 above its cap of 0.2",
        ),
        ({"lower_bounds": 0.2, "groups": {("web", "law"): 0.3}}, r"group \(web, law\) has a cap of 0.3, .* need 0.4"),
        ({"upper_bounds": [0.5, 0.5]}, "4 sources: give one value a source"),
        ({"upper_bounds": {"wiki": 0.5}}, "'wiki', which is no source; the sources are web, books, code, law"),
        ({"upper_bounds": {7: 0.5}}, "columns go from 0 to 3"),
        ({"upper_bounds": {0: "much"}}, "real numbers"),
        ({"groups": {"web": 0.5}}, "tuples of sources"),
        ({"groups": {(): 0.5}}, "tuples of sources"),
        ({"groups": {(0, 1): 0.5, ("books", 2): 0.5}}, "source books is in more than one"),
        ({"groups": {(0, 1): -0.5}}, "at least 0"),
        ({"prior": [0.5, 0.6, -0.1, 0], "prior_strength": 1}, "code has -0.1"),
        ({"prior": [0.5, 0.6, 0.1, 0], "prior_strength": 1}, "sums to 1.2"),
        ({"prior": [0.5, 0.5, np.nan, 0], "prior_strength": 1}, "code has nan"),
        ({"prior": 0.25, "prior_strength": 1}, "one value a source"),
        ({"prior": {"web": 1.0}, "prior_strength": 1}, "all 4 sources a value"),
        ({"prior": [0.25] * 4}, "prior_strength above 0"),
        ({"prior": [0.25] * 4, "prior_strength": -1}, "prior_strength above 0"),
        ({"prior_strength": 1.0}, "there is no prior"),
        ({"prior": [0.5, 0.5, 0, 0], "prior_strength": 1, "lower_bounds": {"law": 0.1}}, "law has a floor of 0.1"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(InputError, match=message):
        build(K, NAMES, **options)
    with pytest.raises(InputError, match=message):  # and the same from the front door
        solve(cross_entropy(problems.classifiers(20, K), sources=NAMES), **options)


def test_names_need_names():
    with pytest.raises(InputError, match="built without `sources`"):
        build(K, None, upper_bounds={"web": 0.5})
