"""Random mixtures: for random search, and as the runs and candidates of RegMix.

Axes: K sources, R mixtures, M candidates, D draws. NumPy float64; every draw comes from a seed that the caller gives.
"""

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.baselines.rules import fit_under_caps, natural_weights


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

    with p the natural weights and s one of 15 values, log-spaced in `strengths`. There are 100 draws per mixture:
    1. Draws over a cap are rejected. (If too few are left, all draws are moved under the caps by `fit_under_caps`.)
    2. Weights under `minimum` become 0. The others are rounded to its multiples and normalized.
    3. Duplicates are dropped, and `num` mixtures are kept at random.
    4. Weights that rounding lifted over a cap are moved under it, which may make two mixtures equal.

    Differences to the script: it always caps, at `15 p` (pass this as `upper_bounds_K` to do the same), so a source
    with a share under 1/15 is never the whole mixture. Its rows sum to 1 only up to rounding. And the 512 mixtures that
    RegMix published are more diverse than the settings of the script give.

    Args:
        num: how many, R.
        natural_K: natural weights, or sizes.
        seed: the same seed gives the same mixtures.
        temperature: flattens the natural distribution; 1 keeps it, 0 makes it uniform.
        strengths: the least and the greatest total concentration; small ones give mixtures of one or two sources.
        minimum: the grid of weights, at most 1/K; 0 for none. The default is that of proxies with 512 000 sequences:
            raise it for runs so short that a weight of 2e-4 is less than one sequence.
        upper_bounds_K: caps that no mixture exceeds.

    Raises:
        InputError: an argument is out of its range, the caps allow less than 1, or too few mixtures are distinct.
    """
    natural_K = natural_weights(natural_K)
    num_sources = len(natural_K)
    caps_K = np.ones(num_sources) if upper_bounds_K is None else np.asarray(upper_bounds_K, np.float64)
    fit_under_caps(natural_K, caps_K)  # for its errors: check caps before anything is drawn
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

    As in RegMix (arXiv:2407.01492, section 3.3; 100 000 draws in its public notebook). Draws over a cap are moved under
    it by `fit_under_caps`, so the candidates include the boundary of the feasible set, where capped optima are.
    """
    natural_K = natural_weights(natural_K)
    if num < 1:
        raise InputError(f"the number of candidates must be at least 1; got {num}")
    draws_MxK = _dirichlet(natural_K, num, np.random.default_rng(seed))
    return draws_MxK if upper_bounds_K is None else fit_under_caps(draws_MxK, upper_bounds_K)


def best_random_mixture(mixtures_RxK: ArrayLike, losses_R: ArrayLike) -> Float[np.ndarray, " K"]:
    """Random search: the mixture whose run reached the least loss, the first one of several.

    Raises:
        InputError: losses do not match mixtures, or one is not finite.
    """
    mixtures_RxK, losses_R = np.asarray(mixtures_RxK, np.float64), np.asarray(losses_R, np.float64)
    if mixtures_RxK.ndim != 2 or losses_R.shape != mixtures_RxK.shape[:1] or not len(losses_R):
        raise InputError(f"losses {losses_R.shape} do not match mixtures {mixtures_RxK.shape}")
    if not np.isfinite(losses_R).all():
        raise InputError(f"the loss of run {int(np.argmin(np.isfinite(losses_R)))} (counting from 0) is not finite")
    return mixtures_RxK[np.argmin(losses_R)]


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
    """Set weights under `minimum` to 0, round the others to its multiples, and normalize."""
    if minimum == 0:
        return mixtures_DxK
    kept_DxK = np.where(mixtures_DxK < minimum, 0.0, mixtures_DxK)
    steps_DxK = np.round(kept_DxK / kept_DxK.sum(1, keepdims=True) / minimum)
    return steps_DxK / steps_DxK.sum(1, keepdims=True)


def _distinct(mixtures_DxK: Float[np.ndarray, "D K"]) -> Float[np.ndarray, "D K"]:
    """The distinct rows in lexicographic order; rows equal to five digits count as one."""
    return mixtures_DxK[np.unique(mixtures_DxK.round(5), axis=0, return_index=True)[1]]
