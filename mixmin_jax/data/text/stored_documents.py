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
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Int

from mixmin_jax.data.text.shards import Shards
from mixmin_jax.errors import InputError

IN_MEMORY = 1 << 24  # bytes of a source up to which it is not worth a file
_SPOOL = 1 << 27  # bytes that are held in memory while a source is read, before they go to a file
_FORMAT = 1  # of the files
_WRITING = 600  # seconds after which a file is no longer being written
_BLOCK = 4096  # priorities that are made at a time


class StoredDocuments(Sequence[bytes]):
    """Documents in a file that is mapped: the system reads what is used, and may forget it again."""

    def __init__(self, data: mmap.mmap, starts: Int[np.ndarray, " n"], ends: Int[np.ndarray, " n"]) -> None:
        self._data, self._starts, self._ends = data, starts, ends

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> "StoredDocuments": ...
    def __getitem__(self, index: int | slice) -> "bytes | StoredDocuments":
        if isinstance(index, slice):
            return StoredDocuments(self._data, self._starts[index], self._ends[index])
        return self._data[self._starts[index] : self._ends[index]]

    def __iter__(self) -> Iterator[bytes]:
        for start, end in zip(self._starts.tolist(), self._ends.tolist(), strict=True):
            yield self._data[start:end]

    @property
    def num_bytes(self) -> int:
        return int((self._ends - self._starts).sum())

    def take(self, indices: Iterable[int] | Int[np.ndarray, " n"]) -> "StoredDocuments":
        chosen = np.fromiter(indices, np.int64)
        return StoredDocuments(self._data, self._starts[chosen], self._ends[chosen])


@dataclass(frozen=True)
class Counts:
    """What reading a source found, beside its documents."""

    documents: int  # all that can be used
    bytes: int  # of these
    unusable: int  # that cannot
    notices: tuple[str, ...]  # what was left out


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
    _kept: list[tuple[int, int, int]] = field(default_factory=list)  # priority, start and length
    _held: int = 0  # bytes of these
    _threshold: int = 1 << 64  # priorities from here on are not kept
    _end: int = 0
    _all: list[bytes] = field(default_factory=list)  # without max_bytes

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

    def add(self, priority: int, document: bytes) -> None:
        """Take one document of the stream into account. Raises OSError if it cannot be written."""
        self.num_documents += 1
        self.num_bytes += len(document)
        if self.max_bytes is None:
            self._all.append(document)
            return
        if priority >= self._threshold:
            return
        self._file.write(document)
        self._kept.append((priority, self._end, len(document)))
        self._end += len(document)
        self._held += len(document)
        if self._held > self.max_bytes + self.max_bytes // 4:
            self._prune(self.max_bytes)

    def _prune(self, max_bytes: int) -> None:
        by_priority = sorted(self._kept)
        ends = np.cumsum([length for _, _, length in by_priority])
        kept = max(int(np.searchsorted(ends, max_bytes, side="right")), 1)
        if kept < len(by_priority):
            self._threshold = by_priority[kept][0]
            self._kept = sorted(by_priority[:kept], key=lambda found: found[1])
            self._held = int(ends[kept - 1])

    def close(self) -> None:
        self._file.close()

    def documents(self) -> Iterator[bytes]:
        """What is kept, in the order of the stream."""
        yield from self._all
        if self.max_bytes is not None and self._held > self.max_bytes:
            self._prune(self.max_bytes)
        for _, start, length in self._kept:
            self._file.seek(start)
            yield self._file.read(length)


def store_folder() -> Path:
    """`mixmin_jax/documents` in $XDG_CACHE_HOME, or in ~/.cache. It may be removed when no run is going on."""
    return (Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "mixmin_jax" / "documents").expanduser()


def store_key(shards: Shards, *options: Any) -> str:
    """Another one once a file has changed, or with other options."""
    files = [(shard.place, shard.name, shard.size, shard.stamp) for shard in shards.files]
    return hashlib.sha256(json.dumps([_FORMAT, files, shards.left_out, options]).encode()).hexdigest()[:32]


def write_store(folder: Path, key: str, documents: Iterable[bytes], counts: Counts) -> None:
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
            json.dump({"lengths": lengths, "counts": asdict(counts)}, index)
        partial.replace(folder / f"{key}.json")
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def read_store(folder: Path, key: str) -> tuple[StoredDocuments, Counts] | None:
    """What `write_store` kept; None if there is nothing, or not all of it."""
    try:
        index = json.loads((folder / f"{key}.json").read_bytes())
        ends = np.cumsum(np.array(index["lengths"], np.int64))
        with (folder / f"{key}.documents").open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        counts = Counts(**index["counts"] | {"notices": tuple(index["counts"]["notices"])})
        return (StoredDocuments(data, ends - index["lengths"], ends), counts) if len(data) == ends[-1] else None
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def cannot_be_stored(folder: Path, name: str, error: OSError) -> InputError:
    return InputError(
        f"{name}: its documents cannot be kept in {folder} ({error.strerror or error}): make room, lower"
        " --source-bytes, or set XDG_CACHE_HOME to another folder"
    )
