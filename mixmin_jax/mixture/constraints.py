"""Constraints and priors as users write them, checked and turned into a feasible set and a penalty."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.certificate import Prior
from mixmin_jax.mixture.checks import float64, is_traced, list_names
from mixmin_jax.mixture.feasible import FeasibleSet, Groups

Source = str | int
# One value for all sources, one each, or some sources' by name or column.
PerSource = ArrayLike | Mapping[str, float] | Mapping[int, float]
GroupCaps = Mapping[tuple[Source, ...], float]

_SLACK = 1e-9  # caps that fall short of a total of 1, or a prior that misses it, by no more than this are rescaled


def build(
    num_sources: int,
    sources: tuple[str, ...] | None,
    upper_bounds: PerSource | None = None,
    lower_bounds: PerSource | None = None,
    groups: GroupCaps | None = None,
    prior: PerSource | None = None,
    prior_strength: ArrayLike = 0.0,
) -> tuple[FeasibleSet, Prior | None]:
    """The feasible set and the prior that the options of `solve` describe.

    Raises:
      InputError: no weights satisfy the bounds (with the total they allow), or a bound or prior is not one.  Traced
        values are taken as they are.
    """
    names = sources or tuple(str(k) for k in range(num_sources))
    cap_K = _per_source(upper_bounds, "upper_bounds", 1.0, num_sources, sources)
    floor_K = _per_source(lower_bounds, "lower_bounds", 0.0, num_sources, sources)
    grouped = _groups(groups, num_sources, sources)
    q_K = _per_source(prior, "prior", None, num_sources, sources)
    if is_traced(cap_K, floor_K, q_K, prior_strength, grouped and grouped.cap_G):
        feasible = FeasibleSet(num_sources, floor_K, cap_K, grouped)
        return feasible, None if q_K is None else Prior(jnp.asarray(q_K), jnp.asarray(prior_strength))

    penalty = _prior(q_K, prior_strength, names)
    for what, values_K, meaning in (("upper_bounds", cap_K, "a cap"), ("lower_bounds", floor_K, "a floor")):
        if values_K is not None and (bad := np.flatnonzero(~(values_K >= 0))).size:
            raise InputError(f"{what}: {meaning} must be at least 0, but {names[bad[0]]} has {values_K[bad[0]]}")
    low_K = np.zeros(num_sources) if floor_K is None else floor_K
    high_K = np.ones(num_sources) if cap_K is None else np.minimum(cap_K, 1)
    _check_floors(low_K, high_K, q_K, names)
    if q_K is not None:
        high_K = np.where(q_K > 0, high_K, 0)  # s KL(w || q) is infinite otherwise
    most = high_K.sum()
    if grouped is not None:
        floors_G = grouped.sums(low_K)
        if (bad := np.flatnonzero(floors_G > grouped.cap_G + _SLACK)).size:
            group = list_names([names[k] for k in np.flatnonzero(grouped.members_GxK[bad[0]])])
            raise InputError(
                f"the group ({group}) has a cap of {grouped.cap_G[bad[0]]:.6g}, but its floors need "
                f"{floors_G[bad[0]]:.6g}; raise the group's cap or lower its floors"
            )
        most -= np.maximum(grouped.sums(high_K) - grouped.cap_G, 0).sum()
    if most < 1 - _SLACK:
        only = "" if q_K is None or (q_K > 0).all() else ", where the prior is above 0,"
        raise InputError(
            f"caps{only} allow at most {most:.6g} in total, but weights must sum to 1; raise caps or drop some"
        )
    if cap_K is not None:
        cap_K = _binding(high_K / min(most, 1))
    if grouped is not None:
        grouped = dataclasses.replace(grouped, cap_G=grouped.cap_G / min(most, 1))
    if floor_K is not None:
        floor_K = None if not floor_K.any() else floor_K / max(floor_K.sum(), 1)
    return FeasibleSet(num_sources, floor_K, cap_K, grouped), penalty


def usable(feasible: FeasibleSet, prior: Prior | None) -> np.ndarray:
    """The sources that may have a weight above 0 at all."""
    may_K = np.ones(feasible.num_sources, bool)
    if feasible.cap_K is not None:
        may_K &= np.asarray(feasible.cap_K) > 0
    if feasible.groups is not None:
        may_K &= feasible.groups.spread(feasible.groups.cap_G, 1.0) > 0
    if prior is not None:
        may_K &= np.asarray(prior.q_K) > 0
    return np.flatnonzero(may_K)


def take(feasible: FeasibleSet, prior: Prior | None, columns: np.ndarray) -> tuple[FeasibleSet, Prior | None]:
    """The same constraints over some of the sources, the others held at 0."""

    def of(x_K):
        return None if x_K is None else x_K[..., columns]

    groups = feasible.groups
    if groups is not None:
        members_GxK = of(groups.members_GxK)
        kept_G = members_GxK.any(axis=1)
        groups = Groups(members_GxK[kept_G], groups.cap_G[kept_G]) if kept_G.any() else None
    feasible = FeasibleSet(len(columns), of(feasible.floor_K), _binding(of(feasible.cap_K)), groups)
    return feasible, None if prior is None else Prior(of(prior.q_K), prior.strength)


def _binding(cap_K):
    """None where no cap can bind, so that the plain simplex is seen as such."""
    return None if cap_K is None or (cap_K >= 1).all() else cap_K


def _per_source(values, what, default, num_sources, sources):
    """(K,) floats from one value, one value each, or values by name or column; None for None."""
    if values is None or is_traced(values):
        return values if values is None else jnp.broadcast_to(values, (num_sources,))
    if isinstance(values, Mapping):
        if default is None and len(values) != num_sources:
            raise InputError(f"{what} must give all {num_sources} sources a value; got {len(values)}")
        result_K = np.full(num_sources, default or 0.0)
        for source, value in values.items():
            result_K[_column(source, what, num_sources, sources)] = float64(value, what)
        return result_K
    values = float64(values, what)
    if values.shape not in ((num_sources,), () if default is not None else (num_sources,)):
        raise InputError(
            f"{what} has the shape {values.shape}, but there are {num_sources} sources: give one value a source"
        )
    return np.broadcast_to(values, (num_sources,)).copy()


def _column(source, what, num_sources, sources):
    if isinstance(source, str):
        if sources is None:
            raise InputError(f"{what} names the source {source!r}, but the objective was built without `sources`")
        if source not in sources:
            raise InputError(f"{what} names {source!r}, which is no source; the sources are {list_names(sources)}")
        return sources.index(source)
    if not 0 <= source < num_sources:
        raise InputError(f"{what} names column {source}, but columns go from 0 to {num_sources - 1}")
    return int(source)


def _groups(groups, num_sources, sources):
    if not groups:
        return None
    members_GxK = np.zeros((len(groups), num_sources))
    for g, group in enumerate(groups):
        if isinstance(group, str) or not isinstance(group, Sequence) or not group:
            raise InputError(f"groups map tuples of sources to caps, as in {{('web', 'news'): 0.5}}; got {group!r}")
        for source in group:
            members_GxK[g, _column(source, "groups", num_sources, sources)] = 1
    if (shared := np.flatnonzero(members_GxK.sum(axis=0) > 1)).size:
        name = sources[shared[0]] if sources else shared[0]
        raise InputError(f"groups must not overlap, but source {name} is in more than one")
    caps = list(groups.values())
    if is_traced(*caps):
        return Groups(members_GxK, jnp.stack(caps))
    group_cap_G = float64(caps, "groups")
    if group_cap_G.ndim != 1 or not (group_cap_G >= 0).all():
        raise InputError(f"groups: every cap must be a number of at least 0; got {caps}")
    return Groups(members_GxK, group_cap_G)


def _prior(q_K, strength, names):
    if q_K is None:
        if strength:
            raise InputError(f"prior_strength is {strength}, but there is no prior; give one, or leave it out")
        return None
    if not (np.isfinite(strength) and strength > 0):
        raise InputError(f"a prior needs a finite prior_strength above 0; got {strength}")
    if (bad := np.flatnonzero(~(q_K >= 0))).size:
        raise InputError(f"prior must not be negative or NaN, but {names[bad[0]]} has {q_K[bad[0]]}")
    if not abs(q_K.sum() - 1) <= 1e-6:
        raise InputError(f"prior must sum to 1, but sums to {q_K.sum():.6g}; divide it by its sum")
    return Prior(q_K / q_K.sum(), np.float64(strength))


def _check_floors(low_K, high_K, q_K, names):
    if low_K.sum() > 1 + _SLACK:
        raise InputError(f"floors need {low_K.sum():.6g} in total, and weights sum to 1; lower them")
    if (bad := np.flatnonzero(low_K > high_K)).size:
        name, low, high = names[bad[0]], low_K[bad[0]], high_K[bad[0]]
        raise InputError(f"{name} has a floor of {low:.6g} above its cap of {high:.6g}; lower it or raise the cap")
    if q_K is not None and (bad := np.flatnonzero((low_K > 0) & (q_K == 0))).size:
        raise InputError(
            f"{names[bad[0]]} has a floor of {low_K[bad[0]]:.6g}, but the prior gives it 0, which forbids any weight; "
            "give it a prior above 0 or no floor"
        )
