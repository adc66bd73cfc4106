"""A byte n-gram language model: a proxy that takes one pass over its text and no gradient.

Witten and Bell's interpolation (Bell, Cleary and Witten 1990, "Text Compression", section 3.3; Chen and Goodman 1999,
section 2.3). With h the n - 1 bytes before byte c, h' the same without the oldest, and T(h) the number of different
bytes that follow h,

    p(c | h) = [count(h c) + T(h) p(c | h')] / [count(h) + T(h)]          p(c | h) = p(c | h') where nothing follows h

down to p(c) = [count(c) + T / 256] / [N + T]. Contexts begin with their document. Where h ends documents,
p(. | h) sums to less than one: the rest is the probability that the document ends.

Counts are exact. The windows of `order` bytes that end at each byte are sorted, newest byte first; an n-gram is then a
range of them, and its count the length of that range. Two binary searches for each length find it. Of equal windows
only the first and its place are kept.

Axes: T tokens of a source, U different windows, Q tokens of a query, O context lengths.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt

from mixmin_jax.errors import InputError

SEPARATOR = 0xFF  # token before each document and after the last, as in `data.text.tokens`: no byte of UTF-8
MAX_ORDER = 7  # bytes of a window: eight would fill the 64 bits of a key, and leave none to tell padding by
BYTES_PER_TOKEN = 40  # of memory, at most, while a source is counted: its keys and their order, each sorted and not
QUERY = 1 << 20  # tokens looked up in one call; bounds memory, and one compiled program serves any number of them


class NgramCounts(NamedTuple):
    """The counts of one source; arrays are padded to one of few sizes, so that few programs are compiled."""

    keys_U: UInt[np.ndarray, " U"]  # windows of `order` bytes, newest in the highest bits, sorted
    first_U: Int[np.ndarray, " U"]  # place of the first window of each among all T
    types_OxU: Int[np.ndarray, "O U"]  # T(h) of each context of 1, 2, ... bytes, where its range begins
    total: Int[np.ndarray, ""]  # bytes counted
    num_types: Int[np.ndarray, ""]  # different ones among them


def count_ngrams(tokens_T: UInt[np.ndarray, " T"], order: int) -> NgramCounts:
    """Count the n-grams of 1 to `order` bytes.

    Args:
        tokens_T: documents with a SEPARATOR before each and after the last (`data.text.tokens.join_documents`).
        order: bytes of the longest n-gram, the predicted one included.

    Raises:
        InputError: an order below 1 or above MAX_ORDER, or no byte to count.
    """
    if not 1 <= order <= MAX_ORDER:
        raise InputError(f"an n-gram order must be 1 to {MAX_ORDER}, not {order}")
    if not (tokens_T != SEPARATOR).any():
        raise InputError("there is no text to count n-grams in")
    padded = np.full(_padded_size(len(tokens_T)), SEPARATOR, np.uint8)
    padded[: len(tokens_T)] = tokens_T
    with jax.enable_x64(True):
        keys_T, types_OxT, total, num_types = map(np.asarray, _count(padded, jnp.int32(len(tokens_T)), order))
    first_U = np.flatnonzero(np.concatenate([[True], keys_T[1:] != keys_T[:-1]])).astype(np.int32)
    first_U = np.pad(first_U, (0, _padded_size(len(first_U)) - len(first_U)), mode="edge")
    return NgramCounts(keys_T[first_U], first_U, types_OxT[:, first_U], total, num_types)


def log_likelihoods(counts: NgramCounts, tokens_Q: UInt[np.ndarray, " Q"]) -> Float[np.ndarray, "order Q"]:
    """log p of each byte given those before it in its document, in nats, for n-grams of 1, 2, ..., `order` bytes.

    The last row is that of the longest n-grams. Separators have 0.

    Args:
        counts: of `count_ngrams`.
        tokens_Q: documents with separators, as `count_ngrams` takes them.
    """
    order = len(counts.types_OxU) + 1
    found = [np.zeros((order, 0), np.float32)]
    with jax.enable_x64(True):
        for first in range(0, len(tokens_Q), QUERY):
            start = max(first - order, 0)  # the bytes before, which the contexts of the first ones need
            part = tokens_Q[start : first + QUERY]
            padded = np.full(_padded_size(len(part)), SEPARATOR, np.uint8)
            padded[: len(part)] = part
            found.append(np.asarray(_score(counts, padded, order))[:, first - start : len(part)])
    return np.concatenate(found, axis=1)


@functools.partial(jax.jit, static_argnames="order")
def _count(tokens_T: jax.Array, size: jax.Array, order: int) -> tuple[jax.Array, ...]:
    """keys_T of all windows, types_OxT, total and num_types."""
    place_T = jnp.arange(len(tokens_T), dtype=jnp.int32)
    # padding comes last, and so does the last separator, which no document follows
    key_T = jnp.where(place_T < size - 1, _keys(tokens_T, order), np.uint64(2**64 - 1))
    from_T = _sorted_places(key_T, order)
    keys_T = key_T[from_T]
    to_T = jnp.zeros_like(place_T).at[from_T].set(place_T, unique_indices=True)
    context_T = to_T[from_T - 1]  # where the window that ends one byte earlier stands
    predicted_T = (keys_T >> 8 * (order - 1)) < SEPARATOR
    first_T, types_OxT = jnp.zeros_like(place_T), []
    for n in range(1, order + 1):
        prefix_T = keys_T >> 8 * (order - n)
        new_T = jnp.concatenate([jnp.ones(1, bool), prefix_T[1:] != prefix_T[:-1]])
        types_T = jnp.zeros(len(place_T), jnp.int16).at[first_T[context_T]].add(new_T & predicted_T)
        types_OxT.append(types_T)
        first_T = jax.lax.cummax(jnp.where(new_T, place_T, 0))
    # the empty context is at place 0 for all
    return (
        keys_T,
        jnp.stack(types_OxT[1:]) if order > 1 else jnp.zeros((0, len(place_T)), jnp.int16),
        predicted_T.sum(dtype=jnp.int32),
        types_OxT[0][0].astype(jnp.int32),
    )


@functools.partial(jax.jit, static_argnames="order")
def _score(counts: NgramCounts, tokens_Q: jax.Array, order: int) -> jax.Array:
    key_Q = _keys(tokens_Q, order)
    p_Q = jnp.full(len(tokens_Q), 1 / 256)
    count_Q, types_Q = jnp.asarray(counts.total), jnp.asarray(counts.num_types)  # of the context: the empty one first
    from_Q = _sorted_places(key_Q, order)  # sorted queries are found in caches
    sorted_Q = key_Q[from_Q]
    p_OxQ = []
    for n in range(1, order + 1):
        shift = 8 * (order - n)
        prefix_Q = sorted_Q >> shift
        ends = (jnp.searchsorted(counts.keys_U, (prefix_Q + up) << shift).astype(jnp.int32) for up in (0, 1))
        first_Q, last_Q = (jnp.zeros_like(from_Q).at[from_Q].set(end_Q, unique_indices=True) for end_Q in ends)
        seen_Q = counts.first_U[last_Q] - counts.first_U[first_Q]
        p_Q = jnp.where(types_Q > 0, (seen_Q + types_Q * p_Q) / jnp.maximum(count_Q + types_Q, 1), p_Q)
        p_OxQ.append(p_Q)
        if n < order:
            types_Q = jnp.where(seen_Q > 0, counts.types_OxU[n - 1][first_Q], 0).astype(jnp.int32)
            count_Q, types_Q = (jnp.concatenate([x_Q[:1] * 0, x_Q[:-1]]) for x_Q in (seen_Q, types_Q))
    return jnp.where(tokens_Q == SEPARATOR, 0.0, jnp.log(jnp.stack(p_OxQ))).astype(jnp.float32)


def _keys(tokens_T: jax.Array, order: int) -> jax.Array:
    """The last `order` bytes at each place, newest in the highest bits; SEPARATOR for what is before the document."""
    key_T = jnp.zeros(len(tokens_T), jnp.uint64)
    ended_T = jnp.zeros(len(tokens_T), bool)
    for age in range(order):
        byte_T = jnp.concatenate([jnp.full(min(age, len(tokens_T)), SEPARATOR, jnp.uint8), tokens_T])[: len(tokens_T)]
        ended_T |= byte_T == SEPARATOR
        key_T = (key_T << 8) | jnp.where(ended_T, SEPARATOR, byte_T).astype(jnp.uint64)
    return key_T


def _sorted_places(key_T: jax.Array, order: int) -> jax.Array:
    """Where the keys stand, in their order: four bytes of them at a time, the oldest first, above places in one word.

    XLA on CPUs sorts single words five times as fast as pairs.
    """
    place_T = jnp.arange(len(key_T), dtype=jnp.uint32)
    from_T = place_T
    for shift in range(0, 8 * order, 32):
        bytes_T = (key_T[from_T] >> shift) & 0xFFFFFFFF
        from_T = from_T[(jnp.sort((bytes_T << 32) | place_T) & 0xFFFFFFFF).astype(jnp.uint32)]
    return from_T.astype(jnp.int32)


def _padded_size(size: int) -> int:
    """The next of four sizes per power of two, at least 1024."""
    step = max(1 << (max(size - 1, 4).bit_length() - 3), 256)
    return -(-size // step) * step
