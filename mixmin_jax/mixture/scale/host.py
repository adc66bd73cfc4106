"""Solve on the host by NumPy and LAPACK: small problems are solved before a program for them could be compiled.

Axes: K sources, M of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.certificate import Prior
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.methods.interior_point import head_start, init, step
from mixmin_jax.mixture.objective import CrossEntropy
from mixmin_jax.mixture.outputs import Outputs, outputs
from mixmin_jax.mixture.problem import Limits, Point, Problem, Run, ceiling, is_better, reached
from mixmin_jax.mixture.scale.place import Place

AUTO = "auto"
MOST = 4e9  # largest N K^2 that NumPy solves by default: about a second of work, less than a compilation takes
MOST_AMONG_FEW = 1e8  # largest N K that it solves by default with an active set: also about a second
MOST_AGAIN = 1e8  # largest N K times the number of solves, where there are several: some seconds of work
LEAST_SOURCES = 32  # fewest sources for the active set: with fewer, the interior point is about as fast
_MANY = 3  # with more than K // 3 sources, all are taken: the interior point over all costs no more than its parts
_SHARE = 16  # K // 16 sources at first, then twice as many more each time: without sparsity all are soon there
_ROWS_PER_SOURCE = 32  # rows per source that the first sources are chosen from
_CLOSER = 0.1  # tolerance among few sources, as a share of that for all
_KEPT = 1e-9  # least weight of a source that stays among them
_INNER = 100  # most iterations among few sources


def on_host(
    compiled: bool | None, method: str, objective: Any, place: Place, times: int = 1, whole_simplex: bool = False
) -> bool:
    """Whether NumPy solves a problem, so many times: if the user says so, or by default if it is small.

    Raises:
        InputError: NumPy was asked for, and cannot solve it.
    """
    among_few = whole_simplex and isinstance(objective, CrossEntropy)
    methods = (AUTO, "interior_point", *["active_set"] * (among_few and compiled is False))
    able = place.plain and method in methods and hasattr(objective, "on_host")
    if compiled is False and not able:
        raise InputError(
            "compiled=False is for one cross_entropy or squared_error, by the interior point (or, over the whole"
            " simplex, the active set), in float64 without a mesh"
        )
    if compiled is None and able:
        numbers = max(np.size(leaf) for leaf in jax.tree.leaves(objective))
        if among_few and method == AUTO and times == 1 and objective.num_sources >= LEAST_SOURCES:
            return numbers <= MOST_AMONG_FEW
        return numbers * objective.num_sources <= MOST and (times == 1 or numbers * times <= MOST_AGAIN)
    return able and not compiled


def minimize_on_host(
    objective: Any, feasible: FeasibleSet, prior: Prior | None, limits: Limits, method: str = "interior_point"
) -> Outputs:
    """The interior point, or the active set, in NumPy, for an objective that has `on_host`."""
    with np.errstate(all="ignore"):
        problem = Problem(objective.on_host(), feasible.to_host(), prior)
        if method == "active_set":
            run = _iterate_among_few(problem, limits)
        else:
            run = iterate_on_host(problem, init(problem), limits)
        return outputs(problem, run, limits.tolerance)


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


class _Found(NamedTuple):
    """A state that is only a point."""

    point: Point


def _iterate_among_few(problem: Problem, limits: Limits) -> Run:
    """Minimize over M sources; then add those that would gain by weight and leave out those without, and again.

    Solutions are sparse, so this costs some passes over all rows, and N M^2 operations with M far below K. Every gap is
    certified over all sources.
    """
    f: Any = problem.f
    k = problem.feasible.num_sources
    few = max(k // _SHARE, 2)
    rough = Problem(f.part(_ROWS_PER_SOURCE * k), problem.feasible)
    w_K: Any = head_start(rough, problem.feasible.start())
    columns_M = f.covering(np.argsort(-w_K)[:few])
    best = problem.point(w_K)
    highest, gaps = ceiling(problem, best), [best.gap]
    while len(gaps) <= limits.max_iterations:
        face = Problem(f.among(columns_M), FeasibleSet(len(columns_M), on_host=True))
        w_M = iterate_on_host(face, init(face), Limits(_CLOSER * limits.tolerance, _INNER, 1)).best.point.weights
        w_K = np.zeros(k)
        w_K[columns_M] = w_M
        point = problem.point(w_K)
        gaps.append(point.gap)
        if is_better(problem, point, best, highest):
            best = point
        gain_K, few = -point.gradient - f.scale, 2 * few
        new_M = np.argsort(-gain_K)[:few]
        before_M, columns_M = columns_M, f.covering(np.union1d(columns_M[w_M > _KEPT], new_M[gain_K[new_M] > 0]))
        columns_M = np.arange(k) if len(columns_M) > max(k // _MANY, 2) else columns_M
        if best.gap <= limits.tolerance * f.scale or np.array_equal(before_M, columns_M):
            break
    return Run._make([_Found(best), reached(problem, best, limits.tolerance), len(gaps) - 1, np.array(gaps)])
