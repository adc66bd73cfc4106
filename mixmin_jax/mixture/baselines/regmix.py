"""RegMix: predict the loss of mixtures by regression on earlier runs, then choose (Liu et al., arXiv:2407.01492).

The published notebook stops boosting early on the same runs that it reports. Here the number of trees is fixed, and no
held-out run is seen before its prediction.

Axes: R runs, K sources, M candidates.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from mixmin_jax.errors import InputError

Predictor = Callable[[ArrayLike], Float[np.ndarray, " M"]]

RegmixModel = Literal["linear", "boosted_trees"]

# The published notebook's settings for LightGBM, with LightGBM's defaults for what it leaves out (leaves).
TREES = 1000
TREE_SETTINGS = {"learning_rate": 1e-2, "max_leaf_nodes": 31, "min_samples_leaf": 20, "early_stopping": False}
MIN_RUNS_FOR_TREES = 64  # a leaf holds at least 20 runs, so 40 runs give a constant; 64 give a few splits
RIDGE_GRID = np.geomspace(1e-5, 1e2, 29)
_DIGITS = 0.01  # largest distance of a mixture's sum from 1; the published ones, in three decimals, reach 0.004


@dataclasses.dataclass(frozen=True, eq=False)
class LinearPredictor:
    """`loss(w) = intercept + w . slope`, in the units of the losses it was fitted to; `ridge` is the strength used."""

    slope_K: Float[np.ndarray, " K"]
    intercept: float
    ridge: float

    def __call__(self, mixtures_MxK: ArrayLike) -> Float[np.ndarray, " M"]:
        return self.intercept + np.asarray(mixtures_MxK, np.float64) @ self.slope_K


@dataclasses.dataclass(frozen=True, eq=False)
class TreesPredictor:
    """Boosted regression trees, in the units of the losses they were fitted to."""

    trees: Any  # scikit-learn's, whose import takes half a second

    def __call__(self, mixtures_MxK: ArrayLike) -> Float[np.ndarray, " M"]:
        with _one_thread():
            return self.trees.predict(np.asarray(mixtures_MxK, np.float64))


def fit_regmix(
    mixtures_RxK: ArrayLike,
    losses_R: ArrayLike,
    model: RegmixModel = "linear",
    *,
    ridge: float | None = None,
) -> Predictor:
    """Fit a predictor of a run's loss from its mixture (arXiv:2407.01492, section 3.2).

    `linear` minimizes `sum_r (b0 + w_r . b - loss_r)^2 + ridge |b|^2`. The published regression is ordinary least
    squares, `ridge=0` (with the minimum norm if it is under-determined). With few runs it is a weak opponent: near R =
    K it interpolates, and its rank correlation on the published runs falls to 0.2, where ridge reaches 0.5. So the
    default chooses the strength by the leave-one-out squared error (29 values from 1e-5 to 1e2, in closed form). With
    many runs the two agree.

    `boosted_trees` uses the published hyperparameters (1000 trees, learning rate 0.01) without early stopping. The
    trees are scikit-learn's, not LightGBM's, which needs a system library. On the published runs both rank equally
    well: `python -m experiments.regmix_published`. One thread, deterministic.

    Args:
        mixtures_RxK: the weights of each run, as shares of 1.
        losses_R: the loss that each run reached, in any unit.
        model: which regression.
        ridge: the strength for `linear`; None chooses it by leave-one-out.

    Returns:
        A function from mixtures to predicted losses.

    Raises:
        InputError: shapes that don't match, values that are not finite, weights that are negative or do not sum to 1
            (percents), or too few runs.
    """
    if model not in ("linear", "boosted_trees"):
        raise InputError(f"unknown model {model!r}; choose linear or boosted_trees")
    mixtures_RxK = checked_mixtures(mixtures_RxK)
    if model == "linear":
        return fit_ridge(mixtures_RxK, losses_R, ridge)[0]
    if ridge is not None:
        raise InputError(f"ridge is for model='linear'; leave it out for boosted_trees (got {ridge})")
    return _fit_trees(*checked_runs(mixtures_RxK, losses_R, MIN_RUNS_FOR_TREES, "boosted_trees"))


def propose(predictor: Predictor, candidates_MxK: ArrayLike, top: int = 128) -> Float[np.ndarray, " K"]:
    """The mean of the `top` candidates of least predicted loss (arXiv:2407.01492, section 3.3; 128 in the notebook).

    Candidates under caps give weights under caps: a mean of feasible mixtures is feasible.

    Raises:
        InputError: `top` is not between 1 and the number of candidates, or one of these is no mixture.
    """
    candidates_MxK = checked_mixtures(candidates_MxK)
    if not 1 <= top <= len(candidates_MxK):
        raise InputError(f"top must lie between 1 and the number of candidates {candidates_MxK.shape[:1]}; got {top}")
    mean_K = candidates_MxK[np.argsort(predictor(candidates_MxK), kind="stable")[:top]].mean(0)
    return mean_K / mean_K.sum()


def fit_ridge(
    features_RxF: ArrayLike, losses_R: ArrayLike, ridge: float | None = None
) -> tuple[LinearPredictor, Float[np.ndarray, " R"]]:
    """`sum_r (b0 + x_r . b - loss_r)^2 + ridge |b|^2`: the fit, and what it predicts for each run without that run.

    None for `ridge` chooses the strength with the least leave-one-out squared error, in closed form. Raises InputError
    as `fit_regmix`.
    """
    features_RxF, losses_R = checked_runs(features_RxF, losses_R, 2, "linear")
    if ridge is not None and not 0 <= ridge < np.inf:
        raise InputError(f"ridge must be a non-negative number; got {ridge}")
    center_F, center = features_RxF.mean(0), losses_R.mean()
    left_RxJ, scale_J, right_JxF = np.linalg.svd(features_RxF - center_F, full_matrices=False)
    # Weights sum to 1, so the centered rows have a null direction: drop its rounding errors.
    varies_J = scale_J > 1e-10
    left_RxJ, scale_J, right_JxF = left_RxJ[:, varies_J], scale_J[varies_J], right_JxF[varies_J]
    target_J = left_RxJ.T @ (losses_R - center)

    def held_out(strength: float) -> Float[np.ndarray, " R"]:
        shrink_J = scale_J**2 / (scale_J**2 + strength)
        residual_R = losses_R - center - left_RxJ @ (shrink_J * target_J)
        leverage_R = 1 / len(losses_R) + (left_RxJ**2) @ shrink_J
        return losses_R - residual_R / (1 - leverage_R)

    if ridge is None:
        ridge = float(min(RIDGE_GRID, key=lambda strength: np.mean((held_out(strength) - losses_R) ** 2)))
    slope_F = right_JxF.T @ (scale_J / (scale_J**2 + ridge) * target_J)
    with np.errstate(divide="ignore", invalid="ignore"):  # ridge = 0 may interpolate, and then leaves nothing out
        return LinearPredictor(slope_F, float(center - center_F @ slope_F), ridge), held_out(ridge)


def checked_mixtures(mixtures_RxK: ArrayLike) -> Float[np.ndarray, "R K"]:
    """As float64. Raises InputError for rows that are no mixtures."""
    mixtures_RxK = np.asarray(mixtures_RxK, np.float64)
    if mixtures_RxK.ndim != 2:
        raise InputError(f"mixtures must have two axes, runs x sources; got the shape {mixtures_RxK.shape}")
    total_R = mixtures_RxK.sum(1)
    wrong_R = ~(np.abs(total_R - 1) <= _DIGITS) | (mixtures_RxK < 0).any(1)
    if wrong_R.any():
        row = int(np.argmax(wrong_R))
        what = "has a negative weight" if (mixtures_RxK[row] < 0).any() else f"sums to {total_R[row]:.6g}"
        raise InputError(
            f"row {row} (counting from 0) of the mixtures {what}: weights are shares of 1; divide each row by its sum"
        )
    return mixtures_RxK


def checked_runs(
    features_RxF: ArrayLike, losses_R: ArrayLike, least: int, model: RegmixModel
) -> tuple[Float[np.ndarray, "R F"], Float[np.ndarray, " R"]]:
    """Both as float64. Raises InputError as `fit_regmix`."""
    features_RxF, losses_R = np.asarray(features_RxF, np.float64), np.asarray(losses_R, np.float64)
    if features_RxF.ndim != 2 or losses_R.shape != features_RxF.shape[:1]:
        raise InputError(f"losses {losses_R.shape} do not match mixtures {features_RxF.shape}")
    finite_R = np.isfinite(losses_R) & np.isfinite(features_RxF).all(1)
    if not finite_R.all():
        raise InputError(f"run {int(np.argmin(finite_R))} (counting from 0) has a weight or a loss that is not finite")
    if len(losses_R) < least:
        raise InputError(f"{model} regression needs at least {least} runs; got {len(losses_R)}")
    return features_RxF, losses_R


def _fit_trees(mixtures_RxK: Float[np.ndarray, "R K"], losses_R: Float[np.ndarray, " R"]) -> TreesPredictor:
    from sklearn.ensemble import HistGradientBoostingRegressor

    with _one_thread():
        return TreesPredictor(
            HistGradientBoostingRegressor(max_iter=TREES, **TREE_SETTINGS).fit(mixtures_RxK, losses_R)
        )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Boosting on one thread: its parallel loops are short, and on busy cores threads made it 40 times slower.

    The variable keeps scikit-learn from counting cores, which ends in a warning where the system does not tell them.
    """
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        with threadpool_limits(1, user_api="openmp"):
            yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
