"""How far class probabilities can be believed: the expected calibration error, and a temperature that lowers it.

Axes: N examples, A classes.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from mixmin_jax.errors import InputError

NUM_BINS = 15  # of the expected calibration error, as in Guo et al.
_FEWEST_WRONG = 5  # examples with another predicted class in a half: without any, the best temperature is 0
_HOTTEST = 20.0  # largest temperature, and the inverse of the smallest: nearer to 0 one wrong example costs too much


class Temperature(NamedTuple):
    """A temperature, and what it does to examples that it was not fitted on."""

    temperature: float  # 1 where none lowers the loss of examples that it was not fitted on
    error: float  # expected calibration error without it
    error_after: float  # the same with it


def calibration_error(
    probability_NxA: Float[np.ndarray, "N A"], labels_N: Integer[np.ndarray, " N"], num_bins: int = NUM_BINS
) -> float:
    """The expected calibration error of the predicted class (Guo et al. 2017, arXiv:1706.04599, equation 3).

        sum over bins b of  n_b / N |accuracy_b - mean probability_b|

    Bins divide the probability of the predicted class, 0 to 1, evenly.

    Raises:
        InputError: no examples.
    """
    if not len(labels_N):
        raise InputError("a calibration error needs at least one example")
    top_N = probability_NxA.max(axis=1).astype(np.float64)
    right_N = probability_NxA.argmax(axis=1) == labels_N
    bin_N = np.minimum((top_N * num_bins).astype(int), num_bins - 1)
    return float(np.abs(np.bincount(bin_N, right_N - top_N)).sum() / len(labels_N))


def fit_temperature(logits_NxA: Float[np.ndarray, "N A"], labels_N: Integer[np.ndarray, " N"]) -> float:
    """The temperature t that minimizes the mean of -log softmax(logits / t)[label], from 1/20 to 20."""
    bound = np.log(_HOTTEST)
    found = minimize_scalar(
        lambda log_t: _nats(logits_NxA / np.exp(log_t), labels_N), bounds=(-bound, bound), method="bounded"
    )
    return float(np.exp(found.x))


def cross_fitted_temperature(
    probability_NxA: Float[np.ndarray, "N A"], labels_N: Integer[np.ndarray, " N"]
) -> Temperature:
    """The temperature for a model's probabilities, judged on examples that it was not fitted on.

    It is fitted on all examples. To judge it, each half (every other example) gets the temperature of the other half.
    If that does not lower the loss, or a half has fewer than five examples whose predicted class is wrong, the
    temperature is 1. The predicted classes never change.

    Args:
        probability_NxA: of held-out examples, at temperature 1.
        labels_N: their classes.

    Raises:
        InputError: fewer than two examples.
    """
    if len(labels_N) < 2:
        raise InputError(f"a temperature needs two examples or more, not {len(labels_N)}")
    tiny = np.finfo(np.float32).tiny
    logp_NxA = np.log(np.maximum(probability_NxA.astype(np.float64), tiny))
    crossed_NxA = np.empty_like(logp_NxA)
    for half in (0, 1):
        crossed_NxA[half::2] = logp_NxA[half::2] / fit_temperature(logp_NxA[1 - half :: 2], labels_N[1 - half :: 2])
    before = calibration_error(probability_NxA, labels_N)
    wrong_N = probability_NxA.argmax(axis=1) != labels_N
    too_few = min(wrong_N[0::2].sum(), wrong_N[1::2].sum()) < _FEWEST_WRONG
    if too_few or _nats(crossed_NxA, labels_N) >= _nats(logp_NxA, labels_N):
        return Temperature(1.0, before, before)
    after = calibration_error(np.exp(log_softmax(crossed_NxA, axis=1)), labels_N)
    return Temperature(fit_temperature(logp_NxA, labels_N), before, after)


def _nats(logits_NxA: np.ndarray, labels_N: np.ndarray) -> float:
    return float(-log_softmax(logits_NxA, axis=1)[np.arange(len(labels_N)), labels_N].mean())
