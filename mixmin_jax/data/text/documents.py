"""Text as documents: read files and folders, split a target, keep to a byte budget.

`formats` says which files are read. Folders are read recursively in sorted order. A folder of sources holds one such
file or folder per source.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int

from mixmin_jax.data.hash_order import hash_order
from mixmin_jax.data.text.formats import Unusable, read_shard
from mixmin_jax.data.text.shards import Shards, expand, find_shards, stem
from mixmin_jax.data.text.stored_documents import (
    IN_MEMORY,
    Counts,
    Sample,
    StoredDocuments,
    cannot_be_stored,
    read_store,
    store_folder,
    store_key,
    write_store,
)
from mixmin_jax.errors import InputError, list_some

MAX_UNREADABLE = 0.01  # of the documents of a source
_ENOUGH = 1000  # documents that cannot be used, with none that can, after which a source is given up
_MAX_NAMED = 5  # files with such documents that are named


@dataclass(frozen=True)
class Limits:
    """How much is read of a source, and what is kept of it.

    max_unreadable: the share of its documents that may be unusable.      max_bytes: a larger source is sampled, with
    `seed`; None keeps it whole, and in memory.
    """

    max_unreadable: float = MAX_UNREADABLE
    max_bytes: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.max_unreadable < 1:
            raise InputError(f"--max-unreadable must be at least 0 and less than 1, not {self.max_unreadable}")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise InputError(f"--source-bytes must be positive, not {self.max_bytes}")


WHOLE = Limits()


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
    """

    name: str
    documents: Sequence[bytes]
    origin: str
    num_skipped: int = 0
    whole: Size | None = None
    notices: tuple[str, ...] = ()
    field: str | None = None
    limits: Limits = WHOLE

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
        if isinstance(self.documents, StoredDocuments):
            taken = replace(self, documents=self.documents.take(indices))
        else:
            taken = replace(self, documents=tuple(self.documents[index] for index in indices))
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

    Raises:
        InputError: with file and place: too many unusable documents, or none that can be used; a file without the
            column, or where it is no text; a full disk; errors of `shards.find_shards`.
    """
    path = expand(path)
    name = stem(path) if name is None else name
    documents, counts = _documents(name, find_shards(path), field, limits)
    whole = Size(counts.documents, counts.bytes) if len(documents) < counts.documents else None
    return Corpus(name, documents, str(path), counts.unusable, whole, counts.notices, field, limits)


def _documents(name: str, shards: Shards, field: str, limits: Limits) -> tuple[Sequence[bytes], Counts]:
    folder = store_folder()
    key = store_key(shards, field, limits.max_unreadable, limits.max_bytes, limits.seed)
    if limits.max_bytes is not None and (found := read_store(folder, key)):
        return found
    sample = Sample(folder, limits.max_bytes, limits.seed)
    try:
        counts = _read(name, shards, field, limits.max_unreadable, sample)
        if limits.max_bytes is None or counts.bytes <= IN_MEMORY:
            return tuple(sample.documents()), counts
        write_store(folder, key, sample.documents(), counts)
    except OSError as error:
        raise cannot_be_stored(folder, name, error) from error
    finally:
        sample.close()
    if found := read_store(folder, key):
        return found
    raise InputError(f"{name}: its documents in {folder} were changed or removed by another program; start again")


def _read(name: str, shards: Shards, field: str, max_unreadable: float, sample: Sample) -> Counts:
    """Give all documents to the sample. Raises InputError if too many cannot be used."""
    num_unusable, rest_bytes, first = 0, 0, ""
    notices = [f"left out, as no data: {list_some(shards.left_out)}"] if shards.left_out else []
    files: list[str] = []  # what was skipped of each

    def refuse_too_many() -> None:
        """An unreadable rest of a file counts with its share of all files' bytes."""
        total = sample.num_documents + num_unusable
        rest = rest_bytes / max(sum(shard.size for shard in shards.files), 1)
        if not first or (sample.num_documents and num_unusable / total + rest <= max_unreadable):
            return
        if total <= 1:
            raise InputError(first)
        found = f"{num_unusable} of {total} documents" + (f" and {rest:.0%} of the bytes" if rest else "")
        raise InputError(f"{first} ({found} of {name!r} cannot be used; --max-unreadable allows {max_unreadable:g})")

    for shard in shards.files:
        skipped, where = 0, ""
        for priority, item in zip(sample.priorities(shard.name), read_shard(shard, field), strict=False):
            if not isinstance(item, Unusable):
                sample.add(priority, item)
                continue
            where = where or f"{shard.place}{item.where}: {item.reason}"
            first = first or where
            skipped += item.documents
            num_unusable += item.documents
            rest_bytes += item.rest_bytes
            if num_unusable >= _ENOUGH and not sample.num_documents:
                refuse_too_many()
        if where:
            files.append(f"{skipped} skipped, the first: {where}" if skipped else where)
    refuse_too_many()
    if len(files) > _MAX_NAMED:
        files = [*files[:_MAX_NAMED], f"... and in {len(files) - _MAX_NAMED} more files"]
    return Counts(sample.num_documents, sample.num_bytes, num_unusable, (*notices, *files))


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
