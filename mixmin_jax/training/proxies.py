"""Train one model per mixture in one compiled program. MixMin's proxies are mixtures of one source each.

Axes: M models, K sources, B batch, L positions, T steps of a block.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
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
from mixmin_jax.training.nonfinite import OnNonfinite, Skipped, counters, finite_models, too_many, too_many_in_words
from mixmin_jax.training.source_monitor import SourceMonitor, empty_monitor, observe

MAX_DEVICE_TOKENS = 2**31 - 1  # most tokens on the device, where positions are int32; more come from the host
OnBlock = Callable[
    [int, int, Float[np.ndarray, " M"]], None
]  # (steps done, steps in all, last losses in nats per token)


class Diverged(RuntimeError):
    """A model's loss or parameters became NaN or infinite, or too many of its steps were skipped."""


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

    bounds = _bounds(run.num_steps, block_steps, start)
    train_block, blocks = _feed(run, store, plan, mesh, tokens_on, bounds, monitor_sources)
    names = names or tuple(f"model {m}" for m in range(num_models))
    own_plan = jax.tree.map(lambda *leaves: jnp.stack(leaves), *plans[:num_models]) if monitor_sources else None

    def report(
        first: int, last: int, metrics: Any, source_TxMxB: jax.Array | None, skipped_M: Skipped | tuple[()]
    ) -> None:
        loss_TxM, window_loss_TxMxB = metrics if monitor_sources else (metrics, None)
        losses_TxM[first:last] = _checked(loss_TxM, skipped_M, first, num_models, names, run)
        if monitors:
            own_loss_TxMxB = gathered(window_loss_TxMxB)[:, :num_models]
            monitors[0] = observe(monitors[0], first, own_loss_TxMxB, np.asarray(source_TxMxB))
        if on_block:
            on_block(last, run.num_steps, losses_TxM[last - 1])

    pending: tuple[int, int, Any, jax.Array | None, Skipped | tuple[()]] | None = None
    for (first, last), xs in zip(bounds, blocks, strict=True):
        sources = None if own_plan is None else _draw_block(own_plan, _examples(first, last, run.batch_size))[0]
        state, metrics = train_block(state, xs)
        if pending is not None:
            report(*pending)  # the next block runs while these numbers are fetched
        pending = first, last, metrics, sources, jax.tree.map(jnp.copy, state.skipped)  # its buffers are reused
        if checkpoints and checkpoints.due(last, run.num_steps):
            report(*pending)
            pending = None
            check_parameters(state.params, last, names, run.learning_rate)
            checkpoints.save(last, run.num_steps, (_without_padding(state, num_models), losses_TxM, *monitors))
    if pending is not None:
        report(*pending)
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


def _bounds(num_steps: int, block_steps: int, start: int) -> list[tuple[int, int]]:
    """First step and last step + 1 of each block from step `start` on; blocks are nearly equal."""
    blocks_in_all = -(-num_steps // block_steps)
    edges = [num_steps * b // blocks_in_all for b in range(blocks_in_all + 1)]
    return list(itertools.pairwise([start, *(edge for edge in edges if edge > start)]))


def _feed(
    run: LanguageModelRun,
    store: TokenStore,
    plan: MixingPlan,
    mesh: Mesh,
    tokens_on: str,
    bounds: Sequence[tuple[int, int]],
    monitor_sources: bool,
) -> tuple[Callable, Iterator[Any]]:
    """The compiled block for this data path, and the array to scan in each block."""
    if tokens_on == "host":
        train = compiled_block(run, mesh, "host", monitor_sources)
        return train, sharded_blocks(store, plan, run.batch_size, bounds, over_steps_models_and_batch(mesh))
    if tokens_on != "device":
        raise InputError(f"tokens_on must be 'device' or 'host', not {tokens_on!r}")
    if len(store.tokens) > MAX_DEVICE_TOKENS:
        raise InputError(f"{len(store.tokens)} tokens are too many for the device: use tokens_on='host'")
    tokens, starts_K = put((store.tokens, store.starts_K.astype(np.int32)), replicated(mesh))
    plan = put(plan, over_models(mesh))
    train = compiled_block(run, mesh, "device", monitor_sources)

    def blocks() -> Iterator[Any]:
        for first, last in bounds:
            yield _draw_block(plan, _examples(first, last, run.batch_size))

    return lambda state, xs: train(state, xs, tokens, starts_K), blocks()


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
    train_step = run.monitored_step if monitor_sources else run.train_step

    def step(state: TrainState, tokens_MxBxL1: jax.Array) -> tuple[TrainState, Any]:
        batch = jax.lax.with_sharding_constraint(tokens_MxBxL1, sharding)
        return jax.vmap(train_step)(state, batch)

    def gather(x: tuple[jax.Array, jax.Array], tokens: jax.Array, starts_K: jax.Array) -> jax.Array:
        return gather_windows(tokens, starts_K, run.sequence_length, *x)

    return compile_block(step, gather) if tokens_on == "device" else compile_block(step)


def _checked(
    loss_TxM: jax.Array,
    skipped_M: Skipped | tuple[()],
    first_step: int,
    num_models: int,
    names: tuple[str, ...],
    run: LanguageModelRun,
) -> Float[np.ndarray, "T M"]:
    loss = gathered(loss_TxM)[:, :num_models]
    if skipped_M:
        skipped_M = Skipped(*gathered(skipped_M))
        if (bad_M := too_many(skipped_M, run.num_steps)[:num_models]).any():
            m = int(bad_M.argmax())
            found = too_many_in_words(int(skipped_M.in_all[m]), int(skipped_M.longest[m]), run.num_steps)
            raise Diverged(f"{names[m]}: {found}: lower the learning rate ({run.learning_rate:g}) or check its text")
    elif not np.isfinite(loss).all():
        t, m = np.argwhere(~np.isfinite(loss))[0]
        raise Diverged(
            f"the loss of {names[m]} became {loss[t, m]} at step {first_step + t}: lower the learning rate"
            f" ({run.learning_rate:g}) or check its text"
        )
    return loss


def check_parameters(params: Any, done: int, names: tuple[str, ...], learning_rate: float) -> None:
    """Raise `Diverged` if the last step made parameters infinite or NaN, which its loss does not show yet.

    Models beyond the names are padding.
    """
    finite_M = gathered(finite_models(params))[: len(names)]
    if not finite_M.all():
        raise Diverged(
            f"the parameters of {names[int(finite_M.argmin())]} are not finite after step {done - 1}: lower the"
            f" learning rate ({learning_rate:g}) or check its data"
        )
