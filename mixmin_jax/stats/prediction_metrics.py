"""How well scores predict held-out values: ranking metrics for 0/1 labels, correlation for measured values.

NumPy only. For all metrics, higher is better. `counts_RxN` holds how often each example is in each of R resamples
(bootstrap draws), so resampling copies no examples.

Axes: N examples, R resamples, T distinct scores.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from mixmin_jax.errors import InputError

Metric = Literal["average_precision", "roc_auc", "spearman", "r_squared"]
CLASSIFICATION_METRICS: tuple[Metric, ...] = ("average_precision", "roc_auc")
REGRESSION_METRICS: tuple[Metric, ...] = ("spearman", "r_squared")


Vector = Float[np.ndarray, " N"]
Labels = Bool[np.ndarray, " N"]
Counts = Int[np.ndarray, "R N"]
PerResample = Float[np.ndarray, " R"]


def evaluate(
    metric: Metric, scores_N: ArrayLike, values_N: ArrayLike, counts_RxN: ArrayLike | None = None
) -> PerResample:
    """`metric` of each resample; example n is in it `counts_RxN[r, n]` times (default: one sample, all once).

        average_precision   sum_t (R_t - R_(t-1)) P_t,   P_t, R_t: precision and recall of "score >= s_t",
                            s_1 > s_2 > ... the distinct scores; a random ranking has about the share of positives
        roc_auc             the chance that a positive has a higher score than a negative; equal scores count one half
        spearman            Pearson's correlation of the ranks, equal values sharing their mean rank; 0 for constant
                            scores
        r_squared           1 - sum (y - s)^2 / sum (y - mean y)^2, of the scores as they stand

    Raises:
        InputError: scores or values are not finite vectors of equal length, labels are not 0 or 1 or of one class
            (also in a resample), or values do not vary.
    """
    scores_N, values_N = np.asarray(scores_N, np.float64), np.asarray(values_N, np.float64)
    if scores_N.ndim != 1 or scores_N.shape != values_N.shape:
        raise InputError(f"scores {scores_N.shape} and values {values_N.shape} must be vectors of equal length")
    for what, vector_N in (("score", scores_N), ("value", values_N)):
        if not np.isfinite(vector_N).all():
            raise InputError(f"the {what} of example {int(np.argmin(np.isfinite(vector_N)))} is not finite")
    counts_RxN = np.ones((1, len(scores_N)), np.int64) if counts_RxN is None else np.asarray(counts_RxN)
    if metric in REGRESSION_METRICS:
        return (_spearman if metric == "spearman" else _r_squared)(scores_N, values_N, counts_RxN)
    if not np.isin(values_N, (0, 1)).all():
        raise InputError("labels must be 0 or 1")
    if len(np.unique(values_N)) < 2:
        raise InputError(f"all {len(values_N)} labels are of one class: nothing can be ranked")
    true_RxT, all_RxT = _above_thresholds(scores_N, values_N == 1, counts_RxN)
    return (_average_precision if metric == "average_precision" else _roc_auc)(true_RxT, all_RxT)


def _average_precision(true_RxT: Int[np.ndarray, "R T"], all_RxT: Int[np.ndarray, "R T"]) -> PerResample:
    new_true_RxT = np.diff(true_RxT, axis=1, prepend=0)
    return (new_true_RxT * (true_RxT / np.maximum(all_RxT, 1))).sum(1) / true_RxT[:, -1]


def _roc_auc(true_RxT: Int[np.ndarray, "R T"], all_RxT: Int[np.ndarray, "R T"]) -> PerResample:
    false_RxT = all_RxT - true_RxT
    new_true_RxT, new_false_RxT = (np.diff(count_RxT, axis=1, prepend=0) for count_RxT in (true_RxT, false_RxT))
    below_RxT = false_RxT[:, -1:] - false_RxT + new_false_RxT / 2  # half of the negatives at the threshold
    return (new_true_RxT * below_RxT).sum(1) / (true_RxT[:, -1] * false_RxT[:, -1])


def _above_thresholds(
    scores_N: Vector, is_positive_N: Labels, counts_RxN: Counts
) -> tuple[Int[np.ndarray, "R T"], Int[np.ndarray, "R T"]]:
    """Positives, and all examples, at or above each distinct score, the highest first."""
    order_N = np.argsort(-scores_N, kind="stable")
    last_T = np.flatnonzero(np.append(np.diff(scores_N[order_N]) != 0, True))
    sorted_RxN = counts_RxN[:, order_N]
    true_RxT = np.cumsum(sorted_RxN * is_positive_N[order_N], axis=1)[:, last_T]
    all_RxT = np.cumsum(sorted_RxN, axis=1)[:, last_T]
    if not (true_RxT[:, -1].all() and (all_RxT - true_RxT)[:, -1].all()):
        raise InputError("a resample holds no positive or no negative example")
    return true_RxT, all_RxT


def _spearman(scores_N: Vector, values_N: Vector, counts_RxN: Counts) -> PerResample:
    ranks_RxN, other_RxN = _mean_ranks(scores_N, counts_RxN), _mean_ranks(values_N, counts_RxN)
    deviation_R, other_deviation_R = (np.sqrt((counts_RxN * r_RxN**2).sum(1)) for r_RxN in (ranks_RxN, other_RxN))
    if not other_deviation_R.all():
        raise InputError("the values to predict are all equal: nothing can be ranked")
    covariance_R = (counts_RxN * ranks_RxN * other_RxN).sum(1)
    return np.divide(
        covariance_R, deviation_R * other_deviation_R, out=np.zeros_like(covariance_R), where=deviation_R > 0
    )


def _mean_ranks(values_N: Vector, counts_RxN: Counts) -> Float[np.ndarray, "R N"]:
    """Ranks inside each resample, ties sharing their mean rank, less their mean."""
    distinct_T, group_N = np.unique(values_N, return_inverse=True)
    counts_RxT = np.zeros((len(counts_RxN), len(distinct_T)))
    np.add.at(counts_RxT.T, group_N, counts_RxN.T)
    below_RxT = np.cumsum(counts_RxT, axis=1) - counts_RxT
    return (below_RxT + counts_RxT / 2)[:, group_N] - counts_RxN.sum(1, keepdims=True) / 2


def _r_squared(scores_N: Vector, values_N: Vector, counts_RxN: Counts) -> PerResample:
    mean_R = counts_RxN @ values_N / counts_RxN.sum(1)
    total_R = (counts_RxN * (values_N - mean_R[:, None]) ** 2).sum(1)
    if not total_R.all():
        raise InputError("the values to predict are all equal: their variance is 0")
    return 1 - counts_RxN @ (values_N - scores_N) ** 2 / total_R
