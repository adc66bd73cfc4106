"""The interface of learners on arrays: M models, each with a target and a weight for every molecule.

A model trained on a mixture w of sources minimizes

    sum_k w_k (1 / n_k) sum over molecules i labeled in source k of  loss(f(x_i), y_ik)

As f has one output, the terms of a molecule become one: a_i loss(f(x_i), t_i) up to a constant, for both losses, with

    a_i = sum_k w_k [i labeled in k] / n_k          t_i = (sum_k w_k [i labeled in k] y_ik / n_k) / a_i

t_i is a soft label in [0, 1], or a weighted mean of measurements.

Axes: N molecules, U of them, K sources (assays), M models, D fingerprint bits.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Float, Float32, Int, UInt8

from mixmin_jax.errors import InputError
from mixmin_jax.training.checkpoint import Checkpoints

Loss = Literal["cross_entropy", "squared_error"]
AnyArray = np.ndarray | jax.Array
OnProgress = Callable[[int, int], None]  # (steps done, steps in all)
OnSkipped = Callable[[dict[str, int]], None]  # {model: number of skipped steps}, models with any

LEAST_STEP = 64  # molecules: fewer cost hardly any time
LEAST_PROBABILITY = 1e-4  # least distance of a constant prediction from 0 and 1, so that its logit is finite


@dataclasses.dataclass(frozen=True, eq=False)
class WeightedExamples:
    """The training data of M models, one row per model.

    target_MxN: in [0, 1] for cross-entropy, any finite number for squared error; 0 where the weight is 0.
    weight_MxN: at least 0; 0 means not trained on. The scale of a row does not matter; `mixture_examples` gives sum 1.
    """

    target_MxN: Float32[np.ndarray, "M N"]
    weight_MxN: Float32[np.ndarray, "M N"]

    def rows(self, chosen: slice) -> "WeightedExamples":
        """The examples of some of the models."""
        return WeightedExamples(self.target_MxN[chosen], self.weight_MxN[chosen])

    def used_padded(self) -> Int[np.ndarray, " U"]:
        """The molecules that some model is trained on, and a few others, in order.

        Programs are compiled for one U. Folds and seeds differ by some molecules: with U from a coarse grid (steps of
        an eighth at most), they share a program. The others have no weight, and take some percent more time.
        """
        is_used_N = np.asarray((self.weight_MxN > 0).any(0))
        number = int(is_used_N.sum())
        step = max(LEAST_STEP, 2 ** (number.bit_length() - 4))
        is_used_N[np.flatnonzero(~is_used_N)[: -number % step]] = True
        return np.flatnonzero(is_used_N)


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """M trained models.

    scores_NxM: of all molecules: logits for cross-entropy, values for squared error.
    chosen_M: what cross-validation inside the training part chose for each model: the penalty of a regression, the
        step at which a perceptron stops. NaN where nothing was chosen.
    gradient_norm_M: the norm of the gradient that a solver stopped at. NaN for learners that do not solve.
    """

    scores_NxM: Float32[np.ndarray, "N M"]
    chosen_M: Float32[np.ndarray, " M"]
    gradient_norm_M: Float32[np.ndarray, " M"]

    @classmethod
    def empty(cls, num_molecules: int, num_models: int) -> "Trained":
        """Arrays to fill in."""
        nothing = np.full((2, num_models), np.nan, np.float32)
        return cls(np.zeros((num_molecules, num_models), np.float32), *nothing)

    def arrays(self) -> list[np.ndarray]:
        """Its arrays, for checkpoints."""
        return [self.scores_NxM, self.chosen_M, self.gradient_norm_M]


@runtime_checkable
class Learner(Protocol):
    """Trains M independent models and scores all molecules with each."""

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that determines the scores except data and seed, as JSON values."""
        ...

    @property
    def cautious(self) -> "Learner":
        """The same with settings for models that collapsed (see `collapse`)."""
        ...

    def __call__(
        self,
        features_NxD: UInt8[np.ndarray, "N D"],
        examples: WeightedExamples,
        seed: int,
        *,
        names: tuple[str, ...] | None = None,
        on_progress: OnProgress | None = None,
        checkpoints: Checkpoints | None = None,
        on_skipped: OnSkipped | None = None,
    ) -> Trained:
        """Train, and score all N molecules.

        With `checkpoints` training continues from the newest; the result is bit-identical to an uninterrupted one.
        `names` are those of the models, for errors. Learners that skip steps call `on_skipped` at the end.
        """
        ...

    def flops(self, num_molecules: int, num_bits: int, num_models: int) -> float | None:
        """FLOPs of training `num_models` on `num_molecules` molecules; None if unknown."""
        ...


