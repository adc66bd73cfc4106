"""One perceptron with all assays as outputs, the standard baseline of MoleculeNet (Wu et al., arXiv:1703.00564).

Axes: N molecules, U molecules with a label, D bits, A assays, T assays that are scored, R networks (one on everything,
one without each fold), B batch.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Float, Int, UInt8

from mixmin_jax.errors import InputError
from mixmin_jax.training.checkpoint import Checkpoints
from mixmin_jax.training.driver import Finished, block_bounds, run_blocks
from mixmin_jax.training.inner_folds import NUM_FOLDS, heldout_losses, random_folds
from mixmin_jax.training.loop import TrainState, compile_block, init_state, make_train_step, warmup_cosine
from mixmin_jax.training.mesh import gathered
from mixmin_jax.training.nonfinite import check_losses, check_parameters
from mixmin_jax.training.weighted_examples import Loss, OnProgress, Trained, example_losses, mixture_examples

BLOCK_STEPS = 50  # least steps per compiled call, after which the training may stop
MOST_BLOCKS = 20  # as all molecules are scored after each: with blocks of 50, that would cost more than the training


@dataclasses.dataclass(frozen=True)
class MultitaskRun:
    """AdamW with warm-up and cosine, dropout, stopped early for each assay.

    The defaults were chosen on Tox21 and ToxCast (held-out folds of the training part).
    """

    hidden: int = 512  # width of the hidden layer
    dropout: float = 0.25  # share of its units that a step leaves out
    epochs: float = 10.0  # passes over the molecules, at most
    batch_size: int = 128  # molecules in a step
    learning_rate: float = 5e-4  # peak
    weight_decay: float = 1.0  # of AdamW, on kernels; multiplied by the learning rate in each step

    def __post_init__(self) -> None:
        if min(self.hidden, self.batch_size) < 1:
            raise InputError(f"hidden and batch_size must be positive, got {self.hidden}, {self.batch_size}")
        if not (0 < self.epochs < math.inf and 0 < self.learning_rate < math.inf):
            raise InputError(f"epochs and learning_rate must be positive, got {self.epochs}, {self.learning_rate}")
        if not (0 <= self.dropout < 1 and 0 <= self.weight_decay < math.inf):
            raise InputError(
                f"dropout must be in [0, 1) and weight_decay not negative: {self.dropout}, {self.weight_decay}"
            )

    def num_steps(self, num_molecules: int) -> int:
        return max(1, math.ceil(self.epochs * num_molecules / self.batch_size))


class _Network(nn.Module):
    """bits_BxD -> scores_BxA."""

    hidden: int
    dropout: float
    assays: int

    @nn.compact
    def __call__(self, bits_BxD: jax.Array, train: bool = False) -> jax.Array:
        x_BxH = nn.relu(nn.Dense(self.hidden)(bits_BxD.astype(jnp.float32)))
        x_BxH = nn.Dropout(self.dropout, deterministic=not train)(x_BxH)
        return nn.Dense(self.assays, kernel_init=nn.initializers.zeros)(x_BxH)


class _Data(NamedTuple):
    bits_UxD: jax.Array
    target_UxA: jax.Array
    weight_UxA: jax.Array  # each assay's sum to 1
    offset_A: jax.Array  # the best constant scores
    fold_U: jax.Array
    key: jax.Array  # of the batches


class _Batch(NamedTuple):
    """A batch of all networks; `without`, of one network, is the fold that it does not see (-1: it sees all)."""

    data: _Data  # of B molecules
    without: jax.Array


def train_multitask(
    run: MultitaskRun,
    features_NxD: UInt8[np.ndarray, "N D"],
    values_NxA: Float[np.ndarray, "N A"],
    train_N: Bool[np.ndarray, " N"],
    scored_T: Int[np.ndarray, " T"],
    seed: int,
    *,
    loss: Loss = "cross_entropy",
    balanced: bool = False,
    names: tuple[str, ...] | None = None,
    on_progress: OnProgress | None = None,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Train one network on all assays, and score all molecules with some of its outputs.

        minimize   1/A sum_a sum_i a_ia loss(f_a(x_i), y_ia)          sum_i a_ia = 1 for every assay a

    The network is also trained without each of two random folds. Each assay stops at the end of the block of steps
    after which these predict its left-out molecules best.

    Args:
        run: settings.
        features_NxD: bits of all molecules.
        values_NxA: labels, or values of about unit variance; NaN where there is none. All assays have some in training.
        train_N: the molecules to train on.
        scored_T: the columns of the assays to score.
        seed: of initial parameters, batches, dropout and folds.
        loss: "cross_entropy" or "squared_error".
        balanced: each class of an assay has half of its weight.
        names: of the assays, for errors.
        on_progress: called with steps done and steps in all.
        checkpoints: training continues from the newest.

    Returns:
        Scores of T models, and the step at which each stopped.

    Raises:
        InputError: as `mixture_examples`.
        Diverged: a loss that is not finite.
        Stopped: on a request to `checkpoints`.
    """
    num_assays = values_NxA.shape[1]
    examples = mixture_examples(values_NxA, np.eye(num_assays), train_N, balanced=balanced, names=names)
    used_U = np.flatnonzero((examples.weight_MxN > 0).any(0))
    target_UxA, weight_UxA = examples.target_MxN[:, used_U].T, examples.weight_MxN[:, used_U].T
    mean_A = (weight_UxA * target_UxA).sum(0)
    offset_A = np.log(mean_A / (1 - mean_A)) if loss == "cross_entropy" else mean_A
    fold_U = random_folds(len(features_NxD), seed)[used_U]
    init_key, batch_key = jax.random.split(jax.random.key(seed))
    on_device: Any = (features_NxD[used_U], target_UxA, weight_UxA, offset_A.astype(np.float32), fold_U, batch_key)
    data = _Data(*jax.device_put(on_device))
    num_steps = run.num_steps(len(used_U))
    init, block, score = _programs(run, loss, num_assays, num_steps)
    state = init(init_key, features_NxD[:1])
    found, least_T, start = Trained.empty(len(features_NxD), len(scored_T)), np.full(len(scored_T), np.inf), 0

    def saved(state: TrainState) -> Any:
        """As NumPy arrays, which several processes, each with this whole training, save once; the key is constant."""
        return gathered(state._replace(key=())), found.arrays(), least_T  # type: ignore[arg-type]

    if checkpoints and (restored := checkpoints.restore(saved(state))):
        start, (trained, products, least_T) = restored
        state, found = trained._replace(key=state.key), Trained(*products)
    bounds = block_bounds(num_steps, _block_steps(num_steps), start)
    network_names = ("the network of all assays", *(f"that without inner fold {fold}" for fold in range(NUM_FOLDS)))

    def report(block: Finished) -> None:
        check_losses(gathered(block.metrics), block.skipped, block.first, num_steps, network_names, run.learning_rate)
        if on_progress:
            on_progress(block.last, num_steps)

    def at_pause(done: int, state: TrainState) -> None:
        check_parameters(state.params, done, network_names, run.learning_rate)
        of_fold = [_score(score, state.params, 1 + fold, features_NxD, offset_A)[used_U] for fold in range(NUM_FOLDS)]
        score_TFxU = np.stack([scores_UxA[:, a] for a in scored_T for scores_UxA in of_fold])
        targets = target_UxA.T[scored_T], weight_UxA.T[scored_T]
        loss_T = np.asarray(heldout_losses(score_TFxU, *targets, fold_U, loss))
        better_T = loss_T < least_T
        if better_T.any():
            whole_NxA = _score(score, state.params, 0, features_NxD, offset_A)
            found.scores_NxM[:, better_T] = whole_NxA[:, scored_T[better_T]]
            found.chosen_M[better_T], least_T[better_T] = done, loss_T[better_T]
        if checkpoints and checkpoints.due(done, num_steps):
            checkpoints.save(done, num_steps, saved(state))

    run_blocks(
        lambda state, step_T: block(state, step_T, data),
        state,
        bounds,
        [np.arange(first, last, dtype=np.int32) for first, last in bounds],
        report,
        pauses=lambda done: True,
        at_pause=at_pause,
    )
    return found


