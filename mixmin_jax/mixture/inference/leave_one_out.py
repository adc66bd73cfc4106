"""The worth of each source: the growth of the least loss without it, with a certificate.

    worth_k = min over w in C with w_k = 0 of F(w)  -  min over w in C of F(w)   >=   0

Both minima are known up to a gap, which gives certified bounds on the worth.

Axes: N examples, K sources, J sources in use.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.checks import is_traced, list_names
from mixmin_jax.mixture.constraints import GroupCaps, PerSource, build, per_source, take, usable
from mixmin_jax.mixture.objective import CrossEntropy, SquaredError
from mixmin_jax.mixture.solution import NotConverged, Solution
from mixmin_jax.mixture.solve import solve


@dataclasses.dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """The worth of each source, in the units of the loss: lower <= worth <= upper."""

    solution: Solution  # with all sources
    worth: Float[np.ndarray, " K"]  # the best estimate; +inf for sources that cannot be left out
    lower: Float[np.ndarray, " K"]  # certified
    upper: Float[np.ndarray, " K"]
    weights: Float[np.ndarray, "K K"]  # row k: the best weights without source k; NaN if there are none
    gaps: Float[np.ndarray, " K"]  # bounds on the errors of the least losses without a source
    iterations: Int[np.ndarray, " K"]
    reasons: dict[int, str]  # why a source, by column, cannot be left out
    status: str  # one sentence on how the solves ended
    sources: tuple[str, ...] | None = None


def leave_one_out(
    objective: CrossEntropy | SquaredError,
    *,
    upper_bounds: PerSource | None = None,
    lower_bounds: PerSource | None = None,
    groups: GroupCaps | None = None,
    prior: PerSource | None = None,
    prior_strength: float = 0.0,
    tolerance: float = 1e-9,
    max_iterations: int | None = None,
    throw: bool = True,
) -> LeaveOneOut:
    """Solve again without each of the sources.

    A source without weight costs one evaluation: the weights without it are the same, and still certified. A source
    that cannot be left out is worth inf, and `.reasons` says why: it alone explains some rows, or floors, caps or
    groups need it. With a prior, the penalty s KL(w || q) counts, with the same q.

    Args:
        objective: from `cross_entropy` or `squared_error`.
        upper_bounds, lower_bounds, groups, prior, prior_strength, max_iterations: as in `solve`.
        tolerance: as in `solve`, for each of the solves.
        throw: whether to raise if a solve misses the tolerance; the bounds hold in any case, but are wider.

    Returns:
        A `LeaveOneOut`.

    Raises:
        InputError: fewer than two sources that may be used; errors of `solve`.
        NotConverged: a solve missed the tolerance; holds the solution with all sources.
    """
    if not isinstance(objective, CrossEntropy | SquaredError):
        raise InputError(
            f"leave_one_out takes cross_entropy(...) or squared_error(...); got {type(objective).__name__}"
        )
    if objective.num_sources < 2:
        raise InputError("leave_one_out needs at least two sources; there is only one")
    if is_traced(jax.tree.leaves(objective)):
        raise InputError("leave_one_out cannot run on traced arrays; call it outside jit, vmap and grad")
    k, names = objective.num_sources, objective.sources
    shown = names or tuple(map(str, range(k)))
    bounds: dict[str, Any] = {"lower_bounds": lower_bounds, "groups": groups}
    constraints = bounds | {"prior": prior, "prior_strength": prior_strength}
    limits: dict[str, Any] = {"tolerance": tolerance, "max_iterations": max_iterations}
    full = solve(objective, upper_bounds=upper_bounds, **constraints, **limits, throw=throw)
    feasible, penalty = build(k, names, upper_bounds, **constraints)
    columns = usable(feasible, penalty)
    if len(columns) < 2:
        raise InputError(
            f"the constraints leave only source {shown[columns[0]]} in use; without it there is nothing to solve"
        )
    rows, reasons = objective, dict[int, str]()
    if isinstance(objective, CrossEntropy):
        rows, reasons = _centered(objective, columns), _explained_alone(objective, columns, shown)
    _, penalty = take(feasible, penalty, columns)  # a prior of 0 has no logarithm

    def total(w_K: Float[np.ndarray, " K"]) -> float:
        """F, as a sum over rows whose weight is not 0."""
        with np.errstate(all="ignore"):
            loss_N, v_N = rows.row_losses(w_K), rows.weights_N
            loss = np.where(v_N > 0, v_N * loss_N, 0).sum()
            return float(loss if penalty is None else loss + penalty.value(w_K[columns]))

    least = total(full.weights)
    rounding = 64 * np.finfo(np.float64).eps * (abs(least) + full.goal / tolerance)
    worth, lower, upper, gaps, iterations = np.zeros(k), np.zeros(k), np.zeros(k), np.zeros(k), np.zeros(k, int)
    weights = np.tile(full.weights, (k, 1))
    failed = [] if full.converged else ["with all sources"]
    caps_K = np.ones(k) if upper_bounds is None else per_source(upper_bounds, "upper_bounds", 1.0, k, names)
    for column in columns.tolist():
        cap_K = np.where(np.arange(k) == column, 0, caps_K)
        try:
            allowed = build(k, names, cap_K, **constraints)[0]
        except InputError as error:  # floors, caps or groups need the source
            reasons.setdefault(column, f"without {shown[column]}, {error}")
        if column in reasons:
            worth[column] = lower[column] = upper[column] = np.inf
            weights[column] = np.nan
            continue
        weights[column] = allowed.to_host().repair(full.weights)
        gap = total(weights[column]) - least + full.gap
        if not gap <= full.goal:  # the source has weight
            found = solve(rows, upper_bounds=cap_K, **constraints, **limits, throw=False)
            weights[column], gap, iterations[column] = found.weights, found.gap, found.iterations
            failed += [] if found.converged else [f"without {shown[column]}"]
        growth, gaps[column] = total(weights[column]) - least, gap
        worth[column] = max(growth, 0)
        lower[column] = max(growth - gaps[column] - rounding, 0)
        upper[column] = worth[column] + full.gap + rounding
    solves = len(columns) - len(reasons)
    status = f"all {solves} solves without a source converged, within a gap of {gaps.max():.2g}"
    if failed:
        status = f"not converged: the solves {list_names(failed)}; raise max_iterations or tolerance"
        if throw:
            raise NotConverged(dataclasses.replace(full, status=status))
    return LeaveOneOut(full, worth, lower, upper, weights, gaps, iterations, reasons, status, names)


def _centered(objective: CrossEntropy, columns: Int[np.ndarray, " J"]) -> CrossEntropy:
    """The same optima with losses near 0, so differences between them keep their digits."""
    most_N = objective.logp_NxK[:, columns].max(axis=1)
    most_N = np.where(np.isfinite(most_N), most_N, 0)
    return dataclasses.replace(objective, logp_NxK=objective.logp_NxK - most_N[:, None])


def _explained_alone(objective: CrossEntropy, columns: Int[np.ndarray, " J"], names: tuple[str, ...]) -> dict[int, str]:
    """Why sources that alone explain a row cannot be left out."""
    explains_NxJ = (objective.logp_NxK[:, columns] > -np.inf) & (objective.weights_N > 0)[:, None]
    alone_NxJ = explains_NxJ & (explains_NxJ.sum(axis=1) == 1)[:, None]
    reasons = {}
    for j in np.flatnonzero(alone_NxJ.any(axis=0)):
        first, *more = np.flatnonzero(alone_NxJ[:, j])
        reasons[int(columns[j])] = f"only {names[columns[j]]} explains row {first}" + (
            f" and {len(more)} more" if more else ""
        )
    return reasons
