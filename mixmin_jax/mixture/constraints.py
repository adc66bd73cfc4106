"""Check constraints and priors as users write them; make a feasible set and a penalty of them."""

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.arrays import HostOrDevice
from mixmin_jax.mixture.certificate import Prior
from mixmin_jax.mixture.checks import SLACK, as_float64, is_traced, list_names, total
from mixmin_jax.mixture.feasible import FeasibleSet, Groups
from mixmin_jax.mixture.labels import Labeled, by_source

Source = str | int
# One value for all sources, one value each, or a mapping (name or column) or Series (name) from some sources to values.
PerSource = ArrayLike | Sequence[Any] | Mapping[str, Any] | Mapping[int, Any] | Labeled
GroupCaps = Mapping[tuple[Source, ...], Any]

_ROUNDING = 1e-13  # largest room for a weight that counts as none
_DIGITS = 1e-6  # largest distance of a sum from 1; larger than SLACK for weights in few digits or float32


def build(
    num_sources: int,
    sources: tuple[str, ...] | None,
    upper_bounds: PerSource | None = None,
    lower_bounds: PerSource | None = None,
    groups: GroupCaps | None = None,
    prior: PerSource | None = None,
    prior_strength: ArrayLike = 0.0,
) -> tuple[FeasibleSet, Prior | None]:
    """The feasible set and the prior from the options of `solve`.

    Traced values are not checked. The others are checked as if traced bounds were no restriction.

    Raises:
        InputError: no weights satisfy the bounds (with the total that they allow), or a bound or prior is invalid.
    """
    unbounded = upper_bounds is lower_bounds is groups is prior is None
    if unbounded and type(prior_strength) is float and prior_strength == 0:
        return FeasibleSet(num_sources), None  # the checks below would take as long as a part of a small solve
    names = sources or tuple(str(k) for k in range(num_sources))
    cap_K = per_source(upper_bounds, "upper_bounds", 1.0, num_sources, sources)
    floor_K = per_source(lower_bounds, "lower_bounds", 0.0, num_sources, sources)
    grouped = _groups(groups, num_sources, sources)
    q_K, strength = _prior(per_source(prior, "prior", None, num_sources, sources), prior_strength, num_sources, sources)
    for what, values_K, meaning in (("upper_bounds", cap_K, "a cap"), ("lower_bounds", floor_K, "a floor")):
        known_K = _known(values_K, np.zeros(num_sources))
        if (bad := np.flatnonzero(~(known_K >= 0))).size:
            raise InputError(f"{what}: {meaning} must be at least 0, but {names[bad[0]]} has {known_K[bad[0]]}")

    low_K, known_q_K = _known(floor_K, np.zeros(num_sources)), _known(q_K, np.ones(num_sources))
    high_K = np.minimum(_known(cap_K, np.ones(num_sources)), 1)
    _check_floors(low_K, high_K, known_q_K, names)
    high_K = np.where(known_q_K > 0, high_K, 0)  # elsewhere s KL(w || q) is infinite
    most = high_K.sum()
    if grouped is not None:
        cap_G, floors_G = _known(grouped.cap_G, np.ones(len(grouped.cap_G))), grouped.sums(low_K)
        if (bad := np.flatnonzero(floors_G > cap_G + SLACK)).size:
            group = list_names([names[k] for k in np.flatnonzero(grouped.members_GxK[bad[0]])])
            raise InputError(
                f"the group ({group}) has a cap of {cap_G[bad[0]]:.6g}, but its floors need {floors_G[bad[0]]:.6g}; "
                "raise the group's cap or lower its floors"
            )
        cap_G = np.maximum(cap_G, floors_G)
        most -= np.maximum(grouped.sums(high_K) - cap_G, 0).sum()
    if most < 1 - SLACK:
        only = "" if (known_q_K > 0).all() else ", where the prior is above 0,"
        raise InputError(
            f"caps{only} allow at most {total(most)} in total, but weights must sum to 1; raise caps or drop some"
        )
    if cap_K is not None and not is_traced(cap_K):
        cap_K = _binding(high_K / min(most, 1))
    if grouped is not None:
        if is_traced(grouped.cap_G):
            grouped = Groups(grouped.members_GxK, jnp.minimum(grouped.cap_G, 1))
        else:
            binds_G = cap_G < 1
            grouped = Groups(grouped.members_GxK[binds_G], cap_G[binds_G] / min(most, 1)) if binds_G.any() else None
    if floor_K is not None and not is_traced(floor_K):
        floor_K = None if not floor_K.any() else floor_K / max(floor_K.sum(), 1)
    feasible = FeasibleSet(num_sources, floor_K, cap_K, grouped)
    return feasible, None if q_K is None else Prior(q_K, strength)


