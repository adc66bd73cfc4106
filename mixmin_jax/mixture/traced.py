"""The traced form of `solve`, for use under jit, vmap and grad.

Derivatives come from the Newton equations of the interior point at the solution, with t z fixed. These are the
equations of the implicit function theorem on the active set: z / t is infinite for an active bound, which fixes its
weights, and 0 for others. With d for the change along the direction in which the problem moves,

    (hess F + A' D A) dw + dy 1 = - d(grad F) + A' D db,     sum dw = 0,     D = diag(z / t).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.certificate import Prior
from mixmin_jax.mixture.checks import checked_tolerance, checked_whole, is_traced
from mixmin_jax.mixture.constraints import GroupCaps, PerSource, build, usable
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.methods.interior_point import INTERIOR_POINT, State, newton
from mixmin_jax.mixture.objective import Objective
from mixmin_jax.mixture.problem import Problem, iterate
from mixmin_jax.mixture.solution import TracedSolution
from mixmin_jax.mixture.targets import WorstCase

Data = tuple[Objective, FeasibleSet, Prior | None]


def solve_traced(
    objective: Objective,
    *,
    upper_bounds: PerSource | None = None,
    lower_bounds: PerSource | None = None,
    groups: GroupCaps | None = None,
    prior: PerSource | None = None,
    prior_strength: ArrayLike = 0.0,
    tolerance: ArrayLike | None = None,
    max_iterations: int = 100,
) -> TracedSolution:
    """`solve` by the interior point as a pure function of arrays, for use under jit, vmap and grad.

    It can be differentiated once, forward and backward, with respect to the log-likelihoods (or predictions), example
    weights, bounds, prior and prior strength. If weights are not unique (duplicate sources) or a bound is just active,
    derivatives are those of a nearby problem. It runs on the device of its arrays in the precision of JAX's
    configuration, and the gap refers to the data rounded to that.

    Args:
        objective: held in memory; no `worst_case`.
        upper_bounds, lower_bounds, groups, prior, prior_strength: as in `solve`. Traced values are not checked. Caps
            must be above 0 if weights are differentiated; with a prior every source must be allowed a weight.
        tolerance: as in `solve`; default: 1e-9 in float64, 1e-5 in float32.
        max_iterations: most iterations.

    Returns:
        A `TracedSolution`. Read `.converged`: nothing raises if the tolerance is missed or bounds leave no weights.

    Raises:
        InputError: invalid values that are not traced.
    """
    if isinstance(objective, WorstCase):
        raise InputError("solve_traced cannot take a worst_case; use solve, or a weighted_sum of its targets")
    if not hasattr(objective, "rounded"):
        raise InputError(
            f"solve_traced takes an objective held in memory, as cross_entropy(log_likelihoods) builds; got "
            f"{type(objective).__name__}"
        )
    max_iterations = checked_whole(max_iterations, "max_iterations", 0)
    feasible, penalty = build(
        objective.num_sources, objective.sources, upper_bounds, lower_bounds, groups, prior, prior_strength
    )
    if penalty is not None and len(columns := usable(feasible, penalty)) < objective.num_sources:
        raise InputError(
            f"with a prior, solve_traced must be allowed a weight above 0 for every source, but only columns "
            f"{', '.join(map(str, columns))} can have one; leave the others out of the objective"
        )
    dtype = jnp.zeros(()).dtype
    if tolerance is None:
        tolerance = 1e-9 if dtype == jnp.float64 else 1e-5
    elif not is_traced(tolerance):
        tolerance = checked_tolerance(tolerance)
    constraints, tolerance = jax.tree.map(lambda x: jnp.asarray(x, dtype), ((feasible, penalty), tolerance))
    return _solve((objective.anonymous().rounded(dtype), *constraints), tolerance, max_iterations)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _solve(data: Data, tolerance: Float[Array, ""], max_iterations: int) -> TracedSolution:
    return _run(data, tolerance, max_iterations)[0]


def _problem(data: Data) -> Problem:
    objective, feasible, prior = data
    return Problem(objective.prepare(), feasible, prior)


@functools.partial(jax.jit, static_argnums=2)
@jax.default_matmul_precision("highest")
def _run(data: Data, tolerance: Float[Array, ""], max_iterations: int) -> tuple[TracedSolution, State]:
    problem = _problem(data)
    run = iterate(INTERIOR_POINT, problem, tolerance, max_iterations)
    point = run.best.point
    penalty = problem.penalty(point.weights)
    return TracedSolution(
        point.weights, point.loss + problem.f.offset, penalty, point.gap, run.converged, run.iterations
    ), run.best


@_solve.defjvp
@jax.default_matmul_precision("highest")
def _solve_jvp(
    max_iterations: int, primals: tuple[Data, Float[Array, ""]], tangents: tuple[Any, Any]
) -> tuple[TracedSolution, TracedSolution]:
    (data, tolerance), (ddata, _) = primals, tangents
    result, state = _run(data, tolerance, max_iterations)
    w_K = result.weights

    def at_w(data: Data) -> tuple[tuple[Array, ...], tuple[Float[Array, " K"], Problem]]:
        problem = _problem(data)
        loss, gradient_K = problem.f.value_and_gradient(w_K)
        if problem.prior is not None:
            gradient_K = gradient_K + problem.prior.gradient(w_K)
        price = problem.f.scale if problem.homogeneous else 0.0  # of the sum, if it is a cost and not a constraint
        outputs = loss + problem.f.offset, gradient_K + price, problem.penalty(w_K), problem.feasible.limits()
        return outputs, (gradient_K, problem)

    _, (dloss, dgradient_K, dpenalty, dlimits_M), (gradient_K, problem) = jax.jvp(at_w, (data,), (ddata,), has_aux=True)
    push_K = problem.feasible.bounds_adjoint(state.z_M / state.slack_M * dlimits_M)
    dw_K, _, _ = newton(problem, state)(push_K - dgradient_K, dlimits_M[problem.feasible.num_bounds :])
    along = state.point.gradient @ dw_K
    return result, TracedSolution(
        weights=dw_K,
        loss=dloss + along,
        penalty=dpenalty + (gradient_K - state.point.gradient) @ dw_K,
        gap=jnp.zeros_like(result.gap),  # 0 at every solution
        converged=jnp.zeros(result.converged.shape, jax.dtypes.float0),
        iterations=jnp.zeros(result.iterations.shape, jax.dtypes.float0),
    )
