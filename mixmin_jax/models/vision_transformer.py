"""A vision transformer with a masked-autoencoder decoder and classification heads.

Visible patches are gathered before the embedding, so hidden patches cost nothing. Images are uint8, mapped from 0..255
to [-1, 1], or floats, which should have about that scale.

Axes: B batch, S image side, C channels, G patches per side, L = G^2 patches, V visible ones, H hidden ones,
P = patch_size^2 C values of a patch, T a sequence with its class token, D width of the encoder.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import (
    EncoderConfig,
    Pool,
    TokenDecoder,
    TokenEncoder,
    check_heads,
    gather_tokens,
    sine_cosine_positions,
)
from mixmin_jax.models.masking import View

TINY = EncoderConfig(width=192, depth=12, heads=3)  # ViT-Tiny of DeiT (Touvron et al., arXiv:2012.12877, table 1)
MICRO = EncoderConfig(width=96, depth=4, heads=3)  # for CPUs
TINY_DECODER = EncoderConfig(width=96, depth=2, heads=3)
MICRO_DECODER = EncoderConfig(width=64, depth=1, heads=2)


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """Images, patches and sizes of a vision transformer."""

    image_size: int  # S: images are S x S
    patch_size: int  # divides the image size
    channels: int  # C
    classes: tuple[int, ...]  # classes of each supervised task
    encoder: EncoderConfig = MICRO
    decoder: EncoderConfig = MICRO_DECODER
    pool: Pool = "mean"  # features that the heads read: the mean over the encoder's patches, or its class token

    def __post_init__(self) -> None:
        if min(self.image_size, self.patch_size, self.channels) < 1:
            raise InputError(
                "image_size, patch_size and channels must be positive,"
                f" got {self.image_size}, {self.patch_size}, {self.channels}"
            )
        if self.image_size % self.patch_size:
            divisors = [d for d in range(1, self.image_size + 1) if self.image_size % d == 0]
            raise InputError(
                f"images of {self.image_size} x {self.image_size} do not split into patches of"
                f" {self.patch_size} x {self.patch_size}; patch sizes that fit: {', '.join(map(str, divisors))}"
            )
        if self.patch_values < 2:
            raise InputError(
                "patches of one value are all the same once they are normalized, and there is nothing to predict;"
                " choose a larger patch_size"
            )
        check_heads(self.classes, self.pool)
        self.decoder_positions()

    @property
    def tokens(self) -> int:
        """L: patches of an image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def patch_values(self) -> int:
        """P: values of a patch."""
        return self.patch_size**2 * self.channels

    def decoder_positions(self) -> Float[np.ndarray, "L E"]:
        side = self.image_size // self.patch_size
        return sine_cosine_positions((side, side), self.decoder.width)


class ImageEncoder(nn.Module):
    """images_BxSxSxC -> features_BxTxD of [class, patches], [class, visible] or [class, visible, hidden].

    See `TokenEncoder` for `view` and `mask_tokens`.
    """

    config: VisionConfig

    @nn.compact
    def __call__(
        self, images_BxSxSxC: Num[Array, "B S S C"], view: View | None = None, mask_tokens: bool = False
    ) -> Float[Array, "B T D"]:
        cfg = self.config
        patches = patches_of(cfg, images_BxSxSxC)
        if view is not None:
            patches = gather_tokens(patches, view.visible_BxV)
        embed = nn.Dense(
            cfg.encoder.width,
            dtype=cfg.encoder.dtype,
            kernel_init=nn.initializers.xavier_uniform(),
            name="patch_embedding",
        )
        return TokenEncoder(cfg.encoder, cfg.tokens, name="tokens")(embed(normalize(patches)), view, mask_tokens)


def image_decoder(config: VisionConfig) -> TokenDecoder:
    """The decoder: predicts the hidden patches' values, each patch normalized to mean 0 and variance 1."""
    return TokenDecoder(config.decoder, config.patch_values)


def patches_of(config: VisionConfig, images_BxSxSxC: Num[Array, "B S S C"]) -> Num[Array, "B L P"]:
    """Cut images into patches, row by row; the values of a patch are ordered (row, column, channel).

    Raises:
        InputError: images of another size.
    """
    size, p, c = config.image_size, config.patch_size, config.channels
    if images_BxSxSxC.shape[1:] != (size, size, c):
        shape = " x ".join(map(str, images_BxSxSxC.shape[1:]))
        raise InputError(f"the model is for images of {size} x {size} x {c}, these are {shape}")
    g = size // p
    return images_BxSxSxC.reshape(-1, g, p, g, p, c).swapaxes(2, 3).reshape(-1, g * g, p * p * c)


