"""Settings of each arm by successive halving on the validation part.

Every arm tries the same number of settings at the same numbers of epochs: all of them at the shortest schedule, the
better half at twice that, and so on up to whole schedules, which two or three reach (Jamieson and Talwalkar 2016,
section 3). Where accuracies do not tell two settings apart, the cheaper is the better one. The first setting is that of
the options; learning rates and SSL masks of the others are the same for all arms, nearest first. The search has a seed
of its own, and sees the smallest fraction of the training part alone.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.harness.stages import Stages, fingerprint
from experiments.mixtraining.config import ARMS, FINETUNE, SUPERVISED_ARMS, Arm, ArmSettings, MixTrainingOptions
from experiments.mixtraining.plan import Study, Trial
from experiments.mixtraining.results import Failure, Search, SearchTrial, settings_of
from experiments.mixtraining.trial import run_trial
from mixmin_jax.errors import InputError
from mixmin_jax.training.schedule import Alpha

SEED = 1_000_003  # of the search; no run that is reported has it
_FARTHEST = 2  # learning rates go up to 2**2 times away from the given ones, and from each other
_FINENESS = (1, 2, 4, 8)  # steps to a factor of 2: finer ones where an arm has tried all coarser rates
_SSL_MASKS, _JOINT_MASKS, _MIX_RATIOS = (0.6, 0.75), (0.25, 0.5, 0.75), (0.25, 0.5, 0.75, 1.0)
_ALPHAS = (Alpha("linear", 1.0, 0.0), Alpha("cosine", 1.0, 0.0), Alpha.constant(0.5))


def candidates(arm: Arm, options: MixTrainingOptions) -> list[ArmSettings]:
    """`tune_trials` different settings of what matters to the arm; the first is that of the options.

    What arms share comes from the one list of `shared_candidates`, in its order; where two entries are the same to an
    arm, the next takes the second's place. What only mixtraining has is drawn on top of it.
    """
    rng = np.random.default_rng([SEED, (*ARMS, FINETUNE).index(arm)])
    base = options.settings(arm)
    found: dict[ArmSettings, ArmSettings] = {}  # by what is shared

    def pick(values: tuple[Any, ...]) -> Any:
        return values[int(rng.integers(len(values)))]

    for rate, sl_rate, ssl_mask in shared_candidates(options):
        shared = dataclasses.replace(base, learning_rate=base.learning_rate * rate)
        if arm not in SUPERVISED_ARMS:
            shared = dataclasses.replace(shared, sl_learning_rate=base.sl_learning_rate * sl_rate, ssl_mask=ssl_mask)
        if shared in found:
            continue
        found[shared] = shared
        while arm == "mixtraining" and len(found) > 1:  # until there is a joint epoch
            found[shared] = dataclasses.replace(
                shared, mix_ratio=pick(_MIX_RATIOS), joint_mask=pick(_JOINT_MASKS), alpha=pick(_ALPHAS)
            )
            if found[shared].schedule(arm, options).joint_epochs > 0:
                break
        if len(found) == options.tune_trials:
            break
    return list(found.values())


def shared_candidates(options: MixTrainingOptions) -> Iterator[tuple[float, float, float]]:
    """What all arms try: factors of the learning rate and of that in SL steps, and the SSL mask.

    The given ones come first, then what is nearest to them: another mask, one rate or both by a factor of 2, by 4,
    never more than that apart from each other. Among those as near the order is drawn, the opposite change after each.
    """
    rng = np.random.default_rng(SEED)
    masks = tuple(dict.fromkeys((options.ssl_mask, *_SSL_MASKS)))
    gap = float(np.log2(options.sl_learning_rate / options.learning_rate))
    seen = {(0.0, 0.0, options.ssl_mask)}
    yield 1.0, 1.0, options.ssl_mask
    for parts in _FINENESS:
        powers = [power / parts for power in range(-_FARTHEST * parts, _FARTHEST * parts + 1)]
        near = []
        for rate, sl_rate in itertools.product(powers, powers):
            if (rate, sl_rate) < (0, 0):
                continue  # the opposite of another
            distance, turn = max(abs(rate), abs(sl_rate), abs(rate - sl_rate)), rng.random()
            for lap, mask in enumerate(rng.permutation(len(masks)).tolist()):
                for second, sign in enumerate(rng.permutation([1, -1]).tolist()):
                    change = sign * rate, sign * sl_rate, masks[mask]
                    near.append((distance, lap, turn, second, change))
        for *_, (rate, sl_rate, ssl_mask) in sorted(near):
            apart = abs(gap + sl_rate - rate)
            if apart <= max(_FARTHEST, abs(gap)) and (rate, sl_rate, ssl_mask) not in seen:
                seen.add((rate, sl_rate, ssl_mask))
                yield 2.0**rate, 2.0**sl_rate, ssl_mask


def check_search(study: Study) -> None:
    """Raise InputError if a trial of the search would be too short to make a run."""
    try:
        for arm in study.arms:
            for settings in candidates(arm, study.options):
                _trial(study, arm, settings, _rungs(study.options.tune_trials)[0].scale)
    except InputError as error:
        raise InputError(f"--tune starts with shorter schedules: {error}") from error


def search_flops(study: Study) -> float:
    """What the search will cost, about: as if every trial were one of the options' own settings."""
    per_epochs = sum(study.cost(_trial(study, arm, study.options.settings(arm), 1.0)) for arm in study.arms)
    return per_epochs * sum(rung.num_tried * rung.scale for rung in _rungs(study.options.tune_trials))


