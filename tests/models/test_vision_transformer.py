import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import ClassHeads, EncoderConfig, Stack, check_heads, pooled, sine_cosine_positions
from mixmin_jax.models.masking import View, random_view
from mixmin_jax.models.vision_transformer import (
    TINY,
    ImageEncoder,
    VisionConfig,
    gray_out,
    image_decoder,
    images_of,
    normalize,
    patch_loss,
    patches_of,
    reconstruct,
)

CONFIG = VisionConfig(8, 2, 3, (5,), encoder=EncoderConfig(16, 2, 2), decoder=EncoderConfig(8, 1, 2))
PIXELS = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), np.uint8)
IMAGES = jnp.asarray(PIXELS)
VIEW = random_view(jax.random.key(2), 2, CONFIG.tokens, 0.75)
EVERYTHING = random_view(jax.random.key(2), 2, CONFIG.tokens, 0.0)


@pytest.fixture(scope="module")
def params():
    """Drawn wide, so that biases and norms, which start at 0 and 1, take part in what the tests compare."""

    def shapes(key):
        features, encoder = ImageEncoder(CONFIG).init_with_output(key, IMAGES)
        decoder = image_decoder(CONFIG).init(key, features, VIEW, CONFIG.decoder_positions())
        return {"encoder": encoder["params"], "ssl": decoder["params"]}

    draw = np.random.default_rng(9)
    tree = jax.eval_shape(shapes, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(0.4 * draw.normal(size=leaf.shape), jnp.float32), tree)


def encode_with(config, params, images, view=None, mask_tokens=False):
    return ImageEncoder(config).apply({"params": params["encoder"]}, images, view, mask_tokens)


def decode_with(config, params, features, view):
    return image_decoder(config).apply({"params": params["ssl"]}, features, view, config.decoder_positions())


encode = jax.jit(lambda params, images, view=None: encode_with(CONFIG, params, images, view))
encode_mask_tokens = jax.jit(lambda params, images, view: encode_with(CONFIG, params, images, view, True))
decode = jax.jit(lambda params, features, view: decode_with(CONFIG, params, features, view))


def test_vit_tiny_has_the_published_number_of_parameters():
    """timm's vit_tiny_patch16_224 and DeiT-Ti; the mask token is ours alone."""
    config = VisionConfig(224, 16, 3, (1000,), encoder=TINY, pool="cls")
    key, image = jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.uint8)
    features, encoder = jax.eval_shape(lambda x: ImageEncoder(config).init_with_output(key, x), image)
    assert features.shape == (1, 1 + 196, 192)
    heads = jax.eval_shape(lambda x: ClassHeads(config.classes, config.pool).init(key, x), features)
    mask_token = encoder["params"]["tokens"]["mask_token"].size
    assert sum(leaf.size for leaf in jax.tree.leaves((encoder, heads))) - mask_token == 5_717_416


def reference_features(params, patches_NxP, places_N):
    """The encoder in NumPy, one image, one head and one token at a time, for the patches at the given places."""
    tree = jax.tree.map(lambda x: np.asarray(x, np.float64), params["encoder"])
    tokens, heads = tree["tokens"], CONFIG.encoder.heads

    def linear(p, x):
        return x @ p["kernel"] + p["bias"]

    def norm(p, x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]

    embedded = linear(tree["patch_embedding"], patches_NxP) + tokens["positions"][1 + np.asarray(places_N)]
    x = np.vstack([tokens["class_token"] + tokens["positions"][0], embedded])
    for i in range(CONFIG.encoder.depth):
        block = tokens["stack"][f"block_{i}"]
        q, k, v = np.split(linear(block["qkv"], norm(block["attention_norm"], x)), 3, axis=1)
        attended = np.zeros_like(x)
        size = x.shape[1] // heads
        for columns in (slice(h * size, (h + 1) * size) for h in range(heads)):
            for t in range(len(x)):
                weights = np.exp(k[:, columns] @ q[t, columns] / np.sqrt(size))
                attended[t, columns] = weights / weights.sum() @ v[:, columns]
        x = x + linear(block["out"], attended)
        h = linear(block["up"], norm(block["feed_forward_norm"], x))
        x = x + linear(block["down"], h / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3))))
    return norm(tokens["stack"]["final_norm"], x)


