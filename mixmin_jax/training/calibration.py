"""Calibrate the scores of models: one line per model, fitted on examples that the model has not seen.

Axes: N molecules, M models.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64
from sklearn.linear_model import LogisticRegression

from mixmin_jax.errors import InputError
from mixmin_jax.training.weighted_examples import Loss, WeightedExamples

_NO_PENALTY = 1e8  # scikit-learn's C, the inverse of a ridge so weak that it only keeps separable scores finite


class Calibration(NamedTuple):
    """score -> slope x score + intercept, for each of M models; slope >= 0, so the order of scores is kept."""

    slope_M: Float64[np.ndarray, " M"]
    intercept_M: Float64[np.ndarray, " M"]


def calibrate(heldout_NxM: Float[np.ndarray, "N M"], examples: WeightedExamples, loss: Loss) -> Calibration:
    """The line of each model that minimizes the loss of its held-out scores.

        min over slope >= 0 and intercept of  sum_i a_i loss(slope s_i + intercept, t_i)

    For cross-entropy this is Platt's scaling (Platt 1999; also with soft targets), for squared error a regression line.
    It is needed because mixing predictions assumes that they are p(y | x) of their source, and scores of overfitted
    models are too large for new molecules. If the best slope is negative, the line is the best constant.

    Args:
        heldout_NxM: scores of molecules by models that have not seen them; NaN is allowed for molecules of weight 0.
        examples: targets and weights of the same molecules.
        loss: of the models.

    Raises:
        InputError: a molecule of positive weight has no finite score.
    """
    columns = zip(heldout_NxM.T, examples.target_MxN, examples.weight_MxN, strict=True)
    lines = [_line(m, loss, *(values_N.astype(np.float64) for values_N in column)) for m, column in enumerate(columns)]
    slope_M, intercept_M = np.array(lines, np.float64).reshape(-1, 2).T
    return Calibration(slope_M, intercept_M)


def _line(
    model: int, loss: Loss, score_N: np.ndarray, target_N: np.ndarray, weight_N: np.ndarray
) -> tuple[float, float]:
    used_N = weight_N > 0
    score_N, target_N, weight_N = score_N[used_N], target_N[used_N], weight_N[used_N] / weight_N.sum()
    if not np.isfinite(score_N).all():
        raise InputError(f"model {model} has no finite score for {int((~np.isfinite(score_N)).sum())} of its molecules")
    mean = float(weight_N @ target_N)
    center, scale = float(weight_N @ score_N), float(np.sqrt(weight_N @ (score_N - weight_N @ score_N) ** 2))
    if loss == "squared_error":
        slope = float(weight_N @ ((score_N - center) * (target_N - mean))) / scale**2 if scale > 0 else 0.0
        return (slope, mean - slope * center) if slope > 0 else (0.0, mean)
    if not 0 < mean < 1:
        raise InputError(f"model {model} has targets of one class only: nothing to calibrate on")
    constant = 0.0, float(np.log(mean / (1 - mean)))
    if not scale > 0:
        return constant
    x_2Nx1 = np.tile((score_N - center) / scale, 2)[:, None]
    label_2N = np.repeat([1, 0], len(score_N))
    weight_2N = np.concatenate([weight_N * target_N, weight_N * (1 - target_N)]) * len(score_N)
    fit = LogisticRegression(C=_NO_PENALTY).fit(x_2Nx1, label_2N, weight_2N)
    slope = float(fit.coef_[0, 0]) / scale
    return (slope, float(fit.intercept_[0]) - slope * center) if slope > 0 else constant
