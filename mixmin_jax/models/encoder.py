"""Parts that the image and the text model share: transformer stack, token encoder and decoder, classification heads.

A sequence is the class token followed by all tokens in order, or by the visible and then the hidden tokens. The rest of
the model treats it as a set: only the positions added to the tokens matter. So tokens are never put back in order.

Axes: B batch, L tokens of an input, V visible ones, H hidden ones, T a sequence with its class token, D width of the
encoder, E width of the decoder, O outputs per hidden token, A classes.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from mixmin_jax.errors import InputError
from mixmin_jax.models.masking import View

Pool = Literal["mean", "cls"]  # features that heads read: the mean over tokens, or those of the class token
Gelu = Literal["tanh", "exact"]

_small = nn.initializers.normal(0.02)  # for tokens, positions and heads, as in timm


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Size of a transformer stack, for encoders and decoders."""

    width: int  # D: features per token
    depth: int  # number of blocks
    heads: int  # attention heads; divides the width
    mlp_ratio: int = 4  # hidden width of the feed-forward layer, in widths
    bfloat16: bool = False  # compute in bfloat16; parameters, features, logits and losses stay float32
    remat: bool = False  # recompute activations in the backward pass: less memory, about a third more FLOPs
    gelu: Gelu = "tanh"  # form of the feed-forward layer's GELU: its tanh approximation, or exact as in most pretrained
    norm_epsilon: float = 1e-6  # added to the variance in each LayerNorm

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads, self.mlp_ratio) < 1:
            raise InputError(
                "width, depth, heads and mlp_ratio must be positive,"
                f" got {self.width}, {self.depth}, {self.heads}, {self.mlp_ratio}"
            )
        if self.width % self.heads:
            raise InputError(
                f"width {self.width} does not split into {self.heads} heads;"
                f" choose a width that is a multiple of {self.heads}"
            )
        if self.gelu not in ("tanh", "exact") or not self.norm_epsilon > 0:
            raise InputError(
                f"gelu must be 'tanh' or 'exact' and norm_epsilon positive, not {self.gelu!r} and {self.norm_epsilon}"
            )

    @property
    def dtype(self) -> Any:
        return jnp.bfloat16 if self.bfloat16 else None  # None: that of the parameters