def mixture_examples(
    values_NxK: Float[np.ndarray, "N K"],
    weights_MxK: Float[np.ndarray, "M K"],
    train: Bool[np.ndarray, " N"] | Bool[np.ndarray, "M N"],
    *,
    balanced: bool = False,
    names: tuple[str, ...] | None = None,
) -> WeightedExamples:
    """The examples of M models, model m on mixture `weights_MxK[m]` of the sources' molecules inside `train`.

    Args:
        values_NxK: labels or measurements; NaN if there is none.
        weights_MxK: the mixtures.
        train: one mask, or one per model.
        balanced: each class of a source has half of its weight: w_k / (2 n_k1) for ones and w_k / (2 n_k0) for zeros;
            otherwise all have w_k / n_k. n_k, n_k0 and n_k1 count the source's molecules inside `train`.
        names: of the sources, for errors.

    Raises:
        InputError: mixtures that are negative or do not sum to 1; infinite values; `balanced` values other than 0 and
            1; a source of positive weight without a labeled molecule in `train` (of each class if `balanced`).
    """
    names = names or tuple(f"source {k}" for k in range(values_NxK.shape[1]))
    if len(names) != values_NxK.shape[1]:
        raise InputError(f"{len(names)} names for {values_NxK.shape[1]} sources")
    weights_MxK = weights_MxK.astype(np.float64)
    wrong_M = ~((weights_MxK >= 0).all(1) & (np.abs(weights_MxK.sum(1) - 1) < 1e-4))
    if wrong_M.any():
        m = int(wrong_M.argmax())
        raise InputError(f"the weights of model {m} must be at least 0 and sum to 1, not {weights_MxK[m].sum():g}")
    labeled_NxK = ~np.isnan(values_NxK)
    value_NxK = np.where(labeled_NxK, values_NxK, 0.0)
    if not np.isfinite(value_NxK).all():
        raise InputError(f"{names[int((~np.isfinite(value_NxK)).any(0).argmax())]} has a value that is not finite")
    groups = {"labeled molecule": labeled_NxK}
    if balanced:
        odd_K = ((value_NxK != 0) & (value_NxK != 1)).any(0)
        if odd_K.any():
            k = int(odd_K.argmax())
            raise InputError(f"balanced needs values of 0 and 1, but {names[k]} has others; it is not for regression")
        groups = {f"molecule of class {label}": labeled_NxK & (value_NxK == label) for label in (1, 0)}
    weight_MxN, sum_MxN = np.zeros((2, len(weights_MxK), len(values_NxK)))  # sum_k a_ik and sum_k a_ik y_ik
    for member, in_NxK in groups.items():
        count_MxK = np.atleast_2d(train).astype(np.float64) @ in_NxK.astype(np.float64)
        empty_MxK = (count_MxK == 0) & (weights_MxK > 0)
        if empty_MxK.any():
            m, k = (int(i) for i in np.argwhere(empty_MxK)[0])
            raise InputError(
                f"{names[k]} has a positive weight in model {m}, but no {member} among those to train on; leave it out"
                " or give it weight 0"
            )
        each_MxK = weights_MxK / len(groups) / np.maximum(count_MxK, 1)
        weight_MxN += (each_MxK @ in_NxK.T.astype(np.float64)) * train
        sum_MxN += (each_MxK @ np.where(in_NxK, value_NxK, 0.0).T.astype(np.float64)) * train
    target_MxN = np.divide(sum_MxN, weight_MxN, out=np.zeros_like(sum_MxN), where=weight_MxN > 0)
    return WeightedExamples(target_MxN.astype(np.float32), weight_MxN.astype(np.float32))


