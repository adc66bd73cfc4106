"""Mixtures that need no optimiser: uniform, natural, and the random ones that random search and RegMix share.

Axes: K sources, R mixtures. All arrays are NumPy float64; every random draw comes from a seed that the caller names.
"""

import numpy as np
from jaxtyping import Float, Int
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


def fit_under_caps(weights_K: ArrayLike, upper_bounds_K: ArrayLike) -> Float[np.ndarray, "*batch K"]:
    """The closest mixture under caps: clip at the caps and hand the excess to the other sources in proportion.

        u_k = min(c_k, t w_k)   with t >= 1 such that sum_k u_k = 1

    This is the Kullback-Leibler projection, the minimiser of `KL(u || w)` over `{0 <= u <= c, sum u = 1}`. Where the
    caps of the sources with `w_k > 0` leave a rest, those are filled and the rest goes to the sources with `w_k = 0` in
    proportion to their caps (the limit of the projection of `w + eps c` as eps goes to 0). Weights that obey the caps
    come back as they are.

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
        # where no source of positive weight has room left, the others share the rest by their caps
        open_K = np.where(is_full_K, 0.0, weights_K)
        open_K = np.where(open_K.sum(-1, keepdims=True) > 0, open_K, np.where(is_full_K, 0.0, caps_K))
        sum_1 = open_K.sum(-1, keepdims=True)
        scale = np.divide(np.maximum(rest, 0.0), sum_1, out=np.zeros_like(sum_1), where=sum_1 > 0)
        shared_K = np.where(is_full_K, caps_K, scale * open_K)
        fitted_K = np.where(over_K.any(-1, keepdims=True), shared_K, fitted_K)
    return np.minimum(fitted_K, caps_K)


def random_mixtures(
    num: int,
    natural_K: ArrayLike,
    seed: int,
    *,
    temperature: float = 0.5,
    strengths: tuple[float, float] = (0.1, 5.0),
    minimum: float = 2e-4,
    upper_bounds_K: ArrayLike | None = None,
) -> Float[np.ndarray, "R K"]:
    """Random mixtures as RegMix draws them (arXiv:2407.01492, section 3.1 and its public `synthesize_mixture.py`).

        w ~ Dirichlet(s q),   q_k = p_k^temperature / sum_j p_j^temperature

    with p the natural weights and s one of 15 values, log-spaced in `strengths`. Of 100 draws per mixture asked for,
    those over a cap are rejected; weights under `minimum` become 0, the others are rounded to its multiples and
    normalised, which leaves them near multiples; duplicates are dropped and `num` are kept at random. Where rejection
    leaves too few (tight caps), all draws are moved under the caps by `fit_under_caps` instead. Last of all, weights
    that rounding lifted over a cap are moved under it, which may make two mixtures alike.

    Three differences: the script always caps, at `15 p` (pass that as `upper_bounds_K` to do the same; it keeps a
    source smaller than 1/15 from ever being the whole mixture); its rows sum to 1 only up to rounding, these are
    normalised; and the 512 mixtures that RegMix published are more spread than its script's settings give.

    Args:
        num: how many, R.
        natural_K: natural weights, or sizes.
        seed: the same seed gives the same mixtures.
        temperature: flattens a skewed natural distribution; 1 keeps it, 0 makes it uniform.
        strengths: the least and the greatest total concentration; small ones give mixtures of one or two sources.
        minimum: the grid of weights, at most 1/K; 0 for none. Published for proxies that see 512 000 sequences: raise
            it where a run is so short that a weight of 2e-4 is less than one of its sequences.
        upper_bounds_K: caps that no mixture exceeds.

    Raises:
        InputError: an argument is out of its range, the caps allow less than 1, or too few mixtures are distinct.
    """
    natural_K = natural_weights(natural_K)
    num_sources = len(natural_K)
    caps_K = np.ones(num_sources) if upper_bounds_K is None else np.asarray(upper_bounds_K, np.float64)
    fit_under_caps(natural_K, caps_K)  # only for its errors: caps are checked before anything is drawn
    if num < 1:
        raise InputError(f"the number of random mixtures must be at least 1; got {num}")
    if not 0 <= minimum <= 1 / num_sources:
        raise InputError(f"minimum must lie between 0 and 1/K = {1 / num_sources:.4g}; got {minimum}")
    if not 0 < strengths[0] <= strengths[1] < np.inf:
        raise InputError(f"strengths must be two positive numbers in order; got {strengths}")
    if not temperature >= 0:
        raise InputError(f"temperature must be at least 0; got {temperature}")

    rng = np.random.default_rng(seed)
    flattened_K = np.where(natural_K > 0, natural_K**temperature, 0.0)
    draws_DxK = _dirichlet_of_mixed_strength(100 * num, flattened_K / flattened_K.sum(), strengths, rng)
    distinct_DxK = _distinct(_on_grid(draws_DxK[(draws_DxK <= caps_K).all(1)], minimum))
    if len(distinct_DxK) < num:
        distinct_DxK = _distinct(_on_grid(fit_under_caps(draws_DxK, caps_K), minimum))
    if len(distinct_DxK) < num:
        raise InputError(
            f"only {len(distinct_DxK)} distinct mixtures of {num_sources} source(s) were found under these caps; "
            f"asked for {num}"
        )
    # rounding to the grid can lift a weight over its cap by half a step
    return fit_under_caps(rng.permutation(distinct_DxK)[:num], caps_K)


def candidate_mixtures(
    natural_K: ArrayLike, seed: int, *, num: int = 100_000, upper_bounds_K: ArrayLike | None = None
) -> Float[np.ndarray, "M K"]:
    """Mixtures for a regression to choose from: M draws from `Dirichlet(p)`, p the natural weights.

    As RegMix simulates them (arXiv:2407.01492, section 3.3; 100 000 draws in its public notebook). Draws over a cap are
    moved under it by `fit_under_caps`, so that the edge of the feasible set, where a capped optimum lies, is there.
    """
    natural_K = natural_weights(natural_K)
    if num < 1:
        raise InputError(f"the number of candidates must be at least 1; got {num}")
    draws_MxK = _dirichlet(natural_K, num, np.random.default_rng(seed))
    return draws_MxK if upper_bounds_K is None else fit_under_caps(draws_MxK, upper_bounds_K)


def best_random_mixture(mixtures_RxK: ArrayLike, losses_R: ArrayLike) -> Float[np.ndarray, " K"]:
    """Random search: the mixture whose run reached the least loss, the first of them if several did.

    Raises:
        InputError: as many losses as mixtures are needed, each finite.
    """
    mixtures_RxK, losses_R = np.asarray(mixtures_RxK, np.float64), np.asarray(losses_R, np.float64)
    if mixtures_RxK.ndim != 2 or losses_R.shape != mixtures_RxK.shape[:1] or not len(losses_R):
        raise InputError(f"losses {losses_R.shape} do not match mixtures {mixtures_RxK.shape}")
    if not np.isfinite(losses_R).all():
        raise InputError(f"the loss of run {int(np.argmin(np.isfinite(losses_R)))} (counting from 0) is not finite")
    return mixtures_RxK[np.argmin(losses_R)]


def _checked_vector(values_K: ArrayLike, what: str) -> Float[np.ndarray, " K"]:
    values_K = np.asarray(values_K, np.float64)
    if values_K.ndim != 1 or not (np.isfinite(values_K) & (values_K >= 0)).all() or not values_K.sum() > 0:
        raise InputError(f"{what} must be a vector of non-negative finite numbers, not all 0; got {values_K}")
    return values_K


def _dirichlet(alpha_K: Float[np.ndarray, " K"], num: int, rng: np.random.Generator) -> Float[np.ndarray, "D K"]:
    """`num` Dirichlet draws; a concentration of 0 gives a weight of 0."""
    draws_DxK = np.zeros((num, len(alpha_K)))
    positive_K = alpha_K > 0
    draws_DxK[:, positive_K] = rng.dirichlet(alpha_K[positive_K], size=num)
    return draws_DxK


def _dirichlet_of_mixed_strength(
    num: int, mean_K: Float[np.ndarray, " K"], strengths: tuple[float, float], rng: np.random.Generator
) -> Float[np.ndarray, "D K"]:
    """`num` draws, the total concentration of each drawn from 15 values that are log-spaced in `strengths`."""
    grid_S = np.geomspace(*strengths, num=15)
    chosen_D: Int[np.ndarray, " D"] = rng.integers(len(grid_S), size=num)
    draws_DxK = np.empty((num, len(mean_K)))
    for index, strength in enumerate(grid_S):
        draws_DxK[chosen_D == index] = _dirichlet(strength * mean_K, int((chosen_D == index).sum()), rng)
    return draws_DxK


def _on_grid(mixtures_DxK: Float[np.ndarray, "D K"], minimum: float) -> Float[np.ndarray, "D K"]:
    """Zero the weights under `minimum`, round the others to its multiples and normalise."""
    if minimum == 0:
        return mixtures_DxK
    kept_DxK = np.where(mixtures_DxK < minimum, 0.0, mixtures_DxK)
    steps_DxK = np.round(kept_DxK / kept_DxK.sum(1, keepdims=True) / minimum)
    return steps_DxK / steps_DxK.sum(1, keepdims=True)


def _distinct(mixtures_DxK: Float[np.ndarray, "D K"]) -> Float[np.ndarray, "D K"]:
    """One row of each kind, in lexicographic order; rows alike to five digits are of one kind."""
    return mixtures_DxK[np.unique(mixtures_DxK.round(5), axis=0, return_index=True)[1]]
