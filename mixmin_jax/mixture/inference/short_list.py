"""Weights on few sources: leave out all that the loss can do without, as far as these examples can tell.

Sources leave in the order of their weights, the smallest first. The shortest list is kept whose best weights w' lose
no more than noise against the best weights w over all sources:

    f(w') - f(w) = sum_g d_g <= t x sqrt(G) x std(d_g),          d_g = sum over rows n of g of v_n [l_n(w') - l_n(w)]

for G clusters of rows (documents), where t is the quantile at `level` of Student's distribution with G - 1 degrees of
freedom. A prior is that of the sources left, divided by its sum.

Axes: N examples, K sources, G clusters.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.checks import checked_number, is_traced
from mixmin_jax.mixture.constraints import GroupCaps, PerSource, distribution, per_source
from mixmin_jax.mixture.inference.bootstrap import clusters
from mixmin_jax.mixture.objective import CrossEntropy, SquaredError
from mixmin_jax.mixture.solution import Solution
from mixmin_jax.mixture.solve import solve


@dataclasses.dataclass(frozen=True, eq=False)
class ShortList:
    """The weights over all sources, and those over the sources kept."""

    full: Solution
    solution: Solution  # 0 for sources left out
    kept: tuple[int, ...]  # columns, by weight, the largest first
    cost: float  # f(solution) - f(full), in the units of f
    noise: float  # the cost that was allowed


def shorten(
    objective: CrossEntropy | SquaredError,
    *,
    groups: Any = None,
    level: float = 0.95,
    upper_bounds: PerSource | None = None,
    lower_bounds: PerSource | None = None,
    group_caps: GroupCaps | None = None,
    prior: PerSource | None = None,
    prior_strength: float = 0.0,
    **options: Any,
) -> ShortList:
    """Solve, and solve again over as few sources as cost nothing measurable (see the module).

    Takes log2 K solves more than one. Sources with a floor are always kept.

    Args:
        objective: from `cross_entropy` or `squared_error`.
        groups: N labels, as in `bootstrap`: rows with the same label (of one document) are one cluster.
        level: of the test; 0.5 leaves out only what costs nothing at all.
        upper_bounds, lower_bounds, prior, prior_strength: as in `solve`.
        group_caps: the `groups` of `solve`.
        options: others of `solve`.

    Raises:
        InputError, NotConverged: errors of `solve`.
    """
    if is_traced(groups):
        raise InputError("shorten cannot run on traced arrays; call it outside jit, vmap and grad")
    from scipy.special import stdtrit  # here: the import takes a sixth of a second

    level = checked_number(level, "level", "between 0 and 1, as 0.95", below=1.0)
    k, names = objective.num_sources, objective.sources
    limits: dict[str, Any] = {"lower_bounds": lower_bounds, "groups": group_caps, **options}
    prior_K = None if prior is None else distribution(prior, "prior", k, names)
    penalty: Mapping[str, Any] = {} if prior_K is None else {"prior": prior_K, "prior_strength": prior_strength}
    full = solve(objective, upper_bounds=upper_bounds, **limits, **penalty)
    cap_K = per_source(1.0 if upper_bounds is None else upper_bounds, "upper_bounds", 1.0, k, names)
    floor_K = per_source(0.0 if lower_bounds is None else lower_bounds, "lower_bounds", 0.0, k, names)
    v_N = np.asarray(objective.weights_N)
    cluster_N, num_clusters = clusters(groups, v_N)
    t = float(stdtrit(num_clusters - 1, level))
    with np.errstate(divide="ignore"):
        full_N = objective.row_losses(full.weights)
    order_K = np.lexsort((-full.weights, floor_K == 0))  # floors first, then by weight

    def try_with(count: int) -> ShortList | None:
        """The best weights over the first `count` sources, if they are good enough."""
        kept = order_K[:count]
        is_kept_K = np.isin(np.arange(k), kept)
        own: dict[str, Any] = dict(penalty)
        if prior_K is not None:
            left_K = np.where(is_kept_K, prior_K, 0)
            own["prior"] = left_K / left_K.sum()
        try:
            found = solve(objective, upper_bounds=np.where(is_kept_K, cap_K, 0), **limits, **own)
        except InputError:  # caps of so few do not add up to 1, or they explain no row
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            ahead_N = np.where(v_N > 0, v_N * (objective.row_losses(found.weights) - full_N), 0)
        d_G = np.bincount(cluster_N, ahead_N, num_clusters)
        cost, noise = float(d_G.sum()), float(t * np.sqrt(num_clusters) * d_G.std(ddof=1))
        if not cost <= noise:  # also if it is infinite
            return None
        by_weight = sorted(kept.tolist(), key=lambda column: -found.weights[column])
        return ShortList(full, found, tuple(by_weight), cost, noise)

    everything = tuple(np.argsort(-full.weights, kind="stable").tolist())
    best, low, high = ShortList(full, full, everything, 0.0, 0.0), 1, k - 1
    while low <= high:  # costs grow as the list gets shorter, up to noise
        middle = (low + high) // 2
        if (found := try_with(middle)) is None:
            low = middle + 1
        else:
            best, high = found, middle - 1
    return best
