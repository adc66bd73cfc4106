"""The methods by name, what each can solve, and the choice of method='auto'."""

from typing import Any

import numpy as np

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.certificate import Prior
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.methods.active_set import ACTIVE_SET
from mixmin_jax.mixture.methods.interior_point import INTERIOR_POINT
from mixmin_jax.mixture.methods.mirror_descent import MIRROR_DESCENT
from mixmin_jax.mixture.methods.projected_gradient import PROJECTED_GRADIENT
from mixmin_jax.mixture.objective import CrossEntropy
from mixmin_jax.mixture.problem import Method
from mixmin_jax.mixture.scale.host import AUTO, LEAST_SOURCES
from mixmin_jax.mixture.scale.place import Place
from mixmin_jax.mixture.scale.streaming import StreamedCrossEntropy
from mixmin_jax.mixture.targets import WeightedSum, WorstCase

METHODS: dict[str, Method] = {
    "interior_point": INTERIOR_POINT,
    "active_set": ACTIVE_SET,
    "projected_gradient": PROJECTED_GRADIENT,
    "mirror_descent": MIRROR_DESCENT,
}
_WORTHWHILE = 4_000_000  # least N K^2 for the active set: below, compiling a second program costs more than it saves


def check_can_solve(method: str, objective: Any, prior: object, place: Place) -> None:
    """Raise InputError for an unknown objective or method, or a method or place that cannot take the objective."""
    streamed, worst, what = isinstance(objective, StreamedCrossEntropy), isinstance(objective, WorstCase), f"{method=}"
    if not streamed and not hasattr(objective, "prepare"):
        got = type(objective).__name__
        raise InputError(f"solve takes an objective, as cross_entropy(log_likelihoods) builds; got {got}")
    if method != AUTO and method not in METHODS:
        raise InputError(f"unknown method {method!r}; choose one of {AUTO}, {', '.join(METHODS)}")
    if worst and not place.plain:
        raise InputError("a worst_case is solved in float64 on one device only; leave mesh and precision out")
    for part in _summands(objective):
        name = type(part).__name__
        if place.mesh is not None and not hasattr(part, "shard_rows"):
            raise InputError(f"a {name} cannot be spread over a mesh; leave mesh out, or hold its rows in memory")
        if place.device is not None and not hasattr(part, "rounded"):
            raise InputError(
                f"a {name} is solved in float64 only; leave precision out, and use a mesh that has float64"
            )
    if method in (AUTO, "interior_point"):
        return
    if streamed:
        raise InputError(
            f"{what} would read streamed rows thousands of times; use 'interior_point', or cross_entropy with rows "
            "held in memory"
        )
    if worst:
        raise InputError(f"{what} needs a smooth objective, and a worst_case is none; use 'interior_point'")
    if prior is not None and not METHODS[method].priors:
        raise InputError(f"{what} cannot take a prior; use 'interior_point' or 'mirror_descent'")


def _summands(objective: Any) -> list[Any]:
    parts = objective.parts if isinstance(objective, WeightedSum) else ()
    return [one for part in parts for one in _summands(part)] or [objective]


def attempts(method: str, objective: Any, feasible: FeasibleSet, prior: Prior | None, place: Place) -> tuple[str, ...]:
    """The methods to try in turn, until one converges.

    Raises:
        InputError: the method cannot solve this problem.
    """
    possible = isinstance(objective, CrossEntropy) and feasible.plain and prior is None and place.plain
    if method == AUTO:
        if possible and _pays(objective, place):
            return "active_set", "interior_point"
        return ("interior_point",)
    if method == "active_set" and not possible:
        raise InputError(
            "method='active_set' is for one cross-entropy over the whole simplex, in memory, in float64 on one device; "
            "use 'auto' or 'interior_point' with caps, floors, groups, a prior, a mesh and anything else"
        )
    return (method,)


def _pays(objective: CrossEntropy, place: Place) -> bool:
    """Whether the active set saves time."""
    if not place.compiled:
        return objective.num_sources >= LEAST_SOURCES
    return np.size(objective.logp_NxK) * objective.num_sources >= _WORTHWHILE
