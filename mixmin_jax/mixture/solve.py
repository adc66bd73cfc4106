"""The entry point: mixture weights with a certificate in float64, on the CPU or over the devices of a mesh."""

import functools
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.certificate import Prior
from mixmin_jax.mixture.checks import checked_tolerance, checked_whole, is_traced
from mixmin_jax.mixture.constraints import GroupCaps, PerSource, build, in_use
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.methods.worst_case import WORST_CASE
from mixmin_jax.mixture.objective import Objective
from mixmin_jax.mixture.outputs import Outputs, packed, unpacked
from mixmin_jax.mixture.problem import Limits, Problem, iterate
from mixmin_jax.mixture.registry import METHODS, attempts, check_can_solve
from mixmin_jax.mixture.scale.float32 import minimize_in_float32
from mixmin_jax.mixture.scale.float64 import float64_on_cpu
from mixmin_jax.mixture.scale.host import minimize_on_host, on_host
from mixmin_jax.mixture.scale.memory import too_large
from mixmin_jax.mixture.scale.place import Place, place_of
from mixmin_jax.mixture.scale.sharding import together
from mixmin_jax.mixture.scale.streaming import StreamedCrossEntropy, minimize_streamed
from mixmin_jax.mixture.solution import NotConverged, Solution, TargetLosses, describe
from mixmin_jax.mixture.targets import WorstCase

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
    compiled: bool | None = None,
    mesh: Mesh | None = None,
    precision: Literal["float64", "float32"] = "float64",
    throw: bool = True,
) -> Solution:
    """Minimize f(w) + s KL(w || q) over the allowed weights, with a certificate (MixMin, arXiv:2502.10510).

        minimize  f(w) + s KL(w || q)   with  sum_k w_k = 1,  floor_k <= w_k <= cap_k,  sum_{k in G} w_k <= cap_G

    Runs in float64 on the CPU, or over a mesh, and neither depends on nor changes the caller's JAX configuration.
    Programs are compiled once for each shape, method and kind of constraints. Inside jit, vmap and grad it takes only
    constants; use `solve_traced` there.

    Args:
        objective: from `cross_entropy` or `squared_error`, their streamed forms, `weighted_sum` or `worst_case`. Only
            the interior point takes those of `stream_cross_entropy` and `worst_case`.
        method: "interior_point" (primal-dual, about ten iterations); "active_set" (fewer and cheaper iterations, for
            one cross-entropy on the whole simplex); "projected_gradient" (jaxopt's, safeguarded); "mirror_descent" (the
            paper's entropic descent, safeguarded). All but "active_set" take bounds; "interior_point" and
            "mirror_descent" take a prior. "auto" takes "active_set" where it can be used and saves time, and
            "interior_point" elsewhere or if the active set does not converge.
        upper_bounds, lower_bounds: caps and floors on weights: one number for all sources, one per source, or a mapping
            from some sources (by name or column) to numbers. A pandas Series is matched by name, as a mapping is.
        groups: a mapping from disjoint tuples of sources to a cap on their summed weight: {("web", "news"): 0.5}.
        prior, prior_strength: q, with sum 1, and s > 0, in the units of f.
        tolerance: stop when gap <= tolerance x scale. The scale is the sum of the example weights (cross-entropy), the
            variance of the target (squared error), the weighted sum of the targets' scales, or their largest (worst
            case). Below 1; default: 1e-9, in float32 1e-6.
        max_iterations: default: 100 for the interior point, 30 for the active set, 20 000 for the others.
        compiled: True compiles a program for problems of this shape, which takes seconds; then each solve is a few
            times as fast. False solves in NumPy at once. The default is False for small problems (N K^2 <= 4e9; for
            the active set N K <= 1e8) that NumPy can solve: one `cross_entropy` or `squared_error` by "auto" or
            "interior_point", in float64, without a mesh. Both give the same weights up to the certified gap.
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
    place = place_of(mesh, precision)
    with float64_on_cpu():
        with together(place.mesh) as common:
            check_can_solve(method, objective, prior, place)
            if is_traced(jax.tree.leaves(objective), [upper_bounds, lower_bounds, groups, prior, prior_strength]):
                raise InputError("solve cannot run on traced arrays; inside jit, vmap and grad use solve_traced")
            tolerance = checked_tolerance(_TOLERANCES[place.precision] if tolerance is None else tolerance)
            limit = None if max_iterations is None else checked_whole(max_iterations, "max_iterations", 0)
            k, names = objective.num_sources, objective.sources
            constraints = build(k, names, upper_bounds, lower_bounds, groups, prior, prior_strength)
            reduced, feasible, penalty, columns = in_use(objective, *constraints)
            whole = feasible.plain and penalty is None
            place = place._replace(compiled=not on_host(compiled, method, reduced, place, whole_simplex=whole))
            methods = attempts(method, reduced, feasible, penalty, place)
            common((methods, place.precision, tolerance, limit, columns.tobytes(), jax.tree.structure(objective)))
            common([np.asarray(x).tobytes() for x in jax.tree.leaves((feasible, penalty))])
            common([np.shape(x)[1:] for x in jax.tree.leaves(objective)])
        for method in methods:
            allowed = METHODS[method].iterations if limit is None else limit
            kept = min(max(METHODS[method].iterations, allowed), _LONGEST_HISTORY) + 1
            found = _minimize(reduced, feasible, penalty, Limits(tolerance, allowed, kept), method, place)
            if found.converged:
                break
    weights = np.zeros(k)
    weights[columns] = found.weights
    what = "the worst of the targets' losses" if isinstance(objective, WorstCase) else "the loss"
    what = what if penalty is None else what.removeprefix("the ") + " + penalty"
    solution = Solution(
        weights=weights,
        loss=float(found.loss),
        penalty=float(found.penalty),
        gap=float(found.gap),
        goal=float(found.goal),
        converged=bool(found.converged),
        iterations=int(found.iterations),
        method=method,
        status=describe(found, method, what, allowed, place.precision),
        gap_history=np.asarray(found.gap_history)[: int(found.iterations) + 1],
        sources=names,
        targets=None if found.targets is None else TargetLosses(*map(np.asarray, found.targets)),
    )
    if throw and not solution.converged:
        raise NotConverged(solution)
    return solution


def _minimize(
    objective: Any, feasible: FeasibleSet, prior: Prior | None, limits: Limits, method: str, place: Place
) -> Outputs:
    if isinstance(objective, StreamedCrossEntropy):
        return minimize_streamed(objective, feasible, prior, limits)
    try:
        if not place.compiled:
            return minimize_on_host(objective, feasible, prior, limits, method)
        objective = place.of_all_processes(objective).anonymous()  # names must not cause new compilations
        if place.device is not None:
            return minimize_in_float32(objective, feasible, prior, limits, METHODS[method], place)
        placed = place.put(objective)
        if isinstance(objective, WorstCase):
            placed = placed.with_references(lambda part: _least(part, feasible, limits.tolerance, method))
        return _in_float64(placed, feasible, prior, limits, method)
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        rows, *numbers = max(map(np.shape, jax.tree.leaves(objective)), key=np.prod)
        held = -(-rows // (1 if place.mesh is None else len(place.mesh.local_devices)))
        where = place.device if place.mesh is None else place.mesh.local_devices[0]
        itemsize = np.dtype(place.precision).itemsize
        if (described := too_large(error, held, int(np.prod(numbers)), itemsize, where)) is not None:
            raise described from error
        raise


def _in_float64(objective: Any, feasible: FeasibleSet, prior: Prior | None, limits: Limits, method: str) -> Outputs:
    until = np.float64(limits.tolerance), np.int64(limits.max_iterations)
    found = _run(objective, feasible, prior, *until, method, limits.history_length)
    return unpacked(found, feasible.num_sources, limits.history_length)


@functools.partial(jax.jit, static_argnames=("method", "history_length"))
def _run(
    objective: Any,
    feasible: FeasibleSet,
    prior: Prior | None,
    tolerance: Float[Array, ""],
    max_iterations: Int[Array, ""],
    method: str,
    history_length: int,
) -> Float[Array, "..."]:
    problem = Problem(objective.prepare(), feasible, prior)
    how = WORST_CASE if isinstance(objective, WorstCase) else METHODS[method]
    return packed(problem, iterate(how, problem, tolerance, max_iterations, history_length), tolerance)


def _least(objective: Any, feasible: FeasibleSet, tolerance: float, method: str) -> tuple[float, float]:
    """The least loss over the allowed weights, and a bound on its error: a share of the tolerance."""
    most = METHODS[method].iterations
    found = _in_float64(objective, feasible, None, Limits(_OF_REFERENCES * tolerance, most, most + 1), method)
    return float(found.loss), float(found.gap)
