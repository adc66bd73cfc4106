"""The entry point: mixture weights with a certificate in float64, on the CPU or over the devices of a mesh."""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.checks import checked_iterations, checked_tolerance, is_traced, list_names
from mixmin_jax.mixture.constraints import GroupCaps, PerSource, build, take, usable
from mixmin_jax.mixture.methods.worst_case import WORST_CASE
from mixmin_jax.mixture.objective import Objective
from mixmin_jax.mixture.problem import Problem, iterate
from mixmin_jax.mixture.registry import METHODS, attempts, check_method
from mixmin_jax.mixture.scale.float32 import solve_in_float32
from mixmin_jax.mixture.scale.float64 import float32_on, float64_on_cpu
from mixmin_jax.mixture.scale.memory import too_large
from mixmin_jax.mixture.scale.sharding import checked_mesh, exchange, has_float64, together
from mixmin_jax.mixture.scale.streaming import StreamedCrossEntropy, iterate_streamed
from mixmin_jax.mixture.solution import NotConverged, Solution, TargetLosses, describe
from mixmin_jax.mixture.targets import WeightedSum, WorstCase, per_target

_LONGEST_HISTORY = 100_000  # most gaps that a solution keeps, to bound memory
_TOLERANCES = {"float64": 1e-9, "float32": 1e-6}  # defaults by precision, relative to the scale of f
_OF_REFERENCES = 0.25  # share of the tolerance that the error of a worst case's references may take


def solve(
    objective: Objective | StreamedCrossEntropy | WorstCase,
    *,
    method: str = "auto",
    upper_bounds: PerSource | None = None,
    lower_bounds: PerSource | None = None,
    groups: GroupCaps | None = None,
    prior: PerSource | None = None,
    prior_strength: float = 0.0,
    tolerance: float | None = None,
    max_iterations: int | None = None,
    mesh: Mesh | None = None,
    precision: Literal["float64", "float32"] = "float64",
    throw: bool = True,
) -> Solution:
    """Minimize f(w) + s KL(w || q) over the allowed weights, with a certificate (MixMin, arXiv:2502.10510).

        minimize  f(w) + s KL(w || q)   with  sum_k w_k = 1,  floor_k <= w_k <= cap_k,  sum_{k in G} w_k <= cap_G

    Runs in float64 on the CPU, or over a mesh, and neither depends on nor changes the caller's JAX configuration.
    Compiles once for each shape, method and kind of constraints. Inside jit, vmap and grad it takes only constants; use
    `solve_traced` there.

    Args:
        objective: from `cross_entropy` or `squared_error`, their streamed forms, `weighted_sum` or `worst_case`. Only
            the interior point takes those of `stream_cross_entropy` and `worst_case`.
        method: "interior_point" (primal-dual, about ten iterations); "active_set" (fewer and cheaper iterations, for
            one cross-entropy on the whole simplex); "projected_gradient" (jaxopt's, safeguarded); "mirror_descent" (the
            paper's entropic descent, safeguarded). All but "active_set" take bounds; "interior_point" and
            "mirror_descent" take a prior. "auto" takes "active_set" where it can be used and saves time, and
            "interior_point" elsewhere or if the active set does not converge.
        upper_bounds, lower_bounds: caps and floors on weights: one number for all sources, one per source, or a mapping
            from some sources (by name or column) to numbers.
        groups: a mapping from disjoint tuples of sources to a cap on their summed weight: {("web", "news"): 0.5}.
        prior, prior_strength: q, with sum 1, and s > 0, in the units of f.
        tolerance: stop when gap <= tolerance x scale. The scale is the sum of the example weights (cross-entropy), the
            variance of the target (squared error), the weighted sum of the targets' scales, or their largest (worst
            case). Default: 1e-9, in float32 1e-6.
        max_iterations: default: 100 for the interior point, 30 for the active set, 20 000 for the others.
        mesh: devices to shard the rows over, with any axis names. Sums are reduced; rows are not moved. With
            `jax.distributed`, a mesh of several processes: each gives an objective over its own rows, of any number,
            and otherwise the same options. All get the same solution over all rows. Example weights are used as given;
            the default is 1 / the number of all rows. Build such objectives with `on_every_process`.
        precision: "float32" runs in float32 on the devices of the mesh, or on JAX's default device, and certifies in
            float64 on the host, from the data as given. It is for accelerators without float64 (a mesh of TPUs always
            runs so). The interior point reaches 1e-6 there; other methods may not.
        throw: whether to raise if the tolerance is not reached.

    Returns:
        A `Solution`. Its gap bounds the error of loss + penalty at exactly the weights returned.

    Raises:
        InputError: bounds that no weights satisfy, an invalid prior, an unknown method, names that are not sources, a
            row that no allowed weights explain; a mesh that JAX does not have, processes that disagree, a device that
            runs out of memory.
        NotConverged: the tolerance was not reached; holds the solution.
    """
    devices = None if mesh is None else checked_mesh(mesh)
    device = None
    if precision == "float32" or (devices is not None and not has_float64(devices)):
        precision, device = "float32", _default_device() if devices is None else devices.local_devices[0]
    with float64_on_cpu():
        with together(devices) as common:
            check_method(method, objective, prior)
            _check_place(objective, devices, precision)
            if is_traced(jax.tree.leaves(objective), [upper_bounds, lower_bounds, groups, prior, prior_strength]):
                raise InputError("solve cannot run on traced arrays; inside jit, vmap and grad use solve_traced")
            tolerance = checked_tolerance(_TOLERANCES[precision] if tolerance is None else tolerance)
            limit = None if max_iterations is None else checked_iterations(max_iterations)
            k, names = objective.num_sources, objective.sources
            feasible, penalty = build(k, names, upper_bounds, lower_bounds, groups, prior, prior_strength)
            columns = usable(feasible, penalty)
            reduced = objective
            if len(columns) < k:  # leave out sources whose weight must be 0, so rows are scaled to the others
                reduced = _take(objective, columns)
                feasible, penalty = take(feasible, penalty, columns)
            elsewhere = devices is not None or precision == "float32"
            methods = attempts(method, reduced, feasible, penalty, elsewhere=elsewhere)
            if devices is not None:
                common((methods, precision, tolerance, limit, columns.tobytes(), jax.tree.structure(objective)))
                common([np.asarray(x).tobytes() for x in jax.tree.leaves((feasible, penalty))])
                common([np.shape(x)[1:] for x in jax.tree.leaves(objective)])
        for method in methods:
            default = METHODS[method].iterations
            allowed = default if limit is None else limit
            length = (
                min(max(default, allowed), _LONGEST_HISTORY) + 1
            )  # the same for most limits, which saves compilations
            outputs = _minimize(reduced, feasible, penalty, tolerance, allowed, method, length, devices, device)
            if outputs.converged:
                break
    weights = np.zeros(k)
    weights[columns] = outputs.weights
    converged, iterations, gap = bool(outputs.converged), int(outputs.iterations), float(outputs.gap)
    solution = Solution(
        weights=weights,
        loss=float(outputs.loss),
        penalty=float(outputs.penalty),
        gap=gap,
        goal=float(outputs.goal),
        converged=converged,
        iterations=iterations,
        method=method,
        status=describe(
            method,
            _quantity(objective, penalty),
            gap,
            float(outputs.goal),
            float(outputs.rounding),
            converged,
            iterations,
            allowed,
            precision,
        ),
        gap_history=np.asarray(outputs.gap_history)[: iterations + 1],
        sources=names,
        targets=None if outputs.targets is None else TargetLosses(*map(np.asarray, outputs.targets)),
    )
    if throw and not converged:
        raise NotConverged(solution)
    return solution


