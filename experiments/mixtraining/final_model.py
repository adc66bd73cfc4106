"""The model that a MixTraining experiment leaves: one arm, trained once on all labeled data but the test part."""

import dataclasses
import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

from experiments.harness.processes import is_first
from experiments.harness.stages import Product, Running, Stages
from experiments.mixtraining.config import Arm, ArmSettings
from experiments.mixtraining.decision import Decision
from experiments.mixtraining.domain import Domain, Labels
from experiments.mixtraining.plan import Study, Trial
from experiments.mixtraining.results import FinalModel, MixTrainingMetrics, final_of, final_stage
from experiments.mixtraining.runs import Cell
from experiments.mixtraining.trial import arrays, run_trial
from experiments.mixtraining.unlabeled import LABELED_ALONE
from experiments.reporting import markdown as md
from experiments.reporting.render import report
from mixmin_jax.stats.class_probabilities import cross_fitted_temperature
from mixmin_jax.trained.folder import save_model
from mixmin_jax.trained.model import TrainedModel

MODEL = "model"  # the folder in that of the run
SEED = 0  # of its initial parameters, order and masks

Settings = Mapping[Arm, ArmSettings]


def final_cost(study: Study, settings: Settings) -> float:
    """FLOPs of training it, about: of the dearest arm where the results decide which."""
    options, domain = study.options, study.domain
    if not _is_wanted(study):
        return 0.0
    more = (len(domain.train) + len(domain.validation)) / len(domain.train)
    arms = study.arms if options.final == "best" else (options.final,)
    return more * max(study.cost(study.trial(arm, settings[arm], 1.0, SEED)) for arm in arms if arm != "none")


def train_final(
    study: Study, settings: Settings, stages: Stages, shared: dict[str, Any], metrics: MixTrainingMetrics
) -> tuple[FinalModel, TrainedModel | None] | None:
    """Train it, or find it again. None if none is wanted, or no arm ended well; no model if its training failed."""
    if not _is_wanted(study):
        return None
    cell = _chosen(study, metrics)
    if cell is None:
        print("no model: no arm ended well at the largest fraction of the data", file=sys.stderr)
        return None
    everything = _with_validation(study)
    trial = _trial(everything, settings, cell)
    product = stages.run(
        final_stage(trial.arm, trial.budget),
        shared | trial.inputs | {"judged_on": "test", "trained_on": "all but test"},
        functools.partial(_trained, everything, trial),
        cost=everything.cost(trial),
    )
    final = final_of(product, trial.arm, trial.budget, study.options.final, len(everything.domain.train))
    return final, _model(study.domain, product, final.temperature) if final.failure is None else None


def write_final(folder: Path, metrics: MixTrainingMetrics, model: TrainedModel | None) -> str:
    """The folder `model` in that of the run; what there is to say of it, nothing (and a line now) if there is none."""
    final = metrics.final
    assert final is not None
    if model is None:
        assert final.failure is not None
        print(
            f"no model: the training of {md.code(final.cell)} on all labeled data was not finite in the phase"
            f" {final.failure.phase!r}, step {final.failure.step}; the report stands without it",
            file=sys.stderr,
        )
        return ""
    card = report(
        "model_card",
        metrics.dataset.name,
        {},
        metrics=metrics,
        final=final,
        decision=Decision.of(metrics, max(metrics.fractions)),
        model=model,
    )
    if is_first():
        save_model(model, folder / MODEL, card=card.markdown, overwrite=True)
    return (
        f"{md.code(final.cell)}, trained on all {final.examples:,} labeled examples outside the test part; right on"
        f" {100 * final.accuracy:.1f}% of the test part"
    )


def _is_wanted(study: Study) -> bool:
    return study.options.final != "none" and study.domain.as_model is not None


def _chosen(study: Study, metrics: MixTrainingMetrics) -> Cell | None:
    """The arm that was asked for with its own schedule, or what the report recommends at the largest fraction."""
    if study.options.final != "best":
        return Cell(study.options.final)
    decision = Decision.of(metrics, max(metrics.fractions))
    return decision.cell if decision else None


def _with_validation(study: Study) -> Study:
    """The study whose training part is all labeled data but the test part."""
    parts = study.domain.train, study.domain.validation
    train = Labels(np.concatenate([part.inputs for part in parts]), np.concatenate([part.labels_N for part in parts]))
    return Study(dataclasses.replace(study.domain, train=train), study.options)


def _trial(everything: Study, settings: Settings, cell: Cell) -> Trial:
    flops = None
    if cell.budget != "schedule" and cell != ("ssl_then_sl", LABELED_ALONE):
        baseline = everything.trial("ssl_then_sl", settings["ssl_then_sl"], 1.0, SEED)
        times = everything.options.times_cheaper if cell.budget == "cheaper" else 1.0
        flops = everything.cost(baseline) / (times or 1.0)
    arm = next(arm for arm in everything.arms if arm == cell.arm)
    return everything.trial(arm, settings[arm], 1.0, SEED, budget=cell.budget, flops=flops)


def _trained(everything: Study, trial: Trial, stage: Running) -> Product:
    """What a run's stage makes, the parameters, and how the model does on each class of the test part."""
    test = everything.domain.test
    product = run_trial(everything, trial, test, stage, keep_params=True)
    if product["failure"]:
        return product
    model = dataclasses.replace(_model(everything.domain, product, 1.0), series=None)  # the inputs are scaled
    probability_NxA = model.outputs(test.inputs).probabilities_NxA
    right_N = probability_NxA.argmax(axis=1) == test.labels_N
    count_A = np.bincount(test.labels_N, minlength=len(everything.domain.classes))
    class_accuracy_A = np.bincount(test.labels_N, right_N, len(count_A)) / np.maximum(count_A, 1)
    found = cross_fitted_temperature(probability_NxA, test.labels_N)
    return product | {
        "temperature": found.temperature,
        "calibration_error": found.error,
        "calibration_error_after": found.error_after,
        "class_accuracy": dict(zip(everything.domain.classes, class_accuracy_A.tolist(), strict=True)),
    }


def _model(domain: Domain, product: Product, temperature: float) -> TrainedModel:
    assert domain.as_model is not None
    return domain.as_model(unflatten_dict(arrays(product, "params"), sep="/"), temperature)
