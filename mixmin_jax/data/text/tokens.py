"""Text as one flat array of bytes with a separator before each document, cut into training windows."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from mixmin_jax.errors import InputError

SEPARATOR = 0xFF  # never occurs in UTF-8


def join_documents(documents: Iterable[bytes]) -> np.ndarray:
    """uint8 tokens: SEPARATOR, first document, SEPARATOR, second document, ..., SEPARATOR."""
    return np.frombuffer(_append(bytearray(), documents), np.uint8)


def _append(tokens: bytearray, documents: Iterable[bytes]) -> bytearray:
    """One document at a time, as all of them may lie in a file that is larger than memory allows to copy."""
    tokens.append(SEPARATOR)
    for document in documents:
        tokens += document
        tokens.append(SEPARATOR)
    return tokens


@dataclasses.dataclass(frozen=True)
class TokenStore:
    """The sources' tokens, one source after the other.

    Window i of source k starts at `starts_K[k] + i * length`. It has `length` inputs and, one position later, `length`
    targets. The targets of a source's windows do not overlap.
    """

    names: tuple[str, ...]
    tokens: np.ndarray  # uint8, all sources
    starts_K: np.ndarray  # int64: first token of each source
    windows_K: np.ndarray  # int64: whole windows in each source
    length: int  # L: positions in a window

    def tokens_of(self, source: str) -> np.ndarray:
        """The tokens of a source's windows."""
        first, windows = (int(values_K[self.names.index(source)]) for values_K in (self.starts_K, self.windows_K))
        return self.tokens[first : first + windows * self.length]


def build_store(names: Sequence[str], documents: Sequence[Iterable[bytes]], length: int) -> TokenStore:
    """Join the documents of each source, and then the sources.

    Raises:
        InputError: a source is shorter than one window of `length` + 1 tokens.
    """
    tokens, ends = bytearray(), [0]
    for of_source in documents:
        ends.append(len(_append(tokens, of_source)))
    sizes_K = np.diff(np.array(ends, np.int64))
    windows_K = (sizes_K - 1) // length
    for name, size, windows in zip(names, sizes_K, windows_K, strict=True):
        if windows < 1:
            raise InputError(
                f"source {name!r} holds {size} tokens, fewer than one training window of {length + 1}:"
                " add text to it, leave it out, or train with a shorter sequence length"
            )
    return TokenStore(tuple(names), np.frombuffer(tokens, np.uint8), np.array(ends[:-1], np.int64), windows_K, length)
