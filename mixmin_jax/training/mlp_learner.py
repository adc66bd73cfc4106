"""Train M perceptrons on weighted examples in one compiled program, with the same batches of molecules for all.

Axes: N molecules, U molecules that some model is trained on, D bits, M models, B batch, T steps, S blocks of rows.
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
from jaxtyping import Float32, Int, UInt8

from mixmin_jax.errors import InputError
from mixmin_jax.models.mlp import BitMLP
from mixmin_jax.training.checkpoint import Checkpoints
from mixmin_jax.training.driver import Finished, block_bounds, run_blocks
from mixmin_jax.training.loop import TrainState, compile_block, init_state, make_train_step, warmup_cosine
from mixmin_jax.training.mesh import gathered, make_mesh, over_batch, over_models, put, replicated
from mixmin_jax.training.nonfinite import OnNonfinite, check_losses, check_parameters
from mixmin_jax.training.weighted_examples import (
    Loss,
    OnProgress,
    OnSkipped,
    WeightedExamples,
    base_scores,
    check_examples,
)

BLOCK_STEPS = 20  # steps per compiled call; fewer than in loop.py, as a step of hundreds of models takes seconds
MAX_BYTES = 2**30  # default memory in bytes for the models that are trained at once


@dataclasses.dataclass(frozen=True)
class MlpRun:
    """One training run of a perceptron: AdamW, warm-up and cosine.

    The defaults were chosen on Tox21 (12 assays one by one, held-out folds of the training part). `epsilon` matters
    most there: with Adam's usual 1e-8, rare bits learn as fast as common ones, and they learn noise. Its unit is that
    of the gradient of a mean loss.
    """

    hidden: tuple[int, ...] = (32,)  # width of each hidden layer; without any the model is linear
    epochs: int = 10  # passes over the molecules, rounded up to fill the last batch and block
    batch_size: int = 256  # B: molecules in a step
    learning_rate: float = 1e-2  # peak
    weight_decay: float = 3.0  # of AdamW, on kernels; multiplied by the learning rate in each step
    epsilon: float = 1e-3  # of AdamW

    def __post_init__(self) -> None:
        if any(width < 1 for width in self.hidden):
            raise InputError(f"hidden widths must be positive, got {self.hidden}")
        if min(self.epochs, self.batch_size) < 1:
            raise InputError(f"epochs and batch_size must be positive, got {self.epochs}, {self.batch_size}")
        if not (0 < self.learning_rate < math.inf and 0 < self.epsilon < math.inf):
            raise InputError(f"learning_rate and epsilon must be positive, got {self.learning_rate}, {self.epsilon}")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay must not be negative, got {self.weight_decay}")

    @property
    def model(self) -> BitMLP:
        return BitMLP(self.hidden)

    def num_steps(self, num_used: int) -> int:
        """Steps of a run over `num_used` molecules: whole batches, and blocks of one length, which compile once."""
        steps = -(-self.epochs * num_used // self.batch_size)
        blocks = -(-steps // BLOCK_STEPS)
        return -(-steps // blocks) * blocks

    def optimizer(self, num_steps: int) -> optax.GradientTransformation:
        def kernels(params: Any) -> Any:
            return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

        schedule = warmup_cosine(self.learning_rate, num_steps)
        return optax.adamw(schedule, eps=self.epsilon, weight_decay=self.weight_decay, mask=kernels)


class _Batch(NamedTuple):
    bits_BxD: jax.Array  # the same for all models
    target_B: jax.Array  # this and the next: of one model; with a leading axis for several models
    weight_B: jax.Array
    offset: jax.Array


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
        settings = {"learner": "mlp", "loss": self.loss, **dataclasses.asdict(self.run)}
        return settings | ({"on_nonfinite": self.on_nonfinite} if self.on_nonfinite != "stop" else {})

    def __call__(
        self, features_NxD: UInt8[np.ndarray, "N D"], examples: WeightedExamples, seed: int, **options: Any
    ) -> Float32[np.ndarray, "N M"]:
        return train_mlps(
            self.run,
            features_NxD,
            examples,
            jax.random.key(seed),
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
    key: jax.Array,
    *,
    loss: Loss = "cross_entropy",
    mesh: Mesh | None = None,
    max_bytes: int = MAX_BYTES,
    names: tuple[str, ...] | None = None,
    on_progress: OnProgress | None = None,
    checkpoints: Checkpoints | None = None,
    on_nonfinite: OnNonfinite = "stop",
    on_skipped: OnSkipped | None = None,
) -> Float32[np.ndarray, "N M"]:
    """Train M perceptrons and score all molecules with each.

        f(x) = base_m + scale_m mlp(x)          minimize  sum_i a_i loss(f(x_i), t_i) / sum_i a_i

    base_m is the best constant score of model m, scale_m the standard deviation of its targets (1 for cross-entropy).
    mlp starts at 0. A step sees B of the U molecules that have a positive weight in any model. Its gradient is that of
    (U / B) sum_{i in batch} a_i loss_i  with sum_i a_i = 1, which is unbiased. Each epoch has a new order of molecules.
    A batch may contain the end of one epoch and the start of the next.

    All models have the same initial parameters and batches, so differences come from the examples. A model's scores
    depend on U, and so on the examples of the others.

    Args:
        run: settings.
        features_NxD: bits of all molecules.
        examples: targets and weights.
        key: of initial parameters and order.
        loss: "cross_entropy" or "squared_error".
        mesh: models are sharded over its `source` axis, batches over its `data` axis.
        max_bytes: memory for models on all devices together. If more is needed, equal groups of models are trained one
            after the other, with the same program and result.
        names: of the models, for errors.
        on_progress: called with steps done and steps in all.
        checkpoints: training continues from the newest; their steps are those of all groups.
        on_nonfinite: with "skip", a step with a loss or gradient that is not finite changes nothing of that model, and
            does not affect others.
        on_skipped: called at the end with the number of skipped steps by model.

    Returns:
        scores_NxM: logits for cross-entropy, values for squared error.

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

    init_key, order_key = jax.random.split(key)
    used_U = np.flatnonzero((examples.weight_MxN > 0).any(0))
    num_steps = run.num_steps(len(used_U))
    order_TxB = visiting_order(used_U, num_steps, run.batch_size, order_key)
    programs = compiled(run, loss, mesh, num_steps, on_nonfinite)
    features = put(features_NxD, replicated(mesh))
    scores_NxM, skipped_M = np.zeros((num_molecules, num_models), np.float32), np.zeros(num_models, np.int32)
    firsts = range(0, num_models, group)
    steps_in_all, start = len(firsts) * num_steps, 0  # steps are counted over all groups
    if checkpoints:
        checkpoints = checkpoints.part(f"{group}-at-once")

    def due(done: int) -> bool:
        return checkpoints is not None and checkpoints.due(done, steps_in_all)

    def save(done: int, state: TrainState) -> None:
        if checkpoints:
            checkpoints.save(done, steps_in_all, (state, scores_NxM, skipped_M))

    def train(state: TrainState, data: tuple[jax.Array, ...], names: tuple[str, ...], start: int, before: int) -> Any:
        """One group, from its step `start` on, after `before` steps of the groups before it."""
        bounds = block_bounds(num_steps, BLOCK_STEPS, start)

        def report(block: Finished) -> None:
            losses_TxM = gathered(block.metrics)
            check_losses(losses_TxM, block.skipped, block.first, num_steps, names, run.learning_rate)
            if on_progress:
                on_progress(before + block.last, steps_in_all)

        def at_pause(done: int, state: TrainState) -> None:
            check_parameters(state.params, done, names, run.learning_rate)
            save(before + done, state)

        return run_blocks(
            lambda state, order_TxB: programs.block(state, order_TxB, features, *data),
            state,
            bounds,
            [order_TxB[first:last] for first, last in bounds],
            report,
            pauses=lambda done: done < num_steps and due(before + done),
            at_pause=at_pause,
        )

    for first, before in zip(firsts, range(0, steps_in_all, num_steps), strict=True):
        members, end = slice(first, min(first + group, num_models)), before + num_steps
        part, scale_M = _standardized(examples.rows(members), loss)
        data = _put(part, group, loss, len(used_U) / run.batch_size, mesh)
        state = programs.init(init_key, features_NxD[:1], data[-1])
        if first == 0 and checkpoints and (found := checkpoints.restore((state, scores_NxM, skipped_M))):
            start, (resumed, scores_NxM, skipped_M) = found
        if start >= end:
            continue
        if start > before:
            state = resumed
        state = train(state, data, names[members], max(start - before, 0), before)
        check_parameters(state.params, num_steps, names[members], run.learning_rate)
        score_MxN = _score(programs.score, state.params, features, data[-1], run.batch_size)[: len(scale_M)]
        scores_NxM[:, members] = (score_MxN * scale_M[:, None]).T
        if state.skipped:
            skipped_M[members] = gathered(state.skipped.in_all)[: len(scale_M)]
        if due(end):
            save(end, state)
    if on_skipped:
        on_skipped({name: int(count) for name, count in zip(names, skipped_M, strict=True) if count})
    return scores_NxM


