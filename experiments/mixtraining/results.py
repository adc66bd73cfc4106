"""metrics.json of a MixTraining experiment, and what makes two of them the same."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.harness.options import numbers_of
from experiments.harness.stages import Product, Stages, made_elsewhere, skipped_steps
from experiments.mixtraining.config import ARMS, Arm, ArmSettings, MixTrainingOptions
from experiments.mixtraining.costs import kind_of
from experiments.mixtraining.plan import Study, Trial
from experiments.mixtraining.trial import numbers

SCHEMA_VERSION = 1

# Options that say which runs there are, or act on a run through its settings and epochs, which its stage knows.
_NOT_OF_A_STAGE = (
    "fractions", "seeds", "matched", "times_cheaper", "tune", "tune_trials", "ssl_epochs", "sl_epochs", "learning_rate",
    "sl_learning_rate", "scratch_learning_rate", "mix_ratio", "ssl_mask", "joint_mask", "alpha", "alpha_start",
    "alpha_end",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Foundations:
    """What all runs of an experiment rest on."""

    study: Study
    settings: Mapping[Arm, ArmSettings]
    trials: Sequence[Trial]  # all, in their order
    tuning: Mapping[str, Any] | None  # the record of the search
    costs: Mapping[str, Mapping[str, float]]  # of `mixtraining_costs.step_costs`
    references: Sequence[Mapping[str, Any]]


def identity(experiment: str, study: Study) -> dict[str, Any]:
    """What all numbers of a run follow from, as JSON can hold it."""
    options = numbers_of(_given(study.options), ("price_per_hour",))
    return {"experiment": experiment, "options": options, "data": dict(study.domain.dataset)}


def stage_inputs(experiment: str, study: Study) -> dict[str, Any]:
    """What each stage follows from beside its own inputs: so that more seeds or fractions keep those that are done."""
    whole = identity(experiment, study)
    options = {name: value for name, value in whole["options"].items() if name not in _NOT_OF_A_STAGE}
    return whole | {"options": options}


def run_entry(trial: Trial, product: Product, costs: Mapping[str, Mapping[str, float]], study: Study) -> dict[str, Any]:
    """One of the runs of metrics.json."""

    def milliseconds(phase: Any) -> float:
        return costs[kind_of(phase, trial.arm, study.options.joint, costs)]["ms"]

    return {
        "arm": trial.arm,
        "budget": trial.budget,
        "fraction": trial.fraction,
        "seed": trial.seed,
        "learning_rate": trial.settings.learning_rate,
        "seconds": sum(n * milliseconds(phase) for phase, n in product["steps"].items() if n) / 1000,
        **numbers(product),
    }


def build_metrics(
    experiment: str,
    base: Foundations,
    runs: Sequence[Mapping[str, Any]],
    stages: Stages,
    made_by: Mapping[str, Any],
    demonstration: bool,
) -> dict[str, Any]:
    """The numbers of the runs that are done, with all that they rest on; `complete` says whether those are all."""
    domain, options = base.study.domain, base.study.options
    mixed, records = base.settings["mixtraining"], stages.records.values()
    return {
        "schema_version": SCHEMA_VERSION,
        "experiment": experiment,
        "demonstration": demonstration,
        "complete": len(runs) == len(base.trials),
        "domain": domain.name,
        "metric": "accuracy",
        "dataset": dict(domain.dataset),
        "data_sets": list(domain.data_sets),
        "model": dict(domain.model),
        "config": numbers_of(_given(options)) | {"arms": {arm: base.settings[arm].of(arm) for arm in ARMS}},
        "identity": identity(experiment, base.study),
        "seeds": sorted({run["seed"] for run in runs}),
        "fractions": list(options.fractions),
        "examples": {str(fraction): len(base.study.rows(fraction, 0)) for fraction in options.fractions},
        "schedule": {
            "ssl_epochs": options.ssl_epochs,
            "sl_epochs": options.sl_epochs,
            "mix_ratio": mixed.mix_ratio,
            "alpha": {"kind": mixed.alpha.kind, "start": mixed.alpha.start, "end": mixed.alpha.end},
            "ssl_mask": mixed.ssl_mask,
            "joint_mask": mixed.joint_mask,
            "joint": options.joint,
            "restart_learning_rate": options.restart_learning_rate,
            "restart_moments": options.restart_moments,
        },
        "arms": list(ARMS),
        "times_cheaper": options.times_cheaper,
        "runs": list(runs),
        "steps": {kind: dict(cost) for kind, cost in base.costs.items()},
        "tuning": base.tuning,
        "settings": _how_chosen(options),
        "references": list(base.references),
        "price_per_hour": options.price_per_hour,
        "made_by": dict(made_by),
        "stage_commits": stages.commits(),
        **made_elsewhere(stages.records, made_by),
        "command": made_by["command"],
        "seconds_in_all": sum(record.seconds for record in records),  # of all that was computed, in this run or earlier
        **skipped_steps(options, stages.records),
    }


def _given(options: MixTrainingOptions) -> dict[str, Any]:
    """The options as JSON can hold them."""
    return {name: _plain(value) for name, value in dataclasses.asdict(options).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value if isinstance(value, (int, float, str, type(None))) else str(value)


def _how_chosen(options: MixTrainingOptions) -> dict[str, str]:
    if options.tune:
        return {
            "chosen_on": "validation",
            "text": f"Each arm's settings are the best of {options.tune_trials} on the validation part; where less than"
            " a standard error of the accuracy lies between two, the cheaper. They were found with the same number of"
            " trials and epochs, learning rates and SSL masks from one list, at the smallest fraction, with a seed that"
            " no reported run has.",
        }
    return {
        "chosen_on": "other data, or by hand",
        "text": "Settings are those of the command; this run searched for none, for any arm.",
    }
