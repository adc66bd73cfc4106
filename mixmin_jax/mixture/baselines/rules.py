"""Mixtures by simple rules: uniform, natural and UniMax weights, and weights fitted under caps.

Axes: K sources. All arrays are NumPy float64.
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.checks import SLACK, total


def uniform_weights(num_sources: int) -> Float[np.ndarray, " K"]:
    """The same weight for every source, `1 / K`."""
    if num_sources < 1:
        raise InputError(f"a mixture needs at least one source; got {num_sources}")
    return np.full(num_sources, 1 / num_sources)


def natural_weights(sizes_K: ArrayLike) -> Float[np.ndarray, " K"]:
    """Weights in proportion to the sources' sizes (tokens, bytes or documents), `sizes_k / sum sizes`.

    Raises:
        InputError: a size is negative or not finite, or all are 0.
    """
    sizes_K = _checked_vector(sizes_K, "sizes")
    return sizes_K / sizes_K.sum()


def unimax_weights(sizes_K: ArrayLike, budget: float, max_epochs: float) -> Float[np.ndarray, " K"]:
    """UniMax: as uniform as possible, with no source repeated more than `max_epochs` times (arXiv:2304.09151).

        w_k = min(max_epochs size_k / budget, t)   with t such that sum_k w_k = 1

    Where all sources together do not last for the budget, all are repeated equally often: natural weights.

    Args:
        sizes_K: sizes of the sources, in the unit of the budget (tokens).
        budget: what the run trains on, in all.
        max_epochs: most repetitions of a source.

    Raises:
        InputError: a size, the budget or the epochs are not positive.
    """
    sizes_K = _checked_vector(sizes_K, "sizes")
    if not (budget > 0 and max_epochs > 0):
        raise InputError(f"the budget and the epochs must be positive; got {budget} and {max_epochs}")
    caps_K = max_epochs * sizes_K / budget
    if caps_K.sum() < 1:
        return natural_weights(sizes_K)
    return fit_under_caps(uniform_weights(len(sizes_K)), caps_K)


def fit_under_caps(weights_K: ArrayLike, upper_bounds_K: ArrayLike) -> Float[np.ndarray, "*batch K"]:
    """The closest mixture under caps: clip at the caps and give the excess to the other sources in proportion.

        u_k = min(c_k, t w_k)   with t >= 1 such that sum_k u_k = 1

    This is the Kullback-Leibler projection: u minimizes `KL(u || w)` over `{0 <= u <= c, sum u = 1}`. If the caps of
    the sources with `w_k > 0` sum to less than 1, these sources are filled. The rest goes to the sources with `w_k = 0`
    in proportion to their caps (the limit of the projection of `w + eps c` as eps goes to 0). Weights that obey the
    caps do not change.

    Args:
        weights_K: weights, on the simplex along the last axis; leading axes are batches.
        upper_bounds_K: the caps, in [0, inf].

    Raises:
        InputError: the caps allow less than 1 in total, or an argument is not what it should be.
    """
    weights_K = np.asarray(weights_K, np.float64)
    caps_K = np.asarray(upper_bounds_K, np.float64)
    if caps_K.ndim != 1 or weights_K.shape[-1:] != caps_K.shape:
        raise InputError(f"{weights_K.shape[-1:]} weights do not match {caps_K.shape} upper bounds")
    if not (caps_K >= 0).all():
        raise InputError("an upper bound is negative or not a number")
    if not (weights_K >= 0).all() or not np.allclose(weights_K.sum(-1), 1, rtol=0, atol=1e-6):
        raise InputError("the weights to fit under the caps must be non-negative and sum to 1")
    caps_K = np.minimum(caps_K, 1.0)
    if caps_K.sum() < 1 - SLACK:
        raise InputError(f"caps allow at most {total(caps_K.sum())} in total; weights must sum to 1")
    caps_K = caps_K / min(caps_K.sum(), 1)

    fitted_K, is_full_K = weights_K, np.zeros(weights_K.shape, bool)
    for _ in range(len(caps_K)):  # every pass but the last fills at least one more source
        over_K = fitted_K > caps_K
        if not over_K.any():
            break
        is_full_K |= over_K
        rest = 1 - np.where(is_full_K, caps_K, 0.0).sum(-1, keepdims=True)
        # if no source of positive weight has room, the others share the rest in proportion to their caps
        open_K = np.where(is_full_K, 0.0, weights_K)
        open_K = np.where(open_K.sum(-1, keepdims=True) > 0, open_K, np.where(is_full_K, 0.0, caps_K))
        sum_1 = open_K.sum(-1, keepdims=True)
        scale = np.divide(np.maximum(rest, 0.0), sum_1, out=np.zeros_like(sum_1), where=sum_1 > 0)
        shared_K = np.where(is_full_K, caps_K, scale * open_K)
        fitted_K = np.where(over_K.any(-1, keepdims=True), shared_K, fitted_K)
    return np.minimum(fitted_K, caps_K)


def _checked_vector(values_K: ArrayLike, what: str) -> Float[np.ndarray, " K"]:
    values_K = np.asarray(values_K, np.float64)
    if values_K.ndim != 1 or not (np.isfinite(values_K) & (values_K >= 0)).all() or not values_K.sum() > 0:
        raise InputError(f"{what} must be a vector of non-negative finite numbers, not all 0; got {values_K}")
    return values_K
