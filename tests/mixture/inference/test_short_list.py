"""Weights on few sources: which are left out, and what that costs."""

import itertools

import numpy as np
import pytest

from mixmin_jax import InputError, cross_entropy, shorten, solve

RNG = np.random.default_rng(0)
MODEL_KxV = RNG.dirichlet(np.full(50, 0.3), size=12)  # 12 sources over 50 words
TRUE_K = np.array([0.6, 0.4] + [0] * 10)
WORDS_N = RNG.choice(50, 3000, p=TRUE_K @ MODEL_KxV)
OBJECTIVE = cross_entropy(np.log(MODEL_KxV[:, WORDS_N]).T)
PRIOR = np.full(12, 1 / 12)


def test_sources_that_made_the_data_are_kept_and_the_others_go():
    found = shorten(OBJECTIVE, prior=PRIOR, prior_strength=0.02)
    assert (found.full.weights > 1e-6).all()  # the prior gives some weight to all
    assert found.kept == (0, 1)
    assert (found.solution.weights[2:] == 0).all()
    np.testing.assert_allclose(found.solution.weights.sum(), 1)
    np.testing.assert_allclose(found.solution.loss - found.full.loss, found.cost, atol=1e-9)
    assert found.cost <= found.noise


def test_one_source_less_would_cost_more_than_noise():
    found = shorten(OBJECTIVE)
    for fewer in itertools.combinations(found.kept, len(found.kept) - 1):
        caps = np.isin(np.arange(12), fewer) * 1.0
        assert solve(OBJECTIVE, upper_bounds=caps).loss - found.full.loss > found.noise


def test_floors_and_caps_hold():
    floors, caps = {5: 0.05}, 0.4
    found = shorten(OBJECTIVE, lower_bounds=floors, upper_bounds=caps)
    assert 5 in found.kept and found.solution.weights[5] >= 0.05 - 1e-12
    assert found.solution.weights.max() <= 0.4 + 1e-12 and len(found.kept) >= 3


def test_duplicates_of_documents_make_noise_larger():
    """Rows that are no independent examples say less: fewer sources can be told from nothing."""
    rows = np.tile(np.arange(100), 20)
    objective = cross_entropy(OBJECTIVE.logp_NxK[rows])
    together, apart = shorten(objective, groups=rows), shorten(objective)
    assert together.noise > apart.noise and len(together.kept) <= len(apart.kept)


def test_errors():
    with pytest.raises(InputError, match="level"):
        shorten(OBJECTIVE, level=1.0)
    with pytest.raises(InputError, match="allow at most"):
        shorten(OBJECTIVE, upper_bounds=0.01)
