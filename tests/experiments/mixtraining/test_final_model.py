"""Which arm a MixTraining experiment trains at last, on what, and for which compute; on a domain of vectors."""

import dataclasses

import numpy as np
import pytest

from experiments.mixtraining.config import ARMS, FINETUNE
from experiments.mixtraining.final_model import final_cost, train_final
from experiments.mixtraining.plan import Study
from experiments.mixtraining.results import Failure
from mixmin_jax.errors import InputError
from tests.experiments.mixtraining import linear_domain as linear
from tests.experiments.mixtraining.linear_domain import linear_domain
from tests.experiments.mixtraining.made_up import LEVELS, changed, made_up
from tests.experiments.mixtraining.test_pretrained import with_start

DOMAIN = dataclasses.replace(linear_domain(8), as_model=lambda params, temperature: (params, temperature))
STARTED = dataclasses.replace(DOMAIN, start=object())  # which nothing reads before a training
SETTINGS = {arm: linear.OPTIONS.settings(arm) for arm in (*ARMS, FINETUNE)}


def study(domain=DOMAIN, **options):
    return Study(domain, dataclasses.replace(linear.OPTIONS, **options))


class Asked:
    """Stages that compute nothing."""

    def run(self, name, inputs, compute, cost):
        everything, trial = compute.args
        self.name, self.cost, self.inputs, self.trial, self.everything = name, cost, inputs, trial, everything
        run = {"accuracy": 0.5, "test_loss": 1.0, "flops": cost, "epochs": {}, "failure": None, "temperature": 2.0}
        return run | {"params/encoder/w": np.ones(2)}


def asked(metrics, **options):
    stages = Asked()
    stages.found = train_final(study(**options), SETTINGS, stages, {"shared": 1}, metrics)
    return stages


def test_the_best_is_the_recommendation_at_the_largest_fraction():
    metrics = made_up(levels={("mixtraining", "matched"): 0.9})
    metrics = changed(metrics, ("sl", "matched"), fraction=0.25, accuracy=0.99)
    stages = asked(metrics, final="best")
    assert stages.name == "final-sl-matched" and stages.found[0].asked == "best"
    baseline = stages.everything.trial("ssl_then_sl", SETTINGS["ssl_then_sl"], 1.0, 0)
    one_step = max(stages.everything.step_flops(SETTINGS["sl"]).values())
    assert abs(stages.cost - stages.everything.cost(baseline)) <= one_step / 2


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_that_is_named_has_its_own_schedule_and_all_examples_but_those_of_the_test(arm):
    stages = asked(made_up(), final=arm)
    final, (params, temperature) = stages.found
    assert stages.name == f"final-{arm}-schedule" and (final.arm, final.budget) == (arm, "schedule")
    assert final.examples == len(stages.everything.subset(1.0, 0)) == 120 + 45
    assert temperature == final.temperature == 2.0 and params["encoder"]["w"].tolist() == [1, 1]
    assert stages.inputs["shared"] == 1
    assert len(stages.trial.plan.phase) == {"sl": 4, "ssl_then_sl": 8, "mixtraining": 6}[arm] * (165 // 8)
    assert final_cost(study(final=arm), SETTINGS) == pytest.approx(stages.cost, rel=0.1)


@pytest.mark.parametrize("asked_for", ["best", FINETUNE])
def test_it_may_be_the_arm_that_starts_from_a_pretrained_model(asked_for):
    budget = "matched" if asked_for == "best" else "schedule"
    stages = asked(with_start(0.9), domain=STARTED, final=asked_for)
    assert stages.name == f"final-finetune-{budget}" and stages.found[0].arm == FINETUNE
    with pytest.raises(InputError, match="--final finetune starts from a pretrained model"):
        study(final=FINETUNE)


def test_none_is_trained_where_none_is_asked_for_or_no_arm_ended_well(capsys):
    assert asked(made_up(), final="none").found is None and final_cost(study(final="none"), SETTINGS) == 0
    assert final_cost(Study(linear_domain(8), linear.OPTIONS), SETTINGS) == 0  # of which no folder can hold a model
    failed = made_up()
    for cell in LEVELS:
        failed = changed(failed, cell, failure=Failure("sl", 5))
    assert asked(failed, final="best").found is None
    assert "no arm ended well" in capsys.readouterr().err
    assert final_cost(study(final="best"), SETTINGS) == max(final_cost(study(final=arm), SETTINGS) for arm in ARMS)
