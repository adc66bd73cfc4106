import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.models.transformer import VOCABULARY, TransformerConfig, TransformerLM, rotate_pairs

CONFIG = TransformerConfig(width=16, depth=2, heads=2)
TOKENS = jax.random.randint(jax.random.key(1), (2, 12), 0, VOCABULARY)


@pytest.fixture(scope="module")
def params():
    return jax.jit(TransformerLM(CONFIG).init)(jax.random.key(0), TOKENS)


def test_a_position_sees_no_later_byte(params):
    """The gradient of one position's logits is zero for later inputs and not zero for any up to it."""

    def logit_sum(table_LxD, position):
        # as if every position had an embedding row of its own
        inputs = jnp.arange(12)[None]
        changed = {"params": dict(params["params"], embed={"embedding": table_LxD})}
        return TransformerLM(CONFIG).apply(changed, inputs)[0, position, 3]

    table = jax.random.normal(jax.random.key(2), (VOCABULARY, CONFIG.width))
    gradient = jax.jit(jax.grad(logit_sum))
    for position in (0, 5, 11):
        sizes = jnp.abs(gradient(table, position)).sum(axis=-1)[:12]
        assert (sizes[position + 1 :] == 0).all()
        assert (sizes[: position + 1] > 0).all()


def test_rotation_keeps_norms_and_depends_on_relative_position_only():
    q, k = jax.random.normal(jax.random.key(0), (2, 8))
    spread = jnp.broadcast_to(jnp.stack([q, k])[:, None, None], (2, 10, 1, 8))
    rotated_q, rotated_k = rotate_pairs(spread)[:, :, 0]
    np.testing.assert_allclose(jnp.linalg.norm(rotated_q, axis=-1), jnp.linalg.norm(q), rtol=1e-5)
    scores = rotated_q @ rotated_k.T
    for offset in (0, 3):
        np.testing.assert_allclose(jnp.diagonal(scores, offset), scores[0, offset], rtol=1e-4, atol=1e-5)
    assert abs(scores[0, 3] - scores[3, 0]) > 1e-3


def test_parameter_count_is_the_sum_of_its_parts(params):
    width, depth = CONFIG.width, CONFIG.depth
    block = 12 * width**2 + 2 * width  # 3 + 1 + 4 + 4 matrices and two norms
    expected = 2 * VOCABULARY * width + depth * block + width
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def test_bfloat16_computes_close_to_float32_with_float32_parameters_and_logits(params):
    low = TransformerLM(TransformerConfig(16, 2, 2, bfloat16=True))
    logits = low.apply(params, TOKENS)
    assert logits.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(low.init(jax.random.key(0), TOKENS)))
    exact = TransformerLM(CONFIG).apply(params, TOKENS)
    assert 0 < jnp.abs(logits - exact).max() < 0.1


def test_recomputing_activations_changes_no_gradient(params):
    def loss(params, config):
        return TransformerLM(config).apply(params, TOKENS).astype(jnp.float32).var()

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    stored, recomputed = (gradient(params, TransformerConfig(16, 2, 2, remat=remat)) for remat in (False, True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), stored, recomputed)
    assert "remat" in str(jax.make_jaxpr(lambda p: jax.grad(loss)(p, TransformerConfig(16, 2, 2, remat=True)))(params))


@pytest.mark.parametrize("sizes", [(0, 1, 1), (16, 0, 2), (16, 1, 3), (6, 1, 2)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(InputError, match="width"):
        TransformerConfig(*sizes)
