"""Text as documents: read files and folders, split a target, keep to a byte budget.

`formats` says which files are read. Folders are read recursively in sorted order. A folder of sources holds one such
file or folder per source.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from mixmin_jax.data.hash_order import hash_order
from mixmin_jax.data.text.reading import WHOLE, Limits, Reading, read_documents
from mixmin_jax.data.text.shards import expand, find_shards, stem, without_secrets
from mixmin_jax.data.text.stored_documents import StoredDocuments
from mixmin_jax.errors import InputError


@dataclass(frozen=True)
class Size:
    """Of a text."""

    documents: int
    bytes: int


@dataclass(frozen=True)
class Corpus:
    """Documents of one source or target, in order.

    documents: valid UTF-8, so byte 0xFF never occurs and can serve as the separator. None is empty.
    origin: where they come from.      num_skipped: the number of unusable documents that were left out.
    whole: the size of all that was read, where `documents` is a sample of it.      notices: what a user should know.
    field, limits: how files were read.
    quality_D: the number that the data brings for each document, where `read_corpus` was asked for it.
    """

    name: str
    documents: Sequence[bytes]
    origin: str
    num_skipped: int = 0
    whole: Size | None = None
    notices: tuple[str, ...] = ()
    field: str | None = None
    limits: Limits = WHOLE
    quality_D: Float[np.ndarray, " D"] | None = dataclasses.field(default=None, compare=False)

    @property
    def num_documents(self) -> int:
        return len(self.documents)

    @cached_property
    def num_bytes(self) -> int:
        if isinstance(self.documents, StoredDocuments):
            return self.documents.num_bytes
        return sum(map(len, self.documents))

    @property
    def size(self) -> Size:
        """Of all that was read."""
        return self.whole or Size(self.num_documents, self.num_bytes)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over each document's length (8 bytes, little-endian) and bytes, in order; not the name."""
        digest = hashlib.sha256()
        for document in self.documents:
            digest.update(len(document).to_bytes(8, "little"))
            digest.update(document)
        return digest.hexdigest()

    def take(self, indices: Iterable[int] | Int[np.ndarray, " n"]) -> "Corpus":
        """A corpus of these documents. `num_skipped` stays as it is; the size of the whole shrinks in proportion."""
        chosen = np.fromiter(indices, np.int64)
        quality_D = None if self.quality_D is None else self.quality_D[chosen]
        if isinstance(self.documents, StoredDocuments):
            taken = replace(self, documents=self.documents.take(chosen), quality_D=quality_D)
        else:
            taken = replace(self, documents=tuple(self.documents[index] for index in chosen), quality_D=quality_D)
        if self.whole is None:
            return taken
        documents = round(self.whole.documents * taken.num_documents / self.num_documents)
        num_bytes = round(self.whole.bytes * taken.num_bytes / self.num_bytes)
        return replace(taken, whole=Size(documents, num_bytes))


def read_corpus(
    path: str | Path,
    name: str | None = None,
    field: str = "text",
    limits: Limits = WHOLE,
    quality_field: str | None = None,
) -> Corpus:
    """The documents of one file or folder, or of a URL.

    Documents that cannot be used are skipped and counted: null, without any visible character, without the field, not
    valid Unicode, cut off. So is what cannot be read of a damaged file. Blank lines are ignored, and files that are no
    data (`shards`) left out.

    With `limits.max_bytes`, a source is read as a stream. What is kept of a source of more than 16 MB lies in a file in
    `store_folder`, where the next run finds it as long as the source has not changed.

    Args:
        path: a file or folder in one of the formats of `formats`, or a URL of one.
        name: the default is the stem (`code.jsonl.gz` -> `code`).
        field: the field or column that holds the text.
        limits: what is kept.
        quality_field: the field or column that holds a number for each document, which becomes `Corpus.quality_D`.
            Numbers written as text and truth values are refused. A .txt file has none.

    Raises:
        InputError: with file and place: too many unusable documents, or none that can be used; a file without the
            column, or where it is no text; a quality that is missing, no finite number, or the same for all documents;
            a full disk; errors of `shards.find_shards`.
    """
    path = expand(path)
    name = stem(path) if name is None else name
    return corpus_of(Reading(name, find_shards(path), field, limits, quality_field), without_secrets(str(path)))


def corpus_of(reading: Reading, origin: str) -> Corpus:
    """The documents of a source as a corpus. Errors are those of `read_documents`."""
    documents, counts, quality = read_documents(reading)
    quality_D = None if quality is None else np.array(quality, np.float64)
    if quality_D is not None and len(quality_D) > 1 and (quality_D == quality_D[0]).all():
        raise InputError(
            f"{reading.name} ({origin}): {reading.quality_field!r} is {quality_D[0]:g} for all {len(quality_D)}"
            " documents and so tells none from another; give another quality field, or leave it out"
        )
    whole = Size(counts.documents, counts.bytes) if len(documents) < counts.documents else None
    notices, field, limits = counts.notices, reading.field, reading.limits
    return Corpus(reading.name, documents, origin, counts.unusable, whole, notices, field, limits, quality_D)


def split_documents(
    corpus: Corpus, fit_fraction: float, seed: int
) -> tuple[Int[np.ndarray, "fit"], Int[np.ndarray, "test"]]:
    """Split a target into documents to fit weights on and documents to report on.

    The split depends on the corpus's fingerprint and `seed` only. Exact duplicates fall on the same side: a document
    on both sides would leak.

    Returns:
        Sorted indices of the documents to fit on, about `fit_fraction` of them, and of the others.

    Raises:
        InputError: `fit_fraction` is not inside (0, 1), or there are fewer than two distinct documents.
    """
    if not 0 < fit_fraction < 1:
        raise InputError(f"fit_fraction must lie between 0 and 1, both excluded; it is {fit_fraction}")
    groups: dict[bytes, list[int]] = {}
    for index in hash_order(range(corpus.num_documents), f"{corpus.fingerprint}/{seed}"):
        groups.setdefault(corpus.documents[index], []).append(index)
    if len(groups) < 2:
        raise InputError(
            f"{corpus.name} ({corpus.origin}): {len(groups)} distinct document(s) cannot be split into a part to fit "
            "weights on and a part to report on; give the target as several documents"
        )
    num_fit = min(max(round(fit_fraction * corpus.num_documents), 1), corpus.num_documents - 1)
    fit: list[int] = []
    for members in groups.values():
        if len(fit) + len(members) <= num_fit:
            fit += members
    if not fit:  # every group is larger than num_fit: take the smallest
        fit = min(groups.values(), key=len)
    test = set(range(corpus.num_documents)).difference(fit)
    return np.array(sorted(fit)), np.array(sorted(test))


def take_bytes(corpus: Corpus, indices: Int[np.ndarray, "n"], max_bytes: int, seed: int = 0) -> Int[np.ndarray, "kept"]:
    """Sorted indices of randomly chosen documents with at most `max_bytes` bytes in all, but at least one document.

    The order in which documents are taken depends on the corpus's fingerprint and `seed` only. So a smaller budget
    keeps a subset of what a larger one keeps.
    """
    order = np.array(hash_order(indices.tolist(), f"{corpus.fingerprint}/{seed}"), dtype=np.int64)
    total = np.cumsum([len(corpus.documents[index]) for index in order])
    return np.sort(order[: max(int(np.searchsorted(total, max_bytes, side="right")), 1)])
