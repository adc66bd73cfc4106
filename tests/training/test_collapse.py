import dataclasses

import numpy as np
import pytest

from mixmin_jax.training.collapse import collapsed, train_soundly
from mixmin_jax.training.weighted_examples import Trained, WeightedExamples

LABELS = np.float32([1, 1, 0, 0, 0, 0])
WEIGHT = np.float32([1, 1, 1, 1, 1, 0])
GOOD = np.float32([2, 2, -2, -2, -2, 5])
CONSTANT = np.full(6, np.log(2 / 3), np.float32)
WORSE = -GOOD
VALUES = np.float32([10, 20, 30, 40, 50, 0])


def examples(*targets, weight=WEIGHT):
    return WeightedExamples(np.stack(targets), np.tile(weight, (len(targets), 1)))


def test_constant_scores_and_scores_worse_than_a_constant_are_found():
    scores_NxM = np.stack([GOOD, CONSTANT, WORSE, np.append(CONSTANT[:5], 9)], axis=1)
    found = collapsed(scores_NxM, examples(*4 * [LABELS]), "cross_entropy")
    assert found.tolist() == [False, True, True, True]  # what has no weight makes no model sound


def test_a_model_with_nothing_to_learn_has_not_collapsed():
    assert not collapsed(CONSTANT[:, None], examples(np.ones(6, np.float32)), "cross_entropy").any()


def test_measured_values_are_judged_in_their_own_unit():
    scores_NxM = np.stack([VALUES * 0.9 + 3, np.full(6, 30), 60 - VALUES], axis=1).astype(np.float32)
    assert collapsed(scores_NxM, examples(*3 * [VALUES]), "squared_error").tolist() == [False, True, True]


@dataclasses.dataclass
class MadeUp:
    """Returns its scores by the names of the models, and remembers what it was asked to train."""

    scores: dict
    cautious_scores: dict
    asked: list

    settings = None

    def flops(self, *sizes):
        return None

    @property
    def cautious(self):
        return MadeUp(self.cautious_scores, {}, self.asked)

    def __call__(self, features_NxD, examples, seed, *, names, **options):
        self.asked.append((names, sorted(options)))
        return Trained(np.stack([self.scores[name] for name in names], axis=1), *np.zeros((2, len(names)), np.float32))


class Parts:
    def part(self, name):
        assert name == "again"
        return self


def test_what_collapsed_is_trained_again_and_named_if_it_stays_so():
    asked = []
    learner = MadeUp({"a": GOOD, "b": CONSTANT, "c": WORSE}, {"b": GOOD + 1, "c": CONSTANT}, asked)
    found = train_soundly(
        learner, np.zeros((6, 1), np.uint8), examples(*3 * [LABELS]), 0, "cross_entropy", names=("a", "b", "c"),
        checkpoints=Parts(),
    )  # fmt: skip
    assert asked == [(("a", "b", "c"), ["checkpoints"]), (("b", "c"), ["checkpoints"])]
    assert found.is_retrained_M.tolist() == [False, True, True] and found.is_collapsed_M.tolist() == [
        False,
        False,
        True,
    ]
    np.testing.assert_array_equal(found.trained.scores_NxM, np.stack([GOOD, GOOD + 1, WORSE], axis=1))


@pytest.mark.parametrize("name", ["logistic", "perceptron", "trees"])
def test_a_learner_s_cautious_settings_are_other_ones(name):
    from tests.training.test_molecule_learners import LEARNERS

    learner = LEARNERS[name]
    assert learner.cautious.settings != learner.settings and learner.cautious.settings["learner"] == name
