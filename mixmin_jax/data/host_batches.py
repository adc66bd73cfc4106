"""Batches for text that does not fit on the device: read on the host, through Grain.

The examples and their order are those of `mixing.draw`, so that both paths train the same models.
Axes: M models, B batch, L positions, T steps of a block.
"""

from collections.abc import Iterator, Sequence

import grain
import jax
import numpy as np

from mixmin_jax.data.mixing import MixingPlan, draw
from mixmin_jax.data.tokens import TokenStore


class MixtureBatches(grain.sources.RandomAccessDataSource):
    """Element t is block t of the run: tokens_TxMxBx(L+1), for the step ranges given."""

    def __init__(self, store: TokenStore, plan: MixingPlan, batch_size: int, bounds: Sequence[tuple[int, int]]) -> None:
        cpu = jax.local_devices(backend="cpu")[0]
        self._plan = jax.device_put(jax.device_get(plan), cpu)
        self._draw = jax.jit(jax.vmap(draw, in_axes=(0, None), out_axes=1))
        self._store, self._batch_size, self._bounds = store, batch_size, bounds

    def __len__(self) -> int:
        return len(self._bounds)

    def __getitem__(self, index: int) -> np.ndarray:
        first, last = self._bounds[index]
        example_TxB = np.arange(first * self._batch_size, last * self._batch_size).reshape(last - first, -1)
        source, window = (np.asarray(x) for x in self._draw(self._plan, example_TxB))
        store = self._store
        start = store.starts_K[source] + window.astype(np.int64) * store.length
        return store.tokens[start[..., None] + np.arange(store.length + 1)]


def host_blocks(
    store: TokenStore, plan: MixingPlan, batch_size: int, bounds: Sequence[tuple[int, int]]
) -> Iterator[np.ndarray]:
    """The blocks in order, two read ahead while the device works."""
    dataset = grain.MapDataset.source(MixtureBatches(store, plan, batch_size, bounds))
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)))
