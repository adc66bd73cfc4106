"""How certain the weights are: bootstrap intervals, and a comparison with a reference mixture on rows left out.

Rows of one document form a cluster and stay together. Each resample draws G of the G clusters with replacement and
multiplies the weight of each row by the draws of its cluster (Efron and Tibshirani 1993, chapters 6, 8 and 13).

The comparison is out of bag. On the rows that they were fitted to, the weights found are never worse than the
reference, even if the reference is the truth. With u_g the mean weights of the resamples without cluster g, and r the
reference,

    d_g = sum over rows n of g of v_n [loss_n(r) - loss_n(u_g)]          gain = sum_g d_g

This is the leave-one-out bootstrap (Efron and Tibshirani 1997, JASA 92, section 3) with mean weights instead of each
resample's own. The mean obeys the same constraints and is less noisy.

Axes: N examples, K sources, D outputs, S resamples, G clusters.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mixmin_jax.errors import InputError
from mixmin_jax.mixture import display
from mixmin_jax.mixture.certificate import Prior
from mixmin_jax.mixture.checks import checked_number, checked_whole, is_traced
from mixmin_jax.mixture.constraints import GroupCaps, PerSource, build, distribution, in_use
from mixmin_jax.mixture.evaluator import Evaluator, Quadratic
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.inference.warm_start import iterate_near, iterate_near_on_host
from mixmin_jax.mixture.labels import by_row
from mixmin_jax.mixture.methods.interior_point import INTERIOR_POINT, init
from mixmin_jax.mixture.objective import CrossEntropy, SquaredError
from mixmin_jax.mixture.problem import Limits, Problem, iterate
from mixmin_jax.mixture.scale.float64 import float64_on_cpu
from mixmin_jax.mixture.scale.host import AUTO, iterate_on_host, on_host
from mixmin_jax.mixture.scale.place import Place
from mixmin_jax.mixture.solution import NotConverged, Solution
from mixmin_jax.mixture.solve import solve


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """The gain of the weights found over a reference mixture, on clusters left out of the fit."""

    reference: Float[np.ndarray, " K"]
    gain: float  # f(reference) - f(mixture), out of bag; +inf if the reference gives a row no density
    standard_error: float  # over clusters, in the units of the gain
    level: float
    distinguishable: bool  # whether the mixture is better, by one-sided tests at `level`
    status: str  # the result in one sentence


@dataclasses.dataclass(frozen=True, eq=False)
class Bootstrap:
    """The weights on the data and on resamples of it, with intervals and a comparison."""

    solution: Solution  # on the data
    weights: Float[np.ndarray, "S K"]  # on each resample
    lower: Float[np.ndarray, " K"]  # central percentile intervals with a share `level` of the resamples
    upper: Float[np.ndarray, " K"]
    mean: Float[np.ndarray, " K"]
    standard_deviation: Float[np.ndarray, " K"]
    level: float
    comparison: Comparison | None  # None without a reference
    gaps: Float[np.ndarray, " S"]  # each resample's certificate, in the units of the loss
    converged: Bool[np.ndarray, " S"]
    iterations: Int[np.ndarray, " S"]
    num_clusters: int
    status: str  # one sentence on how the solves ended
    sources: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        weights = display.text(self.solution.weights, self.sources, (self.lower, self.upper))
        lines = f"Bootstrap: {self.status}", f"weights with {100 * self.level:g} % intervals: {weights}"
        return "\n".join((*lines, *self._comparison()))

    def _repr_html_(self) -> str:
        certificate = display.certificate(self.solution.gap, self.solution.penalty)
        status = display.paragraph(self.status, warning=not self.converged.all())
        lines = [display.paragraph(text) for text in (certificate, *self._comparison())]
        table = display.table(self.solution.weights, self.sources, (self.lower, self.upper), self.level)
        return display.page(status, *lines, table)

    def _comparison(self) -> list[str]:
        return [f"Better than the reference? {self.comparison.status}"] if self.comparison else []


def bootstrap(
    objective: CrossEntropy | SquaredError,
    num_samples: int,
    key: jax.Array,
    *,
    groups: Any = None,
    reference: PerSource | None = None,
    level: float = 0.95,
    upper_bounds: PerSource | None = None,
    lower_bounds: PerSource | None = None,
    group_caps: GroupCaps | None = None,
    prior: PerSource | None = None,
    prior_strength: float = 0.0,
    tolerance: float = 1e-9,
    max_iterations: int | None = None,
    compiled: bool | None = None,
    throw: bool = True,
) -> Bootstrap:
    """Solve on resamples of the examples: intervals of the weights, and a comparison with a reference mixture.

    Each resample is solved from the central path of the solve on the data, in float64 on the CPU. The result depends on
    the data, the options and the key only.

    The mixture is called distinguishable from the reference if its gain out of bag passes two one-sided tests:
    1. The gain exceeds t x its standard error over clusters. t is the quantile at `level` of Student's distribution
       with G - 1 degrees of freedom.
    2. For cross-entropy: with each cluster counted as one example, the total gain, G gain / sum v, is at least
       log(1 / (1 - level)) nats. This is for sources so rare that chance may leave them out of the data. Their absence
       looks like a certain gain, but under the reference the chance of such data is exp(-gain in nats).

    If the reference is the truth, simulations at a level of 0.95 say yes for 0 to 3.3 % of data sets (see the tests). A
    "no" says that these data cannot tell, not that the mixtures are equal. The penalty of a prior does not count.

    Args:
        objective: from `cross_entropy` or `squared_error`.
        num_samples: S, at least 2. Intervals need hundreds; the comparison alone needs about fifty.
        key: a JAX random key; resample s uses fold_in(key, s).
        groups: N labels, integers or strings. Rows with the same label are of one document and are resampled together;
            default: each row by itself. Rows of weight 0 do not count. An objective keeps no labels of rows, so a
            Series with other labels than 0, 1, ... is refused. (Caps on groups of sources: `group_caps`.)
        reference: weights to compare with (uniform, natural): one per source, a mapping from sources, by name or
            column, to weights (0 for others), or a Series by name. They need not obey the constraints. If they give a
            row no density, the gain is +inf and the answer is yes: they cannot have produced the row.
        level: of the intervals and of the comparison.
        upper_bounds, lower_bounds, prior, prior_strength, tolerance, max_iterations: as in `solve`.
        group_caps: caps on summed weights, the `groups` of `solve`.
        compiled: as in `solve`: True solves all resamples in one compiled program, False in NumPy. The default is
            False up to N K S = 1e8 on small problems.
        throw: whether to raise if a resample misses the tolerance; else read `.status` and `.converged`.

    Returns:
        A `Bootstrap`.

    Raises:
        InputError: fewer than two sources, clusters or resamples; invalid labels, key or reference; errors of `solve`.
        NotConverged: the solve on the data or on a resample missed the tolerance; holds the solution on the data.
    """
    if not isinstance(objective, CrossEntropy | SquaredError):
        got = type(objective).__name__
        raise InputError(f"bootstrap resamples the rows of cross_entropy(...) or squared_error(...); got {got}")
    k, names = objective.num_sources, objective.sources
    if k < 2:
        raise InputError("bootstrap needs at least two sources: a single one has weight 1 on every resample")
    num_samples = checked_whole(num_samples, "num_samples", 2)
    level = checked_number(level, "level", "between 0 and 1, as 0.95", below=1.0)
    key_data, generator = _checked_key(key)
    if is_traced(jax.tree.leaves(objective), groups, reference):
        raise InputError("bootstrap cannot run on traced arrays; call it outside jit, vmap and grad")
    v_N = np.asarray(objective.weights_N)
    cluster_N, num_clusters = clusters(groups, v_N)
    reference_K = None if reference is None else distribution(reference, "reference", k, names)
    bounds: dict[str, Any] = {"upper_bounds": upper_bounds, "lower_bounds": lower_bounds, "groups": group_caps}
    constraints = bounds | {"prior": prior, "prior_strength": prior_strength}
    solution = solve(objective, tolerance=tolerance, max_iterations=max_iterations, compiled=compiled, **constraints)
    with float64_on_cpu():
        reduced, feasible, penalty, columns = in_use(objective, *build(k, names, **constraints))
        iterations = INTERIOR_POINT.iterations if max_iterations is None else max_iterations
        limits = Limits(tolerance, min(iterations, np.iinfo(np.int32).max), 1)
        key = jax.random.wrap_key_data(jnp.asarray(key_data), impl=generator)
        with np.errstate(divide="ignore"):
            reference_N = None if reference_K is None else objective.row_losses(reference_K)
        problem = reduced.anonymous(), feasible, penalty
        if on_host(compiled, AUTO, reduced, Place(None, None), num_samples):
            drawn_SxG = np.asarray(_all_multiplicities(key, num_samples, num_clusters))
            draws = resample_on_host(*problem, cluster_N, drawn_SxG, reference_N, limits)
        else:
            until = np.float64(limits.tolerance), np.int64(limits.max_iterations)
            sizes = num_clusters, num_samples
            draws = jax.device_get(resample(*problem, cluster_N, key, reference_N, *until, *sizes))
    weights_SxK = np.zeros((num_samples, k))
    weights_SxK[:, columns] = draws.weights_SxK
    failed = int((~draws.converged_S).sum())
    status = f"all {num_samples} resamples converged within a gap of {draws.gap_S.max():.2g}"
    if failed:
        status = (
            f"{failed} of {num_samples} resamples did not converge (the largest gap is {draws.gap_S.max():.2g}); raise "
            "max_iterations or tolerance"
        )
        if throw:
            raise NotConverged(dataclasses.replace(solution, status=status))
    comparison = None
    if reference_K is not None and reference_N is not None:
        if (excluded := np.flatnonzero(np.isposinf(reference_N) & (v_N > 0))).size:
            verdict = f"yes: the reference gives row {excluded[0]} no density, so it cannot have produced these data"
            comparison = Comparison(reference_K, math.inf, 0.0, level, True, verdict)
        else:
            nats = isinstance(objective, CrossEntropy)
            comparison = compare(reference_K, draws.gain_G, float(v_N.sum()), level, nats)
    tail = (1 - level) / 2
    lower_K, upper_K = np.quantile(weights_SxK, [tail, 1 - tail], axis=0)
    return Bootstrap(
        solution=solution,
        weights=weights_SxK,
        lower=lower_K,
        upper=upper_K,
        mean=weights_SxK.mean(axis=0),
        standard_deviation=weights_SxK.std(axis=0, ddof=1),
        level=level,
        comparison=comparison,
        gaps=draws.gap_S,
        converged=draws.converged_S,
        iterations=draws.iterations_S,
        num_clusters=num_clusters,
        status=status,
        sources=names,
    )


def compare(
    reference_K: Float[np.ndarray, " K"],
    gain_G: Float[np.ndarray, " G"],
    total_weight: float,
    level: float,
    nats: bool,
) -> Comparison:
    """The comparison of `bootstrap`, from d_g of each cluster (NaN for clusters that no resample left out) and sum v.

    `nats` says whether a gain divided by sum v / G is in nats.
    """
    from scipy.special import stdtrit  # here: the import takes a sixth of a second

    num_clusters = len(gain_G)
    gain_G = gain_G[~np.isnan(gain_G)]
    if len(gain_G) < 2:
        status = "no: resamples left out fewer than two clusters; raise num_samples"
        return Comparison(reference_K, math.nan, math.nan, level, False, status)
    if (gain_G == -np.inf).any():
        status = "no: rows left out have no density under the weights of the resamples that left them out"
        return Comparison(reference_K, -math.inf, math.inf, level, False, status)
    gain = float(num_clusters * gain_G.mean())
    error = float(num_clusters * gain_G.std(ddof=1) / math.sqrt(len(gain_G)))
    needed = float(stdtrit(len(gain_G) - 1, level)) * error  # quantile of Student's t
    if nats:
        needed = max(needed, -math.log1p(-level) * total_weight / num_clusters)
    needed = max(needed, 0.0)
    better = gain > needed
    where = "below" if gain >= 0 else "above"
    status = (
        f"{'yes' if better else 'no'}: out of bag the loss is {abs(gain):.3g} {where} the reference's, with a standard "
        f"error of {error:.2g}; {needed:.3g} below is needed at a level of {level:g}"
    )
    return Comparison(reference_K, gain, error, level, better, status)


class Resamples(NamedTuple):
    """The results on S resamples."""

    weights_SxK: Any
    gap_S: Any
    converged_S: Any
    iterations_S: Any
    gain_G: Any  # (G,) d_g, with a reference; NaN for clusters that no resample left out


def multiplicities(key: jax.Array, sample: Int[Array, ""] | int, num_clusters: int) -> Float[Array, " G"]:
    """The number of draws of each cluster in a resample: G draws with replacement from G."""
    drawn_G = jax.random.randint(jax.random.fold_in(key, sample), (num_clusters,), 0, num_clusters, jnp.int32)
    return jnp.zeros(num_clusters).at[drawn_G].add(1)


@functools.partial(jax.jit, static_argnames=("num_clusters", "num_samples"))
def resample(
    objective: CrossEntropy | SquaredError,
    feasible: FeasibleSet,
    prior: Prior | None,
    cluster_N: Int[Array, " N"],
    key: jax.Array,
    reference_N: Float[Array, " N"] | None,
    tolerance: Float[Array, ""],
    max_iterations: Int[Array, ""],
    num_clusters: int,
    num_samples: int,
) -> Resamples:
    """Solve on all resamples, one after the other. `reference_N` holds the losses of rows under the reference."""
    f, v_N = objective.prepare(), jnp.asarray(objective.weights_N)
    apart = objective.num_sources / (2 * num_clusters)  # expected gap between the optima of resamples, over the scale
    middle = iterate(INTERIOR_POINT, Problem(f, feasible, prior), apart, max_iterations).best

    def one(
        sums: tuple[Float[Array, "G K"], Float[Array, " G"]], sample: Int[Array, ""]
    ) -> tuple[tuple[Float[Array, "G K"], Float[Array, " G"]], Resamples]:
        drawn_G = multiplicities(key, sample, num_clusters)
        problem = Problem(reweighted(objective, f, v_N * drawn_G[cluster_N]), feasible, prior)
        run = iterate_near(problem, middle, tolerance, max_iterations, problem.f.scale / f.scale)
        w_K = run.best.point.weights
        if reference_N is not None:
            sum_GxK, count_G = sums
            out_G = drawn_G == 0
            # A tiny weight depends on where the solver stopped. No row may get its density from it.
            sums = sum_GxK + jnp.where(out_G[:, None] & (w_K > tolerance), w_K, 0), count_G + out_G
        return sums, Resamples(w_K, run.best.point.gap, run.converged, run.iterations, None)

    none = jnp.zeros((num_clusters, objective.num_sources)), jnp.zeros(num_clusters)
    (sum_GxK, count_G), draws = jax.lax.scan(one, none, jnp.arange(num_samples))
    if reference_N is None:
        return draws
    mean_GxK = sum_GxK / jnp.maximum(sum_GxK.sum(axis=1, keepdims=True), jnp.finfo(v_N.dtype).tiny)
    ahead_N = reference_N - objective.row_losses(mean_GxK[cluster_N])
    gain_G = jnp.zeros(num_clusters).at[cluster_N].add(jnp.where(v_N > 0, v_N * ahead_N, 0))
    return draws._replace(gain_G=jnp.where(count_G > 0, gain_G, jnp.nan))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _all_multiplicities(key: jax.Array, num_samples: int, num_clusters: int) -> Int[Array, "S G"]:
    drawn = jax.vmap(lambda sample: multiplicities(key, sample, num_clusters))(jnp.arange(num_samples))
    return drawn.astype(jnp.int32)


def resample_on_host(
    objective: CrossEntropy | SquaredError,
    feasible: FeasibleSet,
    prior: Prior | None,
    cluster_N: Int[np.ndarray, " N"],
    drawn_SxG: Int[np.ndarray, "S G"],
    reference_N: Any,
    limits: Limits,
) -> "Resamples":
    """`resample` in NumPy, with given draws."""
    f: Any = objective.on_host()
    v_N, feasible = np.asarray(objective.weights_N), feasible.to_host()
    num_clusters, k = drawn_SxG.shape[1], objective.num_sources
    sum_GxK, count_G, runs = np.zeros((num_clusters, k)), np.zeros(num_clusters), []
    with np.errstate(all="ignore"):
        whole = Problem(f, feasible, prior)
        middle = iterate_on_host(whole, init(whole), limits._replace(tolerance=k / (2 * num_clusters))).best
        for drawn_G in drawn_SxG:
            problem = Problem(reweighted_on_host(objective, f, v_N * drawn_G[cluster_N]), feasible, prior)
            run = iterate_near_on_host(problem, middle, limits, problem.f.scale / f.scale)
            runs.append((run.best.point.weights, run.best.point.gap, run.converged, run.iterations))
            if reference_N is not None:
                w_K, out_G = runs[-1][0], drawn_G == 0
                sum_GxK[out_G] += np.where(w_K > limits.tolerance, w_K, 0)
                count_G += out_G
        draws = Resamples._make([*map(np.array, zip(*runs, strict=True)), None])
        if reference_N is None:
            return draws
        mean_GxK = sum_GxK / np.maximum(sum_GxK.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        ahead_N = np.where(v_N > 0, v_N * (reference_N - objective.row_losses(mean_GxK[cluster_N])), 0)
        gain_G = np.bincount(cluster_N, ahead_N, num_clusters)
        return draws._replace(gain_G=np.where(count_G > 0, gain_G, np.nan))


def reweighted_on_host(objective: CrossEntropy | SquaredError, f: Any, v_N: Float[np.ndarray, " N"]) -> Any:
    if isinstance(objective, CrossEntropy):
        return f.reweighted(v_N)
    r_KxNxD = objective.residuals_NxKxD.swapaxes(0, 1)
    k = len(r_KxNxD)
    return dataclasses.replace(f, r_KxK=(r_KxNxD * v_N[:, None]).reshape(k, -1) @ r_KxNxD.reshape(k, -1).T)


def reweighted(objective: CrossEntropy | SquaredError, f: Any, v_N: Float[Array, " N"]) -> Evaluator:
    """The evaluator of the same rows with other weights."""
    if isinstance(objective, CrossEntropy):
        return f.reweighted(v_N)
    r_NxKxD = jnp.asarray(objective.residuals_NxKxD)
    return Quadratic(jnp.einsum("n,nkd,nld->kl", v_N, r_NxKxD, r_NxKxD), f.scale)


# Checks.


def clusters(labels: Any, v_N: Float[np.ndarray, " N"]) -> tuple[Int[np.ndarray, " N"], int]:
    """The cluster (0 to G - 1) of each row, and G; rows of weight 0 do not count."""
    counts_N = v_N > 0
    cluster_N = np.zeros(len(v_N), np.int32)
    if labels is None:
        num_clusters = int(counts_N.sum())
        cluster_N[counts_N] = np.arange(num_clusters)
    else:
        usage = "groups gives each row a label, an integer or a string, the same for rows of one document"
        if isinstance(labels, Mapping):
            raise InputError(f"{usage}; caps on groups of sources are called group_caps here")
        labels_N = np.asarray(by_row(labels, "groups", None, "rows of an objective"))
        if labels_N.dtype == object and all(isinstance(label, str) for label in labels_N.flat):
            labels_N = labels_N.astype(str)
        if labels_N.dtype.kind not in "iuUS":
            raise InputError(f"{usage}; got {labels_N.dtype}")
        if labels_N.shape != v_N.shape:
            raise InputError(f"{usage}; got the shape {labels_N.shape} for {len(v_N)} rows")
        unique, inverse_N = np.unique(labels_N[counts_N], return_inverse=True)
        cluster_N[counts_N], num_clusters = inverse_N, len(unique)
    if num_clusters < 2:
        what = "row of positive weight" if labels is None else "group with rows of positive weight"
        raise InputError(f"bootstrap has only one {what} to draw from; it needs at least two")
    return cluster_N, num_clusters


def _checked_key(key: Any) -> tuple[np.ndarray, str]:
    """The words of a key on the host, and the name of its generator."""
    usage = "key must be one JAX random key, as jax.random.key(0) makes"
    if is_traced(key):
        raise InputError(f"{usage}, outside jit; got a traced one")
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        try:
            key = jax.random.wrap_key_data(jnp.asarray(key))
        except (TypeError, ValueError) as error:
            raise InputError(f"{usage}: {error}") from None
    if key.shape != ():
        raise InputError(f"{usage}; got {key.shape} keys: choose one")
    return np.asarray(jax.random.key_data(key)), str(jax.random.key_impl(key))
