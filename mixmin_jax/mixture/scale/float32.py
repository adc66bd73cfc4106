"""Solve in float32, for accelerators without float64, with a certificate in float64 from the host.

1. Rows are scaled to a maximum of 1 in float64 and then rounded. Sums over blocks carry their rounding errors. So
   float32 resolves the gap to a few 1e-7 of the objective's scale.
2. The device iterates until its gap, which is only an estimate, reaches the tolerance or stops improving.
3. The host evaluates f and its gradient in float64, from the data as given: one pass over the rows.
4. If the tolerance is missed, the interior point continues with gradients from the host and the curvature from the
   device, which need not be accurate (iterative refinement; Higham 2002, chapter 12).

Axes: K sources, T iterations or targets.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mixmin_jax.mixture.arrays import HostOrDevice
from mixmin_jax.mixture.certificate import Prior
from mixmin_jax.mixture.evaluator import Known
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.methods.interior_point import INTERIOR_POINT, Ahead, State, arrive, propose
from mixmin_jax.mixture.objective import Objective
from mixmin_jax.mixture.outputs import Outputs, without_negligible
from mixmin_jax.mixture.problem import (
    Limits,
    Method,
    Point,
    Problem,
    Progress,
    finish,
    reached,
    record,
    start,
    unfinished,
)
from mixmin_jax.mixture.scale.float64 import float32_on, float64_on_cpu
from mixmin_jax.mixture.scale.place import Place
from mixmin_jax.mixture.scale.sharding import exchange
from mixmin_jax.mixture.targets import WeightedSum

_RESOLVED = 4  # smallest meaningful gap on the device, in units of float32's epsilon times the scale
_STALLED = 20  # the device stops after this many iterations, or 1 / 20 of those allowed, without a smaller gap
_REFINEMENTS = 8  # most steps on the host; two or three suffice if float32 stopped close to the optimum


def minimize_in_float32(
    objective: Any,
    feasible: FeasibleSet,
    prior: Prior | None,
    limits: Limits,
    method: Method,
    place: Place,
) -> Outputs:
    """Minimize in float32, certify in float64.

    `objective` has the rows of this process in float64 on the host, `pooled` if other processes have rows too.
    """
    placed, (tolerance, max_iterations, history_length) = place.put(objective), limits
    on_host = feasible.to_host()
    patience = max(_STALLED, max_iterations // _STALLED)
    with float32_on(place.device):
        constraints = jax.tree.map(lambda x: np.asarray(x, np.float32), (feasible, prior))
        until = np.float32(tolerance), np.int32(max_iterations), np.int32(patience)
        best, scale, iterations, history_T = jax.device_get(_run(placed, *constraints, *until, method, history_length))
    iterations = int(iterations)
    history = [float(gap) for gap in history_T[: iterations + 1]]  # the device's estimates, then certified gaps
    homogeneous = bool(jax.eval_shape(lambda objective: objective.prepare(), objective).homogeneous)

    def certified(w_K: Any) -> tuple[Problem, Point]:
        """The point at weights, from the rows of all processes."""
        w_K = exchange(place.mesh, np.asarray(w_K))[0]  # different hosts may differ in the last digit
        mine = np.concatenate([np.ravel(x) for x in jax.device_get(_evaluate(objective, w_K))])
        loss, offset, error, *gradient = exchange(place.mesh, mine).sum(axis=0)
        gradient_K: Any = np.array(gradient)
        f: Any = Known(-gradient_K @ w_K if homogeneous else np.float64(scale), offset, error, homogeneous)
        problem = Problem(f, on_host, prior)
        return problem, problem.certified(w_K, loss, gradient_K)

    with float64_on_cpu(), np.errstate(all="ignore"):
        problem, point = certified(on_host.repair(np.asarray(best.point.weights, np.float64)))
        history[-1] = float(point.gap)
        goal, final, loss = tolerance * problem.f.scale, point, point.loss + problem.f.offset
        if method is INTERIOR_POINT:
            state = _in_float64(problem, best, point)
            for _ in range(_REFINEMENTS):
                if final.gap <= goal or iterations >= max_iterations or not np.isfinite(point.gap):
                    break
                ahead = propose(problem, state)
                problem, point = certified(ahead.weights)
                values = point.loss, point.gradient, state.curvature_KxK
                state = arrive(problem, ahead._replace(weights=point.weights), values)
                if point.gap < final.gap:
                    final, loss = point, point.loss + problem.f.offset
                iterations += 1
                history.append(float(point.gap))
        before = final
        final = without_negligible(problem, final, tolerance, lambda w_K: certified(w_K)[1])
        if final is not before:
            loss = loss - before.loss + final.loss
            history = [float(final.gap) if gap == before.gap else gap for gap in history]
        targets = None
        if isinstance(objective, WeightedSum):
            mine_T = np.asarray(_losses(objective, final.weights))
            targets = exchange(place.mesh, mine_T).sum(axis=0), np.zeros(mine_T.size), objective.weights_T
        return Outputs(
            weights=final.weights,
            loss=loss,
            gap=final.gap,
            penalty=problem.penalty(final.weights),
            goal=goal,
            rounding=np.inf if iterations < max_iterations else 0.0,  # it stalled
            converged=reached(problem, final, tolerance),
            iterations=iterations,
            gap_history=np.array(history),
            targets=targets,
        )


@functools.partial(jax.jit, static_argnames=("method", "history_length"))
def _run(
    placed: Any,
    feasible: FeasibleSet,
    prior: Prior | None,
    tolerance: Float[Array, ""],
    max_iterations: Int[Array, ""],
    patience: Int[Array, ""],
    method: Method,
    history_length: int,
) -> tuple[Any, Float[Array, ""], Int[Array, ""], Float[Array, " T"]]:
    problem = Problem(placed.prepare(), feasible, prior)
    # Half the tolerance leaves room for errors of float32.
    tolerance = jnp.maximum(tolerance / 2, _RESOLVED * jnp.finfo(tolerance.dtype).eps)
    if method is INTERIOR_POINT:  # the host does what rounding prevents on the device
        blur = problem.f.rounding(problem.feasible.start()) / problem.f.scale
        tolerance = jnp.maximum(tolerance, 2 * blur)

    def going(carry: tuple[Progress, Int[Array, ""]]) -> Bool[Array, ""]:
        progress, since = carry
        return unfinished(problem, progress, tolerance, max_iterations) & (since < patience)

    def advance(carry: tuple[Progress, Int[Array, ""]]) -> tuple[Progress, Int[Array, ""]]:
        progress, since = carry
        least = progress.best.point.gap
        progress = record(problem, progress, method.step(problem, progress.state))
        return progress, jnp.where(progress.best.point.gap < least, 0, since + 1)

    progress = start(problem, method.init(problem), history_length)
    progress, _ = jax.lax.while_loop(going, advance, (progress, jnp.asarray(0)))
    run = finish(problem, progress, tolerance)
    return run.best, problem.f.scale, run.iterations, run.gap_history


@jax.jit
def _evaluate(
    objective: Objective, w_K: Float[Array, " K"]
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""], Float[Array, " K"]]:
    """f, its offset, its rounding error and its gradient, as sums over rows. (Errors add up to a bound.)"""
    f = objective.prepare()
    value, gradient_K = f.value_and_gradient(w_K)
    return value, f.offset, f.rounding(w_K), gradient_K


@jax.jit
def _losses(objective: WeightedSum, w_K: Float[Array, " K"]) -> Float[Array, " T"]:
    return objective.prepare().losses(w_K)


def _in_float64(problem: Problem, state: State, point: Point) -> State:
    """A state of the float32 solve in float64, at a point evaluated in float64."""
    least = np.finfo(np.float32).tiny  # values that underflowed would cause a division by 0

    def above(x_M: Float[HostOrDevice, " M"]) -> Any:
        return np.maximum(np.asarray(x_M, np.float64), least)

    slack_M = above(point.weights if problem.homogeneous else state.slack_M)
    y: Any = problem.f.scale if problem.homogeneous else np.float64(state.y)
    ahead = Ahead(point.weights, y, slack_M, above(state.z_M))
    curvature_KxK: Any = np.asarray(state.curvature_KxK, np.float64)
    return arrive(problem, ahead, (point.loss, point.gradient, curvature_KxK))
