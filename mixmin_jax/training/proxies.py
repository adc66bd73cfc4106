"""Train one model per mixture in one compiled program. MixMin's proxies are mixtures of one source each.

Axes: M models, K sources, B batch, L positions, T steps of a block.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from mixmin_jax.data.mixing import MixingPlan, draw, gather_windows, make_plan
from mixmin_jax.data.text.host_batches import sharded_blocks
from mixmin_jax.data.text.tokens import TokenStore
from mixmin_jax.errors import InputError
from mixmin_jax.training.checkpoint import Checkpoints
from mixmin_jax.training.driver import Finished, block_bounds, run_blocks
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.loop import BLOCK_STEPS, TrainState, compile_block
from mixmin_jax.training.mesh import (
    gathered,
    make_mesh,
    over_models,
    over_models_and_batch,
    over_steps_models_and_batch,
    put,
    replicated,
)
from mixmin_jax.training.nonfinite import OnNonfinite, check_losses, check_parameters, counters
from mixmin_jax.training.source_monitor import SourceMonitor, empty_monitor, observe

MAX_DEVICE_TOKENS = 2**31 - 1  # most tokens on the device, where positions are int32; more come from the host
OnBlock = Callable[
    [int, int, Float[np.ndarray, " M"]], None
]  # (steps done, steps in all, last losses in nats per token)


class TrainedModels(NamedTuple):
    """M trained models; every leaf of `params` has a leading axis of models."""

    params: Any
    loss_TxM: Float[np.ndarray, "T M"]  # training loss of each step, nats per token; NaN for skipped steps
    draws_MxK: Int[np.ndarray, "M K"]  # windows that each model drew from each source
    skipped_M: Int[np.ndarray, " M"]  # number of skipped steps (loss or gradient not finite)
    monitor: SourceMonitor | None = None  # if asked for


def train_on_mixtures(
    run: LanguageModelRun,
    store: TokenStore,
    weights_MxK: Float[np.ndarray, "M K"],
    key: jax.Array,
    *,
    max_epochs: float | None = None,
    mesh: Mesh | None = None,
    tokens_on: str = "device",
    block_steps: int = BLOCK_STEPS,
    on_block: OnBlock | None = None,
    names: tuple[str, ...] | None = None,
    checkpoints: Checkpoints | None = None,
    on_nonfinite: OnNonfinite = "stop",
    monitor_sources: bool = False,
) -> TrainedModels:
    """Train M models of one size, model m on mixture `weights_MxK[m]` of the store's sources.

    All models start from the same parameters and share the key of their data order (common random numbers), so
    differences between them come from the mixtures.

    Args:
        run: size and budget of a model.
        store: the text of the sources.
        weights_MxK: the mixtures.
        key: of initial parameters and order.
        max_epochs: most repetitions of a source's windows.
        mesh: models are sharded over its `source` axis (padded with copies, whose results are dropped), batches over
            its `data` axis.
        tokens_on: "device"; or "host" for text that does not fit on the device. "host" feeds the same examples in the
            same order; each process reads only the windows of its own devices.
        block_steps: steps of one compiled call.
        on_block: called after each block.
        names: of the models, for errors.
        checkpoints: training continues from the newest, on any mesh. On the same mesh the result is bit-identical to an
            uninterrupted one.
        on_nonfinite: with "skip", a step with a loss or gradient that is not finite changes nothing of that model, and
            does not affect others. The model continues with its next batch.
        monitor_sources: also sum the loss of each window by source. Without it, the program has no trace of monitors.

    Returns:
        The trained models.

    Raises:
        InputError: the sources cannot supply the weights within `max_epochs`.
        Diverged: a loss or parameters that are not finite, or too many skipped steps (`nonfinite.too_many`).
        Stopped: on a request to `checkpoints`.
    """
    weights_MxK = np.asarray(weights_MxK, np.float64)
    num_models, num_sources = weights_MxK.shape
    if num_sources != len(store.names) or store.length != run.sequence_length:
        raise InputError(
            f"weights have {num_sources} columns and windows of {run.sequence_length} positions are asked for, but the"
            f" store holds {len(store.names)} sources in windows of {store.length}"
        )
    mesh = mesh or make_mesh()
    padded = -(-num_models // mesh.shape["source"]) * mesh.shape["source"]
    init_key, order_key = jax.random.split(key)
    plans = [make_plan(order_key, w_K, store.windows_K, run.num_windows, max_epochs) for w_K in weights_MxK]
    plans += plans[:1] * (padded - num_models)
    plan = jax.tree.map(lambda *leaves: np.stack(leaves), *plans)
    state = compiled_init(run, padded, mesh, on_nonfinite)(init_key)

    losses_TxM = np.full((run.num_steps, num_models), np.nan, np.float32)
    start = 0
    monitors = [empty_monitor(run.num_steps, num_models, num_sources)] if monitor_sources else []
    if checkpoints and (found := checkpoints.restore((_without_padding(state, num_models), losses_TxM, *monitors))):
        start, (state, losses_TxM, *monitors) = found
        state = _with_padding(state, padded, mesh)

    bounds = block_bounds(run.num_steps, block_steps, start)
    train_block, inputs = _feed(run, store, plan, mesh, tokens_on, bounds, monitor_sources)
    names = names or tuple(f"model {m}" for m in range(num_models))

    def report(block: Finished) -> None:
        first, last = block.first, block.last
        loss_TxM, *monitored = block.metrics
        losses_TxM[first:last] = gathered(loss_TxM)[:, :num_models]
        check_losses(losses_TxM[first:last], block.skipped, first, run.num_steps, names, run.learning_rate)
        if monitors:
            window_loss_TxMxB, source_TxMxB = (gathered(array)[:, :num_models] for array in monitored)
            monitors[0] = observe(monitors[0], first, window_loss_TxMxB, source_TxMxB)
        if on_block:
            on_block(last, run.num_steps, losses_TxM[last - 1])

    def due(done: int) -> bool:
        return checkpoints is not None and checkpoints.due(done, run.num_steps)

    def save(done: int, state: TrainState) -> None:
        check_parameters(state.params, done, names, run.learning_rate)
        if checkpoints:
            checkpoints.save(done, run.num_steps, (_without_padding(state, num_models), losses_TxM, *monitors))

    state = run_blocks(train_block, state, bounds, inputs, report, pauses=due, at_pause=save)
    check_parameters(state.params, run.num_steps, names, run.learning_rate)
    draws_MxK = np.stack([np.asarray(p.counts_K) for p in plans[:num_models]])
    skipped_M = gathered(state.skipped.in_all)[:num_models] if state.skipped else np.zeros(num_models, int)
    return TrainedModels(_without_padding(state.params, num_models), losses_TxM, draws_MxK, skipped_M, *monitors)


def _without_padding(tree: Any, num_models: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[:num_models], tree)


def _with_padding(tree: Any, padded: int, mesh: Mesh) -> Any:
    """On the mesh, with copies of the first model up to `padded`."""
    missing = padded - len(jax.tree.leaves(tree)[0])

    @functools.partial(jax.jit, out_shardings=over_models(mesh))
    def fill(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.concatenate([leaf, *[leaf[:1]] * missing]), tree)

    return fill(tree)


def _feed(
    run: LanguageModelRun,
    store: TokenStore,
    plan: MixingPlan,
    mesh: Mesh,
    tokens_on: str,
    bounds: Sequence[tuple[int, int]],
    monitor_sources: bool,
) -> tuple[Callable[..., tuple[TrainState, tuple[jax.Array, ...]]], Iterable[Any]]:
    """The block for this data path, and its input for each of `bounds`.

    The metrics are loss_TxM, with `monitor_sources` also window_loss_TxMxB and source_TxMxB.
    """
    if tokens_on not in ("device", "host"):
        raise InputError(f"tokens_on must be 'device' or 'host', not {tokens_on!r}")
    on_device = tokens_on == "device"
    if on_device and len(store.tokens) > MAX_DEVICE_TOKENS:
        raise InputError(f"{len(store.tokens)} tokens are too many for the device: use tokens_on='host'")
    data = put((store.tokens, store.starts_K.astype(np.int32)), replicated(mesh)) if on_device else ()
    placed_plan = put(plan, over_models(mesh)) if on_device else plan
    draws = (_draw_block(placed_plan, _examples(first, last, run.batch_size)) for first, last in bounds)
    inputs: Iterable[Any]
    if on_device:
        inputs = ((drawn, drawn[0]) for drawn in draws)
    else:
        blocks = sharded_blocks(store, plan, run.batch_size, bounds, over_steps_models_and_batch(mesh))
        inputs = ((block, next(draws)[0] if monitor_sources else None) for block in blocks)
    program = compiled_block(run, mesh, tokens_on, monitor_sources)

    def train_block(state: TrainState, block: Any) -> tuple[TrainState, tuple[jax.Array, ...]]:
        xs, source_TxMxB = block
        state, metrics = program(state, xs, *data)
        return state, (*metrics, source_TxMxB) if monitor_sources else (metrics,)

    return train_block, inputs


def _examples(first: int, last: int, batch_size: int) -> jax.Array:
    """Numbers of the examples in steps [first, last), T x B."""
    return jnp.arange(first * batch_size, last * batch_size).reshape(last - first, -1)


@jax.jit
def _draw_block(plan: MixingPlan, example_TxB: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(source, window), each T x M x B."""
    return jax.vmap(draw, in_axes=(0, None), out_axes=1)(plan, example_TxB)


