"""A bidirectional transformer over bytes with a decoder of hidden bytes and classification heads.

Axes: B batch, L bytes, V visible ones, H hidden ones, T a sequence with its class token, D width of the encoder, O size
of the vocabulary.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextEncoderConfig:
    """Length, vocabulary and sizes of a text encoder."""

    length: int  # L: tokens of an input
    vocabulary: int = 256  # O: bytes
    classes: tuple[int, ...]  # classes of each supervised task
    encoder: EncoderConfig = EncoderConfig(width=64, depth=2, heads=2)
    decoder: EncoderConfig = EncoderConfig(width=64, depth=1, heads=2)
    pool: Pool = "mean"  # features that the heads read: the mean over the encoder's tokens, or its class token

    def __post_init__(self) -> None:
        if self.length < 1 or self.vocabulary < 2:
            raise InputError(f"length must be positive and vocabulary at least 2, got {self.length}, {self.vocabulary}")
        check_heads(self.classes, self.pool)
        self.decoder_positions()

    @property
    def tokens(self) -> int:
        """L, under the same name as in the image model."""
        return self.length

    def decoder_positions(self) -> Float[np.ndarray, "L E"]:
        return sine_cosine_positions((self.length,), self.decoder.width)


class TextEncoder(nn.Module):
    """tokens_BxL -> features_BxTxD of [class, tokens], [class, visible] or [class, visible, hidden].

    See `TokenEncoder` for `view` and `mask_tokens`. Raises InputError for rows of another length.
    """

    config: TextEncoderConfig

    @nn.compact
    def __call__(
        self, tokens_BxL: Integer[Array, "B L"], view: View | None = None, mask_tokens: bool = False
    ) -> Float[Array, "B T D"]:
        cfg = self.config
        if tokens_BxL.shape[1] != cfg.length:
            raise InputError(f"the model is for rows of {cfg.length} tokens, these have {tokens_BxL.shape[1]}")
        seen = tokens_BxL if view is None else gather_tokens(tokens_BxL, view.visible_BxV)
        embed = nn.Embed(
            cfg.vocabulary,
            cfg.encoder.width,
            dtype=cfg.encoder.dtype,
            embedding_init=nn.initializers.normal(0.02),
            name="token_embedding",
        )
        return TokenEncoder(cfg.encoder, cfg.length, name="tokens")(embed(seen.astype(jnp.int32)), view, mask_tokens)


def text_decoder(config: TextEncoderConfig) -> TokenDecoder:
    """The decoder: predicts logits over the vocabulary for each hidden token."""
    return TokenDecoder(config.decoder, config.vocabulary)


def hidden_token_loss(
    logits_BxHxO: Float[Array, "B H O"], tokens_BxL: Integer[Array, "B L"], view: View
) -> Float[Array, ""]:
    """Mean over rows and hidden tokens of -log p(token), in nats per hidden token; 0 if nothing is hidden."""
    if logits_BxHxO.shape[1] == 0:
        return jnp.zeros(())
    hidden_BxH = gather_tokens(tokens_BxL, view.hidden_BxH).astype(jnp.int32)
    logp_BxHxO = jax.nn.log_softmax(logits_BxHxO)
    return -jnp.take_along_axis(logp_BxHxO, hidden_BxH[..., None], axis=-1).mean()
