"""Ways to predict the loss of a mixture on a target, all from the target's fit part.

Axes: M mixtures, K sources, N bytes, R rows, D documents.
"""

import math

import numpy as np

from mixmin_jax.mixture.baselines.olmix import fit_log_linear
from mixmin_jax.mixture.baselines.regmix import fit_regmix
from mixmin_jax.mixture.rows import Rows, rows

DOCUMENT = "document"
LENGTHS = (1, 4, 16, 32, 64, 128, 256, DOCUMENT)  # bytes of a row


def rows_of(token_NxK: np.ndarray, bytes_D: np.ndarray, length: int | str) -> Rows:
    """Rows of so many bytes, or whole documents."""
    return rows(token_NxK, bytes_D, None if length == DOCUMENT else int(length))


def mixture_losses(found: Rows, weights_MxK: np.ndarray) -> np.ndarray:
    """The loss of each mixture of proxies in bits per byte."""
    with np.errstate(divide="ignore"):
        log_w_MxK = np.log(weights_MxK)
    highest_Rx1 = found.logp_RxK.max(1, keepdims=True)
    p_RxK = np.exp(found.logp_RxK - highest_Rx1)
    nats_M = np.empty(len(weights_MxK))
    for m, weights_K in enumerate(weights_MxK):
        mixed_R = p_RxK @ weights_K
        safe_R = mixed_R > 1e-290  # where the sources that explain a row have no weight, take logs of all
        nats_M[m] = -(np.log(mixed_R[safe_R]) + highest_Rx1[safe_R, 0]).sum()
        nats_M[m] -= np.logaddexp.reduce(found.logp_RxK[~safe_R] + log_w_MxK[m], axis=1).sum()
    return nats_M / (math.log(2) * found.tokens_R.sum())


def regressions(
    random_RxK: np.ndarray, losses_R: np.ndarray, moe_R: np.ndarray, weights_MxK: np.ndarray, moe_M: np.ndarray
) -> dict[str, np.ndarray]:
    """Predictions of regressions on runs with random mixtures; `moe` is the loss of the mixture of proxies, for MDE."""
    with_moe_RxF, with_moe_MxF = np.column_stack([random_RxK, moe_R]), np.column_stack([weights_MxK, moe_M])
    predicted = {
        "RegMix, linear": fit_regmix(random_RxK, losses_R)(weights_MxK),
        "Olmix, log-linear": fit_log_linear(random_RxK, losses_R)(weights_MxK),
        "MDE, linear with the loss of mixed proxies": fit_regmix(with_moe_RxF, losses_R)(with_moe_MxF),
    }
    if len(losses_R) >= 64:
        predicted["RegMix, boosted trees"] = fit_regmix(random_RxK, losses_R, "boosted_trees")(weights_MxK)
    return predicted
