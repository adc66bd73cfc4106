"""Ways to predict the loss of a mixture on a target, all from the target's fit part.

Axes: M mixtures, K sources, N bytes, R rows, D documents.
"""

import numpy as np

from mixmin_jax.mixture.baselines.olmix import fit_log_linear
from mixmin_jax.mixture.baselines.regmix import fit_regmix, fit_ridge
from mixmin_jax.mixture.rows import Rows, rows

DOCUMENT = "document"


def rows_of(token_NxK: np.ndarray, bytes_D: np.ndarray, length: int | str) -> Rows:
    """Rows of so many bytes, or whole documents."""
    return rows(token_NxK, bytes_D, None if length == DOCUMENT else int(length))


def regressions(
    random_RxK: np.ndarray, losses_R: np.ndarray, moe_R: np.ndarray, weights_MxK: np.ndarray, moe_M: np.ndarray
) -> dict[str, np.ndarray]:
    """Predictions of regressions on runs with random mixtures; `moe` is the loss of the mixture of proxies, for MDE."""
    with_moe_RxF, with_moe_MxF = np.column_stack([random_RxK, moe_R]), np.column_stack([weights_MxK, moe_M])
    predicted = {
        "RegMix, linear": fit_regmix(random_RxK, losses_R)(weights_MxK),
        "Olmix, log-linear": fit_log_linear(random_RxK, losses_R)(weights_MxK),
        "MDE, linear with the loss of mixed proxies": fit_ridge(with_moe_RxF, losses_R)[0](with_moe_MxF),
    }
    if len(losses_R) >= 64:
        predicted["RegMix, boosted trees"] = fit_regmix(random_RxK, losses_R, "boosted_trees")(weights_MxK)
    return predicted
