"""The strength of a prior by cross-validation, against a loop of solves, and what it is good for."""

import jax
import numpy as np
import pytest

from mixmin_jax import InputError, choose_prior_strength, cross_entropy, solve, squared_error
from tests.mixture import problems
from tests.mixture.problems import PRIOR, K, N

KEY = jax.random.key(0)
STRENGTHS = (0.3, 0.01)
DOCUMENT_N = np.repeat(np.arange(N // 4), 4)
PREDICTIONS = np.random.default_rng(3).normal(size=(N, K))
OBJECTIVES = {
    "cross-entropy": cross_entropy(problems.classifiers(), example_weights=np.linspace(1, 2, N)),
    "squared error": squared_error(PREDICTIONS, PREDICTIONS @ PRIOR + 0.1),
}


def part_of(name, keep_N):
    if name == "cross-entropy":
        return cross_entropy(problems.classifiers()[keep_N], example_weights=np.linspace(1, 2, N)[keep_N])
    return squared_error(PREDICTIONS[keep_N], (PREDICTIONS @ PRIOR + 0.1)[keep_N])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_are_those_of_single_solves(name):
    objective, caps = OBJECTIVES[name], {"upper_bounds": 0.5}
    found = choose_prior_strength(
        objective, PRIOR, KEY, strengths=STRENGTHS, num_folds=3, groups=DOCUMENT_N, **caps, tolerance=1e-10
    )
    fold_N = (np.asarray(jax.random.permutation(KEY, N // 4)) % 3)[DOCUMENT_N]
    v_N = np.asarray(objective.weights_N)
    for j, strength in enumerate(found.strengths):
        total = 0.0
        for fold in range(3):
            part = part_of(name, fold_N != fold)
            # the mean of squares over fewer rows has the strength of the whole; a sum has that of its share
            share = v_N[fold_N != fold].sum() / v_N.sum() if name == "cross-entropy" else 1.0
            w_K = solve(part, prior=PRIOR, prior_strength=strength * share, **caps, tolerance=1e-10).weights
            total += (v_N * objective.row_losses(w_K))[fold_N == fold].sum()
        np.testing.assert_allclose(found.losses[j], total, rtol=1e-7)
    scale = v_N.sum() if name == "cross-entropy" else float(np.var(PREDICTIONS @ PRIOR))
    np.testing.assert_allclose(found.strengths, np.array(STRENGTHS) * scale)
    assert found.strength == found.strengths[found.losses.argmin()]
    assert found.converged and found.excess[found.chosen] == 0 == found.standard_errors[found.chosen]
    assert found.num_clusters == N // 4


def test_compiled_and_numpy_agree():
    options = {"strengths": STRENGTHS, "num_folds": 3, "tolerance": 1e-10}
    here, compiled = (
        choose_prior_strength(OBJECTIVES["cross-entropy"], PRIOR, KEY, **options, compiled=compiled)
        for compiled in (False, True)
    )
    np.testing.assert_allclose(here.losses, compiled.losses, rtol=1e-8)
    np.testing.assert_allclose(here.standard_errors, compiled.standard_errors, atol=1e-8)


def test_many_sources_and_few_examples_need_a_prior():
    """Noise in all columns: the prior is right, and the more so the fewer the weights are held to it."""
    logp_NxK, prior_K = np.random.default_rng(0).normal(size=(400, 60)), np.full(60, 1 / 60)
    found = choose_prior_strength(cross_entropy(logp_NxK), prior_K, KEY)
    assert found.chosen == 0 and (np.diff(found.losses) > 0).all()
    tilted = choose_prior_strength(cross_entropy(logp_NxK + np.arange(60) / 30), prior_K, KEY)
    assert tilted.strength < 0.5 * found.strength


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_folds": 1}, "num_folds"),
        ({"strengths": [0.1, 0.0]}, "above 0"),
        ({"strengths": [np.nan]}, "above 0"),
        ({"groups": np.arange(N) % 3}, "3 groups of rows do not fill 5 folds"),
        ({"prior": np.ones(K)}, "sum"),
    ],
)
def test_errors(options, says):
    with pytest.raises(InputError, match=says):
        choose_prior_strength(OBJECTIVES["cross-entropy"], **{"prior": PRIOR, "key": KEY, **options})
