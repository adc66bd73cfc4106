"""Count-based proxies: the log-likelihoods of targets under one n-gram model per source.

Axes: O orders, N bytes of a target's documents, K sources.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from mixmin_jax.data.text.tokens import SEPARATOR, join_documents
from mixmin_jax.models.ngram import NgramCounts, count_ngrams, log_likelihoods

SOURCES_AT_ONCE = 2  # XLA sorts on one core; more would take more memory

A = TypeVar("A")
B = TypeVar("B")


def for_sources(function: Callable[[A], B], sources: Iterable[A]) -> Iterator[B]:
    """What `function` returns for each, in order; `SOURCES_AT_ONCE` are worked on at once."""
    with ThreadPoolExecutor(SOURCES_AT_ONCE) as pool:
        yield from pool.map(function, sources)


def ngram_score(counts: NgramCounts, documents: Sequence[bytes], orders: Sequence[int]) -> Float[np.ndarray, "O N"]:
    """log p of every byte of the documents, in order, under the model of one source, in nats (float32).

    Args:
        counts: of `count_ngrams`.
        documents: of a target.
        orders: bytes of the longest n-grams, at most those that were counted.
    """
    tokens_Q = join_documents(documents)
    return log_likelihoods(counts, tokens_Q)[[order - 1 for order in orders]][:, tokens_Q != SEPARATOR]


def ngram_scores(
    sources: Sequence[Sequence[bytes]],
    targets: Mapping[str, Sequence[bytes]],
    orders: Sequence[int] = (6,),
    on_source: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Float[np.ndarray, "O N K"]]:
    """log p of every byte of the targets' documents, in order, under a model of each source, in nats (float32).

    `SOURCES_AT_ONCE` are counted at once, so memory holds the n-grams of as many.

    Args:
        sources: the documents of each source.
        targets: the documents of each target.
        orders: bytes of the longest n-grams; all orders cost as much as the longest one alone.
        on_source: called after each source, with how many are done and of how many.

    Raises:
        InputError: an order out of range, or a source without text.
    """
    sizes = {name: sum(map(len, documents)) for name, documents in targets.items()}
    scores = {name: np.empty((len(orders), size, len(sources)), np.float32) for name, size in sizes.items()}

    def score(documents: Sequence[bytes]) -> dict[str, np.ndarray]:
        counts = count_ngrams(join_documents(documents), max(orders))
        return {name: ngram_score(counts, some, orders) for name, some in targets.items()}

    for k, found in enumerate(for_sources(score, sources)):
        for name, logp_OxN in found.items():
            scores[name][..., k] = logp_OxN
        on_source(k + 1, len(sources))
    return scores


def ngram_operations(source_bytes_K: Sequence[int], target_bytes: int, order: int) -> float:
    """Comparisons and additions that `ngram_scores` takes, to set beside the FLOPs of a training; nearly all integer.

        sum_k T_k (log2 T_k + 12 order) + Q order (2 log2 T_k + 10)

    Sorting the T_k windows of a source takes log2 T_k comparisons each, and each order 12 operations more. A byte of
    the target takes two binary searches for each order.  (XLA's own count takes a running maximum for quadratic.)
    """
    logs_K = [math.log2(max(size, 2)) for size in source_bytes_K]
    counting = sum(size * (log + 12 * order) for size, log in zip(source_bytes_K, logs_K, strict=True))
    return float(counting + sum(target_bytes * order * (2 * log + 10) for log in logs_K))
