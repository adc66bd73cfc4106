"""Near-duplicates of a target's documents in the sources, found by shared word n-grams.

A mixture that wins because a source contains the target's documents has leaked, not learned. Words are runs of
letters, digits and underscores in lower case, so punctuation and line breaks do not hide a copy. In scripts without
spaces, each character is a word.

Axes: G n-grams of a corpus, U distinct n-grams of the target, T target documents, W words, D documents of a block,
H hits (a target n-gram found in a source document), S source documents, M target documents that match.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt64
from scipy.sparse import csr_array

from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.data.text.words import WORD
from mixmin_jax.errors import InputError

_BLOCK_BYTES = 1 << 24  # bytes of text hashed at a time, to bound memory
_Grams = tuple[UInt64[np.ndarray, " G"], Int[np.ndarray, " G"]]  # hash and document of each n-gram
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, hence invertible modulo 2^64


@dataclass(frozen=True)
class Match:
    """A target document that a source repeats, at least in part.

    share: the share of its n-grams that occur in the source.      excerpt: its text at the first shared n-gram.
    source_documents: indices of the documents that each reach the threshold; if only several together do, the index
        of the one with the most n-grams.
    """

    target_document: int
    source: str
    share: float
    source_documents: tuple[int, ...]
    excerpt: str


@dataclass(frozen=True)
class Overlap:
    """All pairs of a target document and a source with a share of at least `threshold`, largest share first."""

    target: str
    sources: tuple[str, ...]
    words: int
    threshold: float
    matches: tuple[Match, ...]

    @property
    def num_matched(self) -> dict[str, int]:
        """{source: number of target documents that it repeats}, including sources with 0."""
        return {name: sum(match.source == name for match in self.matches) for name in self.sources}


def find_overlap(target: Corpus, sources: Sequence[Corpus], words: int = 13, threshold: float = 0.5) -> Overlap:
    """For each target document and source: the share of the document's word n-grams that occur in the source.

        share(d, S) = |{positions i in d : d[i : i + words] occurs in a document of S}| / |{positions i in d}|

    A document of fewer words is one n-gram: it matches only a document of the same words. Documents without words match
    nothing. Hashes have 64 bits: with 10^8 n-grams of sources and 10^6 of the target, the chance of a false hit is
    about 10^-5.

    Args:
        target, sources: the corpora.
        words: length of an n-gram.
        threshold: least share to report.

    Raises:
        InputError: `words` < 1, or `threshold` is not in (0, 1].
    """
    if words < 1 or not 0 < threshold <= 1:
        raise InputError(f"overlap needs words >= 1 and 0 < threshold <= 1, not {words} and {threshold}")
    hash_word = functools.cache(word_hash)
    hash_G, document_G = map(np.concatenate, zip(*_blocks(target, words, hash_word), strict=True))
    unique_U, unique_G = np.unique(hash_G, return_inverse=True)
    num_grams_T = np.bincount(document_G, minlength=target.num_documents)
    first_T = np.cumsum(num_grams_T) - num_grams_T
    shape = target.num_documents, unique_U.size
    count_TxU = csr_array((np.ones(len(unique_G), int), (document_G, unique_G)), shape)
    matches: list[Match] = []
    for source in sources if unique_U.size else ():
        is_held_UxS = _holders(unique_U, source, words, hash_word)
        is_found_U = is_held_UxS.sum(axis=1) > 0
        share_T = count_TxU @ is_found_U / np.maximum(num_grams_T, 1)
        matched_M = np.flatnonzero(share_T >= threshold)
        num_held_MxS = count_TxU[matched_M] @ is_held_UxS  # how many places of the document each source document covers
        for row, document in enumerate(matched_M.tolist()):
            held = slice(*num_held_MxS.indptr[row : row + 2])
            num_held = num_held_MxS.data[held]
            enough = num_held >= min(threshold * num_grams_T[document], num_held.max())
            own = slice(first_T[document], first_T[document] + num_grams_T[document])
            first_word = int(np.argmax(is_found_U[unique_G[own]]))  # n-gram i of a document starts at its word i
            matches.append(
                Match(
                    target_document=document,
                    source=source.name,
                    share=float(share_T[document]),
                    source_documents=tuple(sorted(num_held_MxS.indices[held][enough].tolist())),
                    excerpt=_excerpt(target.documents[document], first_word, words),
                )
            )
    matches.sort(key=lambda match: (-match.share, match.target_document, match.source))
    return Overlap(target.name, tuple(source.name for source in sources), words, threshold, tuple(matches))


def word_hash(word: str) -> int:
    """A 64-bit hash of its lower case; unlike Python's hash it is the same in every process."""
    return int.from_bytes(hashlib.blake2b(word.lower().encode(), digest_size=8).digest(), "little")


