"""The worth of each source: the growth of the least loss without it, with a certificate.

    worth_k = min over w in C with w_k = 0 of F(w)  -  min over w in C of F(w)   >=   0

Both minima are known up to a gap, which gives certified bounds on the worth.

Axes: N examples, K sources, D outputs, J = K - 1 sources left.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.certificate import Prior
from mixmin_jax.mixture.checks import is_traced, list_names
from mixmin_jax.mixture.constraints import GroupCaps, PerSource, build, take, usable
from mixmin_jax.mixture.feasible import FeasibleSet, Groups
from mixmin_jax.mixture.inference.warm_start import along, iterate_near
from mixmin_jax.mixture.methods.interior_point import INTERIOR_POINT, State
from mixmin_jax.mixture.objective import CrossEntropy, SquaredError
from mixmin_jax.mixture.problem import Point, Problem
from mixmin_jax.mixture.scale.float64 import float64_on_cpu
from mixmin_jax.mixture.solution import NotConverged, Solution
from mixmin_jax.mixture.solve import solve

_APART = 1e-2  # gap, over the scale, of the central-path point at which solves without a source start


@dataclasses.dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """The worth of each source, in the units of the loss: lower <= worth <= upper."""

    solution: Solution  # with all sources
    worth: Float[np.ndarray, " K"]  # the best estimate; +inf for sources that cannot be left out
    lower: Float[np.ndarray, " K"]  # certified
    upper: Float[np.ndarray, " K"]
    weights: Float[np.ndarray, "K K"]  # row k: the best weights without source k; NaN if there are none
    gaps: Float[np.ndarray, " K"]  # of the solves without a source; 0 if no solve was needed
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
    """Solve again without each of the sources, starting from the solve with all of them, in one compiled program.

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
    solution = solve(
        objective,
        upper_bounds=upper_bounds,
        lower_bounds=lower_bounds,
        groups=groups,
        prior=prior,
        prior_strength=prior_strength,
        tolerance=tolerance,
        max_iterations=max_iterations,
        throw=throw,
    )
    with float64_on_cpu():
        feasible, penalty = build(k, names, upper_bounds, lower_bounds, groups, prior, prior_strength)
        columns = usable(feasible, penalty)
        if len(columns) < 2:
            raise InputError(
                f"the constraints leave only source {names[columns[0]] if names else columns[0]} in use; without it "
                "there is nothing to solve"
            )
        reduced = objective
        if len(columns) < k:
            reduced = objective.take(columns)
            feasible, penalty = take(feasible, penalty, columns)
        shown = tuple(names[c] if names else str(c) for c in columns)
        reasons = _reasons(reduced, feasible, shown)
        iterations = INTERIOR_POINT.iterations if max_iterations is None else max_iterations
        solved_K = np.array([column not in reasons for column in range(len(columns))])
        full, without = jax.device_get(
            _leave_one_out(
                _centered(reduced).anonymous(),
                feasible,
                penalty,
                np.float64(tolerance),
                np.int64(min(iterations, np.iinfo(np.int32).max)),
                solved_K,
            )
        )
    rounding = 64 * np.finfo(np.float64).eps * (abs(full.total) + full.scale)
    growth_K = np.where(solved_K, without.total - full.total, np.inf)
    worth = np.zeros(k)  # 0 for sources that may not be used
    lower, upper, gaps, used = np.zeros(k), np.zeros(k), np.zeros(k), np.zeros(k, int)
    worth[columns] = np.maximum(growth_K, 0)
    lower[columns] = np.maximum(growth_K - np.where(solved_K, without.gap, 0) - rounding, 0)
    upper[columns] = np.maximum(growth_K, 0) + full.gap + rounding
    gaps[columns] = np.where(solved_K, without.gap, 0)
    used[columns] = without.iterations
    weights = np.tile(solution.weights, (k, 1))
    weights[columns] = 0
    weights[np.ix_(columns, columns)] = np.where(solved_K[:, None], without.weights, np.nan)
    weights[columns[~solved_K]] = np.nan
    failed = [f"without {shown[c]}" for c in np.flatnonzero(solved_K & ~without.converged)]
    failed = failed if full.converged else ["with all sources", *failed]
    status = f"all {solved_K.sum()} solves without a source converged, within a gap of {gaps.max():.2g}"
    if failed:
        status = f"not converged: the solves {list_names(failed)}; raise max_iterations or tolerance"
        if throw:
            raise NotConverged(dataclasses.replace(solution, status=status))
    return LeaveOneOut(
        solution=solution,
        worth=worth,
        lower=lower,
        upper=upper,
        weights=weights,
        gaps=gaps,
        iterations=used,
        reasons={int(columns[c]): reason for c, reason in reasons.items()},
        status=status,
        sources=names,
    )


class _Solved(NamedTuple):
    weights: Float[Array, "..."]
    total: Float[Array, "..."]  # F, for rows whose maximum over all sources is 0
    gap: Float[Array, "..."]
    scale: Float[Array, "..."]
    converged: Bool[Array, "..."]
    iterations: Int[Array, "..."]


