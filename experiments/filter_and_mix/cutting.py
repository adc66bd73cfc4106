"""Sources cut into buckets, and buckets cut by quality for arms that filter.

Axes: D documents of a source, N documents of all sources, K buckets, C cells.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from mixmin_jax.data.buckets import Buckets, cross, merge_small, quantile_buckets
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.data.text.tokens import TokenStore, build_store
from mixmin_jax.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Cutting:
    """All documents of all sources, source after source, and the bucket of each."""

    sources: tuple[Corpus, ...]
    names: tuple[str, ...]  # of buckets, such as reviews/quality1of4
    owner_K: Int[np.ndarray, " K"]  # the source of each bucket
    bucket_N: Int[np.ndarray, " N"]
    quality_N: Float[np.ndarray, " N"]
    notices: tuple[str, ...]

    @functools.cached_property
    def source_N(self) -> Int[np.ndarray, " N"]:
        return np.repeat(np.arange(len(self.sources)), [source.num_documents for source in self.sources])

    @functools.cached_property
    def first_S(self) -> Int[np.ndarray, " S"]:
        """The number of each source's first document."""
        counts = [source.num_documents for source in self.sources]
        return np.cumsum(counts) - counts

    @functools.cached_property
    def bytes_N(self) -> Int[np.ndarray, " N"]:
        return np.array([len(document) for source in self.sources for document in source.documents])

    @property
    def tokens_N(self) -> Int[np.ndarray, " N"]:
        """A document and its separator."""
        return self.bytes_N + 1

    @functools.cached_property
    def tokens_K(self) -> Float[np.ndarray, " K"]:
        return np.bincount(self.bucket_N, self.tokens_N, len(self.names))

    @property
    def owners(self) -> list[str]:
        """The source's name of each bucket."""
        return [self.sources[owner].name for owner in self.owner_K]

    @property
    def parts(self) -> list[list[bytes]]:
        """The documents of each bucket."""
        return [self.documents(self.bucket_N == bucket) for bucket in range(len(self.names))]

    def documents(self, members_N: np.ndarray) -> list[bytes]:
        """Those of a mask, or of numbers in order."""
        numbers = np.flatnonzero(members_N) if members_N.dtype == bool else members_N
        return [
            self.sources[source].documents[number - self.first_S[source]]
            for number, source in zip(numbers.tolist(), self.source_N[numbers].tolist(), strict=True)
        ]

    def share_K(self, value_N: np.ndarray) -> Float[np.ndarray, " K"]:
        """The mean of a value of documents in each bucket, by tokens."""
        return np.bincount(self.bucket_N, value_N * self.tokens_N, len(self.names)) / self.tokens_K


def cut_sources(
    sources: Sequence[Corpus],
    quality_N: Float[np.ndarray, " N"],
    num_quality: int | None,
    topics: Buckets | None,
    least_tokens: int,
) -> Cutting:
    """Cut each source by quality, by topics of all documents, or by both.

    Args:
        sources: S of them.
        quality_N: of each document.
        num_quality: parts of equal size by quality; None for one.
        topics: of each document; None for no topics.
        least_tokens: of a bucket; smaller ones are merged, and said.

    Raises:
        InputError: a source of fewer tokens.
    """
    names, owners, found, notices = list[str](), list[int](), list[np.ndarray](), list[str]()
    first = 0
    for number, source in enumerate(sources):
        own = slice(first, first + source.num_documents)
        first = own.stop
        tokens_D = np.array([len(document) + 1 for document in source.documents])
        if tokens_D.sum() < least_tokens:
            raise InputError(
                f"source {source.name!r} has {tokens_D.sum()} tokens, fewer than one training window of"
                f" {least_tokens}: leave it out"
            )
        parts = []
        if num_quality is not None:
            parts.append(quantile_buckets(quality_N[own], num_quality, tokens_D))
        if topics is not None:
            parts.append(topics.take(own))
        cut = functools.reduce(cross, parts)
        cut = merge_small(cut, tokens_D, least_tokens)
        found.append(cut.bucket_D + len(names))
        names += [f"{source.name}/{label}" for label in cut.labels]
        owners += [number] * len(cut.labels)
        notices += [f"{source.name}: {notice}" for notice in cut.notices]
    if len(names) < 2:
        raise InputError("a mixture needs at least two buckets, and there is one: raise --buckets")
    return Cutting(tuple(sources), tuple(names), np.array(owners), np.concatenate(found), quality_N, tuple(notices))


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """Buckets cut again at qualities below which an arm takes nothing, as a store to train on."""

    store: TokenStore
    thresholds: tuple[float, ...]  # rising
    bucket_C: Int[np.ndarray, " C"]
    above_C: Int[np.ndarray, " C"]  # how many of the thresholds the cell's documents reach

    def weights(self, weights_K: Float[np.ndarray, " K"], least: float | None = None) -> Float[np.ndarray, " C"]:
        """Weights of buckets, spread over their cells by their windows; over those that reach a threshold, if given."""
        reached = 0 if least is None else self.thresholds.index(least) + 1
        windows_C = np.where(self.above_C >= reached, self.store.windows_K, 0)
        total_K = np.bincount(self.bucket_C, windows_C, len(weights_K))
        return (weights_K / np.maximum(total_K, 1))[self.bucket_C] * windows_C


def cut_cells(cutting: Cutting, thresholds: Sequence[float], length: int) -> Cells:
    """Cells of at least one window each; a smaller one joins the cell of its bucket beside it."""
    thresholds = sorted(set(thresholds))
    above_N = np.searchsorted(thresholds, cutting.quality_N, side="right")
    key_N = cutting.bucket_N * (len(thresholds) + 1) + above_N
    for key in np.unique(key_N):
        mine_N = key_N == key
        if cutting.tokens_N[mine_N].sum() <= length + 1:
            others = np.unique(key_N[(cutting.bucket_N == key // (len(thresholds) + 1)) & ~mine_N])
            if others.size:
                key_N[mine_N] = others[np.abs(others - key).argmin()]
    keys = np.unique(key_N)
    documents = [cutting.documents(key_N == key) for key in keys]
    bucket_C, above_C = np.divmod(keys, len(thresholds) + 1)
    names = [f"{cutting.names[bucket]}/{above}" for bucket, above in zip(bucket_C, above_C, strict=True)]
    return Cells(build_store(names, documents, length), tuple(thresholds), bucket_C, above_C)
