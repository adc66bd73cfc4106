"""Trials and what becomes of them, on a domain of vectors."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.harness.stages import Running
from experiments.mixtraining.config import ARMS
from experiments.mixtraining.domain import Labels, accuracy
from experiments.mixtraining.plan import CELLS, Study
from experiments.mixtraining.trial import arrays, numbers, run_trial
from mixmin_jax.errors import InputError
from mixmin_jax.training.checkpoint import Checkpoints
from mixmin_jax.training.schedule import phase_steps
from tests.experiments.mixtraining import linear_domain as linear
from tests.experiments.mixtraining.linear_domain import linear_domain, linear_learner, vectors

OPTIONS = dataclasses.replace(linear.OPTIONS, sl_epochs=6)
STUDY = Study(linear_domain(8), OPTIONS)
SETTINGS = {arm: OPTIONS.settings(arm) for arm in ARMS}
ALONE = Running(  # a stage that nobody watches, and that saves nothing
    lambda done, of: None, lambda: Checkpoints(Path("never made"), "alone", every=10**9), lambda counts: None
)


def run(trial, study=STUDY, **options):
    return run_trial(study, trial, study.domain.test, ALONE, **options)


def own(arm, study=STUDY, seed=0):
    return study.trial(arm, study.options.settings(arm), 1.0, seed)


def test_every_arm_runs_under_every_budget_seed_by_seed():
    trials = STUDY.trials(SETTINGS)
    usual = [cell for cell in CELLS if cell[1] not in ("cheaper", "labeled")]  # which have to be asked for
    expected = [(s, f, *cell) for s in range(2) for f in (0.5, 1.0) for cell in usual]
    assert [(t.seed, t.fraction, t.arm, t.budget) for t in trials] == expected
    assert len({trial.name for trial in trials}) == len(trials)
    unmatched = Study(STUDY.domain, dataclasses.replace(OPTIONS, matched=False)).trials(SETTINGS)
    assert {trial.budget for trial in unmatched} == {"schedule"} and len(unmatched) == 12


def test_budgets_are_the_flops_of_ssl_then_sl_or_these_divided_within_one_step():
    study = Study(STUDY.domain, dataclasses.replace(OPTIONS, times_cheaper=1.29))
    trials = [trial for trial in study.trials(SETTINGS) if trial.budget != "schedule"]
    cells = (("mixtraining", "cheaper"), ("mixtraining", "matched"), ("sl", "matched"))
    expected = [(s, f, *cell) for s in range(2) for f in (0.5, 1.0) for cell in cells]
    assert [(t.seed, t.fraction, t.arm, t.budget) for t in trials] == expected
    for trial in trials:
        conventional = study.trial("ssl_then_sl", SETTINGS["ssl_then_sl"], trial.fraction, trial.seed)
        allowed = study.cost(conventional) / (1.29 if trial.budget == "cheaper" else 1)
        assert abs(study.cost(trial) - allowed) <= max(study.step_flops(trial.settings).values()) / 2
        own_epochs = study.trial(trial.arm, trial.settings, trial.fraction, trial.seed).epochs
        ratios = {round(a.epochs / b.epochs, 1) for a, b in zip(trial.epochs, own_epochs, strict=True)}
        assert len(ratios) == 1  # of all phases alike
        assert trial.budget == "cheaper" or ratios.pop() > 1


@pytest.mark.parametrize(("budget", "without"), [("matched", "--no-matched"), ("cheaper", "--times-cheaper")])
def test_a_budget_that_leaves_a_phase_without_a_step_is_refused(budget, without):
    one_step = STUDY.step_flops(SETTINGS["sl"])["sl"]
    with pytest.raises(InputError, match=rf"{budget} compute, mixtraining at --fractions 1: .*{without}"):
        STUDY.trial("mixtraining", SETTINGS["mixtraining"], 1.0, 0, budget=budget, flops=one_step)


def test_flops_do_not_depend_on_the_number_of_examples():
    assert Study(linear_domain(8, num_train=24), OPTIONS).step_flops(SETTINGS["sl"]) == STUDY.step_flops(SETTINGS["sl"])


def test_arms_of_a_seed_share_examples_first_parameters_order_and_masks():
    def losses_of_first_step(arm, seed=0, **changes):
        options = dataclasses.replace(OPTIONS, ssl_epochs=2, sl_epochs=2, **changes)
        curve = run(own(arm, Study(STUDY.domain, options), seed))["curve"]
        assert curve["step"][0] == 0.5  # a stretch of one step
        return curve["ssl"][0], curve["sl"][0]

    assert losses_of_first_step("ssl_then_sl") == losses_of_first_step("mixtraining")
    assert losses_of_first_step("mixtraining", seed=1) != losses_of_first_step("mixtraining")
    # a joint step that hides nothing has the supervised loss of the same batch
    jointly = losses_of_first_step("mixtraining", mix_ratio=1.0, joint_mask=0.0)
    np.testing.assert_allclose(jointly[1], losses_of_first_step("sl")[1], rtol=1e-6)


def test_no_joint_epochs_are_ssl_then_sl_bit_for_bit():
    conventional = run(own("ssl_then_sl"))
    mixed = dataclasses.replace(SETTINGS["mixtraining"], mix_ratio=0.0)
    for flops in (None, STUDY.cost(own("ssl_then_sl"))):
        same = run(STUDY.trial("mixtraining", mixed, 1.0, 0, flops=flops))
        for record in (conventional, same):
            record.pop("wall_seconds", None)
        assert same == conventional


@pytest.mark.slow
def test_ssl_steps_see_mask_tokens_where_they_are_asked_to():
    """The token is a number from 0 that is trained where it is seen, and nowhere else."""
    asked = dataclasses.replace(OPTIONS, ssl_epochs=2, sl_epochs=2, ssl_sees="all_tokens")

    def token(arm, **changes):
        study = Study(STUDY.domain, dataclasses.replace(asked, **changes))
        found = []
        run(own(arm, study), study, show=lambda params: found.append(float(params["encoder"]["mask"])) or {})
        return found[0]

    assert token("ssl_then_sl") != 0 == token("mixtraining", mix_ratio=1.0)  # which makes no SSL step
    assert STUDY.learners(SETTINGS["mixtraining"])[0] is linear_learner(0.75, False, False)
    learner, joint = Study(STUDY.domain, asked).learners(SETTINGS["mixtraining"], "two_passes")
    assert joint["joint"] is learner is linear_learner(0.75, True, False)


def test_looking_at_a_run_does_not_change_it():
    study = Study(STUDY.domain, dataclasses.replace(OPTIONS, ssl_epochs=10, sl_epochs=10))
    trial = own("mixtraining", study)
    shown = []

    def show(params):
        shown.append(params)
        return {"image": np.zeros(2, np.uint8)}

    plain, watched = run(trial, study), run(trial, study, evaluations=3, show=show)
    assert len(shown) == 1 and list(arrays(watched, "pictures")) == ["image"]
    assert watched["checkpoints"]["step"] == [150, 200]
    for name in ("accuracy", "test_loss", "curve", "flops"):
        assert plain[name] == watched[name]
    assert plain["checkpoints"] == {"step": [], "flops": [], "accuracy": []}
    assert watched["checkpoints"]["flops"] == sorted(watched["checkpoints"]["flops"])
    assert watched["checkpoints"]["flops"][-1] < watched["flops"] == study.cost(trial)
    assert watched["epochs"] == {"ssl": 5, "joint": 5, "sl": 5}
    assert watched["steps"] == phase_steps(trial.plan) == {"ssl": 75, "joint": 75, "sl": 75}


def test_pictures_are_made_where_the_decoder_was_last_trained():
    study = Study(STUDY.domain, dataclasses.replace(OPTIONS, ssl_epochs=10, sl_epochs=20, mix_ratio=0.0))
    trial = own("ssl_then_sl", study)  # 150 steps of SSL
    at = {}
    run(trial, study, show=lambda params: at.setdefault("pictured", jax.device_get(params)) and {})
    ssl_alone = dataclasses.replace(trial, plan=type(trial.plan)(*(values[:150] for values in trial.plan)))
    run(ssl_alone, study, show=lambda params: at.setdefault("at the end", jax.device_get(params)) and {})
    jax.tree.map(np.testing.assert_array_equal, at["pictured"], at["at the end"])


def test_a_run_that_fails_keeps_its_last_good_parameters():
    broken = dataclasses.replace(SETTINGS["ssl_then_sl"], learning_rate=1e30)
    record = run(STUDY.trial("ssl_then_sl", broken, 1.0, 0))
    assert record["failure"] == {"phase": "ssl", "step": 1}  # where the square of the first step's parameters overflows
    kept = arrays(record, "params")
    assert set(kept) == {"encoder/mask", "encoder/up/kernel", "sl/kernel", "ssl/kernel"}
    assert np.isfinite(kept["encoder/up/kernel"]).all()
    assert not [name for name in numbers(record) if "/" in name]
    assert not arrays(run(own("sl")), "params")


def test_an_evaluation_that_is_not_finite_is_a_failure():
    poisoned = vectors(60, 3)
    poisoned.inputs[7] = np.nan
    record = run_trial(STUDY, own("sl"), poisoned, ALONE)
    assert record["failure"] == {"phase": "evaluation", "step": 90} and record["test_loss"] is None


def test_accuracy_counts_the_right_ones():
    learner, examples = linear_learner(0.5, False, False), vectors(1203, 5)  # more than two evaluation steps
    params = learner.init(jax.random.key(0))
    encoder_DxF, head_FxA = np.asarray(params["encoder"]["up"]["kernel"]), np.asarray(params["sl"]["kernel"])
    logits_NxA = np.tanh(examples.inputs @ encoder_DxF) @ head_FxA
    right, nats = accuracy(learner, params, examples)
    assert right == pytest.approx((logits_NxA.argmax(1) == examples.labels_N).mean())
    logp_NxA = logits_NxA - np.log(np.exp(logits_NxA).sum(1, keepdims=True))
    assert nats == pytest.approx(-logp_NxA[np.arange(1203), examples.labels_N].mean(), rel=1e-5)


def test_a_part_of_sorted_examples_has_every_class():
    examples = vectors(90, 0)
    assert np.bincount(examples.spread(9).labels_N).tolist() == [3, 3, 3]
    assert len(examples.spread(1)) == 1 and len(examples.spread(500)) == 90
    assert isinstance(examples.spread(3), Labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": (0.005,)}, "--fractions: .*leaves class a empty"),
        ({"fractions": (0.05, 1.0)}, "--fractions 0.05 of 120 examples: a batch of 8 rows cannot be drawn from 6"),
    ],
)
def test_what_cannot_be_run_is_refused(options, message):
    changed = dataclasses.replace(OPTIONS, **options)
    study = Study(linear_domain(changed.batch_size), changed)
    with pytest.raises(InputError, match=message):
        study.trials({arm: changed.settings(arm) for arm in ARMS})