def images_of(config: VisionConfig, patches_BxLxP: Num[Array, "B L P"]) -> Num[Array, "B S S C"]:
    """The inverse of `patches_of`."""
    size, p, c = config.image_size, config.patch_size, config.channels
    g = size // p
    return patches_BxLxP.reshape(-1, g, g, p, p, c).swapaxes(2, 3).reshape(-1, size, size, c)


def normalize(pixels: Num[Array, "..."]) -> Float[Array, "..."]:
    """uint8 0..255 -> float32 in [-1, 1]; floats -> float32 without scaling. Raises InputError for other types."""
    if pixels.dtype == jnp.uint8:
        return pixels.astype(jnp.float32) / 127.5 - 1
    if not jnp.issubdtype(pixels.dtype, jnp.floating):
        raise InputError(f"images must be uint8 (0 to 255) or floats (about -1 to 1), not {pixels.dtype}")
    return pixels.astype(jnp.float32)


def patch_loss(
    config: VisionConfig, predicted_BxHxP: Float[Array, "B H P"], images_BxSxSxC: Num[Array, "B S S C"], view: View
) -> Float[Array, ""]:
    """Mean over rows, hidden patches and their values of (prediction - (x - mean x) / sqrt(var x + 1e-6))^2.

    x are the values of one patch (He et al., arXiv:2111.06377, section 3, "Reconstruction target"). Predicting the mean
    of every patch costs 1, or less for flat patches. The loss is 0 if nothing is hidden.
    """
    if predicted_BxHxP.shape[1] == 0:
        return jnp.zeros(())
    mean, deviation, x_BxHxP = _statistics(gather_tokens(patches_of(config, images_BxSxSxC), view.hidden_BxH))
    return jnp.square(predicted_BxHxP - (x_BxHxP - mean) / deviation).mean()


def reconstruct(
    config: VisionConfig, params: Any, images_BxSxSxC: Num[Array, "B S S C"], view: View, mask_tokens: bool = False
) -> Num[Array, "B S S C"]:
    """Images with predicted hidden patches, in the type and units of `images`.

    As in the figures of He et al., arXiv:2111.06377, the mean and variance of each patch come from the image, and only
    the pattern from the model.
    """
    features = ImageEncoder(config).apply({"params": params["encoder"]}, images_BxSxSxC, view, mask_tokens)
    predicted: Any = image_decoder(config).apply({"params": params["ssl"]}, features, view, config.decoder_positions())
    mean, deviation, _ = _statistics(gather_tokens(patches_of(config, images_BxSxSxC), view.hidden_BxH))
    return _replace_hidden(config, images_BxSxSxC, view, predicted * deviation + mean)


def gray_out(config: VisionConfig, images_BxSxSxC: Num[Array, "B S S C"], view: View) -> Num[Array, "B S S C"]:
    """Images with gray hidden patches (0 in the model's units), in the type and units of `images`."""
    return _replace_hidden(config, images_BxSxSxC, view, jnp.zeros((*view.hidden_BxH.shape, config.patch_values)))


def _statistics(patches_BxHxP: Array) -> tuple[Array, Array, Array]:
    """Mean and standard deviation of each patch in the model's units, and the patch."""
    x = normalize(patches_BxHxP)
    return x.mean(axis=-1, keepdims=True), jnp.sqrt(x.var(axis=-1, keepdims=True) + 1e-6), x


def _replace_hidden(config: VisionConfig, images_BxSxSxC: Array, view: View, hidden_BxHxP: Array) -> Array:
    if images_BxSxSxC.dtype == jnp.uint8:
        hidden_BxHxP = jnp.clip(jnp.round((hidden_BxHxP + 1) * 127.5), 0, 255)
    hidden_BxHxP = hidden_BxHxP.astype(images_BxSxSxC.dtype)
    visible_BxVxP = gather_tokens(patches_of(config, images_BxSxSxC), view.visible_BxV)
    place_BxL = jnp.argsort(jnp.concatenate(view, axis=1), axis=1)
    return images_of(config, gather_tokens(jnp.concatenate([visible_BxVxP, hidden_BxHxP], axis=1), place_BxL))
