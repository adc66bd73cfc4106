"""A decoder-only transformer language model over bytes.

Axes: B batch, L positions, D width, H heads, F feed-forward width, V vocabulary.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from mixmin_jax.errors import InputError

VOCABULARY = 256  # bytes; 0xFF never occurs in UTF-8 and separates documents


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Size of a language model."""

    width: int = 64  # D: features per position
    depth: int = 2  # number of blocks
    heads: int = 4  # H: attention heads; divides the width into even parts
    bfloat16: bool = False  # compute in bfloat16; parameters, logits and losses stay float32
    remat: bool = False  # recompute activations in the backward pass: less memory, about a third more FLOPs

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads) < 1:
            raise InputError(f"width, depth and heads must be positive, got {self.width}, {self.depth}, {self.heads}")
        if self.width % (2 * self.heads):
            raise InputError(
                f"width {self.width} does not split into {self.heads} heads of even size (rotary positions need pairs);"
                f" choose a width that is a multiple of {2 * self.heads}"
            )

    @property
    def dtype(self) -> Any:
        return jnp.bfloat16 if self.bfloat16 else None  # None: that of the parameters


def rotate_pairs(x_BxLxHxC: Float[Array, "B L H C"]) -> Float[Array, "B L H C"]:
    """Rotary positions: pair c turns by l * 10000^(-2c/C) at position l (Su et al., arXiv:2104.09864, equation 34)."""
    half = x_BxLxHxC.shape[-1] // 2
    frequency_c = 10_000.0 ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle_Lx1xc = (jnp.arange(x_BxLxHxC.shape[1], dtype=jnp.float32)[:, None] * frequency_c)[:, None, :]
    cos, sin = (f(angle_Lx1xc).astype(x_BxLxHxC.dtype)[None] for f in (jnp.cos, jnp.sin))
    a, b = x_BxLxHxC[..., :half], x_BxLxHxC[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


class Block(nn.Module):
    """Pre-norm causal self-attention and a GELU feed-forward layer, each added to the residual stream."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, x_BxLxD: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        cfg = self.config
        batch, length, width = x_BxLxD.shape

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, use_bias=False, dtype=cfg.dtype, name=name)

        h = nn.RMSNorm(dtype=cfg.dtype, name="attention_norm")(x_BxLxD)
        qkv = dense(3 * width, "qkv")(h).reshape(batch, length, 3, cfg.heads, width // cfg.heads)
        q, k, v = rotate_pairs(qkv[:, :, 0]), rotate_pairs(qkv[:, :, 1]), qkv[:, :, 2]
        attended = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x_BxLxD = x_BxLxD + dense(width, "out")(attended.reshape(batch, length, width))

        h = nn.RMSNorm(dtype=cfg.dtype, name="feed_forward_norm")(x_BxLxD)
        return x_BxLxD + dense(width, "down")(nn.gelu(dense(4 * width, "up")(h)))


class TransformerLM(nn.Module):
    """tokens_BxL -> logits_BxLxV for the byte after each position; position l sees bytes 0..l only."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, tokens_BxL: Integer[Array, "B L"]) -> Float[Array, "B L V"]:
        cfg = self.config
        x = nn.Embed(VOCABULARY, cfg.width, dtype=cfg.dtype, name="embed")(tokens_BxL.astype(jnp.int32))
        block = nn.remat(Block) if cfg.remat else Block
        for i in range(cfg.depth):
            x = block(cfg, name=f"block_{i}")(x)
        x = nn.RMSNorm(name="final_norm")(x)  # from here on in float32, for accurate log-likelihoods
        return nn.Dense(VOCABULARY, use_bias=False, name="head")(x)
