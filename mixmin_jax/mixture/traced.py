"""The traced form of `solve`, for use under jit, vmap and grad.

At the solution the Newton equations of the interior point, taken at fixed s z, are those of the implicit function
theorem on the active set: a bound that is active has z / s -> infinity and pins its weights, one that is not has
z / s -> 0.  So, with t the direction in which the problem changes,

    (hess F + A' D A) dw + dy 1 = - d(grad F)/dt + A' D db/dt,     sum dw = 0,     D = diag(z / s).
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.checks import is_traced
from mixmin_jax.mixture.constraints import GroupCaps, PerSource, build
from mixmin_jax.mixture.interior_point import INTERIOR_POINT, newton
from mixmin_jax.mixture.objective import Objective
from mixmin_jax.mixture.problem import Problem, iterate
from mixmin_jax.mixture.solution import TracedSolution


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
    """`solve` by the interior point as a pure function of arrays, under jit, vmap and grad.

    Differentiable once, forwards and backwards, with respect to the log-likelihoods (or predictions), the example
    weights, the bounds, the prior and its strength.  Where weights are not unique (duplicate sources) or a bound
    only just holds, derivatives are those of a nearby problem.  Runs on the device of its arrays, in the precision
    of JAX's configuration.  Nothing raises when the tolerance is missed: read `.converged`.

    Args: as for `solve`, with traced values not validated (bounds must be feasible; priors, and caps if weights
      shall be differentiated, above 0).  tolerance is 1e-9 in float64 and 1e-5 in float32 unless given.
    """
    feasible, penalty = build(
        objective.num_sources, objective.sources, upper_bounds, lower_bounds, groups, prior, prior_strength
    )
    if penalty is not None and not is_traced(penalty.q_K) and not (penalty.q_K > 0).all():
        raise InputError("solve_traced needs a prior above 0 for every source; leave the others out of the objective")
    dtype = jnp.zeros(()).dtype
    if tolerance is None:
        tolerance = 1e-9 if dtype == jnp.float64 else 1e-5
    data, tolerance = jax.tree.map(
        lambda x: jnp.asarray(x, dtype), ((objective.anonymous(), feasible, penalty), tolerance)
    )
    return _solve(data, tolerance, max_iterations)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _solve(data, tolerance, max_iterations):
    return _run(data, tolerance, max_iterations)[0]


def _problem(data):
    objective, feasible, prior = data
    return Problem(objective.prepare(), feasible, prior)


@functools.partial(jax.jit, static_argnums=2)
def _run(data, tolerance, max_iterations):
    problem = _problem(data)
    run = iterate(INTERIOR_POINT, problem, tolerance, max_iterations)
    point = run.best.point
    penalty = problem.penalty(point.weights)
    return TracedSolution(
        point.weights, point.loss + problem.f.offset, penalty, point.gap, run.converged, run.iterations
    ), run.best


@_solve.defjvp
def _solve_jvp(max_iterations, primals, tangents):
    (data, tolerance), (ddata, _) = primals, tangents
    result, state = _run(data, tolerance, max_iterations)
    w_K = result.weights

    def at_w(data):
        problem = _problem(data)
        loss, gradient_K = problem.f.value_and_gradient(w_K)
        if problem.prior is not None:
            gradient_K = gradient_K + problem.prior.gradient(w_K)
        price = problem.f.scale if problem.homogeneous else 0.0  # of the sum, where it is not a constraint but a cost
        return loss + problem.f.offset, gradient_K, gradient_K + price, problem.penalty(w_K), problem.feasible.limits()

    (_, gradient_K, *_), (dloss, _, dgradient_K, dpenalty, dlimits_M) = jax.jvp(at_w, (data,), (ddata,))
    problem = _problem(data)
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
