"""What regressions, perceptrons and trees have in common."""

import dataclasses
import json

import numpy as np
import pytest
import xgboost
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mixmin_jax.errors import InputError
from mixmin_jax.training.boosted_trees import TreeLearner, TreeRun
from mixmin_jax.training.collapse import train_soundly
from mixmin_jax.training.logistic_learner import LogisticLearner, LogisticRun
from mixmin_jax.training.mlp_learner import MlpLearner, MlpRun, training_flops
from mixmin_jax.training.weighted_examples import WeightedExamples, mixture_examples
from tests.training.test_mlp_learner import BITS, EXAMPLES, RUN, TARGETS, USED, WEIGHTS, D, M, N

TREES = TreeRun(rounds=5, depth=3, colsample=0.5)
LOGISTIC = LogisticRun((1.0, 10.0))
LEARNERS = {"logistic": LogisticLearner(LOGISTIC), "perceptron": MlpLearner(RUN), "trees": TreeLearner(TREES)}
STEPS = {"logistic": [(3, 3)], "perceptron": [(20, 40), (40, 40)], "trees": [(1, 3), (2, 3), (3, 3)]}
SETTINGS = {
    "logistic": {"penalties": [1.0, 10.0], "usual": 30.0, "spread": 0.7, "tolerance": 1e-3, "max_iterations": 200},
    "perceptron": {"hidden": [4], "steps": 40, "batch_size": 8, "learning_rate": 0.05, "weight_decay": 0.1,
                   "epsilon": 1e-3},
    "trees": {"xgboost": xgboost.__version__, "rounds": 5, "depth": 3, "learning_rate": 0.2, "min_child_weight": 0.3,
              "subsample": 0.8, "colsample": 0.5, "l2": 1.0},
}  # fmt: skip
FLOPS = {"logistic": LEARNERS["logistic"].flops(N, D, M), "perceptron": training_flops(RUN, N, D, M), "trees": None}


