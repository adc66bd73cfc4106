"""The gap of any method's weights, in plain NumPy float64, by which all methods are judged.

Nothing here is shared with the package: no code, no device, no compiler.

Axes: N examples, K sources; B examples of a block.
"""

from typing import NamedTuple

import numpy as np

_BLOCK = 65_536


class Judged(NamedTuple):
    """What weights are worth."""

    gap: float  # relative to sum v; +inf where the weights are no weights, or give an example no density
    repaired: float  # what had to be changed to put the weights on the simplex, in total; inf if there was no way


def judge(logp_NxK: np.ndarray, v_N: np.ndarray | None, weights_K: np.ndarray) -> Judged:
    """The Frank-Wolfe gap of weights for the cross-entropy on the simplex, relative to sum v.

        gap(w) = sum_k w_k (max_j g_j - g_k) / sum v,      g_k = sum_n v_n p_nk / (p_n . w)

    bounds (f(w) - min f) / sum v from above (Kiefer and Wolfowitz 1956). All terms are at least 0, so that nothing
    cancels but in max g - g, which float64 knows to about 1e-15. Negative weights are first set to 0 and the sum to 1,
    which favors methods that miss the simplex; `repaired` says by how much.
    """
    w_K = np.asarray(weights_K, np.float64)
    if w_K.shape != logp_NxK.shape[1:] or not np.isfinite(w_K).all() or not np.maximum(w_K, 0).any():
        return Judged(np.inf, np.inf)
    given_K, w_K = w_K, np.maximum(w_K, 0)
    w_K = w_K / w_K.sum()
    repaired = float(np.abs(w_K - given_K).sum())
    v_N = np.full(len(logp_NxK), 1 / len(logp_NxK)) if v_N is None else v_N
    g_K = np.zeros(len(w_K), np.longdouble)
    for start in range(0, len(logp_NxK), _BLOCK):
        rows = slice(start, start + _BLOCK)
        v_B = v_N[rows]
        p_BxK = np.exp(logp_NxK[rows] - logp_NxK[rows].max(axis=1, keepdims=True))
        density_B = p_BxK @ w_K
        if not (density_B[v_B > 0] > 0).all():
            return Judged(np.inf, repaired)
        g_K += (v_B / np.where(v_B > 0, density_B, 1)) @ p_BxK
    return Judged(float(w_K @ (g_K.max() - g_K) / v_N.sum()), repaired)
