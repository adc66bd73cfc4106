"""Near-duplicates within and across groups of documents, by MinHash.

Axes: G groups, D documents (d of a block), N n-grams, H hash functions, P pairs, R different documents,
C clusters, U distinct n-grams.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from mixmin_jax.data.text.overlap import gram_hashes, word_hash
from mixmin_jax.data.text.samples import sample_documents

SIMILAR = 0.8  # Jaccard index of near-duplicates
_WORDS = 5  # of an n-gram
_BANDS, _ROWS = 25, 5  # a pair with a Jaccard index of 0.8 agrees in a band with probability 0.99995
_NEIGHBORS = 8  # documents before it in a band with which one is compared: bounds the pairs of large clusters
_BLOCK = 1 << 22  # n-grams, or n-grams of pairs, that are handled at a time, to bound memory


@dataclass(frozen=True)
class NearDuplicates:
    """Repeated documents: a near-duplicate comes earlier in the same group. Shares are of the sample of each group."""

    share_of_documents_G: Float[np.ndarray, " G"]  # that are repeated
    share_of_bytes_G: Float[np.ndarray, " G"]  # of repeated documents, of all bytes
    # documents of the row's group that have a near-duplicate in the column's; on the diagonal: repeated ones
    count_GxG: Int[np.ndarray, "G G"]
    num_documents_G: Int[np.ndarray, " G"]  # that were looked at
    is_whole_G: Bool[np.ndarray, " G"]  # whether these are all; of samples, shares are lower bounds


def near_duplicates(
    documents_by_group: Sequence[Sequence[bytes]], max_bytes: int = 4_000_000, seed: int = 0
) -> NearDuplicates:
    """Which documents are nearly the same, within groups and across them.

        J(d, e) = |grams(d) & grams(e)| / |grams(d) | grams(e)|

    grams(d) is the set of a document's n-grams of five words in lower case, without punctuation; a shorter document is
    one n-gram. Documents with J >= 0.8 are near-duplicates, and so are documents that a chain of them links.
    Candidates agree in a band of 5 of 125 MinHashes. Their J is then computed exactly, so none is reported by
    chance. In a band, a document is compared with the eight before it. Documents without words have only their exact
    copies.

    Args:
        documents_by_group: of each group, in order.
        max_bytes: of a random sample of a group's documents; a pair is found if both are in the samples.
        seed: of the samples.
    """
    chosen = [sample_documents(documents, max_bytes, seed) for documents in documents_by_group]
    documents = [group[i] for group, numbers in zip(documents_by_group, chosen, strict=True) for i in numbers]
    num_groups, num_documents_G = len(chosen), np.array([len(numbers) for numbers in chosen], int)
    group_D = np.repeat(np.arange(num_groups), num_documents_G)
    bytes_D = np.fromiter(map(len, documents), int)

    place_of = {document: place for place, document in enumerate(dict.fromkeys(documents))}  # copies are one
    distinct_D = np.fromiter((place_of[document] for document in documents), int)
    first_P, second_P = _similar_pairs(list(place_of))
    link_RxR = csr_array((np.ones(len(first_P), bool), (first_P, second_P)), (len(place_of), len(place_of)))
    num_clusters, cluster_R = connected_components(link_RxR, directed=False)
    cluster_D = cluster_R[distinct_D]

    is_repeated_D = np.ones(len(documents), bool)
    is_repeated_D[np.unique(cluster_D * num_groups + group_D, return_index=True)[1]] = False
    number_CxG = csr_array((np.ones(len(documents), int), (cluster_D, group_D)), (num_clusters, num_groups))
    count_GxG = (number_CxG.T @ (number_CxG > 0).astype(int)).toarray()
    np.fill_diagonal(count_GxG, np.bincount(group_D, is_repeated_D, num_groups))
    bytes_G = np.bincount(group_D, bytes_D, num_groups)
    return NearDuplicates(
        count_GxG.diagonal() / np.maximum(num_documents_G, 1),
        np.bincount(group_D, bytes_D * is_repeated_D, num_groups) / np.maximum(bytes_G, 1),
        count_GxG,
        num_documents_G,
        num_documents_G == np.array([len(documents) for documents in documents_by_group], int),
    )


def _similar_pairs(documents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    hash_word = functools.cache(word_hash)
    pair_Px2 = _candidates(documents, hash_word)
    candidate_D, pair_Px2 = np.unique(pair_Px2, return_inverse=True)
    grams_N, document_N = gram_hashes([documents[i] for i in candidate_D], 0, _WORDS, hash_word)
    is_similar_P = _jaccard(grams_N, document_N, len(candidate_D), pair_Px2) >= SIMILAR
    return tuple(candidate_D[pair_Px2[is_similar_P]].T)


def _candidates(documents: list[bytes], hash_word: Callable[[str], int]) -> np.ndarray:
    """Pairs of documents that agree in a band."""
    rng = np.random.default_rng(0)
    factor_H, offset_H = rng.integers(1, 2**64, (2, _BANDS * _ROWS), np.uint64, endpoint=False) | np.uint64(1)
    found: list[np.ndarray] = []
    minima: list[list[np.ndarray]] = []  # of each block, an array per hash function
    ends = np.cumsum([len(document) // 4 + 1 for document in documents])  # about the number of words
    for start, end in _blocks(ends):
        hash_N, document_N = gram_hashes(documents[start:end], start, _WORDS, hash_word)
        if len(hash_N):
            found_d, first_d = np.unique(document_N, return_index=True)
            found.append(found_d)
            minima.append(
                [
                    np.minimum.reduceat((hash_N * factor + offset) >> np.uint64(32), first_d)
                    for factor, offset in zip(factor_H, offset_H, strict=True)
                ]
            )
    if not found:
        return np.zeros((0, 2), int)
    found_D, minimum_HxD = np.concatenate(found), np.concatenate(minima, axis=1)
    pairs = []
    for band in range(0, _BANDS * _ROWS, _ROWS):
        key_D = np.sum(minimum_HxD[band : band + _ROWS] * factor_H[:_ROWS, None], axis=0)
        order_D = np.argsort(key_D, kind="stable")
        for ahead in range(1, _NEIGHBORS + 1):
            one_D, other_D = order_D[:-ahead], order_D[ahead:]
            agree = key_D[one_D] == key_D[other_D]
            pairs.append(found_D[np.stack([one_D[agree], other_D[agree]], axis=1)])
    return np.unique(np.concatenate(pairs), axis=0)


def _jaccard(grams_N: np.ndarray, document_N: np.ndarray, num_documents: int, pair_Px2: np.ndarray) -> np.ndarray:
    distinct_U, gram_N = np.unique(grams_N, return_inverse=True)
    has_DxU = csr_array((np.ones(len(gram_N), np.int32), (document_N, gram_N)), (num_documents, len(distinct_U)))
    has_DxU.data[:] = 1  # also where a document has an n-gram several times
    size_D = np.diff(has_DxU.indptr)
    shared = [
        has_DxU[pair_Px2[start:end, 0]].multiply(has_DxU[pair_Px2[start:end, 1]]).sum(axis=1)
        for start, end in _blocks(np.cumsum(size_D[pair_Px2].sum(axis=1)))
    ]
    shared_P = np.concatenate([np.zeros(0), *shared])
    return shared_P / (size_D[pair_Px2].sum(axis=1) - shared_P)


def _blocks(end_n: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of items that together have about `_BLOCK` parts; item i has the parts before end_n[i]."""
    cut_n = np.flatnonzero(np.diff(np.asarray(end_n) // _BLOCK)) + 1
    bounds = [0, *cut_n.tolist(), len(end_n)]
    return list(itertools.pairwise(bounds))
