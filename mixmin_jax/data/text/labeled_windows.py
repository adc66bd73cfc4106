"""A classification task made of text: windows of bytes, labeled with the corpus of their document.

Split into train and test documents first, then cut windows: windows of the same document are alike.

Axes: A classes, N windows, L bytes of a window, W windows of one corpus, D its documents.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from mixmin_jax.data.text.documents import Corpus, split_documents
from mixmin_jax.errors import InputError


class LabeledWindows(NamedTuple):
    """Windows, each with the number of its corpus (the label) and of its document."""

    tokens_NxL: UInt8[np.ndarray, "N L"]
    labels_N: Int32[np.ndarray, " N"]
    documents_N: Int32[np.ndarray, " N"]


def drop_shared_documents(corpora: Sequence[Corpus]) -> tuple[tuple[Corpus, ...], int]:
    """Drop documents that are in more than one corpus; also the number of these documents.

    Such a document has no class. It could be trained on in one class and tested on in another.

    Raises:
        InputError: this leaves a corpus empty.
    """
    holders = Counter(document for corpus in corpora for document in set(corpus.documents))
    kept = []
    for corpus in corpora:
        documents = tuple(document for document in corpus.documents if holders[document] == 1)
        if not documents:
            raise InputError(f"every document of {corpus.name} ({corpus.origin}) is in another class too; leave it out")
        kept.append(dataclasses.replace(corpus, documents=documents))
    return tuple(kept), sum(count > 1 for count in holders.values())


def split_corpus(corpus: Corpus, first_fraction: float, seed: int) -> tuple[Corpus, Corpus]:
    """Two corpora: about `first_fraction` of the documents, and the others (`documents.split_documents`).

    Raises:
        InputError: the fraction is outside (0, 1), or there are fewer than two distinct documents.
    """
    if len(set(corpus.documents)) < 2:
        raise InputError(
            f"class {corpus.name!r} ({corpus.origin}) has too few distinct documents to train and test on different"
            " ones: give it as more, shorter documents, or leave it out"
        )
    first, second = split_documents(corpus, first_fraction, seed)
    return corpus.take(first), corpus.take(second)


def balanced_windows(
    corpora: Sequence[Corpus], length: int, max_windows: int, seed: int, *, min_windows: int = 1
) -> LabeledWindows:
    """The same number of windows of each corpus: `max_windows`, or as many as the smallest corpus has.

    Windows do not overlap. The rest at a document's end is not used, so the length of a document stays hidden. Windows
    come from as many documents as possible: each document gives one random window before any gives a second one. With
    the same seed, a smaller number takes a subset of what a larger one takes.

    Args:
        corpora: one per class.
        length: L, bytes of a window.
        max_windows: most windows per class.
        seed: of the draws.
        min_windows: fewest windows per class, at least 1.

    Raises:
        InputError: a class has fewer than `min_windows` windows.
    """
    if min(length, max_windows) < 1:
        raise InputError(f"windows need a length and a number of at least 1, not {length} and {max_windows}")
    windows_A = [sum(len(document) // length for document in corpus.documents) for corpus in corpora]
    if min(windows_A) < min_windows:
        few = corpora[int(np.argmin(windows_A))]
        raise InputError(
            f"class {few.name!r} ({few.origin}) has {min(windows_A)} window(s) of {length} bytes in the"
            f" {few.num_documents} document(s) of one part, and at least {min_windows} are needed: add text to it,"
            " leave it out, or cut shorter windows"
        )
    num = min(max_windows, *windows_A)
    drawn = [_drawn(corpus, length, num, np.random.default_rng([seed, a])) for a, corpus in enumerate(corpora)]
    document_N, window_N = np.concatenate(drawn, axis=1)
    label_N = np.repeat(np.arange(len(corpora), dtype=np.int32), num)
    tokens_NxL = [
        np.frombuffer(corpora[int(label)].documents[document], np.uint8, length, window * length)
        for label, document, window in zip(label_N, document_N, window_N, strict=True)
    ]
    return LabeledWindows(np.stack(tokens_NxL), label_N, document_N.astype(np.int32))


def _drawn(corpus: Corpus, length: int, num: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The document, and the number of the window in it, of `num` windows."""
    windows_D = np.array([len(document) // length for document in corpus.documents])
    document_W = np.repeat(np.arange(len(windows_D)), windows_D)
    turn_W = np.arange(len(document_W)) - np.repeat(np.cumsum(windows_D) - windows_D, windows_D)
    window_W = turn_W[np.lexsort((rng.random(len(document_W)), document_W))]  # shuffled inside each document
    chosen = np.lexsort((rng.permutation(len(windows_D))[document_W], turn_W))[:num]
    return document_W[chosen], window_W[chosen]
