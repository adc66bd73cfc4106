"""The search for settings: fair between arms, repeatable, and blind to the test set."""

import collections
import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console

from experiments.harness.progress import RunProgress
from experiments.harness.stages import Stages
from experiments.mixtraining import tuning as mixtraining_tuning
from experiments.mixtraining.config import ARMS
from experiments.mixtraining.domain import Labels
from experiments.mixtraining.plan import Study
from experiments.mixtraining.results import settings_of, stage_inputs
from experiments.mixtraining.tuning import SEED, candidates, check_search, ranking, search_flops, tune
from experiments.reporting.schema import MadeBy
from mixmin_jax.errors import InputError
from tests.experiments.mixtraining import linear_domain as linear
from tests.experiments.mixtraining.linear_domain import linear_domain, vectors

OPTIONS = dataclasses.replace(linear.OPTIONS, tune=True)
EXAMPLES = len(linear_domain(8).validation)


def search(folder, domain, options=OPTIONS):
    study = Study(domain, options)
    stages = Stages(folder, RunProgress(1.0, Console(file=io.StringIO())), MadeBy("python", "cpu", None, {}))
    return tune(study, stages, stage_inputs("test", study))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return search(tmp_path_factory.mktemp("stages"), linear_domain(8))


@pytest.mark.parametrize("trials", [2, 4, 5, 6, 32])
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_tries_as_many_different_settings_its_own_first(arm, trials):
    options = dataclasses.replace(OPTIONS, tune_trials=trials)
    tried = candidates(arm, options)
    assert tried == candidates(arm, options)
    assert len(tried) == trials and len(set(tried)) == trials
    assert tried[0] == options.settings(arm)
    assert len({str(settings.of(arm)) for settings in tried}) == trials  # different in what matters to the arm
    rates = [settings.learning_rate / 1e-2 for settings in tried]
    assert min(rates) >= 0.25 and max(rates) <= 4


@pytest.mark.parametrize("trials", [4, 16])
def test_arms_share_one_list_of_rates_and_masks(trials):
    options = dataclasses.replace(OPTIONS, tune_trials=trials, sl_learning_rate=2e-2)
    sl, conventional, mixed = (candidates(arm, options) for arm in ARMS)
    common = [(s.learning_rate, s.sl_learning_rate, s.ssl_mask) for s in conventional]
    assert [(s.learning_rate, s.sl_learning_rate, s.ssl_mask) for s in mixed] == common
    assert len({(s.mix_ratio, s.joint_mask, s.alpha) for s in mixed}) > trials / 4
    shared = list(dict.fromkeys(rate for rate, _, _ in common))  # to `sl` only these differ
    assert [s.learning_rate for s in sl][: len(shared)] == shared
    assert all(1 / 4 <= sl_rate / rate <= 4 for rate, sl_rate, _ in common)


@pytest.mark.parametrize("arm", ARMS)
def test_near_settings_are_tried_before_far_ones(arm):
    tried = candidates(arm, dataclasses.replace(OPTIONS, tune_trials=14))
    factors = [
        max(s.learning_rate / 1e-2, 1e-2 / s.learning_rate, s.sl_learning_rate / 1e-2, 1e-2 / s.sl_learning_rate)
        for s in tried
    ]
    if arm == "sl":
        assert sorted(s.learning_rate for s in tried[:3]) == [0.005, 0.01, 0.02]
        assert sorted(s.learning_rate for s in tried[3:5]) == [0.0025, 0.04]
    else:  # two masks, each rate up and down and both together
        assert factors == [1.0] * 2 + [2.0] * 12


def test_what_is_tried_stays_the_same_from_version_to_version():
    assert [settings.learning_rate for settings in candidates("sl", OPTIONS)] == [0.01, 0.02, 0.005, 0.04]
    last = candidates("mixtraining", OPTIONS)[-1]
    assert last.of("mixtraining") == {
        "learning_rate": 0.005, "sl_learning_rate": 0.01, "ssl_mask": 0.6, "mix_ratio": 0.5, "joint_mask": 0.25,
        "alpha": "constant 0.5",
    }  # fmt: skip


def test_a_mix_ratio_that_leaves_no_joint_epoch_is_not_tried():
    options = dataclasses.replace(OPTIONS, ssl_epochs=1, sl_epochs=1, mix_ratio=1.0, tune_trials=16)
    assert all(s.schedule("mixtraining", options).joint_epochs == 1 for s in candidates("mixtraining", options))


def test_arms_get_the_same_trials_and_epochs(found):
    chosen, record = found
    tried = collections.Counter((trial.arm, trial.rung) for trial in record.trials)
    assert tried == {(arm, rung): count for arm in ARMS for rung, count in ((0, 4), (1, 2))}
    epochs = {(trial.arm, trial.rung): trial.epochs for trial in record.trials}
    assert [epochs["sl", rung] for rung in (0, 1)] == [2, 4]
    assert [epochs["ssl_then_sl", rung] for rung in (0, 1)] == [4, 8]
    assert set(chosen) == set(ARMS)
    assert record.flops > 0 and record.share_of_run > 1