def _blocks(corpus: Corpus, words: int, hash_word: Callable[[str], int]) -> Iterator[_Grams]:
    """hash_G and document_G of the corpus's n-grams in order of document and place, block by block."""
    start, size = 0, 0
    for index, document in enumerate(corpus.documents):
        size += len(document)
        if size >= _BLOCK_BYTES or index == corpus.num_documents - 1:
            yield gram_hashes(corpus.documents[start : index + 1], start, words, hash_word)
            start, size = index + 1, 0


def gram_hashes(documents: Sequence[bytes], first_document: int, words: int, hash_word: Callable[[str], int]) -> _Grams:
    """hash_G and document_G of the documents' n-grams; a document with fewer words is one n-gram."""
    texts = [WORD.findall(document.decode()) for document in documents]
    num_words_D = np.array([len(text) for text in texts], int)
    start_D = np.concatenate([[0], np.cumsum(num_words_D)])[:-1]
    total = int(num_words_D.sum())
    hash_W = np.fromiter((hash_word(word) for text in texts for word in text), np.uint64, total)
    document_W = np.repeat(np.arange(len(documents)), num_words_D)
    length_W = np.minimum(num_words_D, words)[document_W]  # words in the n-gram that starts here
    is_start_W = np.arange(total) + length_W <= (start_D + num_words_D)[document_W]
    gram_W = length_W.astype(np.uint64)  # seeded with the length, so a short document matches only whole documents
    for offset in range(min(words, total)):
        ahead = np.zeros_like(hash_W)
        ahead[: total - offset] = hash_W[offset:]
        gram_W = np.where(offset < length_W, gram_W * _MULTIPLIER + ahead, gram_W)  # intended to wrap modulo 2^64
    return gram_W[is_start_W], document_W[is_start_W] + first_document


def _holders(unique_U: np.ndarray, source: Corpus, words: int, hash_word: Callable[[str], int]) -> csr_array:
    """is_held_UxS: 1 where a source document has a target's n-gram."""
    places, documents = [], []
    for hash_G, document_G in _blocks(source, words, hash_word):
        place_G = np.minimum(np.searchsorted(unique_U, hash_G), unique_U.size - 1)
        is_hit_G = unique_U[place_G] == hash_G
        places.append(place_G[is_hit_G])
        documents.append(document_G[is_hit_G])
    row_H, column_H = np.concatenate(places), np.concatenate(documents)
    is_held_UxS = csr_array((np.ones(len(row_H), int), (row_H, column_H)), (unique_U.size, source.num_documents))
    is_held_UxS.data[:] = 1  # also where a document has an n-gram several times
    return is_held_UxS


def _excerpt(document: bytes, first_word: int, words: int, max_characters: int = 100) -> str:
    text = document.decode()
    found = list(WORD.finditer(text))
    passage = text[found[first_word].start() : found[min(first_word + words, len(found)) - 1].end()]
    passage = " ".join(passage.split())
    return passage if len(passage) <= max_characters else passage[: max_characters - 1] + "…"
