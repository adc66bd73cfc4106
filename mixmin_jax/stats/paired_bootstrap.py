"""Compare two models on the same held-out examples: percentile intervals over resampled examples.

NumPy only. Axes: N examples, G groups of examples, S seeds, R resamples.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from mixmin_jax.errors import InputError
from mixmin_jax.stats.prediction_metrics import Metric, evaluate

_MAX_ROUNDS = 100  # most rounds of drawing again resamples in which all values are equal


@dataclasses.dataclass(frozen=True)
class BootstrapDifference:
    """A difference a - b with its percentile interval.

    `mean` is that of the given examples and seeds; `lower` and `upper` are percentiles over resamples. `p_value` is
    two-sided, of "both are equal".
    """

    mean: float
    lower: float
    upper: float
    confidence: float
    per_seed: list[float]
    p_value: float


def resample_counts(
    values_N: ArrayLike, num_resamples: int, seed: int, groups_N: ArrayLike | None = None
) -> Int[np.ndarray, "R N"]:
    """The number of times that each example is in each of R resamples of the groups, drawn with replacement.

    Resamples with equal values only (a class is missing) have no metric and are drawn again.

    Args:
        values_N: labels or measurements.
        num_resamples: R.
        seed: of the draws.
        groups_N: examples of a group (a scaffold, a document) stay together; None: each example is a group.

    Raises:
        InputError: the values are equal, or differ between so few groups that resamples hardly ever have two values.
    """
    values_N = np.asarray(values_N, np.float64)
    _, group_N = np.unique(np.arange(len(values_N)) if groups_N is None else groups_N, return_inverse=True)
    num_groups = int(group_N.max()) + 1
    rng = np.random.default_rng(seed)
    kept: list[np.ndarray] = []
    for _ in range(_MAX_ROUNDS):
        missing = num_resamples - sum(map(len, kept))
        if not missing:
            return np.concatenate(kept)
        counts_RxG = rng.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=missing)
        counts_RxN = counts_RxG[:, group_N]
        present_RxN = counts_RxN > 0
        largest_R = np.where(present_RxN, values_N, -np.inf).max(1)
        kept.append(counts_RxN[largest_R > np.where(present_RxN, values_N, np.inf).min(1)])
    raise InputError(
        f"of {len(values_N)} values in {num_groups} groups so few differ that resamples hardly ever hold two values"
    )


def resampled_metric(
    scores: Mapping[str, Float[np.ndarray, "S N"]],
    values_N: ArrayLike,
    metric: Metric,
    num_resamples: int = 1000,
    seed: int = 0,
    groups_N: ArrayLike | None = None,
) -> dict[str, Float[np.ndarray, "S _"]]:
    """`metric` of every model and seed, on the examples (column 0) and on R resamples, which are the same for all.

    Raises:
        InputError: as in `resample_counts` and `prediction_metrics.evaluate`.
    """
    counts_RxN = resample_counts(values_N, num_resamples, seed, groups_N)
    counts_RxN = np.concatenate([np.ones_like(counts_RxN[:1]), counts_RxN])
    return {
        name: np.stack([evaluate(metric, scores_N, values_N, counts_RxN) for scores_N in scores_SxN])
        for name, scores_SxN in scores.items()
    }


def bootstrap_difference(
    a_SxR: Float[np.ndarray, "S R"], b_SxR: Float[np.ndarray, "S R"], confidence: float = 0.95, seed: int = 0
) -> BootstrapDifference:
    """Difference of two arms' metrics, mean over seeds, with its percentile interval over examples and seeds.

    Each resample also draws S seeds with replacement, the same for both arms, so the interval includes the randomness
    of training. With few seeds this part is rough and a little too small; with one seed it is missing.

        p = min(1, 2 (1 + min(#(d_r <= 0), #(d_r >= 0))) / (R + 1)),   d_r: the difference in resample r

    If all d_r are on one side, R resamples cannot tell how small p is, and corrections for many targets would need it.
    Then p is that of the normal distribution, P(|z| >= |d| / std(d_r)), where this is less.

    Args:
        a_SxR, b_SxR: from one call of `resampled_metric`, so a resample has the same examples for both.
        confidence: probability of the interval.
        seed: of the draws.
    """
    difference_SxR = a_SxR - b_SxR
    num_seeds, num_columns = difference_SxR.shape
    drawn_RxS = np.random.default_rng(seed).integers(num_seeds, size=(num_columns - 1, num_seeds))
    resampled_R = np.take_along_axis(difference_SxR[:, 1:].T, drawn_RxS, axis=1).mean(1)
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(resampled_R, [tail, 1 - tail])
    per_seed = difference_SxR[:, 0].tolist()
    fewer = min((resampled_R <= 0).sum(), (resampled_R >= 0).sum())
    p_value = min(1.0, 2 * (1 + int(fewer)) / num_columns)  # the given examples are a column too: R + 1
    mean, error = float(np.mean(per_seed)), float(resampled_R.std(ddof=1))
    if not fewer and error > 0:
        p_value = min(p_value, math.erfc(abs(mean) / error / math.sqrt(2)))
    return BootstrapDifference(mean, float(lower), float(upper), confidence, per_seed, p_value)