def tune(study: Study, stages: Stages, shared: dict[str, Any]) -> tuple[dict[Arm, ArmSettings], Search]:
    """The settings of every arm, and the record of the search for metrics.json."""
    chosen: dict[Arm, ArmSettings] = {}
    tried: list[SearchTrial] = []
    for arm in study.arms:
        left = candidates(arm, study.options)
        for number, rung in enumerate(_rungs(len(left))):
            found = [
                _tried(study, stages, shared, arm, settings, number, rung.scale) for settings in left[: rung.num_tried]
            ]
            reached = [None if trial.failure else trial.accuracy for trial in found]
            best = ranking(reached, [trial.flops for trial in found], len(study.domain.validation))
            left = [left[i] for i in best]
            tried += found
        chosen[arm] = left[0]
    baseline = study.trial("ssl_then_sl", chosen["ssl_then_sl"], max(study.options.shares), 0)
    spent = sum(trial.flops for trial in tried)
    return chosen, Search(tuple(tried), spent / study.cost(baseline)).derived()


def ranking(accuracies: Sequence[float | None], flops: Sequence[float], num_examples: int) -> list[int]:
    """Places of trials from the best on; None is a failure, and last.

    Next is always the cheapest of those less than a standard error, sqrt(a (1 - a) / num_examples), below the most
    accurate that is left: so small a difference is no reason to pay more.
    """
    left = {place: accuracy for place, accuracy in enumerate(accuracies) if accuracy is not None}
    ranked: list[int] = []
    while left:
        best = max(left.values())
        error = math.sqrt(best * (1 - best) / num_examples)
        as_good = [place for place, accuracy in left.items() if accuracy == best or best - accuracy < error]
        ranked.append(min(as_good, key=lambda place: (flops[place], -left[place])))
        del left[ranked[-1]]
    return ranked + [place for place, accuracy in enumerate(accuracies) if accuracy is None]


class _Rung(NamedTuple):
    num_tried: int  # settings
    scale: float  # of the epochs


def _rungs(num_settings: int) -> list[_Rung]:
    num = max(1, int(np.log2(num_settings)))
    counts = itertools.accumulate(range(num - 1), lambda left, _: max(2, left // 2), initial=num_settings)
    return [_Rung(count, 2.0 ** (rung - num + 1)) for rung, count in enumerate(counts)]


def _trial(study: Study, arm: Arm, settings: ArmSettings, scale: float) -> Trial:
    return study.trial(arm, settings, min(study.options.shares), SEED, scale=scale)


def _tried(
    study: Study, stages: Stages, shared: dict[str, Any], arm: Arm, settings: ArmSettings, rung: int, scale: float
) -> SearchTrial:
    """One trial on the validation part, found again if it is there."""
    trial = _trial(study, arm, settings, scale)
    product = stages.run(
        f"tune-{arm}-{fingerprint(trial.inputs)[:10]}",
        shared | trial.inputs | {"judged_on": "validation"},
        lambda stage: run_trial(study, trial, study.domain.validation, stage),
        cost=study.cost(trial),
    )
    failure = Failure(**product["failure"]) if product["failure"] else None
    epochs = float(sum(segment.epochs for segment in trial.epochs))
    return SearchTrial(arm, settings_of(settings, arm), rung, epochs, product["accuracy"], product["flops"], failure)
