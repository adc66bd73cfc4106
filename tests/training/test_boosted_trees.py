import json
from importlib.util import find_spec

import numpy as np
import pytest
import xgboost

from mixmin_jax.errors import InputError
from mixmin_jax.training import boosted_trees
from mixmin_jax.training.boosted_trees import TreeLearner, TreeRun, train_trees
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


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_one_split_is_the_one_written_out_by_hand(loss):
    run = TreeRun(rounds=1, depth=1, learning_rate=1.0, min_child_weight=0.0, subsample=1.0, colsample=1.0, l2=0.7)
    scores = train_trees(run, BITS, EXAMPLES, 0, loss=loss)
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
    np.testing.assert_allclose(train_trees(PLAIN, BITS, examples, 0)[:, 0], reference, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def scores():
    return train_trees(RUN, BITS, EXAMPLES, 7)


def test_models_trained_together_are_those_trained_alone(scores):
    for m in range(M):
        alone = train_trees(RUN, BITS, EXAMPLES.rows(slice(m, m + 1)), 7)
        np.testing.assert_array_equal(alone[:, 0], scores[:, m])


def test_results_depend_on_the_seed_alone(scores):
    np.testing.assert_array_equal(train_trees(RUN, BITS, EXAMPLES, 7), scores)
    assert np.abs(train_trees(RUN, BITS, EXAMPLES, 8) - scores).max() > 1e-3


def test_what_has_no_weight_has_no_influence_not_even_on_what_is_drawn(scores):
    first = EXAMPLES.rows(slice(0, 1))
    unused = first.weight_MxN[0] == 0
    kept = WeightedExamples(first.target_MxN[:, ~unused], first.weight_MxN[:, ~unused])
    np.testing.assert_array_equal(train_trees(RUN, BITS[~unused], kept, 7)[:, 0], scores[~unused, 0])
    bits, targets = BITS.copy(), np.where(unused, 1, first.target_MxN).astype(np.float32)
    bits[unused] = 1 - bits[unused]
    changed = train_trees(RUN, bits, WeightedExamples(targets, first.weight_MxN), 7)
    np.testing.assert_array_equal(changed[~unused, 0], scores[~unused, 0])
    assert np.abs(changed[unused, 0] - scores[unused, 0]).max() > 1e-3  # they are scored all the same


def test_the_scale_of_a_model_s_weights_has_no_influence(scores):
    scaled = WeightedExamples(TARGETS, WEIGHTS * np.float32([[1e-3], [1], [1e3]]))
    np.testing.assert_allclose(train_trees(RUN, BITS, scaled, 7), scores, rtol=1e-4, atol=1e-5)


def test_molecules_of_next_to_no_weight_do_not_loosen_the_penalties():
    """Scaled to a mean of 1 over all of them, the others would weigh three times as much."""
    few = np.arange(N) < 30
    alone = WeightedExamples(TARGETS[:1], few[None].astype(np.float32))
    beside = WeightedExamples(TARGETS[:1], np.where(few, 1, 1e-7)[None].astype(np.float32))
    found, expected = (train_trees(PLAIN, BITS, examples, 0)[few] for examples in (beside, alone))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_pairs_of_bits_are_learned():
    exclusive = (BITS[:, 0] ^ BITS[:, 1]).astype(np.float32)
    examples = WeightedExamples(exclusive[None], np.ones((1, N), np.float32))
    scores = train_trees(TreeRun(rounds=20, depth=4, colsample=1.0), BITS, examples, 0)
    assert ((scores[:, 0] > 0) == (exclusive > 0)).all()


def test_constant_values_and_one_class_give_the_base_score():
    ones = WeightedExamples(np.ones((1, N), np.float32), WEIGHTS[:1])
    np.testing.assert_allclose(train_trees(PLAIN, BITS, ones, 0, loss="squared_error"), 1, atol=1e-5)
    assert (train_trees(PLAIN, BITS, ones, 0) > 8).all()


def test_the_learner_is_the_function_and_its_settings_are_json(scores):
    learner, seen = TreeLearner(RUN), []
    np.testing.assert_array_equal(
        learner(BITS, EXAMPLES, 7, names=("a", "b", "c"), on_progress=lambda *done: seen.append(done)), scores
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert json.loads(json.dumps(learner.settings)) == {
        "learner": "trees", "xgboost": xgboost.__version__, "loss": "cross_entropy", "rounds": 5, "depth": 3,
        "learning_rate": 0.2, "min_child_weight": 0.3, "subsample": 0.8, "colsample": 0.5, "l2": 1.0,
    }  # fmt: skip
    assert learner.flops(N, D, M) is None


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": 0}, {"depth": 0}, {"learning_rate": 0.0}, {"subsample": 1.1}, {"colsample": 0.0},
        {"min_child_weight": -1.0}, {"l2": float("nan")},
    ],
)  # fmt: skip
def test_impossible_runs_are_refused(change):
    with pytest.raises(InputError, match=next(iter(change))):
        TreeRun(**change)


def test_what_cannot_be_trained_is_refused_before_training(monkeypatch):
    with pytest.raises(InputError, match=r"b has a target outside \[0, 1\]"):
        train_trees(
            RUN, BITS, WeightedExamples(TARGETS * np.float32([[1], [9], [1]]), WEIGHTS), 0, names=("a", "b", "c")
        )
    monkeypatch.setattr(
        boosted_trees.importlib.util, "find_spec", lambda name: None if name == "xgboost" else find_spec(name)
    )
    with pytest.raises(InputError, match=r'pip install "mixmin_jax\[molecules\]"'):
        train_trees(RUN, BITS, EXAMPLES, 0)