def check_examples(
    features_NxD: UInt8[np.ndarray, "N D"], examples: WeightedExamples, loss: Loss, names: tuple[str, ...]
) -> None:
    """Raise InputError, with the model, for examples that no learner can be trained on."""
    target_MxN, weight_MxN = examples.target_MxN, examples.weight_MxN
    if features_NxD.size == 0 or features_NxD.max() > 1:
        raise InputError("features must be bits, a uint8 of 0 or 1 each, not packed, and at least one")
    if target_MxN.shape != weight_MxN.shape or target_MxN.shape[1] != len(features_NxD):
        raise InputError(
            f"targets {target_MxN.shape} and weights {weight_MxN.shape} do not match {len(features_NxD)} molecules"
        )
    if len(names) != len(weight_MxN):
        raise InputError(f"{len(names)} names for {len(weight_MxN)} models")
    if loss not in ("cross_entropy", "squared_error"):
        raise InputError(f"loss must be cross_entropy or squared_error, not {loss!r}")
    low, high = (0, 1) if loss == "cross_entropy" else (-np.inf, np.inf)
    sound_M = (np.isfinite(weight_MxN) & (weight_MxN >= 0)).all(1) & (weight_MxN > 0).any(1)
    for wrong_M, what in (
        (~sound_M, "a negative or infinite weight, or none above 0"),
        (~np.isfinite(target_MxN).all(1), "a target that is not finite (set it to 0 where the weight is 0)"),
        (((target_MxN < low) | (target_MxN > high)).any(1), "a target outside [0, 1]; use squared_error"),
    ):
        if wrong_M.any():
            raise InputError(f"{names[int(wrong_M.argmax())]} has {what}")


def example_losses(score_: AnyArray, target_: AnyArray, loss: Loss) -> jax.Array:
    """The loss of each score: -t log p - (1 - t) log(1 - p) of the probability p = 1 / (1 + exp(-score)), or half the
    squared error."""
    if loss == "cross_entropy":
        return optax.sigmoid_binary_cross_entropy(jnp.asarray(score_), jnp.asarray(target_))
    return optax.l2_loss(jnp.asarray(score_), jnp.asarray(target_))


def base_scores(examples: WeightedExamples, loss: Loss) -> Float32[np.ndarray, " M"]:
    """The best constant score of each model: the weighted mean target, for cross-entropy as a logit.

    Probabilities are kept `LEAST_PROBABILITY` away from 0 and 1.
    """
    weight_MxN = examples.weight_MxN.astype(np.float64)
    mean_M = (weight_MxN * examples.target_MxN).sum(1) / weight_MxN.sum(1)
    if loss == "cross_entropy":
        mean_M = np.clip(mean_M, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        mean_M = np.log(mean_M / (1 - mean_M))
    return mean_M.astype(np.float32)


def standardized(examples: WeightedExamples, loss: Loss) -> tuple[WeightedExamples, Float32[np.ndarray, " M"]]:
    """Weights of sum 1, targets in units of their standard deviation for squared error, and those units."""
    weight_MxN = examples.weight_MxN / examples.weight_MxN.sum(1, keepdims=True)
    scale_M = np.ones(len(weight_MxN), np.float32)
    if loss == "squared_error":
        centered_MxN = examples.target_MxN - base_scores(examples, loss)[:, None]
        scale_M = np.sqrt((weight_MxN * centered_MxN**2).sum(1))
        scale_M = np.where(scale_M > 0, scale_M, np.float32(1))
    return WeightedExamples(examples.target_MxN / scale_M[:, None], weight_MxN), scale_M


def equal_groups(num_models: int, num_devices: int, max_bytes: int, bytes_each: int) -> int:
    """Models per group: groups are equal, a multiple of the devices, and as few as `max_bytes` allows.

    Raises:
        InputError: one model per device does not fit.
    """
    fit = max_bytes // bytes_each // num_devices * num_devices
    if fit < 1:
        raise InputError(
            f"max_bytes {max_bytes} is less than {num_devices} models take, one per device: {num_devices * bytes_each}"
        )
    groups = -(-num_models // fit)
    return -(-num_models // (groups * num_devices)) * num_devices
