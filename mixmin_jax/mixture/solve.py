"""The entry point: mixture weights with a certificate, in float64 on the CPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.checks import checked_iterations, checked_tolerance, is_traced, list_names
from mixmin_jax.mixture.constraints import GroupCaps, PerSource, build, take, usable
from mixmin_jax.mixture.float64 import float64_on_cpu
from mixmin_jax.mixture.interior_point import INTERIOR_POINT
from mixmin_jax.mixture.mirror_descent import MIRROR_DESCENT
from mixmin_jax.mixture.objective import Objective
from mixmin_jax.mixture.problem import Method, Problem, iterate
from mixmin_jax.mixture.projected_gradient import PROJECTED_GRADIENT
from mixmin_jax.mixture.solution import NotConverged, Solution, describe

METHODS: dict[str, Method] = {
    "interior_point": INTERIOR_POINT,
    "projected_gradient": PROJECTED_GRADIENT,
    "mirror_descent": MIRROR_DESCENT,
}
_LONGEST_HISTORY = 100_000


def solve(
    objective: Objective,
    *,
    method: str = "interior_point",
    upper_bounds: PerSource | None = None,
    lower_bounds: PerSource | None = None,
    groups: GroupCaps | None = None,
    prior: PerSource | None = None,
    prior_strength: float = 0.0,
    tolerance: float = 1e-9,
    max_iterations: int | None = None,
    throw: bool = True,
) -> Solution:
    """Minimises f(w) + s KL(w || q) over the allowed weights, with a certificate (MixMin, arXiv:2502.10510).

    Runs in float64 on the CPU whatever the caller's JAX configuration, which it leaves alone; compiled once for each
    shape, method and kind of constraints. Inside jit, vmap or grad it takes constants only; see `solve_traced`.

    Args:
      objective: from `cross_entropy` or `squared_error`.
      method: "interior_point" (primal-dual, some ten iterations), "projected_gradient" (jaxopt's, guarded) or
        "mirror_descent" (the paper's entropic descent, with a safeguarded step). All take bounds; all but
        "projected_gradient" take a prior.
      upper_bounds, lower_bounds: caps and floors on weights: one number for all sources, one each, or a mapping from
        some sources (by name or column) to theirs.
      groups: a mapping from tuples of sources to a cap on their summed weight, as in {("web", "news"): 0.5}; disjoint.
      prior, prior_strength: q, which sums to 1, and s > 0, in the units of f: the penalty s KL(w || q).
      tolerance: stop when gap <= tolerance x the sum of the example weights (cross-entropy) or x the variance of the
        target (squared error).
      max_iterations: by default 100 for the interior point and 20 000 for the others.
      throw: whether to raise when the tolerance is not reached.

    Returns:
      A `Solution`; its gap bounds the error of loss + penalty and is evaluated at exactly the weights returned.

    Raises:
      InputError: bounds that no weights satisfy, an invalid prior, an unknown method, names that are no sources, a row
        that no allowed weights explain.
      NotConverged: the tolerance was not reached; holds the solution.
    """
    _check_method(objective, method, prior)
    if is_traced(jax.tree.leaves(objective), [upper_bounds, lower_bounds, groups, prior, prior_strength]):
        raise InputError("solve cannot run on traced arrays; inside jit, vmap and grad use solve_traced")
    tolerance = checked_tolerance(tolerance)
    default = METHODS[method].iterations
    max_iterations = checked_iterations(default if max_iterations is None else max_iterations)
    length = min(max(default, max_iterations), _LONGEST_HISTORY) + 1  # rarely another program to compile
    k, names = objective.num_sources, objective.sources
    with float64_on_cpu():
        feasible, penalty = build(k, names, upper_bounds, lower_bounds, groups, prior, prior_strength)
        columns = usable(feasible, penalty)
        reduced = objective
        if len(columns) < k:  # sources that must have weight 0 are left out, so that rows rescale to those that remain
            reduced = _take(objective, columns)
            feasible, penalty = take(feasible, penalty, columns)
        reduced = reduced.anonymous()  # names are no part of what is compiled
        limits = np.float64(tolerance), np.int64(max_iterations)
        outputs = jax.device_get(_run(reduced, feasible, penalty, *limits, method, length))
    point, spent, goal, rounding, converged, iterations, history_T = outputs
    weights = np.zeros(k)
    weights[columns] = point.weights
    converged, iterations, gap = bool(converged), int(iterations), float(point.gap)
    solution = Solution(
        weights=weights,
        loss=float(point.loss),
        penalty=float(spent),
        gap=gap,
        converged=converged,
        iterations=iterations,
        method=method,
        status=describe(
            method,
            "the loss" if penalty is None else "loss + penalty",
            gap,
            float(goal),
            float(rounding),
            converged,
            iterations,
            max_iterations,
        ),
        gap_history=np.asarray(history_T)[: iterations + 1],
        sources=names,
    )
    if throw and not converged:
        raise NotConverged(solution)
    return solution


@functools.partial(jax.jit, static_argnames=("method", "history_length"))
def _run(objective, feasible, prior, tolerance, max_iterations, method, history_length):
    problem = Problem(objective.prepare(), feasible, prior)
    run = iterate(METHODS[method], problem, tolerance, max_iterations, history_length)
    point = run.best.point
    goal = tolerance * problem.f.scale
    rounding = 64 * jnp.finfo(point.loss.dtype).eps * (jnp.abs(point.loss) + problem.f.scale)
    point = point._replace(loss=point.loss + problem.f.offset)
    return point, problem.penalty(point.weights), goal, rounding, run.converged, run.iterations, run.gap_history


def _take(objective, columns):
    try:
        return objective.take(columns)
    except InputError as error:
        left = [k for k in range(objective.num_sources) if k not in columns]
        left_out = list_names([objective.sources[k] if objective.sources else str(k) for k in left])
        raise InputError(
            f"caps, floors, groups or the prior leave no weight for {left_out}, and without: {error}"
        ) from None


def _check_method(objective, method, prior):
    if not hasattr(objective, "prepare"):
        got = type(objective).__name__
        raise InputError(f"solve takes an objective, as cross_entropy(log_likelihoods) builds; got {got}")
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    if prior is not None and not METHODS[method].priors:
        raise InputError(f"method={method!r} cannot take a prior; use 'interior_point' or 'mirror_descent'")