@functools.lru_cache(maxsize=8)
def compiled_init(
    run: LanguageModelRun, num_models: int, mesh: Mesh, on_nonfinite: OnNonfinite = "stop"
) -> Callable[[jax.Array], TrainState]:
    """The program that makes the same initial state for all models from a key."""

    @functools.partial(jax.jit, out_shardings=over_models(mesh))
    def init(key: jax.Array) -> TrainState:
        state = run.init(key)._replace(skipped=counters(on_nonfinite))
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_models, *leaf.shape)), state)

    return init


@functools.lru_cache(maxsize=8)
def compiled_block(run: LanguageModelRun, mesh: Mesh, tokens_on: str, monitor_sources: bool = False) -> Callable:
    """The compiled program that trains all models for a block of steps (one trace per length of block).

    Its metrics are the losses, T x M; with `monitor_sources` also those of each window, T x M x B.
    """
    sharding = over_models_and_batch(mesh)
    train_step = functools.partial(run.train_step, each_window=monitor_sources)

    def step(state: TrainState, tokens_MxBxL1: jax.Array) -> tuple[TrainState, Any]:
        batch = jax.lax.with_sharding_constraint(tokens_MxBxL1, sharding)
        return jax.vmap(train_step)(state, batch)

    def gather(x: tuple[jax.Array, jax.Array], tokens: jax.Array, starts_K: jax.Array) -> jax.Array:
        return gather_windows(tokens, starts_K, run.sequence_length, *x)

    return compile_block(step, gather) if tokens_on == "device" else compile_block(step)