def training_flops(run: MultitaskRun, num_train: int, num_molecules: int, num_bits: int, num_assays: int) -> float:
    """About the FLOPs of matrix products in training on `num_train` molecules and in scoring all for when to stop."""
    steps, inner, outer = run.num_steps(num_train), num_bits * run.hidden, run.hidden * num_assays
    trained = steps * run.batch_size * (4 * inner + 6 * outer)  # inputs need no gradient
    scored = -(-steps // _block_steps(steps)) * num_molecules * 2 * (inner + outer)
    return float((1 + NUM_FOLDS) * (trained + scored))


def _block_steps(num_steps: int) -> int:
    return max(BLOCK_STEPS, -(-num_steps // MOST_BLOCKS))


@functools.lru_cache(maxsize=4)
def _programs(run: MultitaskRun, loss: Loss, num_assays: int, num_steps: int) -> tuple[Any, Any, Any]:
    """Initial state of R networks; a block of steps; scores of one network."""
    network = _Network(run.hidden, run.dropout, num_assays)
    without_R = jnp.arange(1 + NUM_FOLDS) - 1
    optimizer = optax.adamw(
        warmup_cosine(run.learning_rate, num_steps),
        weight_decay=run.weight_decay,
        mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
    )

    def mean_loss(params: Any, batch: _Batch, key: jax.Array) -> jax.Array:
        data = batch.data
        score_BxA: Any = network.apply(params, data.bits_UxD, train=True, rngs={"dropout": key})
        loss_BxA = data.weight_UxA * example_losses(data.offset_A + score_BxA, data.target_UxA, loss)
        return jnp.mean(loss_BxA.sum(1) * (data.fold_U != batch.without))

    state_axes: Any = TrainState(step=None, params=0, opt_state=0, key=None)  # type: ignore[arg-type]
    batch_axes: Any = _Batch(None, 0)  # type: ignore[arg-type]
    step = jax.vmap(make_train_step(mean_loss, optimizer), in_axes=(state_axes, batch_axes), out_axes=(state_axes, 0))

    @jax.jit
    def init(key: jax.Array, bits_1xD: jax.Array) -> TrainState:
        def one(_: jax.Array) -> TrainState:
            return init_state(network.init(key, bits_1xD), optimizer, key)

        return jax.vmap(one, out_axes=state_axes)(without_R)

    def fetch(step: jax.Array, data: _Data) -> _Batch:
        num_used = len(data.fold_U)
        row_B = jax.random.randint(jax.random.fold_in(data.key, step), (run.batch_size,), 0, num_used)
        weight_BxA = data.weight_UxA[row_B] * (num_used / num_assays)
        rows = data._replace(bits_UxD=data.bits_UxD[row_B], target_UxA=data.target_UxA[row_B], weight_UxA=weight_BxA)
        return _Batch(rows._replace(fold_U=data.fold_U[row_B]), without_R)

    return init, compile_block(step, fetch), jax.jit(lambda params, bits_BxD: network.apply(params, bits_BxD))


def _score(score: Any, params: Any, network: int, features_NxD: np.ndarray, offset_A: np.ndarray) -> np.ndarray:
    one = jax.tree.map(lambda leaf: leaf[network], params)
    return np.asarray(score(one, features_NxD)) + offset_A
