"""What the comparisons of two arms on several targets say together. NumPy and SciPy only.

Axes: T targets.
"""

import dataclasses

import numpy as np
import scipy.stats
from jaxtyping import Float

from mixmin_jax.errors import InputError
from mixmin_jax.stats.comparison import Values


@dataclasses.dataclass(frozen=True)
class SignTest:
    """On how many targets arm a lies above and below arm b, and the two-sided p-value of "either is as likely".

    `small`: targets whose difference is too small to count for either.
    """

    above: int
    below: int
    small: int
    p_value: float


def sign_test(difference_T: Values, matters: float = 0.0) -> SignTest:
    """Exact sign test over targets.

        p = P(|B - n/2| >= |k - n/2|),   B: heads in n throws of a fair coin,   k: differences above 0 among n

    Differences of 0, and those with |difference| < `matters`, have no sign and are not among the n. It assumes that
    targets are drawn independently. Targets of one data set are hardly that.

    Args:
        difference_T: a - b on each target.
        matters: the smallest difference that counts.

    Raises:
        InputError: not a vector of finite numbers.
    """
    difference_T = _vector(difference_T, "differences")
    has_sign_T = (np.abs(difference_T) >= matters) & (difference_T != 0)
    n, above = int(has_sign_T.sum()), int((difference_T[has_sign_T] > 0).sum())
    p_value = float(scipy.stats.binomtest(above, n).pvalue) if n else 1.0
    return SignTest(above, n - above, len(difference_T) - n, p_value)


def holm(p_value_T: Values) -> Float[np.ndarray, " T"]:
    """p-values corrected for their number (Holm 1979, Scandinavian Journal of Statistics 6, 65-70).

        q_(i) = max_(j <= i) min(1, (T - j + 1) p_(j)),   p_(1) <= ... <= p_(T)

    Of the T hypotheses "both arms are equal", those with q <= alpha are rejected. The chance that any of these is true
    is alpha at most, however the p-values depend on each other.

    Args:
        p_value_T: of the comparisons of one family.

    Returns:
        q, in the order of p_value_T.

    Raises:
        InputError: not a vector of numbers in [0, 1].
    """
    p_value_T = _vector(p_value_T, "p-values")
    if ((p_value_T < 0) | (p_value_T > 1)).any():
        raise InputError(f"p-values must lie in [0, 1]; got {p_value_T.tolist()!r:.80}")
    order_T = np.argsort(p_value_T)
    hypotheses_left_T = np.arange(len(p_value_T), 0, -1)
    q_T = np.empty_like(p_value_T)
    q_T[order_T] = np.minimum(np.maximum.accumulate(hypotheses_left_T * p_value_T[order_T]), 1)
    return q_T


def _vector(values: Values, name: str) -> Float[np.ndarray, " T"]:
    vector_T = np.asarray(values, np.float64)
    if vector_T.ndim != 1 or not np.isfinite(vector_T).all():
        raise InputError(f"{name} must be a vector of finite numbers; got {values!r:.80}")
    return vector_T