class Block(nn.Module):
    """Pre-norm self-attention and a GELU feed-forward layer, each added to the residual stream.

    Dosovitskiy et al., arXiv:2010.11929, equations 2 and 3.
    """

    config: EncoderConfig

    @nn.compact
    def __call__(self, x_BxTxD: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        cfg = self.config
        batch, length, width = x_BxTxD.shape

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, dtype=cfg.dtype, kernel_init=nn.initializers.xavier_uniform(), name=name)

        def norm(name: str) -> nn.LayerNorm:
            return nn.LayerNorm(epsilon=cfg.norm_epsilon, dtype=cfg.dtype, name=name)

        h = norm("attention_norm")(x_BxTxD)
        qkv = dense(3 * width, "qkv")(h).reshape(batch, length, 3, cfg.heads, width // cfg.heads)
        attended = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        x_BxTxD = x_BxTxD + dense(width, "out")(attended.reshape(batch, length, width))

        h = dense(cfg.mlp_ratio * width, "up")(norm("feed_forward_norm")(x_BxTxD))
        return x_BxTxD + dense(width, "down")(nn.gelu(h, approximate=cfg.gelu == "tanh"))


class Stack(nn.Module):
    """The blocks and a last LayerNorm, whose output is float32 also if the blocks compute in bfloat16.

    The blocks are unrolled, because XLA's cost analysis counts the body of a scan only once.
    """

    config: EncoderConfig

    @nn.compact
    def __call__(self, x_BxTxD: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        cfg = self.config
        x = x_BxTxD if cfg.dtype is None else x_BxTxD.astype(cfg.dtype)
        block = nn.remat(Block) if cfg.remat else Block
        for i in range(cfg.depth):
            x = block(cfg, name=f"block_{i}")(x)
        return nn.LayerNorm(epsilon=cfg.norm_epsilon, name="final_norm")(x)


def gather_tokens(x_BxLxC: Array, index_BxN: Integer[Array, "B N"]) -> Array:
    """Rows `index` of each input's tokens: x_BxL or x_BxLxC -> BxN or BxNxC."""
    index = index_BxN.reshape(index_BxN.shape + (1,) * (x_BxLxC.ndim - 2))
    return jnp.take_along_axis(x_BxLxC, index, axis=1)


class TokenEncoder(nn.Module):
    """Embedded tokens -> features_BxTxD, the class token's first.

    With `view` None the tokens are all L tokens of each input, in order. Otherwise they are the visible ones, and the
    sequence is [class, visible], or with `mask_tokens` [class, visible, hidden], where a learned token stands for each
    hidden one. The parameters are the same in all three cases.
    """

    config: EncoderConfig
    tokens: int  # L

    @nn.compact
    def __call__(
        self, x_BxVxD: Float[Array, "B V D"], view: View | None, mask_tokens: bool = False
    ) -> Float[Array, "B T D"]:
        width = self.config.width
        class_D = self.param("class_token", _small, (width,))
        mask_D = self.param("mask_token", _small, (width,))
        position_1LxD = self.param("positions", _small, (1 + self.tokens, width))
        position_LxD = position_1LxD[1:]
        if view is None:
            parts = [x_BxVxD + position_LxD]
        else:
            parts = [x_BxVxD + position_LxD[view.visible_BxV]]
            if mask_tokens:
                parts.append(mask_D + position_LxD[view.hidden_BxH])
        first_Bx1xD = jnp.broadcast_to(class_D + position_1LxD[0], (x_BxVxD.shape[0], 1, width))
        return Stack(self.config, name="stack")(jnp.concatenate([first_Bx1xD, *parts], axis=1))


class TokenDecoder(nn.Module):
    """Features of a sequence -> predictions_BxHxO for the hidden tokens.

    To features of [class, visible], a learned token with its position is added for each hidden token, as in the masked
    autoencoder (He et al., arXiv:2111.06377, section 3). Features of [class, visible, hidden] are decoded directly.
    Positions are fixed, not learned: for hidden tokens nothing else is known, and learning them takes long.
    """

    config: EncoderConfig
    outputs: int  # O

    @nn.compact
    def __call__(
        self, features_BxTxD: Float[Array, "B T D"], view: View, position_LxE: Float[np.ndarray, "L E"]
    ) -> Float[Array, "B H O"]:
        cfg = self.config
        visible = view.visible_BxV.shape[1]
        mask_E = self.param("mask_token", _small, (cfg.width,))
        embed = nn.Dense(cfg.width, dtype=cfg.dtype, kernel_init=nn.initializers.xavier_uniform(), name="embed")
        x_BxTxE = embed(features_BxTxD)
        position = jnp.asarray(position_LxE)
        visible_BxVxE, hidden_BxHxE = x_BxTxE[:, 1 : 1 + visible], x_BxTxE[:, 1 + visible :]
        if hidden_BxHxE.shape[1] == 0:
            hidden_BxHxE = mask_E
        parts = [
            x_BxTxE[:, :1],
            visible_BxVxE + position[view.visible_BxV],
            hidden_BxHxE + position[view.hidden_BxH],
        ]
        x_BxTxE = Stack(cfg, name="stack")(jnp.concatenate(parts, axis=1))
        prediction = nn.Dense(self.outputs, kernel_init=nn.initializers.xavier_uniform(), name="prediction")
        return prediction(x_BxTxE[:, 1 + visible :])


def sine_cosine_positions(axes: Sequence[int], width: int) -> Float[np.ndarray, "L width"]:
    """Fixed positions on a grid, the last axis fastest; each axis has an equal share of the width.

    The S features for coordinate x of an axis are sin(x w_i), i < S/2, then cos(x w_i), with w_i = 10000^(-2i/S)
    (Vaswani et al., arXiv:1706.03762, section 3.5).

    Raises:
        InputError: the width cannot be divided in this way.
    """
    if width % (2 * len(axes)):
        raise InputError(
            f"the decoder's width {width} has no equal sine and cosine parts for {len(axes)} axes;"
            f" choose a multiple of {2 * len(axes)}"
        )
    share = width // len(axes)
    frequency = 10_000.0 ** (-2 * np.arange(share // 2) / share)
    angles = [coordinate.reshape(-1, 1) * frequency for coordinate in np.indices(axes)]
    return np.concatenate([f(angle) for angle in angles for f in (np.sin, np.cos)], axis=1).astype(np.float32)


class ClassHeads(nn.Module):
    """One linear head for each supervised task, on pooled features."""

    classes: tuple[int, ...]  # A of each task
    pool: Pool

    def setup(self) -> None:
        self.heads = [nn.Dense(classes, kernel_init=_small) for classes in self.classes]

    def __call__(self, features_BxTxD: Float[Array, "B T D"]) -> tuple[Float[Array, "B _"], ...]:
        """logits_BxA of every task."""
        return tuple(self.logits(features_BxTxD, task) for task in range(len(self.classes)))

    def logits(self, features_BxTxD: Float[Array, "B T D"], task: int) -> Float[Array, "B A"]:
        """logits_BxA of one task."""
        return self.heads[task](pooled(features_BxTxD, self.pool))


def pooled(features_BxTxD: Float[Array, "B T D"], pool: Pool) -> Float[Array, "B D"]:
    """The features of the class token, or the mean over all tokens after it."""
    return features_BxTxD[:, 0] if pool == "cls" else features_BxTxD[:, 1:].mean(axis=1)


def check_heads(classes: tuple[int, ...], pool: str) -> None:
    """Raise InputError if a task has fewer than two classes, or for an unknown pool."""
    if any(count < 2 for count in classes):
        raise InputError(f"a supervised task needs at least 2 classes, got {', '.join(map(str, classes))}")
    if pool not in ("mean", "cls"):
        raise InputError(f"pool must be 'mean' or 'cls', got {pool!r}")
