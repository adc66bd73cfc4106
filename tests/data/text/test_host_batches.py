import dataclasses

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from mixmin_jax.data.mixing import make_plan
from mixmin_jax.data.text.host_batches import host_blocks, sharded_blocks
from mixmin_jax.data.text.tokens import build_store

STORE = build_store(["a", "b"], [[bytes(range(97, 123)) * 4], [bytes(range(65, 91)) * 2]], length=5)
WHOLE = [(0, 2, 0, 4)]  # both models, all rows
PLANS = [make_plan(jax.random.key(3), np.array(w), STORE.windows_K, 24) for w in ([0.5, 0.5], [1.0, 0.0])]
PLAN = jax.tree.map(lambda *leaves: np.stack(leaves), *PLANS)


class Touched(np.memmap):
    """Tokens in a file that remember how many were read."""

    def __getitem__(self, index):
        self.counts.append(np.asarray(index).size)
        return np.asarray(self)[index]


def test_only_the_windows_of_the_parts_asked_for_are_read_from_a_file(tmp_path):
    STORE.tokens.tofile(tmp_path / "tokens.bin")
    tokens = Touched(tmp_path / "tokens.bin", np.uint8, mode="r")
    tokens.counts = []
    store = dataclasses.replace(STORE, tokens=tokens)
    ((whole,),) = host_blocks(STORE, PLAN, 4, [(0, 3)], WHOLE)
    ((one, other),) = host_blocks(store, PLAN, 4, [(0, 3)], [(0, 1, 2, 4), (1, 2, 0, 2)])
    np.testing.assert_array_equal(one, whole[:, :1, 2:])
    np.testing.assert_array_equal(other, whole[:, 1:, :2])
    assert tokens.counts == [3 * 2 * 6, 3 * 2 * 6]  # steps x rows x tokens of a window, for one model each


def test_blocks_lie_on_the_devices_that_train_on_them():
    mesh = jax.make_mesh((2, 4), ("source", "data"), devices=jax.devices())
    sharding = NamedSharding(mesh, PartitionSpec(None, "source", "data"))
    ((whole,),) = host_blocks(STORE, PLAN, 4, [(0, 3)], WHOLE)
    (block,) = sharded_blocks(STORE, PLAN, 4, [(0, 3)], sharding)
    assert block.sharding == sharding and block.addressable_shards[0].data.shape == (3, 1, 1, 6)
    np.testing.assert_array_equal(block, whole)