def distribution(weights: Any, what: str, num_sources: int, sources: tuple[str, ...] | None) -> Float[np.ndarray, " K"]:
    """Weights that users give as an array with sum 1; a mapping or Series gives others 0.

    Raises:
        InputError: names that are not sources, negative weights, or a sum that is not 1.
    """
    if not isinstance(weights, Mapping | Labeled):
        weights = np.atleast_1d(as_float64(weights, what))
    weights_K = per_source(weights, what, 0.0, num_sources, sources)
    if (bad := np.flatnonzero(~(weights_K >= 0))).size:
        name = sources[bad[0]] if sources else bad[0]
        raise InputError(f"{what} must not be negative or NaN, but {name} has {weights_K[bad[0]]}")
    if not abs(weights_K.sum() - 1) <= _DIGITS:
        raise InputError(f"{what} must sum to 1, but sums to {total(weights_K.sum())}; divide it by its sum")
    return weights_K / weights_K.sum()


def usable(feasible: FeasibleSet, prior: Prior | None) -> np.ndarray:
    """Columns of the sources that can have a weight above 0. Traced bounds count as no restriction."""
    if feasible.plain and prior is None:
        return np.arange(feasible.num_sources)
    floor_K = _known(feasible.floor_K, np.zeros(feasible.num_sources))
    may_K = _known(feasible.cap_K, np.ones(feasible.num_sources)) > 0
    if prior is not None:
        may_K &= _known(prior.q_K, np.ones(feasible.num_sources)) > 0
    # If floors use up a group or the sum, sources without a floor have no room.
    room_K = np.full(feasible.num_sources, 1 - floor_K.sum())
    if feasible.groups is not None:
        cap_G = _known(feasible.groups.cap_G, np.ones(len(feasible.groups.cap_G)))
        room_K = np.minimum(room_K, feasible.groups.to_sources(cap_G - feasible.groups.sums(floor_K), 1.0))
    return np.flatnonzero(may_K & ((floor_K > 0) | (room_K > _ROUNDING)))


def in_use(objective: Any, feasible: FeasibleSet, prior: Prior | None) -> tuple[Any, FeasibleSet, Prior | None, Any]:
    """The problem over the sources that can have a weight, and their columns.

    Rows of likelihoods are then scaled to these sources. So a row far below another source does not underflow.
    """
    columns = usable(feasible, prior)
    if len(columns) == feasible.num_sources:
        return objective, feasible, prior, columns
    try:
        taken = objective.take(columns)
    except InputError as error:
        raise InputError(f"{left_out_message(columns, feasible.num_sources, objective.sources)}{error}") from None
    return taken, *take(feasible, prior, columns), columns


def left_out_message(columns: np.ndarray, num_sources: int, sources: tuple[str, ...] | None) -> str:
    """The beginning of a message about rows that only sources outside `columns` explain."""
    left_out = list_names([sources[k] if sources else str(k) for k in range(num_sources) if k not in columns])
    return f"caps, floors, groups or the prior leave no weight for {left_out}, and without: "


def take(feasible: FeasibleSet, prior: Prior | None, columns: np.ndarray) -> tuple[FeasibleSet, Prior | None]:
    """The same constraints over some sources; the others are held at 0."""

    def of(x_K: Float[HostOrDevice, "... K"] | None) -> Any:
        return None if x_K is None else x_K[..., columns]

    groups = feasible.groups
    if groups is not None:
        members_GxK = of(groups.members_GxK)
        kept_G = members_GxK.any(axis=1)
        groups = Groups(members_GxK[kept_G], groups.cap_G[kept_G]) if kept_G.any() else None
    feasible = FeasibleSet(len(columns), of(feasible.floor_K), _binding(of(feasible.cap_K)), groups)
    return feasible, None if prior is None else Prior(of(prior.q_K), prior.strength)


def _binding(cap_K: Float[HostOrDevice, " K"] | None) -> Any:
    """None if no cap can bind, so the plain simplex is recognized."""
    return None if cap_K is None or (cap_K >= 1).all() else cap_K


def _known(values: Any, otherwise: np.ndarray) -> np.ndarray:
    """The values if they can be looked at; `otherwise`, which is no restriction, for None and traced values."""
    return otherwise if values is None or is_traced(values) else np.asarray(values)


