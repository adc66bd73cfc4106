"""Solve on the host by NumPy and LAPACK: small problems are solved before a program for them could be compiled."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.certificate import Prior
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.methods.interior_point import init, step
from mixmin_jax.mixture.outputs import Outputs, outputs
from mixmin_jax.mixture.problem import Limits, Problem, Run, ceiling, is_better, reached
from mixmin_jax.mixture.scale.place import Place

AUTO = "auto"
MOST = 4e9  # largest N K^2 that NumPy solves by default: about a second of work, less than a compilation takes
MOST_AGAIN = 1e8  # largest N K times the number of solves, where there are several: some seconds of work


def on_host(compiled: bool | None, method: str, objective: Any, place: Place, times: int = 1) -> bool:
    """Whether NumPy solves a problem, so many times: if the user says so, or by default if it is small.

    Raises:
        InputError: NumPy was asked for, and cannot solve it.
    """
    able = place.plain and method in (AUTO, "interior_point") and hasattr(objective, "on_host")
    if compiled is False and not able:
        raise InputError(
            "compiled=False is for one cross_entropy or squared_error, by the interior point, in float64 without a mesh"
        )
    if compiled is None and able:
        numbers = max(np.size(leaf) for leaf in jax.tree.leaves(objective))
        return numbers * objective.num_sources <= MOST and (times == 1 or numbers * times <= MOST_AGAIN)
    return able and not compiled


def minimize_on_host(objective: Any, feasible: FeasibleSet, prior: Prior | None, limits: Limits) -> Outputs:
    """The interior point in NumPy, for an objective that has `on_host`."""
    with np.errstate(all="ignore"):
        problem = Problem(objective.on_host(), feasible.to_host(), prior)
        return outputs(problem, iterate_on_host(problem, init(problem), limits), limits.tolerance)


def iterate_on_host(problem: Problem, first: Any, limits: Limits, step: Callable[[Problem, Any], Any] = step) -> Run:
    """`problem.iterate` as a loop of Python, on NumPy's arrays. By default steps are the interior point's."""
    state, best, gaps = first, first, [first.point.gap]
    highest, goal = ceiling(problem, first.point), limits.tolerance * problem.f.scale
    while len(gaps) <= limits.max_iterations and not best.point.gap <= goal and not np.isnan(state.point.gap):
        state = step(problem, state)
        if is_better(problem, state.point, best.point, highest):
            best = state
        gaps.append(state.point.gap)
    return Run._make([best, reached(problem, best.point, limits.tolerance), len(gaps) - 1, np.array(gaps)])