def test_the_best_of_each_rung_goes_on_and_the_best_of_the_last_is_chosen(found):
    chosen, record = found
    for arm in ARMS:
        first, last = ([t for t in record.trials if (t.arm, t.rung) == (arm, rung)] for rung in (0, 1))
        best_of_first, best_of_last = (
            [trials[i] for i in ranking([t.accuracy for t in trials], [t.flops for t in trials], EXAMPLES)]
            for trials in (first, last)
        )
        assert [t.settings for t in last] == [t.settings for t in best_of_first[:2]]
        assert best_of_last[0].settings == settings_of(chosen[arm], arm)


@pytest.mark.parametrize(
    ("accuracies", "flops", "ranked"),
    [
        ([0.50, 0.60, 0.55], [1, 1, 1], [1, 2, 0]),
        ([0.50, 0.60, 0.55], [3, 2, 1], [1, 2, 0]),  # with 100 examples a standard error is 0.05: not less
        ([0.50, 0.60, 0.56], [3, 2, 1], [2, 1, 0]),
        ([0.56, 0.60, 0.52], [2, 3, 1], [0, 1, 2]),  # what is close to the second only is not close to the best
        ([0.60, 0.60, 0.58], [1, 1, 1], [0, 1, 2]),
        ([None, 0.10, None], [1, 9, 1], [1, 0, 2]),
        ([0.0, 1.0, 1.0], [1, 2, 1], [2, 1, 0]),
    ],
)
def test_of_two_that_accuracy_does_not_tell_apart_the_cheaper_is_better(accuracies, flops, ranked):
    assert ranking(accuracies, flops, 100) == ranked


def test_shorter_trials_have_the_shares_of_the_whole_schedule():
    options = dataclasses.replace(OPTIONS, ssl_epochs=6, sl_epochs=10)
    study = Study(linear_domain(8), options)
    settings = options.settings("mixtraining")
    whole, half = (study.trial("mixtraining", settings, 1.0, SEED, scale=scale) for scale in (1.0, 0.5))
    assert whole.epochs == (("ssl", 3), ("joint", 3), ("sl", 7))
    assert half.epochs == (("ssl", 1.5), ("joint", 1.5), ("sl", 3.5))
    assert [type(segment.epochs) for segment in whole.epochs] == [int] * 3


def test_the_test_set_decides_nothing(found, tmp_path):
    test = vectors(60, 3)
    scrambled = Labels(np.full_like(test.inputs, np.nan), np.random.default_rng(0).permutation(test.labels_N))
    assert search(tmp_path, linear_domain(8, test=scrambled)) == found


def test_the_validation_part_decides(found, tmp_path):
    domain = linear_domain(8)
    wrong = Labels(domain.validation.inputs, (domain.validation.labels_N + 1) % 3)
    _, record = search(tmp_path, dataclasses.replace(domain, validation=wrong))
    assert [t.accuracy for t in record.trials] != [t.accuracy for t in found[1].trials]


def test_the_search_sees_the_smallest_fraction_under_its_own_seed(tmp_path, monkeypatch):
    seen = set()

    def run_trial(study, trial, judge_on, advance):
        seen.add((trial.fraction, trial.seed, judge_on is study.domain.validation))
        failed = trial.settings == trial_of_options[trial.arm]
        failure = {"phase": "sl", "step": 3} if failed else None
        return {"flops": 1.0, "accuracy": 0.9 if failed else 0.5, "failure": failure}

    trial_of_options = {arm: OPTIONS.settings(arm) for arm in ARMS}
    monkeypatch.setattr(mixtraining_tuning, "run_trial", run_trial)
    chosen, _ = search(tmp_path, linear_domain(8))
    assert seen == {(0.5, SEED, True)}
    assert all(chosen[arm] != trial_of_options[arm] for arm in ARMS)  # what fails is never chosen


def test_what_was_tried_is_found_again(found, tmp_path, monkeypatch):
    domain = linear_domain(8)
    first = search(tmp_path, domain)
    monkeypatch.setattr(mixtraining_tuning, "run_trial", None)
    assert search(tmp_path, domain) == first == found


def test_the_cost_of_a_search_is_known_beforehand(found):
    study = Study(linear_domain(8), OPTIONS)
    assert search_flops(study) == pytest.approx(found[1].flops, rel=0.3)


def test_a_search_that_starts_too_short_is_refused_before_it_starts():
    options = dataclasses.replace(OPTIONS, ssl_epochs=1, sl_epochs=1, mix_ratio=1.0, tune_trials=8, batch_size=60)
    with pytest.raises(InputError, match=r"--tune starts with shorter schedules.*less than half a step"):
        check_search(Study(linear_domain(60), options))
    check_search(Study(linear_domain(8), OPTIONS))
