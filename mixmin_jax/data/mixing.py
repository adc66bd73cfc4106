"""The window of each training example, as a pure function of (plan, example number), the same on host and device.

A run draws `num_draws` examples:
1. `apportion` fixes the number of draws from each source beforehand, exactly.
2. A random bijection of the example numbers decides the source of each example.
3. One bijection per source and epoch decides the order of the source's windows.

So a position in the data is one integer. The order does not depend on the batch size or on blocks. A source of weight
0 is never drawn. No window comes twice before all windows of its source came once. A run does not end when the smallest
source is used up.

Axes: K sources, and any leading axes of the example numbers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, UInt32

from mixmin_jax.errors import InputError

MAX_DRAWS = 2**30  # examples; the bijection pads them to at most twice as many, which must fit in uint32


def apportion(
    weights_K: Float[np.ndarray, " K"], num_draws: int, max_draws_K: np.ndarray | None = None
) -> Integer[np.ndarray, " K"]:
    """Whole numbers of draws near weights * num_draws that sum to num_draws (largest remainder method).

    Args:
        weights_K: not all 0; their scale does not matter. A weight of 0 gives 0 draws.
        num_draws: the total.
        max_draws_K: caps on the draws from each source.

    Raises:
        InputError: the caps allow fewer draws than `num_draws`.
    """
    weights_K = np.asarray(weights_K, np.float64)
    quota_K = weights_K / weights_K.sum() * num_draws
    limit_K = np.full(len(weights_K), num_draws) if max_draws_K is None else np.asarray(max_draws_K)
    limit_K = np.where(weights_K > 0, np.minimum(limit_K, num_draws), 0).astype(np.int64)
    if limit_K.sum() < num_draws:
        raise InputError(
            f"the mixture's sources supply at most {limit_K.sum()} of the {num_draws} windows that the run draws:"
            " allow more epochs or a shorter run"
        )
    counts_K = np.minimum(np.floor(quota_K + 1e-9).astype(np.int64), limit_K)
    while (missing := num_draws - counts_K.sum()) > 0:  # more than one pass only if a cap binds
        remainder_K = np.where(counts_K < limit_K, quota_K - counts_K, -np.inf)
        order = np.argsort(-remainder_K, kind="stable")[: min(missing, int((counts_K < limit_K).sum()))]
        counts_K[order] += 1
    return counts_K


def shuffled_index(
    index: Integer[Array, "..."], size: Integer[Array, "..."], words: UInt32[Array, "... 4"]
) -> UInt32[Array, "..."]:
    """A pseudo-random bijection of {0, ..., size - 1}: the new place of `index`.

    Four Feistel rounds permute the smallest even number of bits that holds `size`; they are repeated until the value
    is below `size` (Black and Rogaway 2002, section 4: "cycle walking"). All arguments may differ between elements.

    Args:
        index: taken modulo `size`.
        size: 1 to 2^30.
        words: the key; each key names one shuffle.
    """
    size = jnp.asarray(size, jnp.uint32)
    bits = 32 - jax.lax.clz(jnp.maximum(size, 2) - 1)
    half = (bits + 1) // 2
    mask = (jnp.uint32(1) << half) - 1

    def permute(x: jax.Array) -> jax.Array:
        left, right = x >> half, x & mask
        for r in range(4):
            left, right = right, left ^ (_mix(right ^ words[..., r]) & mask)
        return (left << half) | right

    start = permute(
        jnp.asarray(index, jnp.uint32) % size
    )  # starting at size or above, a cycle might never come below size
    return jax.lax.while_loop(
        lambda x: jnp.any(x >= size),
        lambda x: jnp.where(x >= size, permute(x), x),
        jnp.broadcast_to(start, jnp.broadcast_shapes(start.shape, size.shape)),
    )


def _mix(x: jax.Array) -> jax.Array:
    """The 32-bit finalizer of MurmurHash3: every input bit affects every output bit."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def max_draws(windows_K: np.ndarray, max_epochs: float) -> np.ndarray:
    """Most draws from each source if no window may be repeated more than `max_epochs` times."""
    return np.floor(max_epochs * windows_K + 1e-9).astype(np.int64)


class MixingPlan(NamedTuple):
    """The draws of one run, as a pytree of small arrays. A vmap over plans trains many mixtures at once."""

    counts_K: Integer[Array, " K"]  # draws from each source over the whole run
    windows_K: Integer[Array, " K"]  # windows that each source has
    words: UInt32[Array, " 4"]  # the key of the run's order


def make_plan(
    key: jax.Array, weights_K: np.ndarray, windows_K: np.ndarray, num_draws: int, max_epochs: float | None = None
) -> MixingPlan:
    """Fix the draws of a run. No source gives more than `max_epochs` times its windows."""
    if not 0 < num_draws <= MAX_DRAWS:
        raise InputError(f"a run must draw between 1 and {MAX_DRAWS} windows, not {num_draws}")
    counts_K = apportion(weights_K, num_draws, None if max_epochs is None else max_draws(windows_K, max_epochs))
    return MixingPlan(
        jnp.asarray(counts_K, jnp.int32), jnp.asarray(windows_K, jnp.int32), jax.random.bits(key, (4,), jnp.uint32)
    )


def draw(plan: MixingPlan, example: Integer[Array, "..."]) -> tuple[Integer[Array, "..."], Integer[Array, "..."]]:
    """The source and the window of example numbers in [0, num_draws)."""
    ends_K = jnp.cumsum(plan.counts_K)
    place = shuffled_index(example, ends_K[-1], plan.words).astype(jnp.int32)
    source = jnp.searchsorted(ends_K, place, side="right").astype(jnp.int32)
    nth = place - (ends_K - plan.counts_K)[source]
    epoch, nth = nth // plan.windows_K[source], nth % plan.windows_K[source]
    tweak = _mix(_mix(source.astype(jnp.uint32) + jnp.uint32(0x9E3779B9)) ^ epoch.astype(jnp.uint32))
    window = shuffled_index(nth, plan.windows_K[source], _mix(plan.words ^ tweak[..., None]))
    return source, window.astype(jnp.int32)


def gather_windows(
    tokens: Integer[Array, " n"],
    starts_K: Integer[Array, " K"],
    length: int,
    source: Integer[Array, "..."],
    window: Integer[Array, "..."],
) -> Integer[Array, "... L1"]:
    """The `length` + 1 tokens of each window (see `TokenStore`): inputs are [..., :-1], targets [..., 1:]."""
    start = starts_K[source] + window * length
    return tokens[start[..., None] + jnp.arange(length + 1)]