def models_at_once(
    run: MlpRun, num_models: int, num_molecules: int, num_bits: int, num_devices: int, max_bytes: int
) -> int:
    """Models per group: groups are equal, a multiple of the devices, and as few as `max_bytes` allows.

    A model needs memory for its parameters, two moments and the gradient, the batch's activations and their gradients,
    and its targets, weights and scores.

    Raises:
        InputError: one model per device does not fit.
    """
    widths = (num_bits, *run.hidden, 1)
    parameters = sum((fan_in + 1) * fan_out for fan_in, fan_out in itertools.pairwise(widths))
    bytes_each = 4 * (4 * parameters + 3 * run.batch_size * sum(widths[1:]) + 3 * num_molecules)
    fit = max_bytes // bytes_each // num_devices * num_devices
    if fit < 1:
        raise InputError(
            f"max_bytes {max_bytes} is less than {num_devices} models take, one per device: {num_devices * bytes_each}"
        )
    groups = -(-num_models // fit)
    return -(-num_models // (groups * num_devices)) * num_devices


def training_flops(run: MlpRun, num_molecules: int, num_bits: int, num_models: int) -> float:
    """FLOPs of the matrix products in training on `num_molecules` molecules.

    2 per weight and molecule forward and 4 backward; 2 backward in the first layer, whose inputs need no gradient.
    AdamW is left out (about 10 / B of the total).
    """
    widths = (num_bits, *run.hidden, 1)
    products = [fan_in * fan_out for fan_in, fan_out in itertools.pairwise(widths)]
    seen = run.num_steps(num_molecules) * run.batch_size
    return float(num_models * seen * (6 * sum(products) - 2 * products[0]))


class Programs(NamedTuple):
    """The compiled programs of a run, one per shape."""

    init: Callable[..., TrainState]  # (key, bits_1xD, offset_M)
    block: Callable[..., tuple[TrainState, jax.Array]]  # (state, order_TxB, bits_NxD, target_MxN, weight_MxN, offset_M)
    score: Callable[..., jax.Array]  # (params, rows_SxB, bits_NxD, offset_M) -> S x M x B


@functools.lru_cache(maxsize=8)
def compiled(run: MlpRun, loss: Loss, mesh: Mesh, num_steps: int, on_nonfinite: OnNonfinite = "stop") -> Programs:
    optimizer = run.optimizer(num_steps)
    train_step = make_train_step(functools.partial(weighted_loss, run, loss), optimizer)
    state_axes: Any = TrainState(step=None, params=0, opt_state=0, key=None, skipped=0)  # type: ignore[arg-type]
    batch_axes: Any = _Batch(None, 0, 0, 0)  # type: ignore[arg-type]
    step = jax.vmap(train_step, in_axes=(state_axes, batch_axes), out_axes=(state_axes, 0))
    models, whole = over_models(mesh), replicated(mesh)
    placed: Any = TrainState(whole, models, models, whole, skipped=models)  # type: ignore[arg-type]

    def fetch(rows_B: jax.Array, bits: jax.Array, target: jax.Array, weight: jax.Array, offset: jax.Array) -> _Batch:
        bits_BxD = jax.lax.with_sharding_constraint(bits[rows_B], over_batch(mesh))
        return _Batch(bits_BxD, target[:, rows_B], weight[:, rows_B], offset)

    @functools.partial(jax.jit, out_shardings=placed)
    def init(key: jax.Array, bits_1xD: jax.Array, offset_M: jax.Array) -> TrainState:
        def one_model(_offset: jax.Array) -> TrainState:  # which is the same for all: vmap copies it
            return init_state(run.model.init(key, bits_1xD), optimizer, key, on_nonfinite)

        return jax.vmap(one_model, out_axes=state_axes)(offset_M)

    @jax.jit
    def score(params: Any, rows_SxB: jax.Array, bits: jax.Array, offset_M: jax.Array) -> jax.Array:
        apply: Any = jax.vmap(run.model.apply, in_axes=(0, None))
        return jax.lax.map(lambda rows_B: offset_M[:, None] + apply(params, bits[rows_B]), rows_SxB)

    return Programs(init, compile_block(step, fetch), score)


def weighted_loss(run: MlpRun, loss: Loss, params: Any, batch: _Batch, key: jax.Array) -> jax.Array:
    """sum_i a_i loss(offset + mlp(x_i), t_i) of one model over a batch; no randomness."""
    del key
    score_B: Any = run.model.apply(params, batch.bits_BxD)
    loss_fn = optax.sigmoid_binary_cross_entropy if loss == "cross_entropy" else optax.squared_error
    return jnp.sum(batch.weight_B * loss_fn(batch.offset + score_B, batch.target_B))


def visiting_order(
    used_U: Int[np.ndarray, " U"], num_steps: int, batch_size: int, key: jax.Array
) -> Int[np.ndarray, "T B"]:
    """The molecules of each step: permutations of `used_U`, one per epoch e, from `fold_in(key, e)`."""
    num_epochs = -(-num_steps * batch_size // len(used_U))
    shuffled = [jax.random.permutation(jax.random.fold_in(key, epoch), used_U) for epoch in range(num_epochs)]
    return np.concatenate(shuffled)[: num_steps * batch_size].reshape(num_steps, batch_size).astype(np.int32)


def _standardized(examples: WeightedExamples, loss: Loss) -> tuple[WeightedExamples, Float32[np.ndarray, " M"]]:
    """Weights of sum 1, targets in units of their standard deviation for squared error, and those units."""
    weight_MxN = examples.weight_MxN / examples.weight_MxN.sum(1, keepdims=True)
    scale_M = np.ones(len(weight_MxN), np.float32)
    if loss == "squared_error":
        centered_MxN = examples.target_MxN - base_scores(examples, loss)[:, None]
        scale_M = np.sqrt((weight_MxN * centered_MxN**2).sum(1))
        scale_M = np.where(scale_M > 0, scale_M, np.float32(1))
    return WeightedExamples(examples.target_MxN / scale_M[:, None], weight_MxN), scale_M


def _put(
    examples: WeightedExamples, group: int, loss: Loss, scale: float, mesh: Mesh
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Targets, weights times `scale` and base scores on devices, padded to `group` models with models of weight 0."""

    def padded(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, np.zeros((group - len(rows), *rows.shape[1:]), rows.dtype)])

    arrays = (examples.target_MxN, examples.weight_MxN * np.float32(scale), base_scores(examples, loss))
    return put(tuple(map(padded, arrays)), over_models(mesh))


def _score(
    score: Callable, params: Any, features: jax.Array, offset_M: jax.Array, batch_size: int
) -> Float32[np.ndarray, "M N"]:
    blocks = -(-len(features) // batch_size)
    rows_SxB = np.minimum(np.arange(blocks * batch_size), len(features) - 1).reshape(blocks, batch_size)
    score_SxMxB = gathered(score(params, rows_SxB, features, offset_M))
    return np.moveaxis(score_SxMxB, 1, 0).reshape(len(offset_M), -1)[:, : len(features)]
