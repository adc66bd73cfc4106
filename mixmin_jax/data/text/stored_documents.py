"""Documents on disk: a random sample of a stream that does not fit into memory, kept in a file that is mapped.

A document's priority is a hash of the seed, its file's name in the source and its number there. Those with the smallest
priorities are kept, as many as fit. So one pass is enough, a smaller budget keeps a subset of what a larger one keeps,
and no document depends on what else a source holds.
"""

import hashlib
import json
import mmap
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, overload

import msgspec
import numpy as np
from jaxtyping import Int

from mixmin_jax.data.text.shards import Shards
from mixmin_jax.errors import InputError

IN_MEMORY = 1 << 24  # bytes of a source up to which it is not worth a file
_SPOOL = 1 << 27  # bytes that are held in memory while a source is read, before they go to a file
_FORMAT = 1  # of the files
_WRITING = 600  # seconds after which a file is no longer being written, or about to be mapped
_BLOCK = 4096  # priorities that are made at a time


class StoredDocuments(Sequence[bytes]):
    """Documents in a file that is mapped: the system reads what is used, and may forget it again."""

    def __init__(self, data: mmap.mmap | bytes, starts: Int[np.ndarray, " n"], ends: Int[np.ndarray, " n"]) -> None:
        self._data, self._starts, self.ends = data, starts, ends

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> "StoredDocuments": ...
    def __getitem__(self, index: int | slice) -> "bytes | StoredDocuments":
        if isinstance(index, slice):
            return StoredDocuments(self._data, self._starts[index], self.ends[index])
        return self._data[self._starts[index] : self.ends[index]]

    def __iter__(self) -> Iterator[bytes]:
        for start, end in zip(self._starts.tolist(), self.ends.tolist(), strict=True):
            yield self._data[start:end]

    @property
    def num_bytes(self) -> int:
        return int((self.ends - self._starts).sum())

    def take(self, indices: Iterable[int] | Int[np.ndarray, " n"]) -> "StoredDocuments":
        chosen = np.fromiter(indices, np.int64)
        return StoredDocuments(self._data, self._starts[chosen], self.ends[chosen])


@dataclass(frozen=True)
class Counts:
    """What reading a source found, beside its documents."""

    documents: int  # all that can be used
    bytes: int  # of these
    unusable: int  # that cannot
    notices: tuple[str, ...]  # what was left out


@dataclass(frozen=True)
class Skipped:
    """What one file holds beside documents."""

    first: str  # place and reason of the first that cannot be used; empty if there is none
    documents: int
    rest_bytes: int  # that cannot be read any more


@dataclass(frozen=True)
class Part:
    """What is known of a sample of some files, beside its documents."""

    priorities: tuple[int, ...]  # of the documents
    ends: tuple[int, ...]  # of each file: how many documents are of it or of one before
    skipped: tuple[Skipped, ...]  # of each file
    threshold: int  # priorities from here on were not kept


@dataclass(frozen=True)
class Stored:
    """What the store holds of a source, or of a part of it."""

    documents: StoredDocuments
    counts: Counts
    part: Part | None
    quality: list[float] | None = None  # of the documents, where it was asked for

    @property
    def size(self) -> tuple[int, int]:
        return self.counts.documents, self.counts.bytes

    def files(self) -> Iterator[tuple[Skipped, Iterable[tuple[int, bytes, float | None]]]]:
        """Of a part, file by file: what was skipped, and the documents with their priorities and quality."""
        if self.part is not None:
            quality: Sequence[float | None] = self.quality or [None] * len(self.documents)
            for (start, end), skipped in zip(pairwise((0, *self.part.ends)), self.part.skipped, strict=True):
                found = slice(start, end)
                yield skipped, zip(self.part.priorities[found], self.documents[found], quality[found], strict=True)


@dataclass
class Sample:
    """The documents of a stream with the smallest priorities, at most `max_bytes` of them but at least one.

    They are written to a file as they come. Those that turn out not to be kept stay there as gaps. Without `max_bytes`
    all are kept in memory.
    """

    folder: Path
    max_bytes: int | None
    seed: int
    num_documents: int = 0
    num_bytes: int = 0
    _kept: list[tuple[int, int, int, float | None]] = field(default_factory=list)  # priority, start, length, quality
    _held: int = 0  # bytes of these
    threshold: int = 1 << 64  # priorities from here on are not kept
    end: int = 0  # bytes written
    _all: list[bytes] = field(default_factory=list)  # without max_bytes
    _all_quality: list[float | None] = field(default_factory=list)  # of these

    def __post_init__(self) -> None:
        with suppress(OSError):  # small sources need no file
            self.folder.mkdir(parents=True, exist_ok=True)
        # has no name, so that nothing is left
        self._file: Any = tempfile.SpooledTemporaryFile(_SPOOL, dir=str(self.folder))  # noqa: SIM115

    def priorities(self, name: str) -> Iterator[int]:
        """Those of the documents of a file."""
        key = int.from_bytes(hashlib.sha256(f"{self.seed}/{name}".encode()).digest()[:16])
        random = np.random.Philox(key=key)
        while True:
            yield from random.random_raw(_BLOCK).tolist()

    def add(self, priority: int, document: bytes, quality: float | None = None) -> None:
        """Take one document of the stream into account. Raises OSError if it cannot be written."""
        self.num_documents += 1
        self.num_bytes += len(document)
        if self.max_bytes is None:
            self._all.append(document)
            self._all_quality.append(quality)
            return
        if priority >= self.threshold:
            return
        self._file.write(document)
        self._kept.append((priority, self.end, len(document), quality))
        self.end += len(document)
        self._held += len(document)
        if self._held > self.max_bytes + self.max_bytes // 4:
            self._prune(self.max_bytes)

    def _prune(self, max_bytes: int) -> None:
        by_priority = sorted(self._kept)
        ends = np.cumsum([length for _, _, length, _ in by_priority])
        kept = max(int(np.searchsorted(ends, max_bytes, side="right")), 1)
        if kept < len(by_priority):
            self.threshold = by_priority[kept][0]
            self._kept = sorted(by_priority[:kept], key=lambda found: found[1])
            self._held = int(ends[kept - 1])

    def close(self) -> None:
        self._file.close()

    def documents(self) -> Iterator[bytes]:
        """What is kept, in the order of the stream."""
        if self.max_bytes is None:
            return iter(self._all)
        if self._held > self.max_bytes:
            self._prune(self.max_bytes)
        return map(self._read, self._kept)

    def quality(self) -> list[float] | None:
        """That of what `documents` gave; None if there is none."""
        found = self._all_quality if self.max_bytes is None else [quality for *_, quality in self._kept]
        return [quality for quality in found if quality is not None] or None

    def _read(self, kept: tuple[int, int, int, float | None]) -> bytes:
        _, start, length, _ = kept
        self._file.seek(start)
        return self._file.read(length)

    def part(self, ends: Sequence[int], skipped: Sequence[Skipped]) -> Part:
        """Of what `documents` gives; `ends` is where `end` was after each file."""
        priorities, starts, *_ = zip(*self._kept, strict=True) if self._kept else ((), ())
        return Part(priorities, tuple(np.searchsorted(starts, ends).tolist()), tuple(skipped), self.threshold)


