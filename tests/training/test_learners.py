import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.series_encoder import SeriesEncoderConfig
from mixmin_jax.models.text_encoder import TextEncoderConfig
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.training.learners import image_learner, series_learner, text_learner
from mixmin_jax.training.mixtraining import Batch, Labeled, joint_loss, sl_loss

SMALL = EncoderConfig(16, 1, 2)
IMAGES = VisionConfig(4, 2, 1, (2, 3), encoder=SMALL, decoder=SMALL)
TEXT = TextEncoderConfig(length=6, classes=(2, 3), encoder=SMALL, decoder=SMALL)
SERIES = SeriesEncoderConfig(length=8, patch_length=2, channels=3, classes=(2, 3), encoder=SMALL, decoder=SMALL)
LEARNERS = {"images": (image_learner, IMAGES), "text": (text_learner, TEXT), "series": (series_learner, SERIES)}


def picture_rows(key, rows):
    """Two classes: stripes down or across, bright and dark, so that what is seen tells what is hidden."""
    down, start = jax.random.bernoulli(key, 0.5, (2, rows)).astype(jnp.int32)
    stripe = (jnp.arange(4) + start[:, None]) % 2
    across = jnp.broadcast_to(stripe[:, :, None], (rows, 4, 4))
    images = jnp.where(down[:, None, None] == 1, across.swapaxes(1, 2), across)
    return (255 * images[..., None]).astype(jnp.uint8), down


def text_rows(key, rows):
    """Two classes: one byte six times, from the lower or the upper half of four letters."""
    letters = jax.random.randint(key, (rows, 1), 0, 4)
    return jnp.broadcast_to(97 + letters, (rows, 6)).astype(jnp.uint8), letters[:, 0] // 2


init_images = jax.jit(image_learner(IMAGES, 0.5).init)
init_text = jax.jit(text_learner(TEXT, 0.5).init)


@pytest.mark.parametrize("make, config", LEARNERS.values(), ids=LEARNERS)
def test_all_variants_share_one_tree_of_parameters(make, config):
    variants = [make(config, 0.5, False), make(config, 0.25, True), make(config, 0.0, False, joint_only=True)]
    trees = [jax.eval_shape(learner.init, jax.random.key(0)) for learner in variants]
    assert trees[0] == trees[1] == trees[2]
    assert set(trees[0]) == {"encoder", "ssl", "sl"}
    assert {leaf.shape for leaf in jax.tree.leaves(trees[0]["sl"])} == {(16, 2), (2,), (16, 3), (3,)}


def test_parts_of_the_parameters_are_drawn_apart_and_repeatably():
    first, again, other = (init_images(jax.random.key(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    kernels = [tree["encoder"]["tokens"]["stack"]["block_0"]["out"]["kernel"] for tree in (first, other)]
    assert (kernels[0] != kernels[1]).all()
    assert (kernels[0] != first["ssl"]["stack"]["block_0"]["out"]["kernel"]).all()


def test_at_mask_ratio_0_and_alpha_0_the_joint_gradient_is_the_supervised_one():
    learner = image_learner(IMAGES, 0.0, joint_only=True)
    images, labels = picture_rows(jax.random.key(1), 4)
    batch = Batch((Labeled(images, labels), Labeled(images[:2], labels[:2] + 1)))

    def joint(params):
        loss, losses = joint_loss(learner, params, batch, jax.random.key(2), 0.0)
        return loss, losses.ssl

    gradient, ssl = jax.jit(jax.grad(joint, has_aux=True))(init_images(jax.random.key(0)))
    expected = jax.jit(jax.grad(lambda params: sl_loss(learner, params, batch)))(init_images(jax.random.key(0)))
    assert ssl == 0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), gradient, expected)
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient["sl"]))


def test_the_encoder_is_paid_for_visible_patches_only():
    images, _ = picture_rows(jax.random.key(1), 4)
    params, shapes = init_images(jax.random.key(0)), {}
    for mask_tokens in (False, True):
        learner = image_learner(IMAGES, 0.5, mask_tokens)
        view = learner.hide(jax.random.key(0), images)
        shapes[mask_tokens] = jax.eval_shape(learner.encode, params, images, view).shape
        assert jax.eval_shape(learner.encode, params, images, None).shape == (4, 1 + 4, 16)
    assert shapes == {False: (4, 1 + 2, 16), True: (4, 1 + 4, 16)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "learner, init, rows, mask_token_learns",
    [
        (image_learner(IMAGES, 0.5), init_images, picture_rows, False),
        (text_learner(TEXT, 0.5), init_text, text_rows, True),
    ],
    ids=["images, visible tokens", "text, mask tokens"],
)
def test_training_lowers_both_losses(learner, init, rows, mask_token_learns):
    inputs, labels = rows(jax.random.key(2), 16)
    batch = Batch((Labeled(inputs, labels), Labeled(inputs, labels + 1)))
    first = init(jax.random.key(0))
    flat, tree_of = ravel_pytree(first)  # one array: the optimiser compiles in no time
    optimizer = optax.adam(1e-2)

    def step(carry, key):
        flat, opt_state = carry
        gradient, losses = jax.grad(lambda x: joint_loss(learner, tree_of(x), batch, key, 0.5), has_aux=True)(flat)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return (flat + updates, opt_state), losses

    keys = jax.random.split(jax.random.key(1), 60)
    (flat, _), losses = jax.jit(lambda x: jax.lax.scan(step, (x, optimizer.init(x)), keys))(flat)
    assert losses.ssl[-10:].mean() < 0.5 * losses.ssl[0]
    assert losses.sl[-10:].mean() < 0.5 * losses.sl[0]
    before, after = (tree["encoder"]["tokens"]["mask_token"] for tree in (first, tree_of(flat)))
    assert bool((before != after).any()) == mask_token_learns


@pytest.mark.parametrize("make, config", LEARNERS.values(), ids=LEARNERS)
def test_a_learner_that_would_predict_nothing_is_refused(make, config):
    with pytest.raises(InputError, match="hides none of the"):
        make(config, 0.0)
    with pytest.raises(InputError, match="hides none of the"):
        make(config, 0.05)
    with pytest.raises(InputError, match="less than 1"):
        make(config, 1.0)
