"""Choose the tokens that self-supervision hides, as indices with static shapes.

Axes: B batch, L tokens of an input (patches, bytes; without the class token), V visible ones, H hidden ones.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Integer

from mixmin_jax.errors import InputError


class View(NamedTuple):
    """Each row of (visible, hidden) is a permutation of 0..L-1, so V + H = L."""

    visible_BxV: Integer[Array, "B V"]
    hidden_BxH: Integer[Array, "B H"]


def num_hidden(tokens: int, mask_ratio: float) -> int:
    """H: the whole number nearest to mask_ratio * L, but at most L - 1.

    Raises:
        InputError: the ratio is outside [0, 1).
    """
    if not 0 <= mask_ratio < 1:
        raise InputError(f"mask_ratio must be at least 0 and less than 1, got {mask_ratio}")
    return min(tokens - 1, round(mask_ratio * tokens))


def random_view(key: jax.Array, batch: int, tokens: int, mask_ratio: float) -> View:
    """Hide `num_hidden(tokens, mask_ratio)` tokens of each row; all subsets of that size are equally likely.

    The order inside both parts is random. If nothing is hidden, the visible tokens keep their order.
    """
    hidden = num_hidden(tokens, mask_ratio)
    if hidden == 0:
        order_BxL = jnp.broadcast_to(jnp.arange(tokens, dtype=jnp.int32), (batch, tokens))
    else:
        order_BxL = jnp.argsort(jax.random.bits(key, (batch, tokens), jnp.uint32), axis=1).astype(jnp.int32)
    return View(order_BxL[:, : tokens - hidden], order_BxL[:, tokens - hidden :])
