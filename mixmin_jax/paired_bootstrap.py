"""Which of two models predicts the same held-out examples better: percentile intervals over resampled examples.

NumPy only.  Axes: N examples, S seeds, R resamples.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from mixmin_jax.prediction_metrics import CLASSIFICATION_METRICS, Metric, evaluate, positives


@dataclasses.dataclass(frozen=True)
class BootstrapDifference:
    """A difference a - b with its percentile interval.

    `mean` is taken on the examples as they are; `lower` and `upper` are percentiles over resamples.
    """

    mean: float
    lower: float
    upper: float
    confidence: float
    per_seed: list[float]


def resample_counts(num_examples: int, num_resamples: int, seed: int) -> Int[np.ndarray, "R N"]:
    """How often each example stands in each of R draws of N examples with replacement."""
    return _draw(num_examples, num_resamples, np.random.default_rng(seed))


def resample_counts_by_class(labels_N: ArrayLike, num_resamples: int, seed: int) -> Int[np.ndarray, "R N"]:
    """As `resample_counts`, positives and negatives drawn apart: every draw has as many positives as there are.

    Raises:
        InputError: labels other than 0 and 1, or of one class.
    """
    is_positive_N = positives(labels_N)
    rng = np.random.default_rng(seed)
    counts_RxN = np.zeros((num_resamples, len(is_positive_N)), np.int64)
    for is_member_N in (is_positive_N, ~is_positive_N):
        counts_RxN[:, is_member_N] = _draw(int(is_member_N.sum()), num_resamples, rng)
    return counts_RxN


def _draw(num_examples: int, num_resamples: int, rng: np.random.Generator) -> Int[np.ndarray, "R N"]:
    return rng.multinomial(num_examples, np.full(num_examples, 1 / num_examples), size=num_resamples)


def resampled_metric(
    scores: Mapping[str, Float[np.ndarray, "S N"]],
    values_N: ArrayLike,
    metric: Metric,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Float[np.ndarray, "S _"]]:
    """`metric` of every model and seed: on the examples as they are (column 0), then on R resamples, the same for all.

    Raises:
        InputError: as `prediction_metrics.evaluate`.
    """
    values_N = np.asarray(values_N, np.float64)
    if metric in CLASSIFICATION_METRICS:
        counts_RxN = resample_counts_by_class(values_N, num_resamples, seed)
    else:
        counts_RxN = resample_counts(len(values_N), num_resamples, seed)
    counts_RxN = np.concatenate([np.ones_like(counts_RxN[:1]), counts_RxN])
    return {
        name: np.stack([evaluate(metric, scores_N, values_N, counts_RxN) for scores_N in scores_SxN])
        for name, scores_SxN in scores.items()
    }


def bootstrap_difference(
    a_SxR: Float[np.ndarray, "S R"], b_SxR: Float[np.ndarray, "S R"], confidence: float = 0.95
) -> BootstrapDifference:
    """Difference of two models' metrics, mean over seeds, with its percentile interval over examples.

    Both come from one `resampled_metric`, so that a resample holds the same examples for both.  The interval says how
    far the choice of test examples matters; `per_seed` shows how far the randomness of training does.
    """
    difference_SxR = a_SxR - b_SxR
    mean_R = difference_SxR.mean(0)
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(mean_R[1:], [tail, 1 - tail])
    return BootstrapDifference(float(mean_R[0]), float(lower), float(upper), confidence, difference_SxR[:, 0].tolist())


def interval_verdict(difference: BootstrapDifference) -> Literal["wins", "ties", "loses"]:
    """What a does against b where higher is better: "ties" means that the interval holds 0."""
    return "wins" if difference.lower > 0 else "loses" if difference.upper < 0 else "ties"
