import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.masking import random_view
from mixmin_jax.models.series_encoder import (
    SeriesEncoder,
    SeriesEncoderConfig,
    hidden_patch_loss,
    instance_normalized,
    patches_of,
)

CONFIG = SeriesEncoderConfig(
    length=12, patch_length=3, channels=2, classes=(3,), encoder=EncoderConfig(8, 1, 2), decoder=EncoderConfig(8, 1, 2)
)
SERIES = 5 + 2 * jax.random.normal(jax.random.key(1), (2, 12, 2))
VIEW = random_view(jax.random.key(2), 2, 4, 0.5)


@pytest.fixture(scope="module")
def params():
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: SeriesEncoder(CONFIG).init(jax.random.key(0), SERIES))
    return jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape), jnp.float32), shapes)


def encode(params, series, view, mask_tokens=False, **changes):
    return SeriesEncoder(dataclasses.replace(CONFIG, **changes)).apply(params, series, view, mask_tokens)


@pytest.mark.parametrize("mask_tokens", [False, True])
def test_features_know_visible_patches_and_no_hidden_one(params, mask_tokens):
    features = encode(params, SERIES, VIEW, mask_tokens)
    assert features.shape == (2, 1 + (4 if mask_tokens else 2), 8)
    for patches, changes in ((VIEW.hidden_BxH, False), (VIEW.visible_BxV[:, :1], True)):
        other = np.array(SERIES).reshape(2, 4, 3, 2)
        other[np.arange(2)[:, None], patches] += 7
        seen = encode(params, jnp.asarray(other.reshape(2, 12, 2)), VIEW, mask_tokens)
        assert bool((seen != features).any()) == changes


def test_patches_are_stretches_of_steps_with_all_channels():
    patches = patches_of(CONFIG, SERIES)
    assert patches.shape == (2, 4, 6)
    np.testing.assert_array_equal(patches[1, 2], np.asarray(SERIES)[1, 6:9].reshape(-1))


def test_a_model_that_normalizes_knows_neither_level_nor_scale(params):
    scaled = 3 * SERIES + jnp.array([1.0, -2.0])
    for normalize in (False, True):
        one, other = (encode(params, series, None, normalize=normalize) for series in (SERIES, scaled))
        assert np.allclose(one, other, atol=1e-3) == normalize


def test_the_loss_is_the_mean_squared_error_of_hidden_patches_in_standard_deviations_of_their_series():
    predicted = jax.random.normal(jax.random.key(3), (2, 2, 6))
    x = np.asarray(SERIES, np.float64)
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    errors = [
        np.asarray(predicted)[row, slot] - x[row, 3 * patch : 3 * patch + 3].reshape(-1)
        for row in range(2)
        for slot, patch in enumerate(np.asarray(VIEW.hidden_BxH)[row])
    ]
    np.testing.assert_allclose(hidden_patch_loss(CONFIG, predicted, SERIES, VIEW), np.mean(np.square(errors)), 1e-5)
    assert hidden_patch_loss(CONFIG, predicted[:, :0], SERIES, random_view(jax.random.key(0), 2, 4, 0.0)) == 0
    assert not instance_normalized(jnp.full((1, 12, 2), 3.0)).any()  # a flat series has nothing to predict


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "must be positive"),
        ({"patch_length": 5}, "patch lengths that fit: 1, 2, 3, 4, 6, 12"),
        ({"classes": (1,)}, "at least 2 classes"),
        ({"decoder": EncoderConfig(7, 1, 1)}, "multiple of 2"),
    ],
)
def test_impossible_models_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(CONFIG, **options)


def test_series_of_another_shape_are_refused():
    with pytest.raises(InputError, match="series of 12 x 2, these are 11 x 2"):
        patches_of(CONFIG, SERIES[:, 1:])