def _minimize(objective, feasible, penalty, tolerance, max_iterations, method, length, mesh, device):
    """The outputs of a solve; in float32 with a certificate in float64 if a `device` is given."""
    if isinstance(objective, StreamedCrossEntropy):
        problem, run = iterate_streamed(objective, feasible, penalty, tolerance, max_iterations, length)
        return _unpacked(_streamed_outputs(problem, run, tolerance), feasible.num_sources, length)
    given = objective
    try:
        if mesh is not None and mesh.is_multi_process:
            objective = objective.pooled(functools.partial(exchange, mesh))
        objective = objective.anonymous()  # names must not cause new compilations
        if device is None:
            placed = objective if mesh is None else objective.shard_rows(mesh, np.float64)
            limits = np.float64(tolerance), np.int64(max_iterations)
            if isinstance(placed, WorstCase):
                placed = placed.with_references(lambda part: _least(part, feasible, tolerance, method))
            found = _run(placed, feasible, penalty, *limits, method, length)
            return _unpacked(found, feasible.num_sources, length)
        with float32_on(device):
            placed = objective.rounded(np.float32) if mesh is None else objective.shard_rows(mesh, np.float32)
        found = solve_in_float32(
            objective,
            feasible,
            penalty,
            tolerance,
            max_iterations,
            METHODS[method],
            length,
            placed,
            device,
            mesh,
        )
        stalled = np.inf if found.iterations < max_iterations else 0.0
        goal = tolerance * found.scale
        targets = None
        if isinstance(objective, WeightedSum):
            with float64_on_cpu():
                mine_T = np.asarray(_losses(objective, np.asarray(found.point.weights)))
            targets = exchange(mesh, mine_T).sum(axis=0), np.zeros(mine_T.size), objective.weights_T
        return _Outputs(
            found.point.weights,
            found.point.loss,
            found.point.gap,
            found.penalty,
            goal,
            stalled,
            found.converged,
            found.iterations,
            found.gap_history,
            targets,
        )
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        rows, numbers = _extent(given)
        held = -(-rows // (1 if mesh is None else len(mesh.local_devices)))
        where = device if mesh is None else mesh.local_devices[0]
        if (described := too_large(error, held, numbers, 8 if device is None else 4, where)) is not None:
            raise described from error
        raise


def _extent(objective):
    """The number of rows of an objective, and of numbers in a row."""
    largest = max((np.shape(leaf) for leaf in jax.tree.leaves(objective)), key=np.prod)
    return largest[0], int(np.prod(largest[1:]))


def _default_device():
    with jax.ensure_compile_time_eval():
        return next(iter(jnp.zeros(()).devices()))


@functools.partial(jax.jit, static_argnames=("method", "history_length"))
def _run(objective, feasible, prior, tolerance, max_iterations, method, history_length):
    problem = Problem(objective.prepare(), feasible, prior)
    how = WORST_CASE if isinstance(objective, WorstCase) else METHODS[method]
    return _outputs(problem, iterate(how, problem, tolerance, max_iterations, history_length), tolerance)


def _least(objective, feasible, tolerance, method):
    """The least loss over the allowed weights, and a bound on its error: a share of the tolerance."""
    default = METHODS[method].iterations
    limits = np.float64(_OF_REFERENCES * tolerance), np.int64(default)
    found = _run(objective, feasible, None, *limits, method, default + 1)
    outputs = _unpacked(found, feasible.num_sources, default + 1)
    return float(outputs.loss), float(outputs.gap)


@jax.jit
def _losses(objective, w_K):
    return objective.prepare().losses(w_K)


class _Outputs(NamedTuple):
    """The numbers of a solution."""

    weights: Any
    loss: Any  # including the offset
    gap: Any
    penalty: Any
    goal: Any
    rounding: Any  # the gap that the number type can resolve
    converged: Any
    iterations: Any
    gap_history: Any
    targets: Any


def _outputs(problem, run, tolerance):
    """The outputs joined into one vector, because fetching many small arrays takes as long as a small solve."""
    point = run.best.point
    outputs = _Outputs(
        weights=point.weights,
        loss=point.loss + problem.f.offset,
        gap=point.gap,
        penalty=problem.penalty(point.weights),
        goal=tolerance * problem.f.scale,
        rounding=64 * jnp.finfo(point.loss.dtype).eps * (jnp.abs(point.loss) + problem.f.scale),
        converged=run.converged,
        iterations=run.iterations,
        gap_history=run.gap_history,
        targets=per_target(problem.f, run.best),
    )
    return jnp.concatenate([jnp.ravel(leaf).astype(point.loss.dtype) for leaf in jax.tree.leaves(outputs)])


def _unpacked(outputs, num_sources, length):
    """The outputs from their vector."""
    outputs = np.asarray(outputs)
    end = num_sources + len(_Outputs._fields) - 3  # of the single numbers
    weights, numbers, rest = outputs[:num_sources], outputs[num_sources:end], outputs[end + length :]
    targets = rest.reshape(3, -1) if rest.size else None
    return _Outputs(weights, *numbers, outputs[end : end + length], targets)


_streamed_outputs = jax.jit(_outputs)


def _take(objective, columns):
    try:
        return objective.take(columns)
    except InputError as error:
        left = [k for k in range(objective.num_sources) if k not in columns]
        left_out = list_names([objective.sources[k] if objective.sources else str(k) for k in left])
        raise InputError(
            f"caps, floors, groups or the prior leave no weight for {left_out}, and without: {error}"
        ) from None


def _quantity(objective, penalty):
    """The name of the quantity that the certificate bounds, for the status."""
    what = "the worst of the targets' losses" if isinstance(objective, WorstCase) else "the loss"
    return what if penalty is None else what.removeprefix("the ") + " + penalty"


def _check_place(objective, mesh, precision):
    if precision not in _TOLERANCES:
        raise InputError(f"unknown precision {precision!r}; choose one of {', '.join(_TOLERANCES)}")
    if isinstance(objective, WorstCase) and (mesh is not None or precision == "float32"):
        raise InputError("a worst_case is solved in float64 on one device only; leave mesh and precision out")
    what = type(objective).__name__
    if mesh is not None and not hasattr(objective, "shard_rows"):
        raise InputError(f"a {what} cannot be spread over a mesh; leave mesh out, or hold its rows in memory")
    if precision == "float32" and not hasattr(objective, "rounded"):
        raise InputError(f"a {what} is solved in float64 only; leave precision out, and use a mesh that has float64")
