"""How strongly weights should be held to a prior: cross-validation over clusters of rows.

With many sources and few examples, the least loss overfits. The penalty s KL(w || q) holds weights to a prior q. Its
strength s is chosen by the loss on rows that the weights were not fitted to. The G clusters fall into F folds at
random. With v' the weights of the rows outside a fold, and

    w(s) = argmin over w of  f_{v'}(w) + s (sum v' / sum v) KL(w || q),

the loss at s is the sum over folds of f over the fold's rows at w(s): each row counts once, with its weight v.
(Hastie, Tibshirani and Friedman 2009, "The Elements of Statistical Learning", section 7.10.)

Axes: N examples, K sources, G clusters, F folds, J strengths.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.certificate import Prior
from mixmin_jax.mixture.checks import as_float64, checked_whole, is_traced
from mixmin_jax.mixture.constraints import GroupCaps, PerSource, build, in_use
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.inference.bootstrap import clusters, reweighted, reweighted_on_host
from mixmin_jax.mixture.methods.interior_point import INTERIOR_POINT, init
from mixmin_jax.mixture.objective import CrossEntropy, SquaredError
from mixmin_jax.mixture.problem import Limits, Problem, iterate
from mixmin_jax.mixture.scale.float64 import float64_on_cpu
from mixmin_jax.mixture.scale.host import AUTO, iterate_on_host, on_host
from mixmin_jax.mixture.scale.place import Place

STRENGTHS = tuple(np.geomspace(1, 1e-4, 9))  # times the scale of the objective: from the prior itself to hardly any


@dataclasses.dataclass(frozen=True, eq=False)
class PriorStrength:
    """The loss on rows left out at each strength, and the strength with the least."""

    strengths: Float[np.ndarray, " J"]  # in the units of the loss
    losses: Float[np.ndarray, " J"]  # on rows left out; +inf where they have no density under the weights
    excess: Float[np.ndarray, " J"]  # over the least of them
    standard_errors: Float[np.ndarray, " J"]  # of the excess, over clusters
    chosen: int
    gaps: Float[np.ndarray, "J F"]  # certificates of the solves, in the units of the loss
    converged: bool  # whether all solves reached the tolerance
    num_clusters: int

    @property
    def strength(self) -> float:
        """The one to solve with."""
        return float(self.strengths[self.chosen])


def choose_prior_strength(
    objective: CrossEntropy | SquaredError,
    prior: PerSource,
    key: jax.Array,
    *,
    strengths: ArrayLike = STRENGTHS,
    num_folds: int = 5,
    groups: Any = None,
    upper_bounds: PerSource | None = None,
    lower_bounds: PerSource | None = None,
    group_caps: GroupCaps | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 100,
    compiled: bool | None = None,
) -> PriorStrength:
    """Choose the strength of a KL prior for `solve` by the loss on rows left out (see the module).

    Args:
        objective: from `cross_entropy` or `squared_error`.
        prior: q, as in `solve`.
        key: a JAX random key, for the folds.
        strengths: J numbers above 0, times the scale of the objective (the sum of the example weights, or the variance
            of the targets).
        num_folds: F.
        groups: N labels, as in `bootstrap`: rows with the same label (of one document) stay together.
        upper_bounds, lower_bounds: as in `solve`.
        group_caps: the `groups` of `solve`.
        tolerance, max_iterations: of the solves.
        compiled: as in `bootstrap`: True solves all F x J problems in one compiled program, False in NumPy.

    Raises:
        InputError: fewer clusters than folds, invalid strengths, errors of `solve`.
    """
    if is_traced(jax.tree.leaves(objective), groups, strengths):
        raise InputError("choose_prior_strength cannot run on traced arrays; call it outside jit, vmap and grad")
    num_folds = checked_whole(num_folds, "num_folds", 2)
    strengths_J = np.atleast_1d(as_float64(strengths, "strengths"))
    if strengths_J.ndim != 1 or not strengths_J.size or not (np.isfinite(strengths_J) & (strengths_J > 0)).all():
        raise InputError(f"strengths must be finite numbers above 0; got {strengths_J}")
    v_N = np.asarray(objective.weights_N)
    cluster_N, num_clusters = clusters(groups, v_N)
    if num_clusters < num_folds:
        raise InputError(f"{num_clusters} groups of rows do not fill {num_folds} folds: lower num_folds")
    fold_G = np.asarray(jax.random.permutation(key, num_clusters)) % num_folds
    constraints: dict[str, Any] = {"upper_bounds": upper_bounds, "lower_bounds": lower_bounds, "groups": group_caps}
    with float64_on_cpu():
        built = build(objective.num_sources, objective.sources, **constraints, prior=prior, prior_strength=1.0)
        reduced, feasible, penalty, _ = in_use(objective, *built)
        assert penalty is not None
        limits = Limits(tolerance, max_iterations, 1)
        given: tuple[Any, Any, Any, Any] = reduced.anonymous(), feasible, penalty.q_K, fold_G[cluster_N]
        if on_host(compiled, AUTO, reduced, Place(None, None), num_folds * len(strengths_J)):
            scale, weights_JxFxK, gaps_JxF = _folds_on_host(*given, strengths_J, num_folds, limits)
        else:
            until = np.float64(tolerance), np.int64(max_iterations)
            scale, weights_JxFxK, gaps_JxF = jax.device_get(_folds(*given, strengths_J, *until, num_folds))
        with np.errstate(divide="ignore"):
            losses_JxN = np.stack([reduced.row_losses(weights_FxK[given[-1]]) for weights_FxK in weights_JxFxK])
    counted_JxN = np.where(v_N > 0, v_N * losses_JxN, 0)
    losses_J = counted_JxN.sum(axis=1)
    chosen = int(losses_J.argmin())
    differences_JxG = np.stack([np.bincount(cluster_N, row_N, num_clusters) for row_N in counted_JxN])
    with np.errstate(invalid="ignore"):
        differences_JxG = differences_JxG - differences_JxG[chosen]
        errors_J = differences_JxG.std(axis=1, ddof=1) * np.sqrt(num_clusters)
    return PriorStrength(
        strengths=strengths_J * scale,
        losses=losses_J,
        excess=losses_J - losses_J[chosen],
        standard_errors=np.where(np.isfinite(errors_J), errors_J, np.inf),
        chosen=chosen,
        gaps=gaps_JxF,
        converged=bool((gaps_JxF <= tolerance * scale).all()),
        num_clusters=num_clusters,
    )


@functools.partial(jax.jit, static_argnames="num_folds")
def _folds(
    objective: CrossEntropy | SquaredError,
    feasible: FeasibleSet,
    q_K: Float[Array, " K"],
    fold_N: Int[Array, " N"],
    strengths_J: Float[Array, " J"],
    tolerance: Float[Array, ""],
    max_iterations: Int[Array, ""],
    num_folds: int,
) -> tuple[Array, Float[Array, "J F K"], Float[Array, "J F"]]:
    """The scale of the objective, and the weights and gap at each strength without each fold, one after the other."""
    f, v_N = objective.prepare(), jnp.asarray(objective.weights_N)

    def one(_: None, place: Int[Array, ""]) -> tuple[None, tuple[Float[Array, " K"], Float[Array, ""]]]:
        part_N = jnp.where(fold_N == place % num_folds, 0, v_N)
        part = reweighted(objective, f, part_N)
        prior = Prior(q_K, strengths_J[place // num_folds] * f.scale * part_N.sum() / v_N.sum())
        best = iterate(INTERIOR_POINT, Problem(part, feasible, prior), tolerance, max_iterations).best
        return None, (best.point.weights, best.point.gap)

    _, (weights, gaps) = jax.lax.scan(one, None, jnp.arange(len(strengths_J) * num_folds))
    shape = len(strengths_J), num_folds
    return jnp.asarray(f.scale), weights.reshape(*shape, -1), gaps.reshape(shape)


def _folds_on_host(
    objective: CrossEntropy | SquaredError,
    feasible: FeasibleSet,
    q_K: Float[np.ndarray, " K"],
    fold_N: Int[np.ndarray, " N"],
    strengths_J: Float[np.ndarray, " J"],
    num_folds: int,
    limits: Limits,
) -> tuple[float, Float[np.ndarray, "J F K"], Float[np.ndarray, "J F"]]:
    """`_folds` in NumPy."""
    f: Any = objective.on_host()
    v_N, feasible, found = np.asarray(objective.weights_N), feasible.to_host(), []
    with np.errstate(all="ignore"):
        for strength in strengths_J:
            for fold in range(num_folds):
                part_N = np.where(fold_N == fold, 0, v_N)
                prior = Prior(q_K, strength * f.scale * part_N.sum() / v_N.sum())
                problem = Problem(reweighted_on_host(objective, f, part_N), feasible, prior)
                point = iterate_on_host(problem, init(problem), limits).best.point
                found.append((point.weights, point.gap))
    shape = len(strengths_J), num_folds
    weights, gaps = map(np.array, zip(*found, strict=True))
    return float(f.scale), weights.reshape(*shape, -1), gaps.reshape(shape)
