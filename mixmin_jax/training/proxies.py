"""Train one model per mixture, all in one compiled program: MixMin's proxies are the mixtures with one source each.

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

from mixmin_jax.data.host_batches import sharded_blocks
from mixmin_jax.data.mixing import MixingPlan, draw, gather_windows, make_plan
from mixmin_jax.data.tokens import TokenStore
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

MAX_DEVICE_TOKENS = 2**31 - 1  # positions on the device are int32; more text than this is fed from the host
OnBlock = Callable[
    [int, int, Float[np.ndarray, " M"]], None
]  # (steps done, steps in all, last losses in nats per token)


class Diverged(RuntimeError):
    """A model's loss became NaN or infinite; the message names the model, the step and the learning rate."""


class TrainedModels(NamedTuple):
    """M trained models; every leaf of `params` has a leading axis of models."""

    params: Any
    loss_TxM: Float[np.ndarray, "T M"]  # training loss of every step, nats per token
    draws_MxK: Int[np.ndarray, "M K"]  # windows that each model drew from each source


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
) -> TrainedModels:
    """Train M models of one size, model m on mixture `weights_MxK[m]` of the store's sources.

    All models start from the same parameters and share the key of their data order (common random numbers), so
    that differences between them come from the mixtures.  M is padded to the mesh's `source` axis with copies whose
    results are dropped.  `tokens_on="host"` feeds the same examples in the same order through Grain, for text that
    does not fit on the device; of several processes each then reads the windows of its own devices only.  With
    `checkpoints` the run goes on from the newest, on whatever mesh, and ends as if it had not been interrupted, to the
    bit where the mesh is the same.

    Raises InputError for weights the sources cannot supply within `max_epochs`, `Diverged` for a non-finite loss, and
    `Stopped` where `checkpoints` was asked to stop.
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
    state = compiled_init(run, padded, mesh)(init_key)

    losses_TxM = np.full((run.num_steps, num_models), np.nan, np.float32)
    start = 0
    if checkpoints and (found := checkpoints.restore((_without_padding(state, num_models), losses_TxM))):
        start, (state, losses_TxM) = found
        state = _with_padding(state, padded, mesh)

    bounds = _bounds(run.num_steps, block_steps, start)
    train_block, blocks = _feed(run, store, plan, mesh, tokens_on, bounds)
    names = names or tuple(f"model {m}" for m in range(num_models))

    def report(first: int, last: int, loss_TxM: jax.Array) -> None:
        losses_TxM[first:last] = _checked(loss_TxM, first, num_models, names, run)
        if on_block:
            on_block(last, run.num_steps, losses_TxM[last - 1])

    pending: tuple[int, int, jax.Array] | None = None
    for (first, last), xs in zip(bounds, blocks, strict=True):
        state, loss_TxM = train_block(state, xs)
        if pending is not None:
            report(*pending)  # the next block is already under way while these numbers are fetched
        pending = first, last, loss_TxM
        if checkpoints and checkpoints.due(last, run.num_steps):
            report(*pending)
            pending = None
            checkpoints.save(last, run.num_steps, (_without_padding(state, num_models), losses_TxM))
    if pending is not None:
        report(*pending)
    draws_MxK = np.stack([np.asarray(p.counts_K) for p in plans[:num_models]])
    return TrainedModels(_without_padding(state.params, num_models), losses_TxM, draws_MxK)


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
    """First step and end of each block from step `start` on; blocks are as equal as can be."""
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
) -> tuple[Callable, Iterator[Any]]:
    """The compiled block for this data path, and what to scan in each block."""
    if tokens_on == "host":
        train = compiled_block(run, mesh, "host")
        return train, sharded_blocks(store, plan, run.batch_size, bounds, over_steps_models_and_batch(mesh))
    if tokens_on != "device":
        raise InputError(f"tokens_on must be 'device' or 'host', not {tokens_on!r}")
    if len(store.tokens) > MAX_DEVICE_TOKENS:
        raise InputError(f"{len(store.tokens)} tokens are too many for the device: use tokens_on='host'")
    tokens, starts_K = put((store.tokens, store.starts_K.astype(np.int32)), replicated(mesh))
    plan = put(plan, over_models(mesh))
    train = compiled_block(run, mesh, "device")

    def blocks() -> Iterator[Any]:
        for first, last in bounds:
            example_TxB = jnp.arange(first * run.batch_size, last * run.batch_size).reshape(last - first, -1)
            yield _draw_block(plan, example_TxB)

    return lambda state, xs: train(state, xs, tokens, starts_K), blocks()


@jax.jit
def _draw_block(plan: MixingPlan, example_TxB: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(source, window), each T x M x B."""
    return jax.vmap(draw, in_axes=(0, None), out_axes=1)(plan, example_TxB)


@functools.lru_cache(maxsize=8)
def compiled_init(run: LanguageModelRun, num_models: int, mesh: Mesh) -> Callable[[jax.Array], TrainState]:
    """The program that makes the same initial state for all models from a key."""

    @functools.partial(jax.jit, out_shardings=over_models(mesh))
    def init(key: jax.Array) -> TrainState:
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_models, *leaf.shape)), run.init(key))

    return init


@functools.lru_cache(maxsize=8)
def compiled_block(run: LanguageModelRun, mesh: Mesh, tokens_on: str) -> Callable:
    """The one compiled program that trains all models for a block of steps (one trace per block length)."""
    sharding = over_models_and_batch(mesh)

    def step(state: TrainState, tokens_MxBxL1: jax.Array) -> tuple[TrainState, jax.Array]:
        batch = jax.lax.with_sharding_constraint(tokens_MxBxL1, sharding)
        return jax.vmap(run.train_step)(state, batch)

    def gather(x: tuple[jax.Array, jax.Array], tokens: jax.Array, starts_K: jax.Array) -> jax.Array:
        return gather_windows(tokens, starts_K, run.sequence_length, *x)

    return compile_block(step, gather) if tokens_on == "device" else compile_block(step)


def _checked(
    loss_TxM: jax.Array, first_step: int, num_models: int, names: tuple[str, ...], run: LanguageModelRun
) -> Float[np.ndarray, "T M"]:
    loss = gathered(loss_TxM)[:, :num_models]
    if not np.isfinite(loss).all():
        t, m = np.argwhere(~np.isfinite(loss))[0]
        raise Diverged(
            f"the loss of {names[m]} became {loss[t, m]} at step {first_step + t}: lower the learning rate"
            f" ({run.learning_rate:g}) or check its text"
        )
    return loss