def test_features_are_those_of_the_encoder_written_out(params):
    visible = np.asarray(VIEW.visible_BxV[0])
    patches = PIXELS[0].astype(np.float64).reshape(4, 2, 4, 2, 3).transpose(0, 2, 1, 3, 4).reshape(16, 12)
    patches = 2 * patches / 255 - 1
    every = encode(params, IMAGES)[0]
    np.testing.assert_allclose(every, reference_features(params, patches, np.arange(16)), rtol=1e-3, atol=1e-4)
    seen = encode(params, IMAGES, VIEW)[0]
    np.testing.assert_allclose(seen, reference_features(params, patches[visible], visible), rtol=1e-3, atol=1e-4)


def test_with_nothing_hidden_the_view_is_the_full_encoding_in_any_order(params):
    order_BxL = np.random.default_rng(4).permuted([range(16)] * 2, axis=1).astype(np.int32)
    shuffled = View(jnp.asarray(order_BxL), EVERYTHING.hidden_BxH)
    full = encode(params, IMAGES)
    np.testing.assert_array_equal(encode(params, IMAGES, EVERYTHING), full)
    features = encode(params, IMAGES, shuffled)
    expected = np.take_along_axis(np.asarray(full)[:, 1:], order_BxL[..., None], axis=1)
    np.testing.assert_allclose(features[:, 1:], expected, rtol=1e-4, atol=1e-5)
    for pool in ("mean", "cls"):
        np.testing.assert_allclose(pooled(full, pool), pooled(features, pool), rtol=1e-4, atol=1e-5)


