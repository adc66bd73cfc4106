"""Settings of each arm by successive halving on the validation part.

Every arm tries the same number of settings at the same numbers of epochs: all of them at the shortest schedule, the
better half at twice that, and so on up to whole schedules, which two or three reach (Jamieson and Talwalkar 2016,
section 3). The first setting is that of the options; the others are drawn around it. The search has a seed of its own,
and sees the smallest fraction of the training part alone.
"""

import dataclasses
from typing import Any

import numpy as np

from experiments.mixtraining_arms import Study, Trial
from experiments.mixtraining_config import ARMS, Arm, ArmSettings, MixTrainingOptions
from experiments.mixtraining_trial import run_trial
from experiments.stages import Product, Stages, fingerprint
from mixmin_jax.errors import InputError
from mixmin_jax.training.schedule import Alpha

SEED = 1_000_003  # of the search; no run that is reported has it
_RATES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the given learning rates
_SSL_MASKS, _JOINT_MASKS, _MIX_RATIOS = (0.6, 0.75), (0.25, 0.5, 0.75), (0.25, 0.5, 0.75, 1.0)
_ALPHAS = (Alpha("linear", 1.0, 0.0), Alpha("cosine", 1.0, 0.0), Alpha.constant(0.5))


def candidates(arm: Arm, options: MixTrainingOptions) -> list[ArmSettings]:
    """`tune_trials` different settings of what matters to the arm; the first is that of the options."""
    rng = np.random.default_rng([SEED, ARMS.index(arm)])
    base, count = options.settings(arm), options.tune_trials
    rates = _RATES
    if arm == "sl" and count > len(_RATES):  # which has nothing else to try: as many rates between the same ends
        rates = tuple(np.geomspace(_RATES[0], _RATES[-1], 2 * count - 1).tolist())

    def pick(options: tuple[Any, ...]) -> Any:
        return options[int(rng.integers(len(options)))]

    found = [base]
    while len(found) < count:
        drawn = dataclasses.replace(base, learning_rate=base.learning_rate * pick(rates))
        if arm != "sl":
            drawn = dataclasses.replace(
                drawn, sl_learning_rate=base.sl_learning_rate * pick(rates), ssl_mask=pick(_SSL_MASKS)
            )
        if arm == "mixtraining":
            drawn = dataclasses.replace(
                drawn, mix_ratio=pick(_MIX_RATIOS), joint_mask=pick(_JOINT_MASKS), alpha=pick(_ALPHAS)
            )
        mixes = arm != "mixtraining" or drawn.schedule(arm, options).joint_epochs > 0
        if drawn not in found and mixes:
            found.append(drawn)
    return found


def check_search(study: Study) -> None:
    """Raise InputError if a trial of the search would be too short to make a run."""
    try:
        for arm in ARMS:
            for settings in candidates(arm, study.options):
                _trial(study, arm, settings, _scale(0, _rungs(study.options.tune_trials)))
    except InputError as error:
        raise InputError(f"--tune starts with shorter schedules: {error}") from error


def search_flops(study: Study) -> float:
    """What the search will cost, about: as if every trial were one of the options' own settings."""
    per_epochs = sum(study.cost(_trial(study, arm, study.options.settings(arm), 1.0)) for arm in ARMS)
    left = study.options.tune_trials
    rungs, runs = _rungs(left), 0.0
    for rung in range(rungs):
        runs += left * _scale(rung, rungs)
        left = _survivors(left)
    return runs * per_epochs


def tune(study: Study, stages: Stages, shared: dict[str, Any]) -> tuple[dict[Arm, ArmSettings], dict[str, Any]]:
    """The settings of every arm, and the record of the search for metrics.json."""
    chosen: dict[Arm, ArmSettings] = {}
    record: list[dict[str, Any]] = []
    spent = 0.0
    for arm in ARMS:
        left = candidates(arm, study.options)
        rungs = _rungs(len(left))
        for rung in range(rungs):
            reached = []
            for settings in left:
                trial = _trial(study, arm, settings, _scale(rung, rungs))
                result = _result(study, stages, shared, trial)
                spent += result["flops"]
                reached.append(-np.inf if result["failure"] else result["accuracy"])
                record.append(
                    {
                        "arm": arm,
                        "settings": {"arm": arm} | settings.of(arm),
                        "rung": rung,
                        "epochs": float(sum(segment.epochs for segment in trial.epochs)),
                        "accuracy": result["accuracy"],
                        "failure": result["failure"],
                    }
                )
            best = np.argsort(-np.array(reached), kind="stable")
            left = [left[i] for i in best[: _survivors(len(left))]]
        chosen[arm] = left[0]
    baseline = study.trial("ssl_then_sl", chosen["ssl_then_sl"], max(study.options.fractions), 0)
    return chosen, {
        "trials": record,
        "chosen": {arm: _in_words(settings.of(arm)) for arm, settings in chosen.items()},
        "flops": spent,
        "share_of_run": spent / study.cost(baseline),
    }


def _rungs(count: int) -> int:
    return max(1, int(np.log2(count)))


def _scale(rung: int, rungs: int) -> float:
    """Of the epochs."""
    return 2.0 ** (rung - rungs + 1)


def _survivors(count: int) -> int:
    return max(2, count // 2)


def _trial(study: Study, arm: Arm, settings: ArmSettings, scale: float) -> Trial:
    return study.trial(arm, settings, min(study.options.fractions), SEED, scale=scale)


def _result(study: Study, stages: Stages, shared: dict[str, Any], trial: Trial) -> Product:
    """One trial on the validation part, found again if it is there."""
    name = f"tune-{trial.arm}-{fingerprint(trial.inputs)[:10]}"
    validation = study.domain.validation
    return stages.run(
        name,
        shared | trial.inputs | {"judged_on": "validation"},
        lambda stage: run_trial(study, trial, validation, stage),
        cost=study.cost(trial),
    )


def _in_words(settings: dict[str, Any]) -> str:
    words = (f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in settings.items())
    return ", ".join(words)
