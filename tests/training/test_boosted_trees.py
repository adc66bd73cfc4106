import numpy as np
import pytest
import xgboost

from mixmin_jax.errors import InputError
from mixmin_jax.training import boosted_trees
from mixmin_jax.training.boosted_trees import TreeRun, train_trees
from mixmin_jax.training.weighted_examples import WeightedExamples, base_scores, mixture_examples

RNG = np.random.default_rng(4)
N, D, M = 90, 10, 3
BITS = (RNG.random((N, D)) < 0.4).astype(np.uint8)
WEIGHTS = RNG.random((M, N)).astype(np.float32) * (RNG.random((M, N)) < 0.7)
TARGETS = RNG.random((M, N)).astype(np.float32) * (WEIGHTS > 0)
EXAMPLES = WeightedExamples(TARGETS, WEIGHTS)
RUN = TreeRun(rounds=5, depth=3, colsample=0.5)
PLAIN = TreeRun(rounds=5, depth=3, subsample=1.0, colsample=1.0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def scored(*arguments, **options):
    return train_trees(*arguments, **options).scores_NxM


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_one_split_is_the_one_written_out_by_hand(loss):
    run = TreeRun(rounds=1, depth=1, learning_rate=1.0, min_child_weight=0.0, subsample=1.0, colsample=1.0, l2=0.7)
    scores = scored(run, BITS, EXAMPLES, 0, loss=loss)
    for m in range(M):
        weight = WEIGHTS[m].astype(np.float64)
        weight *= weight.sum() / (weight**2).sum()  # sums to the effective number of molecules
        base = float(base_scores(EXAMPLES, loss)[m])
        start = sigmoid(base) if loss == "cross_entropy" else base
        gradient = weight * (start - TARGETS[m])
        curvature = weight * (start * (1 - start) if loss == "cross_entropy" else 1)
        best_gain, expected = -1.0, None
        for bit in BITS.T:
            gain, leaf = 0.0, np.zeros(N)
            for side in (bit == 0, bit == 1):
                gain += gradient[side].sum() ** 2 / (curvature[side].sum() + 0.7)
                leaf[side] = -gradient[side].sum() / (curvature[side].sum() + 0.7)
            if gain > best_gain:
                best_gain, expected = gain, base + leaf
        np.testing.assert_allclose(scores[:, m], expected, rtol=1e-4, atol=1e-5)


def test_trees_of_a_mixture_are_those_of_the_union_of_its_sources():
    labels = np.where(RNG.random((N, 2)) < 0.8, RNG.integers(0, 2, (N, 2)), np.nan).astype(np.float32)
    mixture = np.array([[0.3, 0.7]])
    examples = mixture_examples(labels, mixture, np.ones(N, bool))
    molecule, source = np.nonzero(~np.isnan(labels))
    weight = mixture[0, source] / (~np.isnan(labels)).sum(0)[source]
    effective = 1 / (examples.weight_MxN[0].astype(np.float64) ** 2).sum()
    written_out = xgboost.DMatrix(
        BITS[molecule].astype(np.float32), label=labels[molecule, source], weight=effective * weight
    )
    params = {
        "objective": "binary:logistic", "tree_method": "hist", "max_depth": 3, "eta": 0.2, "min_child_weight": 0.3,
        "base_score": float(sigmoid(base_scores(examples, "cross_entropy")[0])),
    }  # fmt: skip
    reference = xgboost.train(params, written_out, 5).predict(xgboost.DMatrix(BITS), output_margin=True)
    assert reference.std() > 0.05
    np.testing.assert_allclose(scored(PLAIN, BITS, examples, 0)[:, 0], reference, rtol=1e-3, atol=1e-4)


def test_molecules_of_next_to_no_weight_do_not_loosen_the_penalties():
    """Scaled to a mean of 1 over all of them, the others would weigh three times as much."""
    few = np.arange(N) < 30
    alone = WeightedExamples(TARGETS[:1], few[None].astype(np.float32))
    beside = WeightedExamples(TARGETS[:1], np.where(few, 1, 1e-7)[None].astype(np.float32))
    found, expected = (scored(PLAIN, BITS, examples, 0)[few] for examples in (beside, alone))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_molecules_without_weight_take_no_part_in_what_is_drawn():
    used = WEIGHTS[0] > 0
    kept = WeightedExamples(TARGETS[:1, used], WEIGHTS[:1, used])
    whole = scored(RUN, BITS, EXAMPLES.rows(slice(0, 1)), 7)
    np.testing.assert_array_equal(scored(RUN, BITS[used], kept, 7), whole[used])


def test_constant_values_give_the_base_score():
    ones = WeightedExamples(np.ones((1, N), np.float32), WEIGHTS[:1])
    np.testing.assert_allclose(scored(PLAIN, BITS, ones, 0, loss="squared_error"), 1, atol=1e-5)


def test_without_xgboost_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr(boosted_trees.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "mixmin_jax\[molecules\]"'):
        train_trees(RUN, BITS, EXAMPLES, 0)
