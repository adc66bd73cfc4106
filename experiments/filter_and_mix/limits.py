"""What a mixture of buckets, or of whole sources, must keep to: epochs, shares of sources and licences.

Axes: U units (buckets or sources).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.filter_and_mix.config import FilterAndMix
from mixmin_jax.data.text.source_notes import SourceNote
from mixmin_jax.errors import InputError
from mixmin_jax.mixture.constraints import build

UNKNOWN = "unknown"  # the licence of sources without one


@dataclasses.dataclass(frozen=True, eq=False)
class Limits:
    """Caps and floors, as `solve` takes them; None where there are none."""

    num_units: int
    upper_U: Float[np.ndarray, " U"] | None = None
    lower_U: Float[np.ndarray, " U"] | None = None
    groups: Mapping[tuple[int, ...], float] | None = None

    def options(self, groups: str = "groups") -> dict[str, Any]:
        """For `solve`, or with its name there another function of `mixture`."""
        return {"upper_bounds": self.upper_U, "lower_bounds": self.lower_U, groups: self.groups}

    def check(self) -> None:
        """Raise InputError if no weights keep to these."""
        build(self.num_units, None, **self.options())

    def nearest(self, weights_U: Float[np.ndarray, " U"]) -> Float[np.ndarray, " U"]:
        """Weights that keep to these, near some: the same if they already do."""
        allowed, _ = build(self.num_units, None, **self.options())
        return np.asarray(allowed.to_host().repair(weights_U))


def limits_of(
    config: FilterAndMix,
    sources: Sequence[str],
    owner_U: Sequence[str],
    tokens_U: Float[np.ndarray, " U"],
    notes: Mapping[str, SourceNote],
    target_tokens: int,
) -> Limits:
    """Of units that belong to sources.

    Args:
        config: with --max-epochs, --max-share and --min-share. What these say of a source without a unit is left out.
        sources: all of them.
        owner_U: the source of each unit.
        tokens_U: in each.
        notes: on the sources.
        target_tokens: of a target run.

    Raises:
        InputError: a share that cannot be read, of an unknown source or licence; caps by source and by licence at once.
    """
    upper_U = lower_U = groups = None
    if config.max_epochs is not None:
        upper_U = np.minimum(config.max_epochs * tokens_U / target_tokens, 1.0)
    licences = licences_of(sources, notes)
    for spec in config.min_share:
        kind, name, share = _share("--min-share", spec, ("source",), licences)
        mine_U = np.array([owner == name for owner in owner_U])
        lower_U = np.zeros(len(owner_U)) if lower_U is None else lower_U
        lower_U = lower_U + np.where(mine_U, share * tokens_U / max(tokens_U[mine_U].sum(), 1), 0)
    kinds = set()
    for spec in config.max_share:
        kind, name, share = _share("--max-share", spec, ("source", "licence"), licences)
        kinds.add(kind)
        if len(kinds) > 1:
            raise InputError("--max-share limits sources or licences: give one kind")
        mine = tuple(
            unit for unit, owner in enumerate(owner_U) if (owner if kind == "source" else licences[owner]) == name
        )
        groups = {**(groups or {}), **({mine: share} if mine else {})}
    return Limits(len(owner_U), upper_U, lower_U, groups)


def licences_of(sources: Sequence[str], notes: Mapping[str, SourceNote]) -> dict[str, str]:
    """The license of each source, or UNKNOWN."""
    return {name: (notes[name].licence if name in notes else None) or UNKNOWN for name in sources}


def _share(option: str, spec: str, kinds: Sequence[str], licences: Mapping[str, str]) -> tuple[str, str, float]:
    """Kind, name and share of KIND=NAME:SHARE."""
    kind, _, rest = spec.partition("=")
    name, _, text = rest.rpartition(":")
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if kind not in kinds or not name or not 0 <= share <= 1:
        raise InputError(
            f"{option} {spec}: expected {' or '.join(f'{kind}=NAME:SHARE' for kind in kinds)} with a share from 0 to 1"
        )
    known = list(licences) if kind == "source" else sorted(set(licences.values()))
    if name not in known:
        raise InputError(f"{option} {spec}: no {kind} is called {name!r}; there are {', '.join(known)}")
    return kind, name, share
