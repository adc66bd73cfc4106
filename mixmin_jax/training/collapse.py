"""Models that learned nothing: found, trained again with other settings, and named if that does not help.

Axes: N molecules, M models.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from mixmin_jax.training.weighted_examples import (
    Learner,
    Loss,
    Trained,
    WeightedExamples,
    base_scores,
    example_losses,
)

LEAST_SPREAD = 1e-6  # scores that differ by less, in the unit of logits or of the targets' spread, are constant


def collapsed(scores_NxM: np.ndarray, examples: WeightedExamples, loss: Loss) -> Bool[np.ndarray, " M"]:
    """Whether each model's scores of its own training molecules are constant, or worse than the best constant.

    A model that had nothing to learn, as all of its targets are equal, has not collapsed.
    """
    is_used_MxN = examples.weight_MxN > 0
    weight_MxN = np.where(is_used_MxN, examples.weight_MxN, 0).astype(np.float64)
    base_M = base_scores(examples, loss)

    def mean_loss(score_MxN: Any) -> np.ndarray:
        return (weight_MxN * np.asarray(example_losses(score_MxN, examples.target_MxN, loss))).sum(1)

    def spread(values_MxN: np.ndarray) -> np.ndarray:
        high_M = np.where(is_used_MxN, values_MxN, -np.inf).max(1)
        return high_M - np.where(is_used_MxN, values_MxN, np.inf).min(1)

    of_targets_M = spread(examples.target_MxN)
    unit_M = np.where(of_targets_M > 0, of_targets_M, 1) if loss == "squared_error" else 1.0
    is_constant_M = spread(scores_NxM.T) <= LEAST_SPREAD * unit_M
    is_worse_M = mean_loss(scores_NxM.T) >= mean_loss(np.broadcast_to(base_M[:, None], weight_MxN.shape))
    return (is_constant_M | is_worse_M) & (of_targets_M > 0)


@dataclasses.dataclass(frozen=True, eq=False)
class SoundlyTrained:
    """What `train_soundly` returns: the models, which of them were trained again, and which are useless even so."""

    trained: Trained
    is_retrained_M: Bool[np.ndarray, " M"]
    is_collapsed_M: Bool[np.ndarray, " M"]


def train_soundly(
    learner: Learner,
    features_NxD: UInt8[np.ndarray, "N D"],
    examples: WeightedExamples,
    seed: int,
    loss: Loss,
    *,
    names: tuple[str, ...],
    **options: Any,
) -> SoundlyTrained:
    """Train M models; those that collapsed once more, with the settings of `learner.cautious`.

    The arguments are those of `weighted_examples.Learner`. A retrained model replaces the first one if it is sound.
    """
    trained = learner(features_NxD, examples, seed, names=names, **options)
    is_retrained_M = collapsed(trained.scores_NxM, examples, loss)
    is_collapsed_M = is_retrained_M.copy()
    if is_retrained_M.any():
        again_M = np.flatnonzero(is_retrained_M)
        part = WeightedExamples(examples.target_MxN[again_M], examples.weight_MxN[again_M])
        if checkpoints := options.get("checkpoints"):
            options["checkpoints"] = checkpoints.part("again")
        again = learner.cautious(features_NxD, part, seed, names=tuple(names[m] for m in again_M), **options)
        sound = ~collapsed(again.scores_NxM, part, loss)
        for old, new in zip(trained.arrays(), again.arrays(), strict=True):
            old[..., again_M[sound]] = new[..., sound]
        is_collapsed_M[again_M[sound]] = False
    return SoundlyTrained(trained, is_retrained_M, is_collapsed_M)
