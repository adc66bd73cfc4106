import jax
import jax.numpy as jnp
import numpy as np

from mixmin_jax.data.host_batches import host_blocks
from mixmin_jax.data.mixing import draw, gather_windows, make_plan
from mixmin_jax.data.tokens import build_store

STORE = build_store(["a", "b"], [[bytes(range(97, 123)) * 4], [bytes(range(65, 91)) * 2]], length=5)


def test_host_and_device_draw_the_same_examples_in_the_same_order():
    plans = [make_plan(jax.random.key(3), np.array(w), STORE.windows_K, 24) for w in ([0.5, 0.5], [1.0, 0.0])]
    plan = jax.tree.map(lambda *leaves: jnp.stack(leaves), *plans)
    blocks = list(host_blocks(STORE, plan, batch_size=4, bounds=[(0, 4), (4, 6)]))
    assert [block.shape for block in blocks] == [(4, 2, 4, 6), (2, 2, 4, 6)]
    example_TxB = jnp.arange(24).reshape(6, 4)
    source, window = jax.vmap(draw, in_axes=(0, None), out_axes=1)(plan, example_TxB)
    expected = gather_windows(jnp.asarray(STORE.tokens), jnp.asarray(STORE.starts_K), 5, source, window)
    np.testing.assert_array_equal(np.concatenate(blocks), expected)


def test_text_that_lies_in_a_file_is_read_from_there(tmp_path):
    path = tmp_path / "tokens.bin"
    path.write_bytes(STORE.tokens.tobytes())
    mapped = STORE.__class__(
        STORE.names, np.memmap(path, np.uint8, mode="r"), STORE.starts_K, STORE.windows_K, STORE.length
    )
    plan = jax.tree.map(lambda x: x[None], make_plan(jax.random.key(0), np.array([0.3, 0.7]), STORE.windows_K, 8))
    (one,), (other,) = (list(host_blocks(store, plan, 4, [(0, 2)])) for store in (STORE, mapped))
    np.testing.assert_array_equal(one, other)