@pytest.fixture(scope="module", params=LEARNERS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def learner(name):
    return LEARNERS[name]


@pytest.fixture(scope="module")
def scores(learner):
    return learner(BITS, EXAMPLES, 2).scores_NxM


def test_a_model_trained_together_is_that_trained_alone(name, learner, scores):
    alone, tolerance = learner(BITS, EXAMPLES.rows(slice(1, 2)), 2), 0 if name == "trees" else 1e-3
    np.testing.assert_allclose(alone.scores_NxM[:, 0], scores[:, 1], rtol=tolerance, atol=tolerance)


def test_results_depend_on_the_seed_alone(name, learner, scores):
    np.testing.assert_array_equal(learner(BITS, EXAMPLES, 2).scores_NxM, scores)
    if name != "logistic":  # the seed of which is that of the folds
        assert np.abs(learner(BITS, EXAMPLES, 3).scores_NxM - scores).max() > 1e-2


def test_what_has_no_weight_has_no_influence(learner, scores):
    bits, targets = BITS.copy(), np.where(EXAMPLES.weight_MxN > 0, EXAMPLES.target_MxN, 1).astype(np.float32)
    bits[~USED] = 1 - bits[~USED]
    changed = learner(bits, WeightedExamples(targets, EXAMPLES.weight_MxN), 2).scores_NxM
    np.testing.assert_allclose(changed[USED], scores[USED], rtol=1e-6, atol=1e-6)
    assert np.abs(changed[~USED] - scores[~USED]).max() > 1e-3  # they are scored all the same


def test_the_scale_of_a_model_s_weights_has_no_influence(learner, scores):
    scaled = WeightedExamples(EXAMPLES.target_MxN, EXAMPLES.weight_MxN * np.float32([[1e-3], [1], [1e3]]))
    np.testing.assert_allclose(learner(BITS, scaled, 2).scores_NxM, scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "learner",
    [
        MlpLearner(MlpRun((16,), steps=300, batch_size=64, learning_rate=0.03, weight_decay=0.1, epsilon=1e-5)),
        TreeLearner(TreeRun(rounds=20, depth=4, colsample=1.0)),
    ],
)
def test_pairs_of_bits_are_learned(learner):
    bits = np.random.default_rng(0).integers(0, 2, (400, 6)).astype(np.uint8)
    exclusive = bits[:, 0] ^ bits[:, 1]
    examples = WeightedExamples(exclusive[None].astype(np.float32), np.ones((1, 400), np.float32))
    assert ((learner(bits, examples, 0).scores_NxM[:, 0] > 0) == exclusive).all()


@pytest.fixture(scope="module")
def rare():
    """Three assays of MUV's shape, 24 positives in 2000 molecules to train on: bits, labels, and what is held out."""
    rng = np.random.default_rng(3)
    bits = (rng.random((4000, 128)) < rng.uniform(0.02, 0.3, 128)).astype(np.uint8)
    is_train = np.arange(4000) < 2000
    score = bits @ (rng.normal(size=(128, 3)) * (rng.random((128, 3)) < 0.15)) + rng.gumbel(size=(4000, 3))
    values = np.zeros((4000, 3), np.float32)
    for part in (is_train, ~is_train):
        values[part] = np.argsort(np.argsort(-score[part], axis=0), axis=0) < 24
    return bits, values, is_train


DEFAULTS = {"logistic": LogisticLearner(), "perceptron": MlpLearner(), "trees": TreeLearner()}


def test_with_hundreds_of_negatives_per_positive_no_learner_collapses_or_falls_behind(name, rare):
    """As on MUV, where perceptrons predicted constants and lost to a balanced logistic regression by 0.06 to 0.17."""
    bits, values, is_train = rare
    examples = mixture_examples(values, np.eye(3), is_train, balanced=True)
    found = train_soundly(DEFAULTS[name], bits, examples, 0, "cross_entropy", names=("a", "b", "c"))
    assert not found.is_collapsed_M.any()
    plain, ahead = LogisticRegression(class_weight="balanced", max_iter=1000), []
    for m in range(3):
        theirs = plain.fit(bits[is_train], values[is_train, m]).decision_function(bits[~is_train])
        ours = found.trained.scores_NxM[~is_train, m]
        ahead.append(np.subtract(*(roc_auc_score(values[~is_train, m], score_N) for score_N in (ours, theirs))))
    assert np.mean(ahead) > -0.05


def test_a_model_that_saw_one_class_stays_there(learner):
    found = learner(BITS, WeightedExamples(np.ones((1, N), np.float32), WEIGHTS[:1]), 2)
    assert (found.scores_NxM > 5).all()


def test_a_learner_tells_its_progress_its_settings_as_json_and_its_flops(name, learner, scores):
    seen = []
    found = learner(BITS, EXAMPLES, 2, names=("a", "b", "c"), on_progress=lambda *done: seen.append(done))
    np.testing.assert_array_equal(found.scores_NxM, scores)
    assert seen == STEPS[name] and learner.flops(N, D, M) == FLOPS[name]
    settings = {"learner": name, "loss": "cross_entropy"} | SETTINGS[name]
    assert json.loads(json.dumps(learner.settings)) == settings


def test_a_target_that_is_no_probability_is_refused_before_training(learner):
    examples = WeightedExamples(TARGETS * np.float32([[1], [9], [1]]), WEIGHTS)
    with pytest.raises(InputError, match=r"b has a target outside \[0, 1\]"):
        learner(BITS, examples, 0, names=("a", "b", "c"))


@pytest.mark.parametrize(
    ("run", "changes"),
    [
        (RUN, [{"hidden": (4, 0)}, {"steps": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"weight_decay": -1.0},
               {"learning_rate": float("nan")}, {"epsilon": 0.0}]),
        (TREES, [{"rounds": 0}, {"depth": 0}, {"learning_rate": 0.0}, {"subsample": 1.1}, {"colsample": 0.0},
                 {"min_child_weight": -1.0}, {"l2": float("nan")}]),
    ],
)  # fmt: skip
def test_impossible_runs_are_refused(run, changes):
    for change in changes:
        with pytest.raises(InputError, match=next(iter(change))):
            dataclasses.replace(run, **change)
