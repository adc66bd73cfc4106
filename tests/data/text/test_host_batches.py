import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from mixmin_jax.data.mixing import draw, gather_windows, make_plan
from mixmin_jax.data.text.host_batches import host_blocks, sharded_blocks
from mixmin_jax.data.text.tokens import build_store

STORE = build_store(["a", "b"], [[bytes(range(97, 123)) * 4], [bytes(range(65, 91)) * 2]], length=5)
WHOLE = [(0, 2, 0, 4)]  # both models, all rows


def plan_of_two():
    plans = [make_plan(jax.random.key(3), np.array(w), STORE.windows_K, 24) for w in ([0.5, 0.5], [1.0, 0.0])]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *plans)


def test_host_and_device_draw_the_same_examples_in_the_same_order():
    plan = plan_of_two()
    blocks = [block for (block,) in host_blocks(STORE, plan, batch_size=4, bounds=[(0, 4), (4, 6)], parts=WHOLE)]
    assert [block.shape for block in blocks] == [(4, 2, 4, 6), (2, 2, 4, 6)]
    example_TxB = jnp.arange(24).reshape(6, 4)
    source, window = jax.vmap(draw, in_axes=(0, None), out_axes=1)(plan, example_TxB)
    expected = gather_windows(jnp.asarray(STORE.tokens), jnp.asarray(STORE.starts_K), 5, source, window)
    np.testing.assert_array_equal(np.concatenate(blocks), expected)


class Touched(np.ndarray):
    """Tokens that remember how many were read."""

    def __getitem__(self, index):
        self.counts.append(np.asarray(index).size)
        return np.asarray(self)[index]


def test_only_the_windows_of_the_parts_asked_for_are_read():
    tokens = STORE.tokens.view(Touched)
    tokens.counts = []
    store = STORE.__class__(STORE.names, tokens, STORE.starts_K, STORE.windows_K, STORE.length)
    (whole,), (one, other) = (
        next(host_blocks(given, plan_of_two(), 4, [(0, 3)], parts))
        for given, parts in ((STORE, WHOLE), (store, [(0, 1, 2, 4), (1, 2, 0, 2)]))
    )
    np.testing.assert_array_equal(one, whole[:, :1, 2:])
    np.testing.assert_array_equal(other, whole[:, 1:, :2])
    assert tokens.counts == [3 * 2 * 6, 3 * 2 * 6]  # steps x rows x tokens of a window, for one model each


def test_blocks_lie_on_the_devices_that_train_on_them():
    mesh = jax.make_mesh((2, 4), ("source", "data"), devices=jax.devices())
    sharding = NamedSharding(mesh, PartitionSpec(None, "source", "data"))
    ((whole,),) = host_blocks(STORE, plan_of_two(), 4, [(0, 3)], WHOLE)
    (block,) = sharded_blocks(STORE, plan_of_two(), 4, [(0, 3)], sharding)
    assert block.sharding == sharding and block.addressable_shards[0].data.shape == (3, 1, 1, 6)
    np.testing.assert_array_equal(block, whole)


def test_text_that_lies_in_a_file_is_read_from_there(tmp_path):
    path = tmp_path / "tokens.bin"
    path.write_bytes(STORE.tokens.tobytes())
    mapped = STORE.__class__(
        STORE.names, np.memmap(path, np.uint8, mode="r"), STORE.starts_K, STORE.windows_K, STORE.length
    )
    plan = jax.tree.map(lambda x: x[None], make_plan(jax.random.key(0), np.array([0.3, 0.7]), STORE.windows_K, 8))
    (one,), (other,) = (next(host_blocks(store, plan, 4, [(0, 2)], [(0, 1, 0, 4)])) for store in (STORE, mapped))
    np.testing.assert_array_equal(one, other)
