"""Olmix: a log-linear regression of a run's loss on its mixture (arXiv:2602.12237; data mixing laws, arXiv:2403.16952).

Axes: R runs, K sources, M mixtures.
"""

import dataclasses

import numpy as np
import scipy.optimize
from jaxtyping import Float
from numpy.typing import ArrayLike

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.baselines.regmix import LinearPredictor, checked_mixtures, checked_runs, fit_ridge
from mixmin_jax.mixture.baselines.rules import fit_under_caps, natural_weights

FLOOR_SHARES = np.concatenate([np.linspace(0, 0.9, 10), [0.95, 0.98]])  # of the least loss, tried as c
KL_STRENGTH = 0.1  # Olmix's example configurations


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
    mixtures_RxK, losses_R = checked_runs(checked_mixtures(mixtures_RxK), losses_R, 2, "linear")
    if (losses_R <= 0).any():
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
    predictor: LogLinearPredictor,
    prior_K: ArrayLike,
    strength: float = KL_STRENGTH,
    upper_bounds_K: ArrayLike | None = None,
) -> Float[np.ndarray, " K"]:
    """The mixture with the least `loss(w) + strength * KL(w || prior)`, as Olmix proposes one.

    Without the prior, the least predicted loss always is at a single source. With t = exp(b0 + w . b), the optimum is
    `prior exp(-t b / strength)`, normalized and moved under the caps by its KL projection. Brent's method
    finds t.

    Args:
        predictor: of `fit_log_linear`.
        prior_K: the mixture to stay near (natural weights).
        strength: in the units of the loss (bits per byte in Olmix).
        upper_bounds_K: caps.

    Raises:
        InputError: a strength that is not positive, or a prior that is no mixture.
    """
    if not strength > 0:
        raise InputError(f"the prior's strength must be positive; got {strength}")
    prior_K, slope_K = natural_weights(prior_K), predictor.log_excess.slope_K

    def tilted(log_t: float) -> Float[np.ndarray, " K"]:
        with np.errstate(divide="ignore"):
            log_w_K = np.log(prior_K) - np.exp(log_t) / strength * slope_K
        w_K = np.exp(log_w_K - log_w_K.max())
        w_K /= w_K.sum()
        return w_K if upper_bounds_K is None else fit_under_caps(w_K, upper_bounds_K)

    def excess(log_t: float) -> float:  # falls, as a larger t moves weight to smaller slopes
        return float(predictor.log_excess(tilted(log_t))) - log_t

    low, high = (predictor.log_excess.intercept + edge for edge in (slope_K.min() - 1, slope_K.max() + 1))
    return tilted(scipy.optimize.brentq(excess, low, high, xtol=1e-12))
