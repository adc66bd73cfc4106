"""The search for settings: fair between arms, repeatable, and blind to the test set."""

import collections
import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console

from experiments import mixtraining_tuning
from experiments.mixtraining_arms import Study
from experiments.mixtraining_config import ARMS, MixTrainingOptions
from experiments.mixtraining_domain import Labels
from experiments.mixtraining_results import stage_inputs
from experiments.mixtraining_tuning import SEED, candidates, check_search, search_flops, tune
from experiments.progress import RunProgress
from experiments.stages import Stages
from mixmin_jax.errors import InputError
from tests.experiments.linear_domain import linear_domain, vectors

OPTIONS = MixTrainingOptions(
    fractions=(0.5, 1.0), ssl_epochs=4, sl_epochs=4, batch_size=8, learning_rate=1e-2, sl_learning_rate=1e-2,
    scratch_learning_rate=1e-2, tune=True,
)  # fmt: skip


def search(folder, domain, options=OPTIONS):
    study = Study(domain, options)
    stages = Stages(folder, RunProgress(1.0, Console(file=io.StringIO())), {"git_commit": None})
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


def test_what_is_tried_stays_the_same_from_version_to_version():
    assert [settings.learning_rate for settings in candidates("sl", OPTIONS)] == [0.01, 0.0025, 0.02, 0.005]
    last = candidates("mixtraining", OPTIONS)[-1]
    assert last.of("mixtraining") == {
        "learning_rate": 0.01, "sl_learning_rate": 0.02, "ssl_mask": 0.6, "mix_ratio": 0.5, "joint_mask": 0.25,
        "alpha": "linear 1.0 to 0.0",
    }  # fmt: skip


def test_a_mix_ratio_that_leaves_no_joint_epoch_is_not_tried():
    options = dataclasses.replace(OPTIONS, ssl_epochs=1, sl_epochs=1, mix_ratio=1.0, tune_trials=16)
    assert all(s.schedule("mixtraining", options).joint_epochs == 1 for s in candidates("mixtraining", options))


def test_arms_get_the_same_trials_and_epochs(found):
    chosen, record = found
    tried = collections.Counter((trial["arm"], trial["rung"]) for trial in record["trials"])
    assert tried == {(arm, rung): count for arm in ARMS for rung, count in ((0, 4), (1, 2))}
    epochs = {(trial["arm"], trial["rung"]): trial["epochs"] for trial in record["trials"]}
    assert [epochs["sl", rung] for rung in (0, 1)] == [2, 4]
    assert [epochs["ssl_then_sl", rung] for rung in (0, 1)] == [4, 8]
    assert set(chosen) == set(record["chosen"]) == set(ARMS)
    assert record["flops"] > 0 and record["share_of_run"] > 1


def test_the_best_of_the_last_rung_is_chosen(found):
    chosen, record = found
    for arm in ARMS:
        last = [trial for trial in record["trials"] if (trial["arm"], trial["rung"]) == (arm, 1)]
        best = max(last, key=lambda trial: trial["accuracy"])
        assert best["settings"] == {"arm": arm} | chosen[arm].of(arm)
        first = sorted((t["accuracy"] for t in record["trials"] if (t["arm"], t["rung"]) == (arm, 0)), reverse=True)
        went_on = [
            t["accuracy"]
            for t in record["trials"]
            if (t["arm"], t["rung"]) == (arm, 0) and t["settings"] in [trial["settings"] for trial in last]
        ]
        assert sorted(went_on, reverse=True) == first[:2]


def test_the_test_set_decides_nothing(found, tmp_path):
    test = vectors(60, 3)
    scrambled = Labels(np.full_like(test.inputs, np.nan), np.random.default_rng(0).permutation(test.labels_N))
    assert search(tmp_path, linear_domain(8, test=scrambled)) == found


def test_the_validation_part_decides(found, tmp_path):
    domain = linear_domain(8)
    wrong = Labels(domain.validation.inputs, (domain.validation.labels_N + 1) % 3)
    _, record = search(tmp_path, dataclasses.replace(domain, validation=wrong))
    assert [t["accuracy"] for t in record["trials"]] != [t["accuracy"] for t in found[1]["trials"]]


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
    assert search_flops(study) == pytest.approx(found[1]["flops"], rel=0.3)


def test_a_search_that_starts_too_short_is_refused_before_it_starts():
    options = dataclasses.replace(OPTIONS, ssl_epochs=1, sl_epochs=1, mix_ratio=1.0, tune_trials=8, batch_size=60)
    with pytest.raises(InputError, match=r"--tune starts with shorter schedules.*less than half a step"):
        check_search(Study(linear_domain(60), options))
    check_search(Study(linear_domain(8), OPTIONS))
