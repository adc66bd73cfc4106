"""Cheap signals of a document's quality, in one pass over its bytes: no model, no list of words, any language.

They are those of the rules for MassiveText (Rae et al. 2021, arXiv:2112.11446, table A1: Gopher) and for C4 (Raffel et
al. 2020, arXiv:1910.10683, section 2.2), without their thresholds: quantiles of a signal serve as thresholds here.

Axes: D documents.
"""

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from mixmin_jax.data.text.tokens import SEPARATOR, join_documents

BATCH = 1 << 22  # bytes of documents that are looked at together: some 50 MB of memory
COMPRESSED = 1 << 16  # bytes of a document that are compressed: zlib looks back 32 kB

_BYTES = np.arange(256)
_SPACE = np.isin(_BYTES, list(b" \t\n\v\f\r"))
_DIGIT = np.isin(_BYTES, list(b"0123456789"))
_UPPER = np.isin(_BYTES, list(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
_BEYOND = (_BYTES >= 0xC0) & (_BYTES != SEPARATOR)  # the first byte of a character outside of ASCII, in UTF-8
_BEGIN = (_BYTES < 0x80) | _BEYOND  # of any character
_SYMBOL = (_BYTES < 0x80) & ~_SPACE & ~np.isin(_BYTES, list(map(ord, filter(str.isalnum, map(chr, range(128))))))


@dataclass(frozen=True, eq=False)
class Signals:
    """What one pass tells of each document. Shares lie between 0 and 1; those of characters count Unicode ones.

    bytes_D: the length.
    symbols_D, digits_D, uppercase_D, spaces_D: shares of the characters that are ASCII punctuation and control
        characters, ASCII digits, ASCII capitals, ASCII white space.
    beyond_ascii_D: share of the characters outside of ASCII: other scripts, accents, typographic quotes.
    word_length_D: characters that are no white space, per word. Words end at white space. Gopher keeps 3 to 10.
    repeated_lines_D: 1 - different lines / lines; blank ones do not count. Gopher drops what is above 0.3.
    repeated_pairs_D: (most frequent pair - 1) / pairs, of neighboring words; 0 without pairs. As Gopher's share of the
        most frequent 2-gram, but a pair that occurs once is no repetition, so short documents have 0.
    compression_D: compressed over plain size (zlib, level 1, the first 64 kB). Repetition is low, noise is high. Above
        1 for a few bytes.
    """

    bytes_D: Int[np.ndarray, " D"]
    symbols_D: Float[np.ndarray, " D"]
    digits_D: Float[np.ndarray, " D"]
    uppercase_D: Float[np.ndarray, " D"]
    spaces_D: Float[np.ndarray, " D"]
    beyond_ascii_D: Float[np.ndarray, " D"]
    word_length_D: Float[np.ndarray, " D"]
    repeated_lines_D: Float[np.ndarray, " D"]
    repeated_pairs_D: Float[np.ndarray, " D"]
    compression_D: Float[np.ndarray, " D"]


def signals(documents: Sequence[bytes]) -> Signals:
    """The signals of each document.

    Args:
        documents: UTF-8, each with a visible character, as those of a `Corpus`; at least one.
    """
    parts = [_signals(batch) for batch in batches(documents, BATCH)]
    return Signals(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Signals)))


def compression_ratio(document: bytes) -> float:
    """Compressed over plain size, of the beginning of a document (zlib, fastest level)."""
    beginning = document[:COMPRESSED]
    return len(zlib.compress(beginning, 1)) / len(beginning)


def batches(documents: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    """The documents in order, in runs of at least `size` bytes; the last run is the rest."""
    first, held = 0, 0
    for index, document in enumerate(documents):
        held += len(document)
        if held >= size or index == len(documents) - 1:
            yield documents[first : index + 1]
            first, held = index + 1, 0


def _signals(documents: Sequence[bytes]) -> Signals:
    tokens = join_documents(documents)[:-1]  # a separator before each
    bytes_D = np.array([len(document) for document in documents])
    starts_D = np.cumsum(bytes_D + 1) - bytes_D - 1

    def count(is_counted: np.ndarray) -> np.ndarray:
        return np.add.reduceat(is_counted, starts_D, dtype=np.int64)

    in_word = ~_SPACE[tokens] & (tokens != SEPARATOR)
    words_D = count(np.append(False, in_word[1:] & ~in_word[:-1]))
    characters_D = count(_BEGIN[tokens])
    lines_D, pairs_D = np.array([_repetition(document) for document in documents]).T
    return Signals(
        bytes_D=bytes_D,
        symbols_D=count(_SYMBOL[tokens]) / characters_D,
        digits_D=count(_DIGIT[tokens]) / characters_D,
        uppercase_D=count(_UPPER[tokens]) / characters_D,
        spaces_D=count(_SPACE[tokens]) / characters_D,
        beyond_ascii_D=count(_BEYOND[tokens]) / characters_D,
        word_length_D=count(in_word & _BEGIN[tokens]) / words_D,
        repeated_lines_D=lines_D,
        repeated_pairs_D=pairs_D,
        compression_D=np.array([compression_ratio(document) for document in documents]),
    )


def _repetition(document: bytes) -> tuple[float, float]:
    """repeated_lines and repeated_pairs."""
    lines = [line for line in document.split(b"\n") if line and not line.isspace()]
    words = document.split()
    pairs = Counter(pairwise(words))
    most = max(pairs.values(), default=1)
    return 1 - len(set(lines)) / max(len(lines), 1), (most - 1) / max(len(words) - 1, 1)
