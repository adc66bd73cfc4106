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


class MixtureBatches(grain.sources.RandomAccessDataSource):
    """Element t holds the `parts` of block t as a tuple; a part is tokens_TxMxBx(L+1) of some models and rows."""

    def __init__(
        self,
        store: TokenStore,
        plan: MixingPlan,
        batch_size: int,
        bounds: Sequence[tuple[int, int]],
        parts: Sequence[Part],
    ) -> None:
        cpu = jax.local_devices(backend="cpu")[0]
        self._plans = [jax.device_put(jax.tree.map(lambda x, p=part: x[p[0] : p[1]], plan), cpu) for part in parts]  # type: ignore[misc]
        self._draw = jax.jit(jax.vmap(draw, in_axes=(0, None), out_axes=1))
        self._store, self._batch_size, self._bounds, self._parts = store, batch_size, bounds, parts

    def __len__(self) -> int:
        return len(self._bounds)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        first, last = self._bounds[index]
        example_TxB = np.arange(first * self._batch_size, last * self._batch_size).reshape(last - first, -1)
        return tuple(
            self._windows(plan, example_TxB[:, begin:end])
            for plan, (_, _, begin, end) in zip(self._plans, self._parts, strict=True)
        )

    def _windows(self, plan: MixingPlan, example_TxB: np.ndarray) -> np.ndarray:
        source, window = (np.asarray(x) for x in self._draw(plan, example_TxB))
        store = self._store
        start = store.starts_K[source] + window.astype(np.int64) * store.length
        return store.tokens[start[..., None] + np.arange(store.length + 1)]


def host_blocks(
    store: TokenStore, plan: MixingPlan, batch_size: int, bounds: Sequence[tuple[int, int]], parts: Sequence[Part]
) -> Iterator[tuple[np.ndarray, ...]]:
    """The parts of the blocks in order. Two blocks are read ahead while the device works."""
    dataset = grain.MapDataset.source(MixtureBatches(store, plan, batch_size, bounds, parts))
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