def per_source(values: Any, what: str, default: float | None, num_sources: int, sources: tuple[str, ...] | None) -> Any:
    """(K,) floats from one value each, by name or column, or one for all; None for None.

    `default` is the value of sources that a mapping or Series leaves out. If it is None, all need a value of their own.
    """
    if values is None:
        return None
    if isinstance(values, Labeled):
        values = by_source(values, what, sources, partial=default is not None)
    if isinstance(values, Mapping):
        if default is None and len(values) != num_sources:
            raise InputError(f"{what} must give all {num_sources} sources a value; got {len(values)}")
        given = {}
        for source, value in values.items():
            column = _column(source, what, num_sources, sources)
            if column in given:
                raise InputError(f"{what} gives {(sources or ())[column]!r} two values, by name and by column {column}")
            given[column] = value
        values = [given.get(k, default) for k in range(num_sources)]
    if is_traced(values):
        values = jnp.stack([jnp.asarray(value) for value in values]) if isinstance(values, list | tuple) else values
    else:
        values = as_float64(values, what)
    if np.shape(values) not in ((num_sources,), () if default is not None else (num_sources,)):
        raise InputError(
            f"{what} has the shape {np.shape(values)}, but there are {num_sources} sources: give one value a source"
        )
    if is_traced(values):
        return jnp.broadcast_to(values, (num_sources,))
    return np.broadcast_to(values, (num_sources,)).copy()


def _column(source: Any, what: str, num_sources: int, sources: tuple[str, ...] | None) -> int:
    if isinstance(source, str):
        if sources is None:
            raise InputError(f"{what} names the source {source!r}, but the objective was built without `sources`")
        if source not in sources:
            raise InputError(f"{what} names {source!r}, which is no source; the sources are {list_names(sources)}")
        return sources.index(source)
    if not isinstance(source, numbers.Integral) or isinstance(source, bool):
        raise InputError(f"{what} names sources by name or by column, a whole number; got {source!r}")
    if not 0 <= (column := int(source)) < num_sources:
        raise InputError(f"{what} names column {source}, but columns go from 0 to {num_sources - 1}")
    return column


def _groups(groups: GroupCaps | None, num_sources: int, sources: tuple[str, ...] | None) -> Groups | None:
    if groups is None or (isinstance(groups, Mapping) and not groups):
        return None
    usage = "groups map tuples of sources to caps, as in {('web', 'news'): 0.5}"
    if not isinstance(groups, Mapping):
        raise InputError(f"{usage}; got {groups!r}")
    members_GxK = np.zeros((len(groups), num_sources))
    for g, group in enumerate(groups):
        if isinstance(group, str) or not isinstance(group, Sequence) or not group:
            raise InputError(f"{usage}; got {group!r}")
        for source in group:
            members_GxK[g, _column(source, "groups", num_sources, sources)] = 1
    if (shared := np.flatnonzero(members_GxK.sum(axis=0) > 1)).size:
        name = sources[shared[0]] if sources else shared[0]
        raise InputError(f"groups must not overlap, but source {name} is in more than one")
    caps = list(groups.values())
    for cap in caps:
        if not is_traced(cap) and not ((given := as_float64(cap, "groups")).shape == () and given >= 0):
            raise InputError(f"groups: every cap must be a number of at least 0; got {cap!r}")
    if is_traced(caps):
        return Groups(members_GxK, jnp.stack([jnp.asarray(cap) for cap in caps]))
    return Groups(members_GxK, as_float64(caps, "groups"))


def _prior(
    q_K: Float[HostOrDevice, " K"] | None, strength: Any, num_sources: int, sources: tuple[str, ...] | None
) -> tuple[Any, Any]:
    """The prior and its strength, checked unless traced. Values below the smallest normal float become 0."""
    if not is_traced(strength):
        strength = as_float64(strength, "prior_strength")
        if strength.shape != ():
            raise InputError(f"prior_strength must be one number; got the shape {strength.shape}")
    if q_K is None:
        if is_traced(strength) or strength != 0:
            raise InputError(f"prior_strength is {strength}, but there is no prior; give one, or leave it out")
        return None, None
    if not is_traced(strength) and not (np.isfinite(strength) and strength > 0):
        raise InputError(f"a prior needs a finite prior_strength above 0; got {strength}")
    if is_traced(q_K):
        return q_K, strength
    q_K = distribution(q_K, "prior", num_sources, sources)
    return np.where(q_K > np.finfo(np.float64).tiny, q_K, 0), strength


def _check_floors(
    low_K: Float[np.ndarray, " K"],
    high_K: Float[np.ndarray, " K"],
    q_K: Float[np.ndarray, " K"],
    names: tuple[str, ...],
) -> None:
    if low_K.sum() > 1 + SLACK:
        raise InputError(f"floors need {total(low_K.sum())} in total, and weights sum to 1; lower them")
    if (bad := np.flatnonzero(low_K > high_K)).size:
        name, low, high = names[bad[0]], low_K[bad[0]], high_K[bad[0]]
        raise InputError(f"{name} has a floor of {low:.6g} above its cap of {high:.6g}; lower it or raise the cap")
    if (bad := np.flatnonzero((low_K > 0) & (q_K == 0))).size:
        raise InputError(
            f"{names[bad[0]]} has a floor of {low_K[bad[0]]:.6g}, but the prior gives it 0, which forbids any weight; "
            "give it a prior above 0 or no floor"
        )
