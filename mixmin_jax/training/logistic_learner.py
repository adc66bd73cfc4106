"""Penalized logistic regression on weighted examples (linear regression for squared error), M models in one program.

    minimize over u, b   sum_i a_i loss(u . x_i + b, t_i) + (c / 2 n) |u|^2        with  sum_i a_i = 1

n = 1 / sum_i a_i^2 is the effective number of molecules (Kish), so a penalty c is the same prior of u, normal with
variance 1 / c, whatever the number of molecules. c is chosen for each model by cross-validation.

Axes: N molecules, U of them that programs are compiled for (`WeightedExamples.used_padded`), D bits, M models, F folds,
C penalties.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import UInt8

from mixmin_jax.errors import InputError
from mixmin_jax.training.checkpoint import Checkpoints
from mixmin_jax.training.inner_folds import NUM_FOLDS, heldout_losses, random_folds, without_folds
from mixmin_jax.training.mesh import gathered, make_mesh, over_models, put, replicated
from mixmin_jax.training.weighted_examples import (
    LEAST_PROBABILITY,
    Loss,
    OnProgress,
    Trained,
    WeightedExamples,
    check_examples,
    equal_groups,
    standardized,
)

MAX_BYTES = 2**30  # default memory in bytes for the models that are solved at once
BLOCK = 8192  # molecules that are scored at once
PAIRS = 8  # of steps and changes of the gradient that L-BFGS keeps
USUAL_ITERATIONS = 9  # of a solve, the mean over the usual penalties on ToxCast; for estimates of the cost
LINE_STEPS = 3  # of Newton's method, for the length of a step


@dataclasses.dataclass(frozen=True)
class LogisticRun:
    """How the regressions are solved and which penalties are tried."""

    penalties: tuple[float, ...] = (3.0, 10.0, 30.0, 100.0, 300.0)  # c: inverse variances of the prior
    usual: float = 30.0  # the penalty that is best for most assays, on Tox21 and ToxCast (folds of the training part)
    spread: float = 0.7  # of the best penalty's logarithm around that of the usual one
    tolerance: float = 1e-3  # stop at this norm of the gradient, in the scaled basis of `_solve`
    max_iterations: int = 200  # of each solve

    def __post_init__(self) -> None:
        if not self.penalties or not all(0 < c < math.inf for c in self.penalties):
            raise InputError(f"penalties must be positive and at least one, got {self.penalties}")
        if not (0 < self.usual < math.inf and 0 < self.spread < math.inf):
            raise InputError(f"usual and spread must be positive, got {self.usual}, {self.spread}")
        if not 0 < self.tolerance < 1:
            raise InputError(f"tolerance must lie between 0 and 1, got {self.tolerance}")
        if self.max_iterations < 1:
            raise InputError(f"max_iterations must be positive, got {self.max_iterations}")


@dataclasses.dataclass(frozen=True)
class LogisticLearner:
    """`train_logistic` as a learner; see `weighted_examples.Learner`."""

    run: LogisticRun = LogisticRun()
    loss: Loss = "cross_entropy"
    mesh: Mesh | None = None  # devices to shard the models over; default: one
    max_bytes: int = MAX_BYTES

    @property
    def settings(self) -> dict[str, Any]:
        return {"learner": "logistic", "loss": self.loss, **dataclasses.asdict(self.run)}

    @property
    def cautious(self) -> "LogisticLearner":
        weaker = tuple(c / 100 for c in self.run.penalties)
        return dataclasses.replace(self, run=dataclasses.replace(self.run, penalties=weaker))

    def __call__(
        self, features_NxD: UInt8[np.ndarray, "N D"], examples: WeightedExamples, seed: int, **options: Any
    ) -> Trained:
        options.pop("on_skipped", None)  # no step is skipped
        return train_logistic(
            self.run,
            features_NxD,
            examples,
            seed,
            loss=self.loss,
            mesh=self.mesh,
            max_bytes=self.max_bytes,
            **options,
        )

    def flops(self, num_molecules: int, num_bits: int, num_models: int) -> float:
        """About: with `USUAL_ITERATIONS` of each solve, two products with the bits in each."""
        solves = NUM_FOLDS * len(self.run.penalties) + 1
        return float(num_models * solves * USUAL_ITERATIONS * 4 * num_molecules * num_bits)


def train_logistic(
    run: LogisticRun,
    features_NxD: UInt8[np.ndarray, "N D"],
    examples: WeightedExamples,
    seed: int = 0,
    *,
    loss: Loss = "cross_entropy",
    mesh: Mesh | None = None,
    max_bytes: int = MAX_BYTES,
    names: tuple[str, ...] | None = None,
    on_progress: OnProgress | None = None,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Solve M regressions, each with the penalty that predicts left-out molecules best, and score all molecules.

    A model's penalty is the most probable one:

        min over c   n L(c) + (log(c / usual) / spread)^2 / 2

    L(c) is the mean loss of its molecules, each under a model that was trained without its fold. Few molecules say
    little of c, so without the second term (a prior) it would follow their noise. For squared error, targets are in
    units of their standard deviation.

    Args:
        run: settings.
        features_NxD: bits of all molecules.
        examples: targets and weights.
        seed: of random folds.
        loss: "cross_entropy" or "squared_error".
        mesh: models are sharded over its `source` axis.
        max_bytes: memory for the models on all devices together; if more is needed, equal groups of models are solved
            one after the other, with the same program and, up to the tolerance, the same result.
        names, on_progress: as in `weighted_examples.Learner`.
        checkpoints: of whole groups; their steps are models.

    Returns:
        Scores, penalties and gradient norms.

    Raises:
        InputError: examples that cannot be trained on, a `max_bytes` that is too small for one model per device, or a
            model that was not solved to the tolerance, with its name and gradient norm.
    """
    num_models, num_molecules = examples.weight_MxN.shape
    names = names or tuple(f"model {m}" for m in range(num_models))
    check_examples(features_NxD, examples, loss, names)
    mesh = mesh or make_mesh()
    used_U, fold_N = examples.used_padded(), random_folds(num_molecules, seed)
    sizes = len(used_U), features_NxD.shape[1]
    group = models_at_once(num_models, *sizes, mesh.shape["source"], max_bytes)
    bits_UxD, fold_U = put((features_NxD[used_U].astype(np.float32), fold_N[used_U]), replicated(mesh))
    found, done = Trained.empty(num_molecules, num_models), 0
    if checkpoints:
        checkpoints = checkpoints.part(f"{group}-at-once")
        if restored := checkpoints.restore(found.arrays()):
            done, found = restored[0], Trained(*restored[1])
    for first in range(done, num_models, group):
        members = slice(first, min(first + group, num_models))
        part, scale_M = standardized(examples.rows(members), loss)
        rows_G = np.arange(group) % len(scale_M)  # a last group that is smaller has models twice
        data = put((part.target_MxN[rows_G][:, used_U], part.weight_MxN[rows_G][:, used_U]), over_models(mesh))
        solved: Solved = gathered(_choose_and_solve(run, loss, bits_UxD, fold_U, *data))
        solved = Solved(*(leaf[: len(scale_M)] for leaf in solved))
        _check(run, solved, names[members])
        for block in np.array_split(np.arange(num_molecules), -(-num_molecules // BLOCK)):
            score_BxM = features_NxD[block].astype(np.float32) @ solved.kernel_MxD.T + solved.intercept_M
            found.scores_NxM[block, members] = score_BxM * scale_M
        found.chosen_M[members], found.gradient_norm_M[members] = solved.penalty_M, solved.gradient_norm_M
        if on_progress:
            on_progress(members.stop, num_models)
        if checkpoints and checkpoints.due(members.stop, num_models):
            checkpoints.save(members.stop, num_models, found.arrays())
    return found


def models_at_once(num_models: int, num_molecules: int, num_bits: int, num_devices: int, max_bytes: int) -> int:
    """Models per group: groups are equal, a multiple of the devices, and as few as `max_bytes` allows.

    A model needs memory for one solution per fold: the solver's pairs of steps and gradients and a few more vectors of
    parameters, and a few vectors over molecules.

    Raises:
        InputError: one model per device does not fit.
    """
    bytes_each = 4 * NUM_FOLDS * ((2 * PAIRS + 8) * num_bits + 8 * num_molecules)
    return equal_groups(num_models, num_devices, max_bytes, bytes_each)


class Solved(NamedTuple):
    """M regressions: a score is kernel . x + intercept."""

    kernel_MxD: Any
    intercept_M: Any
    penalty_M: Any
    gradient_norm_M: Any


class _Point(NamedTuple):
    """Parameters of M regressions: score = u . (x - mean) + b."""

    u_MxD: jax.Array
    b_M: jax.Array


class _Problem(NamedTuple):
    """What M regressions are fitted to."""

    bits_UxD: jax.Array
    target_MxU: jax.Array
    weight_MxU: jax.Array  # of sum 1
    mean_MxD: jax.Array  # of the bits, weighted

    def scores(self, at: _Point) -> jax.Array:
        return at.u_MxD @ self.bits_UxD.T + (at.b_M - (at.u_MxD * self.mean_MxD).sum(1))[:, None]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _choose_and_solve(
    run: LogisticRun,
    loss: Loss,
    bits_UxD: jax.Array,
    fold_U: jax.Array,
    target_MxU: jax.Array,
    weight_MxU: jax.Array,
) -> Solved:
    """Solve without each fold, from the strongest penalty on, each from the solution before; then with everything."""

    def problem(target_MxU: jax.Array, weight_MxU: jax.Array) -> _Problem:
        weight_MxU /= weight_MxU.sum(1, keepdims=True)
        return _Problem(bits_UxD, target_MxU, weight_MxU, weight_MxU @ bits_UxD)

    def over_folds(leaf: jax.Array) -> jax.Array:
        return leaf.reshape(len(target_MxU), NUM_FOLDS, *leaf.shape[1:]).mean(1)

    folds = problem(jnp.repeat(target_MxU, NUM_FOLDS, axis=0), without_folds(weight_MxU, fold_U))
    begin = _constant(folds, loss)
    best = jnp.full(len(target_MxU), jnp.inf), jnp.zeros(len(target_MxU)), jax.tree.map(over_folds, begin)

    def next_penalty(carry: Any, penalty: jax.Array) -> tuple[Any, None]:
        at, (least_M, chosen_M, start) = carry
        at, _ = _solve(run, loss, folds, jnp.full(len(at.b_M), penalty), at)
        loss_M = heldout_losses(folds.scores(at), target_MxU, weight_MxU, fold_U, loss)
        loss_M += (jnp.log(penalty / run.usual) / run.spread) ** 2 / 2 * (weight_MxU**2).sum(1)  # weights sum to 1
        is_better_M = loss_M < least_M
        mine = jax.tree.map(over_folds, at)
        start = _Point(
            jnp.where(is_better_M[:, None], mine.u_MxD, start.u_MxD), jnp.where(is_better_M, mine.b_M, start.b_M)
        )
        return (at, (jnp.where(is_better_M, loss_M, least_M), jnp.where(is_better_M, penalty, chosen_M), start)), None

    penalties_C = jnp.sort(jnp.array(run.penalties, jnp.float32))[::-1]
    (_, (_, penalty_M, start)), _ = jax.lax.scan(next_penalty, (begin, best), penalties_C)
    whole = problem(target_MxU, weight_MxU)
    at, norm_M = _solve(run, loss, whole, penalty_M, start)
    return Solved(at.u_MxD, at.b_M - (at.u_MxD * whole.mean_MxD).sum(1), penalty_M, norm_M)


def _constant(problem: _Problem, loss: Loss) -> _Point:
    """The best constant scores."""
    mean_M = (problem.weight_MxU * problem.target_MxU).sum(1)
    if loss == "cross_entropy":
        mean_M = jax.scipy.special.logit(jnp.clip(mean_M, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))
    return _Point(jnp.zeros_like(problem.mean_MxD), mean_M)


def _solve(
    run: LogisticRun, loss: Loss, problem: _Problem, penalty_M: jax.Array, start: _Point
) -> tuple[_Point, jax.Array]:
    """Minimize from `start` on, all models until the last has converged: the solutions and their gradient norms.

    L-BFGS, in a basis in which the Hessian's diagonal is at most 1. Along a line, scores are linear in the step, so
    that Newton's method for its length needs no product with the bits: an iteration costs two, whatever the length.
    """
    ridge_M = penalty_M * (problem.weight_MxU**2).sum(1)  # c / n
    bend = 0.25 if loss == "cross_entropy" else 1.0  # the largest second derivative of a loss
    variance_MxD = problem.mean_MxD * (1 - problem.mean_MxD)
    basis = _Point(jax.lax.rsqrt(bend * variance_MxD + ridge_M[:, None]), jnp.full(len(ridge_M), bend**-0.5))

    def scaled(point: _Point) -> _Point:
        return _Point(point.u_MxD * basis.u_MxD, point.b_M * basis.b_M)

    def slope(score_MxU: jax.Array) -> tuple[jax.Array, jax.Array]:
        """First and second derivative of each molecule's loss, times its weight."""
        if loss == "squared_error":
            return problem.weight_MxU * (score_MxU - problem.target_MxU), problem.weight_MxU
        p_MxU = jax.nn.sigmoid(score_MxU)
        return problem.weight_MxU * (p_MxU - problem.target_MxU), problem.weight_MxU * p_MxU * (1 - p_MxU)

    def gradient(at: _Point, score_MxU: jax.Array) -> _Point:
        pull_MxU, _ = slope(score_MxU)
        sum_M = pull_MxU.sum(1)
        of_u_MxD = pull_MxU @ problem.bits_UxD - sum_M[:, None] * problem.mean_MxD + ridge_M[:, None] * at.u_MxD
        return scaled(_Point(of_u_MxD, sum_M))

    def norm(gradient: _Point) -> jax.Array:
        return jnp.sqrt((gradient.u_MxD**2).sum(1) + gradient.b_M**2)

    def step_length(at: _Point, way: _Point, score_MxU: jax.Array, change_MxU: jax.Array) -> jax.Array:
        """The minimum along the line, by Newton's method between the bounds that slopes give."""
        begin_M = ridge_M * (at.u_MxD * way.u_MxD).sum(1)
        rise_M = ridge_M * (way.u_MxD**2).sum(1)

        def newton(bounds: Any, _: None) -> tuple[Any, None]:
            t_M, low_M, high_M = bounds
            pull_MxU, curve_MxU = slope(score_MxU + t_M[:, None] * change_MxU)
            first_M = (pull_MxU * change_MxU).sum(1) + begin_M + t_M * rise_M
            second_M = (curve_MxU * change_MxU**2).sum(1) + rise_M
            low_M, high_M = jnp.where(first_M < 0, t_M, low_M), jnp.where(first_M > 0, t_M, high_M)
            next_M = t_M - first_M / jnp.maximum(second_M, jnp.finfo(jnp.float32).tiny)
            middle_M = jnp.where(jnp.isinf(high_M), 2 * t_M, (low_M + high_M) / 2)
            is_inside_M = (next_M > low_M) & (next_M < high_M) & (next_M < 4 * t_M)
            return (jnp.where(is_inside_M, next_M, middle_M), low_M, high_M), None

        zeros_M = jnp.zeros_like(ridge_M)
        (t_M, _, _), _ = jax.lax.scan(newton, (zeros_M + 1, zeros_M, zeros_M + jnp.inf), None, length=LINE_STEPS)
        return t_M

    lbfgs = optax.scale_by_lbfgs(PAIRS)

    def is_unsolved(carry: Any) -> jax.Array:
        return (norm(carry[2]).max() > run.tolerance) & (carry[-1] < run.max_iterations)

    def iterate(carry: Any) -> Any:
        at, score_MxU, grad, memory, number = carry
        coordinates = _Point(at.u_MxD / basis.u_MxD, at.b_M / basis.b_M)
        minus, memory = jax.vmap(lbfgs.update)(grad, memory, coordinates)
        way = scaled(jax.tree.map(jnp.negative, minus))
        change_MxU = problem.scores(way)
        t_M = step_length(at, way, score_MxU, change_MxU)
        at = _Point(at.u_MxD + t_M[:, None] * way.u_MxD, at.b_M + t_M * way.b_M)
        score_MxU += t_M[:, None] * change_MxU
        return at, score_MxU, gradient(at, score_MxU), memory, number + 1

    score_MxU = problem.scores(start)
    memory = jax.vmap(lbfgs.init)(start)
    at, *_ = jax.lax.while_loop(is_unsolved, iterate, (start, score_MxU, gradient(start, score_MxU), memory, 0))
    return at, norm(gradient(at, problem.scores(at)))


def _check(run: LogisticRun, solved: Solved, names: tuple[str, ...]) -> None:
    unsolved_M = ~(solved.gradient_norm_M <= 2 * run.tolerance)  # scores that were summed up over steps are rounded
    if unsolved_M.any():
        m = int(unsolved_M.argmax())
        raise InputError(
            f"the regression of {names[m]} stopped at gradient norm {solved.gradient_norm_M[m]:.1e} after"
            f" {run.max_iterations} iterations: allow more (max_iterations, --logistic.max-iterations), or only"
            " stronger penalties"
        )