@jax.jit
def _leave_one_out(objective, feasible, prior, tolerance, max_iterations, needed_K):
    """The solve with all sources, and those without each, whose weights are 0 for the source left out."""
    k = objective.num_sources
    problem = Problem(objective.prepare(), feasible, prior)
    runs = along(problem, jnp.stack([jnp.asarray(_APART), tolerance]), max_iterations)
    middle, full = jax.tree.map(lambda x: x[0], runs), jax.tree.map(lambda x: x[1], runs)

    def solved(problem, point, converged, iterations):
        total = point.loss + problem.f.offset + problem.penalty(point.weights)
        return _Solved(point.weights, total, point.gap, problem.f.scale, converged, iterations)

    def without(source):
        column_J = jnp.arange(k - 1) + (jnp.arange(k - 1) >= source)
        rest = Problem(_take(objective, column_J).prepare(), *_take_constraints(feasible, prior, column_J))
        point = rest.point(rest.feasible.repair(full.best.point.weights[column_J]))
        there = point.gap <= tolerance * rest.f.scale  # true if the source has no weight

        def solve_again():
            run = iterate_near(rest, _take_state(rest, middle.best, column_J, k), tolerance, max_iterations)
            return run.best.point, run.converged, run.iterations

        skip = there | ~needed_K[source]
        result = solved(rest, *jax.lax.cond(skip, lambda: (point, there, jnp.zeros_like(full.iterations)), solve_again))
        return result._replace(weights=jnp.zeros(k).at[column_J].set(result.weights))

    return solved(problem, full.best.point, full.converged, full.iterations), jax.lax.map(without, jnp.arange(k))


def _centered(objective):
    """The same optima with losses near 0, so differences between them keep their digits."""
    if isinstance(objective, CrossEntropy):
        return dataclasses.replace(objective.centered(), shift_N=None)
    return objective


def _take(objective, column_J):
    """The objective over some sources, under jit. Rows are scaled again, because the largest source may be missing."""
    if isinstance(objective, CrossEntropy):  # rows of weight 0 may have no density left
        logp_NxJ = jnp.asarray(objective.logp_NxK)[:, column_J]
        return dataclasses.replace(objective, logp_NxK=logp_NxJ, finite=False)
    return dataclasses.replace(objective, residuals_NxKxD=jnp.asarray(objective.residuals_NxKxD)[:, column_J])


def _take_constraints(feasible, prior, column_J):
    """The same constraints and penalty, with the other sources held at 0."""

    def of(x_K):
        return None if x_K is None else jnp.asarray(x_K)[..., column_J]

    groups = feasible.groups
    groups = None if groups is None else Groups(of(groups.members_GxK), groups.cap_G)
    rest = FeasibleSet(len(column_J), of(feasible.floor_K), of(feasible.cap_K), groups)
    return rest, None if prior is None else Prior(of(prior.q_K), prior.strength)


def _take_state(rest, state, column_J, k):
    """The part of a state for some of the sources, to start from."""
    w_J = rest.feasible.repair(state.point.weights[column_J])

    def of(x_M):
        parts = [x_M[column_J]]
        if rest.feasible.cap_K is not None:
            parts.append(x_M[k:][column_J])
        bounds = k * len(parts)
        return jnp.concatenate([*parts, x_M[bounds:]])

    point = Point(w_J, state.point.loss, state.point.gradient[column_J], state.point.gap)
    return State(point, state.curvature_KxK[column_J][:, column_J], state.y, of(state.slack_M), of(state.z_M))


def _reasons(objective, feasible, names):
    """Why sources, by column, cannot be left out."""
    k, reasons = objective.num_sources, {}
    if not feasible.plain:
        cap_K = np.ones(k) if feasible.cap_K is None else feasible.cap_K
        grouped = feasible.groups
        caps = None
        if grouped is not None:
            members = (tuple(np.flatnonzero(member_K).tolist()) for member_K in grouped.members_GxK)
            caps = dict(zip(members, grouped.cap_G, strict=True))
        for source in range(k):
            if feasible.floor_K is not None and feasible.floor_K[source] > 0:
                reasons[source] = f"{names[source]} has a floor of {feasible.floor_K[source]:.6g}"
                continue
            try:
                build(k, names, np.where(np.arange(k) == source, 0, cap_K), feasible.floor_K, caps)
            except InputError as error:
                reasons[source] = f"without {names[source]}, {error}"
    if isinstance(objective, CrossEntropy):
        explains_NxK = (objective.logp_NxK > -np.inf) & (objective.weights_N > 0)[:, None]
        alone_N = explains_NxK.sum(axis=1) == 1
        for source in np.flatnonzero((explains_NxK & alone_N[:, None]).any(axis=0)):
            rows = np.flatnonzero(explains_NxK[:, source] & alone_N)
            reasons[int(source)] = f"only {names[source]} explains row {rows[0]}" + (
                f" and {len(rows) - 1} more" if len(rows) > 1 else ""
            )
    return reasons
