"""The models of images, text and series as MixTraining learners: masked autoencoding and classification, one encoder.

A learner has one mask ratio and one way to encode hidden tokens, because these fix shapes. Learners of one
configuration share the structure of their parameters. So a training can use one for self-supervised and another for
joint steps.

Axes: B batch, T tokens in a sequence with its class token, D width of the encoder, A classes of a task.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import ClassHeads, TokenDecoder
from mixmin_jax.models.masking import View, num_hidden, random_view
from mixmin_jax.models.series_encoder import SeriesEncoder, SeriesEncoderConfig, hidden_patch_loss, series_decoder
from mixmin_jax.models.text_encoder import TextEncoder, TextEncoderConfig, hidden_token_loss, text_decoder
from mixmin_jax.models.vision_transformer import ImageEncoder, VisionConfig, image_decoder, patch_loss
from mixmin_jax.training.losses import Learner


def image_learner(
    config: VisionConfig, mask_ratio: float, mask_tokens: bool = False, *, joint_only: bool = False
) -> Learner:
    """Masked autoencoding of images (`patch_loss`) and classification. Inputs: images_BxSxSxC, uint8 or float.

    Args:
        config: of the model.
        mask_ratio: share of the patches that self-supervision hides, in [0, 1).
        mask_tokens: whether the encoder sees a learned token in place of each hidden patch; otherwise it sees nothing.
        joint_only: the learner is only for joint steps, so the mask ratio may be 0: the self-supervised loss is then 0
            and the supervised loss sees all patches.

    Raises:
        InputError: the mask ratio hides nothing, unless `joint_only`.
    """
    return _masked_learner(
        config,
        ImageEncoder(config),
        image_decoder(config),
        lambda predicted, images, view: patch_loss(config, predicted, images, view),
        jnp.zeros((1, config.image_size, config.image_size, config.channels), jnp.uint8),
        mask_ratio,
        mask_tokens,
        joint_only,
    )


def text_learner(
    config: TextEncoderConfig, mask_ratio: float, mask_tokens: bool = True, *, joint_only: bool = False
) -> Learner:
    """Prediction of hidden bytes (`hidden_token_loss`) and classification. Inputs: tokens_BxL, any integer type.

    The arguments are those of `image_learner`. With `mask_tokens` this is masked language modeling, without it a masked
    autoencoder of text.
    """
    return _masked_learner(
        config,
        TextEncoder(config),
        text_decoder(config),
        hidden_token_loss,
        jnp.zeros((1, config.length), jnp.uint8),
        mask_ratio,
        mask_tokens,
        joint_only,
    )


def series_learner(
    config: SeriesEncoderConfig, mask_ratio: float, mask_tokens: bool = False, *, joint_only: bool = False
) -> Learner:
    """Prediction of hidden patches (`hidden_patch_loss`) and classification of series. Inputs: series_BxSxC, float32.

    The arguments are those of `image_learner`.
    """
    return _masked_learner(
        config,
        SeriesEncoder(config),
        series_decoder(config),
        lambda predicted, series, view: hidden_patch_loss(config, predicted, series, view),
        jnp.zeros((1, config.length, config.channels), jnp.float32),
        mask_ratio,
        mask_tokens,
        joint_only,
    )


def _masked_learner(
    config: VisionConfig | TextEncoderConfig | SeriesEncoderConfig,
    encoder: nn.Module,
    decoder: TokenDecoder,
    hidden_loss: Callable[[jax.Array, jax.Array, View], jax.Array],
    example: jax.Array,
    mask_ratio: float,
    mask_tokens: bool,
    joint_only: bool,
) -> Learner:
    tokens, positions = config.tokens, config.decoder_positions()
    heads = ClassHeads(config.classes, config.pool)
    if num_hidden(tokens, mask_ratio) == 0 and not joint_only:
        raise InputError(
            f"mask_ratio {mask_ratio} hides none of the {tokens} tokens, so self-supervision has nothing to predict;"
            " choose a larger one (or joint_only=True, for a learner that never makes a step of self-supervision alone)"
        )

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key, 3)
        view = random_view(keys[0], 1, tokens, 0.0)
        features, encoder_params = encoder.init_with_output(keys[0], example)
        return {
            "encoder": encoder_params["params"],
            "ssl": decoder.init(keys[1], features, view, positions)["params"],
            "sl": heads.init(keys[2], features).get("params", {}),
        }

    def encode(params: Any, inputs: jax.Array, view: View | None) -> Any:
        return encoder.apply({"params": params["encoder"]}, inputs, view, mask_tokens)

    def ssl_loss(params: Any, features: jax.Array, inputs: jax.Array, view: View) -> jax.Array:
        predicted: Any = decoder.apply({"params": params["ssl"]}, features, view, positions)
        return hidden_loss(predicted, inputs, view)

    def sl_logits(params: Any, features: jax.Array, task: int) -> Any:
        return heads.apply({"params": params["sl"]}, features, task, method="logits")

    return Learner(
        init=init,
        hide=lambda key, inputs: random_view(key, len(inputs), tokens, mask_ratio),
        encode=encode,
        ssl_loss=ssl_loss,
        sl_logits=sl_logits,
    )
