import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.masking import View, random_view
from mixmin_jax.models.text_encoder import TextEncoder, TextEncoderConfig, hidden_token_loss, text_decoder

CONFIG = TextEncoderConfig(length=12, classes=(3,), encoder=EncoderConfig(8, 1, 2), decoder=EncoderConfig(8, 1, 2))
TOKENS = jax.random.randint(jax.random.key(1), (2, 12), 0, 256).astype(jnp.uint8)
VIEW = random_view(jax.random.key(2), 2, 12, 0.25)


def drawn(init):
    """Parameters of the shapes that `init` gives, all random, so that all take part in what the tests compare."""
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape), jnp.float32), jax.eval_shape(init))


@pytest.fixture(scope="module")
def params():
    return drawn(lambda: TextEncoder(CONFIG).init(jax.random.key(0), TOKENS))


encode = jax.jit(
    lambda params, tokens, view, mask_tokens: TextEncoder(CONFIG).apply(params, tokens, view, mask_tokens),
    static_argnums=3,
)


@pytest.mark.parametrize("mask_tokens", [False, True])
def test_features_know_visible_bytes_and_their_places_but_no_hidden_byte(params, mask_tokens):
    features = encode(params, TOKENS, VIEW, mask_tokens)
    assert features.shape == (2, 1 + (12 if mask_tokens else 9), 8)
    for places, changes in ((VIEW.hidden_BxH, False), (VIEW.visible_BxV[:, :1], True)):
        other = np.array(TOKENS)
        other[np.arange(2)[:, None], places] += 7
        assert bool((encode(params, jnp.asarray(other), VIEW, mask_tokens) != features).any()) == changes
    reversed_text = encode(params, TOKENS[:, ::-1], View(11 - VIEW.visible_BxV, 11 - VIEW.hidden_BxH), mask_tokens)
    assert jnp.abs(reversed_text - features).max() > 1e-3  # the same bytes in the same slots, at other places


def test_the_decoder_gives_logits_of_each_hidden_byte(params):
    features = encode(params, TOKENS, VIEW, False)
    decoder, positions = text_decoder(CONFIG), CONFIG.decoder_positions()
    tree = drawn(lambda: decoder.init(jax.random.key(0), features, VIEW, positions))
    assert decoder.apply(tree, features, VIEW, positions).shape == (2, 3, 256)


def test_the_loss_is_the_cross_entropy_of_the_hidden_bytes_in_nats():
    logits = 3 * jax.random.normal(jax.random.key(4), (2, 3, 256))
    probabilities = np.exp(np.asarray(logits, np.float64))
    probabilities /= probabilities.sum(-1, keepdims=True)
    terms = [
        -np.log(probabilities[row, slot, np.asarray(TOKENS)[row, place]])
        for row in range(2)
        for slot, place in enumerate(np.asarray(VIEW.hidden_BxH)[row])
    ]
    loss = jax.jit(lambda logits: hidden_token_loss(logits, TOKENS, VIEW))
    np.testing.assert_allclose(loss(logits), np.mean(terms), rtol=1e-5)
    np.testing.assert_allclose(loss(0 * logits), np.log(256), rtol=1e-6)
    nothing = random_view(jax.random.key(0), 2, 12, 0.0)
    assert hidden_token_loss(logits[:, :0], TOKENS, nothing) == 0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"length": 0}, "length"),
        ({"vocabulary": 1}, "vocabulary"),
        ({"classes": (1,)}, "at least 2 classes"),
        ({"decoder": EncoderConfig(7, 1, 1)}, "multiple of 2"),
    ],
)
def test_impossible_models_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(CONFIG, **options)


def test_rows_of_another_length_are_refused():
    with pytest.raises(InputError, match="12 tokens, these have 11"):
        TextEncoder(CONFIG).init(jax.random.key(0), TOKENS[:, 1:])
