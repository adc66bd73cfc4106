"""Train M perceptrons on weighted examples in one compiled program, each on batches of its own molecules.

Axes: N molecules, U of them that programs are compiled for (`WeightedExamples.used_padded`), D bits, M models, F folds,
B batch, T steps, S blocks.
R = M (1 + F) trained networks: of each model, the one on all of its molecules and those without each fold.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Float32, UInt8

from mixmin_jax.errors import InputError
from mixmin_jax.models.mlp import BitMLP
from mixmin_jax.training.checkpoint import Checkpoints
from mixmin_jax.training.driver import Finished, block_bounds, run_blocks
from mixmin_jax.training.inner_folds import NUM_FOLDS, heldout_losses, random_folds, without_folds
from mixmin_jax.training.loop import TrainState, compile_block, init_state, make_train_step, warmup_cosine
from mixmin_jax.training.mesh import gathered, make_mesh, over_models, over_models_and_batch, put, replicated
from mixmin_jax.training.nonfinite import OnNonfinite, check_losses, check_parameters
from mixmin_jax.training.weighted_examples import (
    Loss,
    OnProgress,
    OnSkipped,
    Trained,
    WeightedExamples,
    base_scores,
    check_examples,
    equal_groups,
    example_losses,
    standardized,
)

BLOCK_STEPS = 20  # steps per compiled call, after which a training may stop
SCORED = 256  # molecules that are scored at once
NETWORKS = 1 + NUM_FOLDS  # of each model
MAX_BYTES = 2**30  # default memory in bytes for the models that are trained at once


@dataclasses.dataclass(frozen=True)
class MlpRun:
    """One training run of a perceptron: AdamW, warm-up and cosine, stopped early.

    The defaults were chosen on Tox21 and ToxCast (assays one by one, held-out folds of the training part). `epsilon`
    matters most there: with Adam's usual 1e-8, rare bits learn as fast as common ones, and they learn noise. Its unit
    is that of the gradient of a mean loss.
    """

    hidden: tuple[int, ...] = (32,)  # width of each hidden layer; without any the model is linear
    steps: int = 200  # at most; the schedule of the learning rate is that of all of them
    batch_size: int = 128  # B: molecules in a step
    learning_rate: float = 5e-3  # peak
    weight_decay: float = 10.0  # of AdamW, on kernels; multiplied by the learning rate in each step
    epsilon: float = 1e-3  # of AdamW

    def __post_init__(self) -> None:
        if any(width < 1 for width in self.hidden):
            raise InputError(f"hidden widths must be positive, got {self.hidden}")
        if min(self.steps, self.batch_size) < 1:
            raise InputError(f"steps and batch_size must be positive, got {self.steps}, {self.batch_size}")
        if not (0 < self.learning_rate < math.inf and 0 < self.epsilon < math.inf):
            raise InputError(f"learning_rate and epsilon must be positive, got {self.learning_rate}, {self.epsilon}")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay must not be negative, got {self.weight_decay}")

    @property
    def model(self) -> BitMLP:
        return BitMLP(self.hidden)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        def kernels(params: Any) -> Any:
            return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

        schedule = warmup_cosine(self.learning_rate, self.steps)
        return optax.adamw(schedule, eps=self.epsilon, weight_decay=self.weight_decay, mask=kernels)


class _Batch(NamedTuple):
    """Of one network; with a leading axis for several."""

    bits_BxD: jax.Array
    target_B: jax.Array
    offset: jax.Array


class _Data(NamedTuple):
    """What the networks of a group are trained on, and how it is judged when they stop best."""

    bits_UxD: jax.Array
    drawn_RxU: jax.Array  # the summed weights up to each molecule, from which batches are drawn
    target_RxU: jax.Array
    offset_R: jax.Array  # the best constant scores
    target_MxU: jax.Array
    weight_MxU: jax.Array
    fold_U: jax.Array
    key: jax.Array  # of the batches


class _Best(NamedTuple):
    """The models at the step that predicted left-out molecules best so far."""

    params: Any
    loss_M: jax.Array
    step_M: jax.Array


@dataclasses.dataclass(frozen=True)
class MlpLearner:
    """`train_mlps` as a learner; see `weighted_examples.Learner`."""

    run: MlpRun = MlpRun()
    loss: Loss = "cross_entropy"
    mesh: Mesh | None = None  # devices to shard the models over; default: one
    max_bytes: int = MAX_BYTES
    on_nonfinite: OnNonfinite = "stop"

    @property
    def settings(self) -> dict[str, Any]:
        settings = {"learner": "perceptron", "loss": self.loss, **dataclasses.asdict(self.run)}
        return settings | ({"on_nonfinite": self.on_nonfinite} if self.on_nonfinite != "stop" else {})

    @property
    def cautious(self) -> "MlpLearner":
        """Smaller steps, less decay."""
        run = self.run
        slow = dataclasses.replace(run, learning_rate=run.learning_rate / 5, weight_decay=run.weight_decay / 10)
        return dataclasses.replace(self, run=slow)

    def __call__(
        self, features_NxD: UInt8[np.ndarray, "N D"], examples: WeightedExamples, seed: int, **options: Any
    ) -> Trained:
        return train_mlps(
            self.run,
            features_NxD,
            examples,
            seed,
            loss=self.loss,
            mesh=self.mesh,
            max_bytes=self.max_bytes,
            on_nonfinite=self.on_nonfinite,
            **options,
        )

    def flops(self, num_molecules: int, num_bits: int, num_models: int) -> float:
        return training_flops(self.run, num_molecules, num_bits, num_models)


def train_mlps(
    run: MlpRun,
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
    on_nonfinite: OnNonfinite = "stop",
    on_skipped: OnSkipped | None = None,
) -> Trained:
    """Train M perceptrons and score all molecules with each.

        f(x) = base_m + scale_m mlp(x)          minimize  sum_i a_i loss(f(x_i), t_i) / sum_i a_i

    base_m is the best constant score of model m, scale_m the standard deviation of its targets (1 for cross-entropy).
    mlp starts at 0. A step's gradient is that of the mean loss of B molecules that the model draws in proportion to
    their weights a_i, with replacement, one from each B-th of their sum. So it is unbiased, and where positives are
    few but weigh half, half of each batch are positives.

    Each model is also trained without each of two random folds. It stops at the end of the block of steps after which
    these predict the left-out molecules best.

    All models have the same initial parameters and random numbers, so differences come from the examples.

    Args:
        run: settings.
        features_NxD: bits of all molecules.
        examples: targets and weights.
        seed: of initial parameters, batches and folds.
        loss: "cross_entropy" or "squared_error".
        mesh: models are sharded over its `source` axis, batches over its `data` axis.
        max_bytes: memory for models on all devices together. If more is needed, equal groups of models are trained one
            after the other, with the same program and result.
        names: of the models, for errors.
        on_progress: called with steps done and steps in all.
        checkpoints: training continues from the newest; their steps are those of all groups.
        on_nonfinite: with "skip", a step with a loss or gradient that is not finite changes nothing of that network,
            and does not affect others.
        on_skipped: called at the end with the number of skipped steps by model.

    Returns:
        Scores, and the step at which each model stopped.

    Raises:
        InputError: examples that cannot be trained on, a batch that does not divide over `data`, or a `max_bytes` that
            is too small.
        Diverged: with model, step and learning rate: a loss or score that is not finite, or too many skipped steps
            (`nonfinite.too_many`).
        Stopped: on a request to `checkpoints`.
    """
    num_models, num_molecules = examples.weight_MxN.shape
    names = names or tuple(f"model {m}" for m in range(num_models))
    check_examples(features_NxD, examples, loss, names)
    mesh = mesh or make_mesh()
    if run.batch_size % mesh.shape["data"]:
        raise InputError(f"batch_size {run.batch_size} does not divide over {mesh.shape['data']} devices (data)")
    group = models_at_once(run, num_models, num_molecules, features_NxD.shape[1], mesh.shape["source"], max_bytes)

    init_key, batch_key = jax.random.split(jax.random.key(seed))
    used_U = examples.used_padded()
    fold_U = random_folds(num_molecules, seed)[used_U]
    programs = compiled(run, loss, mesh, on_nonfinite)
    features, bits_UxD, fold_U, batch_key = put(
        (features_NxD, features_NxD[used_U], fold_U, batch_key), replicated(mesh)
    )
    found, skipped_M = Trained.empty(num_molecules, num_models), np.zeros(num_models, np.int32)
    firsts = range(0, num_models, group)
    steps_in_all, start = len(firsts) * run.steps, 0  # steps are counted over all groups
    if checkpoints:
        checkpoints = checkpoints.part(f"{group}-at-once")

    def due(done: int) -> bool:
        return checkpoints is not None and checkpoints.due(done, steps_in_all)

    def save(done: int, state: TrainState, best: _Best) -> None:
        if checkpoints:
            checkpoints.save(done, steps_in_all, (state, best, found.arrays(), skipped_M))

    def train(state: TrainState, best: _Best, data: _Data, names: tuple[str, ...], start: int, before: int) -> Any:
        """One group, from its step `start` on, after `before` steps of the groups before it."""
        bounds = block_bounds(run.steps, BLOCK_STEPS, start)

        def report(block: Finished) -> None:
            losses_TxR = gathered(block.metrics)
            check_losses(losses_TxR, block.skipped, block.first, run.steps, names, run.learning_rate)
            if on_progress:
                on_progress(before + block.last, steps_in_all)

        def at_pause(done: int, state: TrainState) -> None:
            nonlocal best
            check_parameters(state.params, done, names, run.learning_rate)
            best = programs.judge(best, state, data)
            if done < run.steps and due(before + done):
                save(before + done, state, best)

        state = run_blocks(
            lambda state, step_T: programs.block(state, step_T, data),
            state,
            bounds,
            [np.arange(first, last, dtype=np.int32) for first, last in bounds],
            report,
            pauses=lambda done: True,
            at_pause=at_pause,
        )
        return state, best

    for first, before in zip(firsts, range(0, steps_in_all, run.steps), strict=True):
        members, end = slice(first, min(first + group, num_models)), before + run.steps
        part, scale_M = standardized(examples.rows(members), loss)
        data = _put(part, used_U, group, loss, bits_UxD, fold_U, batch_key, mesh)
        state, best = programs.init(init_key, features_NxD[:1], data.offset_R)
        networks = [network for name in names[members] for network in _networks(name)]
        saved = (state, best, found.arrays(), skipped_M)
        if first == 0 and checkpoints and (restored := checkpoints.restore(saved)):
            start, (resumed, resumed_best, arrays, skipped_M) = restored
            found = Trained(*arrays)
        if start >= end:
            continue
        if start > before:
            state, best = resumed, resumed_best
        state, best = train(state, best, data, tuple(networks), max(start - before, 0), before)
        score_MxN = _score(programs.score, best.params, features, data.offset_R[::NETWORKS])[: len(scale_M)]
        found.scores_NxM[:, members] = (score_MxN * scale_M[:, None]).T
        found.chosen_M[members] = gathered(best.step_M)[: len(scale_M)]
        if state.skipped:
            skipped_M[members] = gathered(state.skipped.in_all).reshape(-1, NETWORKS).sum(1)[: len(scale_M)]
        if due(end):
            save(end, state, best)
    if on_skipped:
        on_skipped({name: int(count) for name, count in zip(names, skipped_M, strict=True) if count})
    return found


def models_at_once(
    run: MlpRun, num_models: int, num_molecules: int, num_bits: int, num_devices: int, max_bytes: int
) -> int:
    """Models per group: groups are equal, a multiple of the devices, and as few as `max_bytes` allows.

    A network needs memory for its parameters, two moments and the gradient, the batch's bits, activations and their
    gradients, and its targets, weights and scores; a model for its networks and its best parameters.

    Raises:
        InputError: one model per device does not fit.
    """
    widths = (num_bits, *run.hidden, 1)
    parameters = sum((fan_in + 1) * fan_out for fan_in, fan_out in itertools.pairwise(widths))
    batch = run.batch_size * (num_bits + 3 * sum(widths[1:]))
    bytes_each = 4 * (NETWORKS * (4 * parameters + batch + 3 * num_molecules) + parameters)
    return equal_groups(num_models, num_devices, max_bytes, bytes_each)


def training_flops(run: MlpRun, num_molecules: int, num_bits: int, num_models: int) -> float:
    """FLOPs of the matrix products in training on `num_molecules` molecules, and in judging when to stop.

    2 per weight and molecule forward and 4 backward; 2 backward in the first layer, whose inputs need no gradient.
    AdamW is left out (about 10 / B of the total).
    """
    widths = (num_bits, *run.hidden, 1)
    products = [fan_in * fan_out for fan_in, fan_out in itertools.pairwise(widths)]
    trained = NETWORKS * run.steps * run.batch_size * (6 * sum(products) - 2 * products[0])
    judged = -(-run.steps // BLOCK_STEPS) * NUM_FOLDS * num_molecules * 2 * sum(products)
    return float(num_models * (trained + judged))


class Programs(NamedTuple):
    """The compiled programs of a run, one per shape."""

    init: Callable[..., tuple[TrainState, _Best]]  # (key, bits_1xD, offset_R)
    block: Callable[..., tuple[TrainState, jax.Array]]  # (state, step_T, data)
    judge: Callable[..., _Best]  # (best, state, data)
    score: Callable[..., jax.Array]  # (params, bits_SxBxD, offset_M) -> S x M x B


@functools.lru_cache(maxsize=8)
def compiled(run: MlpRun, loss: Loss, mesh: Mesh, on_nonfinite: OnNonfinite = "stop") -> Programs:
    train_step = make_train_step(functools.partial(mean_loss, run, loss), run.optimizer)
    state_axes: Any = TrainState(step=None, params=0, opt_state=0, key=None, skipped=0)  # type: ignore[arg-type]
    step = jax.vmap(train_step, in_axes=(state_axes, 0), out_axes=(state_axes, 0))
    models, whole = over_models(mesh), replicated(mesh)
    placed: Any = TrainState(whole, models, models, whole, skipped=models)  # type: ignore[arg-type]
    apply: Any = jax.vmap(run.model.apply, in_axes=(0, None))

    def fetch(step: jax.Array, data: _Data) -> _Batch:
        row_RxB = batch_rows(data.drawn_RxU, jax.random.fold_in(data.key, step), run.batch_size)
        bits_RxBxD = jax.lax.with_sharding_constraint(data.bits_UxD[row_RxB], over_models_and_batch(mesh))
        return _Batch(bits_RxBxD, jnp.take_along_axis(data.target_RxU, row_RxB, axis=1), data.offset_R)

    @functools.partial(jax.jit, out_shardings=(placed, models))
    def init(key: jax.Array, bits_1xD: jax.Array, offset_R: jax.Array) -> tuple[TrainState, _Best]:
        def one_network(_offset: jax.Array) -> TrainState:  # which is the same for all: vmap copies it
            return init_state(run.model.init(key, bits_1xD), run.optimizer, key, on_nonfinite)

        state = jax.vmap(one_network, out_axes=state_axes)(offset_R)
        params = jax.tree.map(lambda leaf: leaf[::NETWORKS], state.params)
        num_models = len(offset_R) // NETWORKS
        return state, _Best(params, jnp.full(num_models, jnp.inf), jnp.zeros(num_models))

    def score(params: Any, bits_SxBxD: jax.Array, offset_M: jax.Array) -> jax.Array:
        return jax.lax.map(lambda bits_BxD: offset_M[:, None] + apply(params, bits_BxD), bits_SxBxD)

    @functools.partial(jax.jit, out_shardings=models)
    def judge(best: _Best, state: TrainState, data: _Data) -> _Best:
        def of_folds(leaf: jax.Array) -> jax.Array:
            return leaf.reshape(-1, NETWORKS, *leaf.shape[1:])[:, 1:].reshape(-1, *leaf.shape[1:])

        blocks = score(jax.tree.map(of_folds, state.params), _blocks(data.bits_UxD), of_folds(data.offset_R))
        score_MFxU = jnp.moveaxis(blocks, 1, 0).reshape(blocks.shape[1], -1)[:, : len(data.fold_U)]
        loss_M = heldout_losses(score_MFxU, data.target_MxU, data.weight_MxU, data.fold_U, loss)
        is_better_M = loss_M < best.loss_M

        def better(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(is_better_M.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        new = _Best(
            jax.tree.map(lambda leaf: leaf[::NETWORKS], state.params), loss_M, jnp.full_like(loss_M, state.step)
        )
        return jax.tree.map(better, new, best)

    return Programs(init, compile_block(step, fetch), judge, jax.jit(score))


def mean_loss(run: MlpRun, loss: Loss, params: Any, batch: _Batch, key: jax.Array) -> jax.Array:
    """The mean loss of offset + mlp(x_i) of one network over a batch; no randomness."""
    del key
    score_B: Any = run.model.apply(params, batch.bits_BxD)
    return jnp.mean(example_losses(batch.offset + score_B, batch.target_B, loss))


def batch_rows(drawn_RxU: jax.Array, key: jax.Array, batch_size: int) -> jax.Array:
    """The molecules that R networks draw for a step, R x B, with the same random numbers for all."""
    point_B = (jnp.arange(batch_size) + jax.random.uniform(key, (batch_size,))) / batch_size
    point_B = jnp.minimum(point_B, np.nextafter(np.float32(1), np.float32(0)))  # 127 + 0.999999 can round to 128
    return jax.vmap(lambda drawn_U: jnp.searchsorted(drawn_U, point_B, side="right"))(drawn_RxU)


def _networks(name: str) -> list[str]:
    return [name, *(f"{name} (without inner fold {fold})" for fold in range(NUM_FOLDS))]


def _put(
    part: WeightedExamples,
    used_U: np.ndarray,
    group: int,
    loss: Loss,
    bits_UxD: jax.Array,
    fold_U: jax.Array,
    key: jax.Array,
    mesh: Mesh,
) -> _Data:
    """The data of a group on devices; a last group that is smaller has models twice."""
    rows_M = np.arange(group) % len(part.weight_MxN)
    target_MxU, weight_MxU = part.target_MxN[rows_M][:, used_U], part.weight_MxN[rows_M][:, used_U]
    left_MxFxU = np.asarray(without_folds(weight_MxU, fold_U)).reshape(group, NUM_FOLDS, -1)
    weight_RxU = np.concatenate([weight_MxU[:, None], left_MxFxU], axis=1).reshape(group * NETWORKS, -1)
    target_RxU = np.repeat(target_MxU, NETWORKS, axis=0)
    drawn_RxU = np.cumsum(weight_RxU, axis=1, dtype=np.float64)
    drawn_RxU = np.minimum(drawn_RxU / drawn_RxU[:, -1:], 1).astype(np.float32)
    offset_R = base_scores(WeightedExamples(target_RxU, weight_RxU), loss)
    drawn_RxU, target_RxU, offset_R, target_MxU, weight_MxU = put(
        (drawn_RxU, target_RxU, offset_R, target_MxU, weight_MxU), over_models(mesh)
    )
    return _Data(bits_UxD, drawn_RxU, target_RxU, offset_R, target_MxU, weight_MxU, fold_U, key)


def _blocks(bits_NxD: jax.Array) -> jax.Array:
    """The molecules in blocks of `SCORED`, S x B x D; the last is filled up with zeros."""
    blocks = -(-len(bits_NxD) // SCORED)
    padded = jnp.pad(bits_NxD, ((0, blocks * SCORED - len(bits_NxD)), (0, 0)))
    return padded.reshape(blocks, SCORED, -1)


def _score(score: Callable, params: Any, features: jax.Array, offset_M: jax.Array) -> Float32[np.ndarray, "M N"]:
    score_SxMxB = gathered(score(params, _blocks(features), offset_M))
    return np.moveaxis(score_SxMxB, 1, 0).reshape(len(offset_M), -1)[:, : len(features)]