def test_each_task_has_a_linear_head_on_the_pooled_features():
    draw = np.random.default_rng(5)
    features = draw.normal(size=(2, 4, 16)).astype(np.float32)
    tree = {
        f"heads_{task}": {"kernel": draw.normal(size=(16, classes)), "bias": draw.normal(size=classes)}
        for task, classes in enumerate((5, 3))
    }
    for pool, seen in (("mean", features[:, 1:].mean(axis=1)), ("cls", features[:, 0])):
        heads = ClassHeads((5, 3), pool)
        for task in range(2):
            logits = heads.apply({"params": tree}, jnp.asarray(features), task, method="logits")
            head = tree[f"heads_{task}"]
            np.testing.assert_allclose(logits, seen @ head["kernel"] + head["bias"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoded", [encode, encode_mask_tokens], ids=["visible", "mask tokens"])
def test_features_know_nothing_of_hidden_pixels(params, encoded):
    features = encoded(params, IMAGES, VIEW)
    for places, changes in ((VIEW.hidden_BxH, False), (VIEW.visible_BxV, True)):
        patches = np.array(patches_of(CONFIG, IMAGES))
        patches[np.arange(2)[:, None], places] += 7
        images = images_of(CONFIG, jnp.asarray(patches))
        assert bool((encoded(params, images, VIEW) != features).any()) == changes


def test_mask_tokens_stand_at_the_hidden_places(params):
    """Another order of the hidden tokens is another order of their features, and they differ by place."""
    features = np.asarray(encode_mask_tokens(params, IMAGES, VIEW))
    assert features.shape == (2, 1 + 16, 16)
    other = encode_mask_tokens(params, IMAGES, View(VIEW.visible_BxV, VIEW.hidden_BxH[:, ::-1]))
    other = np.asarray(other)
    np.testing.assert_allclose(other[:, :5], features[:, :5], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(other[:, :4:-1], features[:, 5:], rtol=1e-4, atol=1e-5)
    assert np.abs(features[:, 5] - features[:, 6]).max(axis=-1).min() > 1e-2


def test_a_prediction_belongs_to_the_place_that_is_asked_for(params):
    features = encode(params, IMAGES, VIEW)
    visible, hidden = VIEW
    predicted = np.asarray(decode(params, features, VIEW))
    assert predicted.shape == (2, 12, 12)
    moved = np.asarray(decode(params, features, View(visible, hidden.at[:, 0].set(hidden[:, 1]))))
    assert (np.abs(moved[:, 0] - predicted[:, 0]).max(axis=-1) > 1e-3).all()
    np.testing.assert_allclose(moved[:, 0], moved[:, 1], rtol=1e-4, atol=1e-5)
    turned = decode(params, features, View(visible[:, ::-1], hidden))
    assert np.abs(turned - predicted).max() > 1e-3  # visible features have places too


def test_the_decoder_takes_each_feature_at_its_own_place(params):
    """Features in another order with their places in that order are the same input, whether hidden ones have any."""
    order = np.random.default_rng(6).permutation
    for encoded in (encode, encode_mask_tokens):
        features = np.array(encoded(params, IMAGES, VIEW))
        seen, masked = order(4), order(12)
        slots = np.concatenate([[0], 1 + seen, 5 + masked])[: features.shape[1]]
        view = View(VIEW.visible_BxV[:, seen], VIEW.hidden_BxH[:, masked])
        predicted = np.asarray(decode(params, jnp.asarray(features), VIEW))
        again = decode(params, jnp.asarray(features[:, slots]), view)
        np.testing.assert_allclose(again, predicted[:, masked], rtol=1e-4, atol=1e-4)
        features[:, -1] += 1
        assert np.abs(decode(params, jnp.asarray(features), VIEW) - predicted).max() > 1e-3


def test_positions_of_a_grid_tell_all_places_apart():
    positions = sine_cosine_positions((3, 5), 8)
    assert positions.shape == (15, 8) and positions.dtype == np.float32
    place = positions[2 * 5 + 3]
    np.testing.assert_allclose(place[:4], [np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02)], rtol=1e-6)
    np.testing.assert_allclose(place[4:], [np.sin(3), np.sin(0.03), np.cos(3), np.cos(0.03)], rtol=1e-6)
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    assert (distances + 9 * np.eye(15)).min() > 0.5


def test_patches_are_cut_row_by_row_and_put_together_again():
    patches = patches_of(CONFIG, IMAGES)
    np.testing.assert_array_equal(patches[1, 6], IMAGES[1, 2:4, 4:6].reshape(-1))
    np.testing.assert_array_equal(images_of(CONFIG, patches), IMAGES)


def test_bytes_become_minus_one_to_one_and_floats_stay():
    np.testing.assert_allclose(normalize(jnp.array([0, 255], jnp.uint8)), [-1, 1])
    np.testing.assert_array_equal(normalize(jnp.array([0.25, 3.0])), [0.25, 3.0])
    with pytest.raises(InputError, match="uint8"):
        normalize(jnp.array([1]))


pixel_loss = jax.jit(lambda predicted, images: patch_loss(CONFIG, predicted, images, VIEW))


def test_the_loss_is_the_error_to_hidden_patches_brought_to_mean_0_and_variance_1():
    predicted = jax.random.normal(jax.random.key(4), (2, 12, 12))
    errors = []
    for row in range(2):
        for slot, place in enumerate(np.asarray(VIEW.hidden_BxH)[row]):
            r, c = 2 * (place // 4), 2 * (place % 4)
            x = PIXELS[row, r : r + 2, c : c + 2].astype(np.float64).reshape(-1)
            errors.append((predicted[row, slot] - (x - x.mean()) / x.std()) ** 2)
    np.testing.assert_allclose(pixel_loss(predicted, IMAGES), np.mean(errors), rtol=1e-4)
    np.testing.assert_allclose(pixel_loss(0 * predicted, IMAGES), 1, rtol=1e-4)
    flat = jnp.full_like(IMAGES, 7)
    assert pixel_loss(0 * predicted, flat) < 1e-6  # not a division by 0
    assert patch_loss(CONFIG, jnp.zeros((2, 0, 12)), IMAGES, EVERYTHING) == 0


def test_a_reconstruction_puts_each_prediction_in_its_place(params):
    predicted = np.asarray(decode(params, encode(params, IMAGES, VIEW), VIEW))
    expected = PIXELS.copy()
    for row in range(2):
        for slot, place in enumerate(np.asarray(VIEW.hidden_BxH)[row]):
            r, c = 2 * (place // 4), 2 * (place % 4)
            x = PIXELS[row, r : r + 2, c : c + 2].astype(np.float64)
            patch = predicted[row, slot].reshape(2, 2, 3) * x.std() + x.mean()
            expected[row, r : r + 2, c : c + 2] = np.clip(np.round(patch), 0, 255)
    pictures = jax.jit(lambda p: reconstruct(CONFIG, p, IMAGES, VIEW))(params)
    assert pictures.dtype == jnp.uint8
    assert np.abs(np.asarray(pictures, int) - expected.astype(int)).max() <= 1  # rounding


def test_hidden_patches_are_shown_grey():
    grey = np.asarray(gray_out(CONFIG, IMAGES, VIEW))
    for place in range(16):
        r, c = 2 * (place // 4), 2 * (place % 4)
        expected = 128 if place in np.asarray(VIEW.hidden_BxH)[0] else PIXELS[0, r : r + 2, c : c + 2]
        np.testing.assert_array_equal(grey[0, r : r + 2, c : c + 2], expected)
    np.testing.assert_array_equal(gray_out(CONFIG, IMAGES, EVERYTHING), IMAGES)
    floats = gray_out(CONFIG, normalize(IMAGES), VIEW)
    np.testing.assert_allclose(floats, np.where(grey == 128, 0, normalize(IMAGES)), atol=0.005)


def ssl_loss(config, params):
    features = encode_with(config, params, IMAGES, VIEW)
    return patch_loss(config, decode_with(config, params, features, VIEW), IMAGES, VIEW)


def changed(**options):
    return dataclasses.replace(
        CONFIG,
        encoder=dataclasses.replace(CONFIG.encoder, **options),
        decoder=dataclasses.replace(CONFIG.decoder, **options),
    )


def test_bfloat16_multiplies_in_bfloat16_and_leaves_parameters_features_and_losses_in_float32(params):
    low = changed(bfloat16=True)
    created = jax.eval_shape(lambda: ImageEncoder(low).init(jax.random.key(0), IMAGES))
    assert {leaf.dtype for leaf in jax.tree.leaves(created)} == {jnp.dtype("float32")}
    features = jax.jit(lambda p: encode_with(low, p, IMAGES, VIEW))(params)
    assert features.dtype == jnp.float32
    exact = encode(params, IMAGES, VIEW)
    assert 1e-4 < jnp.abs(features - exact).mean() < 0.05 * jnp.abs(exact).mean()
    stack = {"params": params["encoder"]["tokens"]["stack"]}
    seen = jax.eval_shape(lambda x: Stack(low.encoder).apply(stack, x, capture_intermediates=True)[1], features)
    blocks = [seen["intermediates"][f"block_{i}"]["__call__"][0].dtype for i in range(2)]
    assert blocks == [jnp.bfloat16] * 2
    assert jax.eval_shape(lambda p: ssl_loss(low, p), params).dtype == jnp.float32


def test_recomputing_activations_changes_no_gradient(params):
    def loss(tree, config):
        return (encode_with(config, {"encoder": tree}, IMAGES, VIEW) ** 3).mean()

    stored, recomputed = (
        jax.jit(jax.grad(loss), static_argnums=1)(params["encoder"], config) for config in (CONFIG, changed(remat=True))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), stored, recomputed)
    assert jnp.abs(stored["tokens"]["stack"]["block_0"]["qkv"]["kernel"]).max() > 1e-3
    assert "remat" in str(jax.make_jaxpr(lambda p: jax.grad(loss)(p, changed(remat=True)))(params["encoder"]))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"patch_size": 3}, "patch sizes that fit: 1, 2, 4, 8"),
        ({"patch_size": 0}, "positive"),
        ({"patch_size": 1, "channels": 1}, "one value"),
        ({"classes": (5, 1)}, "at least 2 classes"),
        ({"decoder": EncoderConfig(6, 1, 1)}, "multiple of 4"),
    ],
)
def test_impossible_models_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(CONFIG, **options)


@pytest.mark.parametrize("sizes", [(0, 1, 1), (16, 0, 2), (16, 1, 3), (16, 1, 2, 0)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(InputError, match="width"):
        EncoderConfig(*sizes)


def test_a_pool_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="pool must be 'mean' or 'cls', got 'max'"):
        check_heads((2,), "max")


def test_images_of_another_size_are_refused():
    with pytest.raises(InputError, match="8 x 8 x 3, these are 8 x 8 x 1"):
        patches_of(CONFIG, IMAGES[..., :1])
