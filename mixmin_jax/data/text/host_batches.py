"""Batches of text that does not fit on the device: read on the host, with Grain.

The examples and their order come from `mixing.draw`, so both paths train the same models. If models and batches are
sharded over a mesh, each process reads only the windows of its own devices.

Axes: M models, B batch, L positions, T steps of a block.
"""

from collections.abc import Iterator, Sequence

import grain
import jax
import numpy as np
from jax.sharding import Sharding

from mixmin_jax.data.mixing import MixingPlan, draw
from mixmin_jax.data.text.tokens import TokenStore

Part = tuple[int, int, int, int]  # first and last model + 1; first and last row + 1 of each batch


def host_blocks(
    store: TokenStore, plan: MixingPlan, batch_size: int, bounds: Sequence[tuple[int, int]], parts: Sequence[Part]
) -> Iterator[tuple[np.ndarray, ...]]:
    """For each block in order a tuple of its `parts`: tokens_TxMxBx(L+1) of some models and rows.

    Two blocks are read ahead while the device works.
    """
    cpu = jax.local_devices(backend="cpu")[0]
    plans = [jax.device_put(jax.tree.map(lambda x, p=part: x[p[0] : p[1]], plan), cpu) for part in parts]  # type: ignore[misc]
    draw_models = jax.jit(jax.vmap(draw, in_axes=(0, None), out_axes=1))

    def read_block(index: int) -> tuple[np.ndarray, ...]:
        first, last = bounds[index]
        example_TxB = np.arange(first * batch_size, last * batch_size).reshape(last - first, -1)
        block = []
        for part_plan, (_, _, begin, end) in zip(plans, parts, strict=True):
            source, window = map(np.asarray, draw_models(part_plan, example_TxB[:, begin:end]))
            start = store.starts_K[source] + window.astype(np.int64) * store.length
            block.append(store.tokens[start[..., None] + np.arange(store.length + 1)])
        return tuple(block)

    dataset = grain.MapDataset.range(len(bounds)).map(read_block)
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)))


def sharded_blocks(
    store: TokenStore,
    plan: MixingPlan,
    batch_size: int,
    bounds: Sequence[tuple[int, int]],
    sharding: Sharding,
) -> Iterator[jax.Array]:
    """The blocks in order, as tokens_TxMxBx(L+1) on devices.

    Args:
        store: the text.
        plan: the draws, with a leading axis of M models, on the host.
        batch_size: B.
        bounds: first step and last step + 1 of each block.
        sharding: devices; may split the axes M and B. Each process reads the parts of its own devices.
    """
    num_models = len(plan.words)
    shapes = [(last - first, num_models, batch_size, store.length + 1) for first, last in bounds]

    def part(index: tuple[slice, ...]) -> Part:
        models, rows = index[1].indices(num_models), index[2].indices(batch_size)
        return models[0], models[1], rows[0], rows[1]

    places = sharding.addressable_devices_indices_map((1, num_models, batch_size, 1))
    mine = sorted({part(index) for index in places.values() if index is not None})
    for shape, block in zip(shapes, host_blocks(store, plan, batch_size, bounds, mine), strict=True):
        held = dict(zip(mine, block, strict=True))
        yield jax.make_array_from_callback(shape, sharding, lambda index, held=held: held[part(index)])  # type: ignore[misc]
