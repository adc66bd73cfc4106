"""What SL steps train under --train, and what that costs."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.mixtraining.config import ARMS, MixTrainingOptions
from experiments.mixtraining.plan import Study
from experiments.mixtraining.trained_parts import adapter_rank, with_trained_parts
from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.training.learners import image_learner
from mixmin_jax.training.mixtraining import TrainedParts
from tests.experiments.mixtraining import linear_domain as linear
from tests.experiments.mixtraining.linear_domain import linear_domain, linear_learner
from tests.experiments.mixtraining.test_plan import own, run


def study(train):
    return Study(linear_domain(8), dataclasses.replace(linear.OPTIONS, train=train))


@pytest.mark.slow
def test_ssl_steps_are_the_same_whatever_sl_steps_train():
    records = {}
    for train in ("all", "head", "lora:2"):
        changed = study(train)
        records[train] = run(own("ssl_then_sl", changed), changed)
    losses = [[loss for loss in record["curve"]["ssl"] if loss is not None] for record in records.values()]
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=1e-5)
    last = [record["curve"]["sl"][-1] for record in records.values()]
    assert max(last[0], last[2]) < last[1]  # more trained parameters fit better
    assert min(record["accuracy"] for record in records.values()) > 0.5


def test_a_frozen_encoder_saves_its_backward_pass_and_gets_more_epochs_at_equal_flops():
    everything, head = study("all"), study("head")
    settings = {arm: linear.OPTIONS.settings(arm) for arm in ARMS}
    costs = [found.step_flops(settings["mixtraining"]) for found in (everything, head)]
    assert costs[1]["sl"] < costs[0]["sl"]
    assert (costs[1]["ssl"], costs[1]["joint"]) == (costs[0]["ssl"], costs[0]["joint"])
    for trial in head.trials(settings):
        if trial.budget == "matched":
            baseline = head.cost(head.trial("ssl_then_sl", settings["ssl_then_sl"], trial.fraction, trial.seed))
            assert abs(head.cost(trial) - baseline) <= max(costs[1].values()) / 2


def test_the_learner_of_each_mode():
    learner = linear_learner(0.5, False, False)
    assert with_trained_parts(learner, "all") is learner
    assert with_trained_parts(learner, "head").trained == TrainedParts(sl=("sl",))
    adapted = with_trained_parts(learner, "lora:2")
    assert adapted.trained == TrainedParts(sl=("adapters", "sl"))
    assert adapted is with_trained_parts(learner, "lora:2")  # so that programs are compiled once
    small = EncoderConfig(8, 2, 1)
    image = with_trained_parts(image_learner(VisionConfig(4, 2, 1, (3,), small, small), 0.5), "lora:8")
    assert len(jax.eval_shape(image.init, jax.random.key(0))["adapters"]) == 2 * 4


@pytest.mark.parametrize("train", ["lora", "lora:", "lora:0", "lora:-1", "lora:2.5", "Head", "", "head:2", "loraa:2"])
def test_other_modes_are_refused(train):
    with pytest.raises(InputError, match="--train must be all, head or lora:RANK such as lora:8"):
        MixTrainingOptions(train=train)


def test_a_rank_that_does_not_fit_is_refused_before_any_training():
    assert adapter_rank("lora:64") == 64
    with pytest.raises(InputError, match=r"--train lora:64: up/kernel has the shape \(8, 6\)"):
        study("lora:64").trials({arm: linear.OPTIONS.settings(arm) for arm in ARMS})
