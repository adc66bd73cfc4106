import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax.models.mlp import BitMLP

BITS = jnp.asarray(np.random.default_rng(0).random((6, 10)) < 0.4, jnp.uint8)


def by_hand(params, bits, widths):
    x = bits @ params["bits_kernel"].T + params["bits_bias"]
    for i in range(widths):
        x = np.maximum(x, 0) @ params[f"Dense_{i}"]["kernel"] + params[f"Dense_{i}"]["bias"]
    return x[:, 0]


@pytest.mark.parametrize("hidden", [(), (5,), (5, 3)])
def test_the_model_is_the_one_written_out_by_hand(hidden):
    model = BitMLP(hidden)
    params = model.init(jax.random.key(0), BITS)["params"]
    np.testing.assert_array_equal(model.apply({"params": params}, BITS), np.zeros(6))  # a new model says 0
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    params = treedef.unflatten([jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)])
    expected = by_hand(jax.tree.map(np.asarray, params), np.asarray(BITS, np.float64), len(hidden))
    for bits in (BITS, BITS.astype(jnp.float32)):
        np.testing.assert_allclose(model.apply({"params": params}, bits), expected, rtol=1e-4, atol=1e-5)


def test_the_first_kernel_starts_small_so_that_rare_bits_are_little_noise():
    params = BitMLP((64,)).init(jax.random.key(0), jnp.zeros((1, 2048), jnp.uint8))["params"]
    kernel = params["bits_kernel"]
    assert kernel.shape == (64, 2048)
    np.testing.assert_allclose(kernel.std(), 2048**-0.5, rtol=0.02)
