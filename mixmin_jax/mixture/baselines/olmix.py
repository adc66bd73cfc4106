"""Olmix: a log-linear regression of a run's loss on its mixture (arXiv:2602.12237; data mixing laws, arXiv:2403.16952).

Axes: R runs, K sources, M mixtures.
"""

import dataclasses

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.baselines.regmix import LinearPredictor, fit_ridge
from mixmin_jax.mixture.baselines.rules import natural_weights

FLOOR_SHARES = np.concatenate([np.linspace(0, 0.9, 10), [0.95, 0.98]])  # of the least loss, tried as c


@dataclasses.dataclass(frozen=True, eq=False)
class LogLinearPredictor:
    """`loss(w) = floor + exp(log_excess(w))`, in the units of the losses it was fitted to."""

    floor: float
    log_excess: LinearPredictor

    def __call__(self, mixtures_MxK: ArrayLike) -> Float[np.ndarray, " M"]:
        return self.floor + np.exp(self.log_excess(mixtures_MxK))


def fit_log_linear(mixtures_RxK: ArrayLike, losses_R: ArrayLike) -> LogLinearPredictor:
    """Fit `loss(w) = c + exp(b0 + w . b)` with c >= 0.

    For each c of a grid below the least loss, ridge regression fits `log(loss - c)`, its strength chosen by
    leave-one-out. Of all c the one with the least leave-one-out error, in units of the loss, is taken.

    Raises:
        InputError: as `fit_regmix`, or a loss that is not positive.
    """
    losses_R = np.asarray(losses_R, np.float64)
    if not (losses_R > 0).all():
        raise InputError("a log-linear fit needs positive losses")
    best: tuple[float, LogLinearPredictor] | None = None
    for floor in FLOOR_SHARES * losses_R.min():
        linear, held_out_R = fit_ridge(mixtures_RxK, np.log(losses_R - floor))
        error = float(np.mean((floor + np.exp(held_out_R) - losses_R) ** 2))
        if best is None or error < best[0]:
            best = error, LogLinearPredictor(float(floor), linear)
    assert best is not None
    return best[1]


def propose_near(
    predictor: LogLinearPredictor, prior_K: ArrayLike, strength: float, candidates_MxK: ArrayLike
) -> Float[np.ndarray, " K"]:
    """The candidate with the least `loss(w) + strength * KL(w || prior)`, as Olmix regularizes its proposals.

    Without the prior the least predicted loss is always at a single source.

    Raises:
        InputError: a negative strength, or a prior that is no mixture.
    """
    if not strength >= 0:
        raise InputError(f"the prior's strength must not be negative; got {strength}")
    prior_K, candidates_MxK = natural_weights(prior_K), np.asarray(candidates_MxK, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms_MxK = np.where(candidates_MxK > 0, candidates_MxK * np.log(candidates_MxK / prior_K), 0.0)
    return candidates_MxK[np.argmin(predictor(candidates_MxK) + strength * terms_MxK.sum(1))]