def store_folder() -> Path:
    """`mixmin_jax/documents` in $XDG_CACHE_HOME, or in ~/.cache. It may be removed when no run is going on."""
    return (Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "mixmin_jax" / "documents").expanduser()


def store_key(shards: Shards, *options: Any) -> str:
    """Another one once a file has changed, or with other options."""
    files = [(shard.place, shard.name, shard.size, shard.stamp) for shard in shards.files]
    return hashlib.sha256(json.dumps([_FORMAT, files, shards.left_out, options]).encode()).hexdigest()[:32]


def write_store(
    folder: Path,
    key: str,
    documents: Iterable[bytes],
    counts: Counts,
    part: Part | None = None,
    quality: list[float] | None = None,
) -> None:
    """Keep documents in a folder. The second of two files makes them whole, so a process may be killed at any time.

    Raises OSError if they cannot be written; nothing is left then.
    """
    for left in folder.glob("*.partial"):  # by a process that was killed
        with suppress(OSError):  # another one may be first
            if time.time() - left.stat().st_mtime > _WRITING:
                left.unlink()
    lengths: list[int] = []
    partial: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".partial", delete=False) as file:
            partial = Path(file.name)
            for document in documents:
                file.write(document)
                lengths.append(len(document))
        partial.replace(folder / f"{key}.documents")
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".partial", delete=False) as index:
            partial = Path(index.name)
            found = {"lengths": lengths, "counts": asdict(counts), "part": part and asdict(part), "quality": quality}
            json.dump(found, index)
        partial.replace(folder / f"{key}.json")
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Index:
    """The file that makes an entry whole."""

    lengths: list[int]
    counts: Counts
    part: Part | None = None
    quality: list[float] | None = None


def read_store(folder: Path, key: str) -> Stored | None:
    """What `write_store` kept; None if there is nothing, or not all of it."""
    path = folder / f"{key}.json"
    try:
        index = msgspec.json.decode(path.read_bytes(), type=_Index)
        lengths = np.array(index.lengths, np.int64)
        ends = np.cumsum(lengths)
        with (folder / f"{key}.documents").open("rb") as file:
            _lock(file)  # the map keeps it
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if ends.size and ends[-1] else b""
        if len(data) != lengths.sum():
            return None
        with suppress(OSError):
            os.utime(path)  # when it was used last
        return Stored(StoredDocuments(data, ends - lengths, ends), index.counts, index.part, index.quality)
    except (OSError, ValueError):
        return None


def prune_store(folder: Path, max_bytes: float) -> None:
    """Remove what was not used for longest, until at most `max_bytes` are left.

    What a process has mapped stays, and so does what was used in the last ten minutes.
    """
    entries = []
    for documents in folder.glob("*.documents"):
        index = documents.with_suffix(".json")
        with suppress(OSError):
            held, entry = documents.stat(), index.stat() if index.exists() else documents.stat()
            entries.append((entry.st_mtime, held.st_size, documents.stem))
    total = sum(size for _, size, _ in entries)
    for used, size, key in sorted(entries):
        if total <= max_bytes or time.time() - used < _WRITING:
            return
        with suppress(OSError), (folder / f"{key}.documents").open("rb") as file:
            if _lock(file, alone=True):
                remove_entry(folder, key)
                total -= size


def remove_entry(folder: Path, key: str) -> None:
    """Remove what `write_store` kept; not what another process holds open, on a system that forbids that."""
    for ending in ("json", "documents"):
        with suppress(OSError):
            (folder / f"{key}.{ending}").unlink()


def _lock(file: BinaryIO, alone: bool = False) -> bool:
    """Mark an open file as in use, or find out whether nobody has (`alone`)."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
    except ImportError:  # Windows, which removes no file that is mapped
        return True
    except OSError:  # in use, or a file system without locks
        return False
    return True


def cannot_be_stored(folder: Path, name: str, error: OSError) -> InputError:
    return InputError(
        f"{name}: its documents cannot be kept in {folder} ({error.strerror or error}): make room, lower"
        " --source-bytes, or set XDG_CACHE_HOME to another folder"
    )
