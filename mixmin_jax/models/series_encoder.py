"""A transformer over patches of time series, with a decoder of hidden patches and classification heads.

A patch is a stretch of steps with all channels, as in PatchTST (Nie et al., arXiv:2211.14730, sections 3.1 and 3.2;
there, each channel is a series of its own). Visible patches are gathered before the embedding.

Axes: B batch, S steps of a series, C channels, L = S / patch_length patches, V visible ones, H hidden ones,
P = patch_length C values of a patch, T a sequence with its class token, D width of the encoder.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

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

EPSILON = 1e-6  # added to variances: a channel that is constant over a series becomes 0, not noise


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeriesEncoderConfig:
    """Series, patches and sizes of a series encoder."""

    length: int  # S: steps of a series
    patch_length: int  # divides the length
    channels: int  # C
    classes: tuple[int, ...]  # classes of each supervised task
    encoder: EncoderConfig = EncoderConfig(width=64, depth=2, heads=2)
    decoder: EncoderConfig = EncoderConfig(width=32, depth=1, heads=2)
    pool: Pool = "mean"  # features that the heads read: the mean over the encoder's patches, or its class token
    normalize: bool = False  # show the encoder `instance_normalized` series: it then knows neither level nor scale

    def __post_init__(self) -> None:
        if min(self.length, self.patch_length, self.channels) < 1:
            raise InputError(
                "length, patch_length and channels must be positive,"
                f" got {self.length}, {self.patch_length}, {self.channels}"
            )
        if self.length % self.patch_length:
            divisors = [d for d in range(1, self.length + 1) if self.length % d == 0]
            raise InputError(
                f"series of {self.length} steps do not split into patches of {self.patch_length}; patch lengths that"
                f" fit: {', '.join(map(str, divisors))}"
            )
        check_heads(self.classes, self.pool)
        self.decoder_positions()

    @property
    def tokens(self) -> int:
        """L: patches of a series."""
        return self.length // self.patch_length

    @property
    def patch_values(self) -> int:
        """P: values of a patch."""
        return self.patch_length * self.channels

    def decoder_positions(self) -> Float[np.ndarray, "L E"]:
        return sine_cosine_positions((self.tokens,), self.decoder.width)


class SeriesEncoder(nn.Module):
    """series_BxSxC -> features_BxTxD of [class, patches], [class, visible] or [class, visible, hidden].

    See `TokenEncoder` for `view` and `mask_tokens`. Values should have about unit scale, unless the config normalizes.
    """

    config: SeriesEncoderConfig

    @nn.compact
    def __call__(
        self, series_BxSxC: Float[Array, "B S C"], view: View | None = None, mask_tokens: bool = False
    ) -> Float[Array, "B T D"]:
        cfg = self.config
        patches = patches_of(cfg, instance_normalized(series_BxSxC) if cfg.normalize else series_BxSxC)
        if view is not None:
            patches = gather_tokens(patches, view.visible_BxV)
        embed = nn.Dense(
            cfg.encoder.width,
            dtype=cfg.encoder.dtype,
            kernel_init=nn.initializers.xavier_uniform(),
            name="patch_embedding",
        )
        return TokenEncoder(cfg.encoder, cfg.tokens, name="tokens")(embed(patches), view, mask_tokens)


def series_decoder(config: SeriesEncoderConfig) -> TokenDecoder:
    """The decoder: predicts the hidden patches' values of `instance_normalized` series."""
    return TokenDecoder(config.decoder, config.patch_values)


def patches_of(config: SeriesEncoderConfig, series_BxSxC: Float[Array, "B S C"]) -> Float[Array, "B L P"]:
    """Cut series into patches, in order; the values of a patch are ordered (step, channel).

    Raises:
        InputError: series of another length or other channels.
    """
    if series_BxSxC.shape[1:] != (config.length, config.channels):
        shape = " x ".join(map(str, series_BxSxC.shape[1:]))
        raise InputError(f"the model is for series of {config.length} x {config.channels}, these are {shape}")
    return series_BxSxC.reshape(-1, config.tokens, config.patch_values)


def instance_normalized(series_BxSxC: Float[Array, "B S C"]) -> Float[Array, "B S C"]:
    """(x - mean x) / sqrt(var x + 1e-6), with mean and variance over the steps of each series and channel.

    The instance normalization of PatchTST (Nie et al., arXiv:2211.14730, section 3.1), without learned parameters.
    """
    mean_Bx1xC = series_BxSxC.mean(axis=1, keepdims=True)
    return (series_BxSxC - mean_Bx1xC) / jnp.sqrt(series_BxSxC.var(axis=1, keepdims=True) + EPSILON)


def hidden_patch_loss(
    config: SeriesEncoderConfig, predicted_BxHxP: Float[Array, "B H P"], series_BxSxC: Float[Array, "B S C"], view: View
) -> Float[Array, ""]:
    """Mean over rows, hidden patches and their values of (prediction - x)^2, with x of `instance_normalized` series.

    So predicting the mean of each series costs about 1, whatever its units. The loss is 0 if nothing is hidden.
    """
    if predicted_BxHxP.shape[1] == 0:
        return jnp.zeros(())
    x_BxHxP = gather_tokens(patches_of(config, instance_normalized(series_BxSxC)), view.hidden_BxH)
    return jnp.square(predicted_BxHxP - x_BxHxP).mean()
