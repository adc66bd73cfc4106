"""Read one source as a stream: count its documents, skip what is none, and keep a sample.

Several processes can share the work. Each samples its shards (`read_part`), then one joins the samples (`join_parts`).
Documents are kept by their priorities, so that the joined sample is the one that a single process keeps, to the bit.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from mixmin_jax.data.text.formats import Scored, Unusable, read_shard
from mixmin_jax.data.text.shards import Shard, Shards
from mixmin_jax.data.text.stored_documents import (
    IN_MEMORY,
    Counts,
    Sample,
    Skipped,
    cannot_be_stored,
    prune_store,
    read_store,
    remove_entry,
    store_folder,
    store_key,
    write_store,
)
from mixmin_jax.errors import InputError, list_some

MAX_UNREADABLE = 0.01  # of the documents of a source
STORE_SIZE = "MIXMIN_DOCUMENTS_GB"  # environment variable: how large the folder of stored documents may become
_STORE_GB = 20.0  # its default
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
class Reading:
    """A source to read."""

    name: str
    shards: Shards
    field: str
    limits: Limits = WHOLE
    quality_field: str | None = None  # that holds a number for each document

    def key(self, *part: int) -> str:
        """Of what is stored of it, or of a part of it."""
        limits, quality = self.limits, () if self.quality_field is None else (self.quality_field,)
        return store_key(self.shards, self.field, limits.max_unreadable, limits.max_bytes, limits.seed, *quality, *part)


def read_documents(reading: Reading) -> tuple[Sequence[bytes], Counts, list[float] | None]:
    """What is kept of a source, what was found in it, and the quality of what is kept (with a `quality_field`).

    Raises:
        InputError: too many documents that cannot be used, or none that can; a document without a finite number in the
            `quality_field`; a full disk; errors of `read_shard`.
    """
    folder, key, limits = store_folder(), reading.key(), reading.limits
    largest = _store_bytes()
    if limits.max_bytes is not None and (found := read_store(folder, key)):
        return found.documents, found.counts, found.quality
    sample = Sample(folder, limits.max_bytes, limits.seed)
    try:
        counts = _read(reading, sample)
        if limits.max_bytes is None or counts.bytes <= IN_MEMORY:
            return tuple(sample.documents()), counts, sample.quality()
        write_store(folder, key, sample.documents(), counts, quality=sample.quality())
    except OSError as error:
        raise cannot_be_stored(folder, reading.name, error) from error
    finally:
        sample.close()
    found = read_store(folder, key)
    prune_store(folder, largest)
    if found:
        return found.documents, found.counts, found.quality
    raise InputError(
        f"{reading.name}: its documents in {folder} were changed or removed by another program; start again"
    )


def _store_bytes() -> float:
    given = os.environ.get(STORE_SIZE, "")
    try:
        if (size := float(given or _STORE_GB)) >= 0:
            return size * 1e9
    except ValueError:
        pass
    raise InputError(f"{STORE_SIZE}={given}: expected a number of gigabytes, such as {_STORE_GB:g}")


def _read(reading: Reading, sample: Sample) -> Counts:
    """Give all documents to the sample."""
    skipped: list[Skipped] = []
    for shard in reading.shards.files:
        enough = _ENOUGH - sum(found.documents for found in skipped)
        skipped.append(_read_shard(shard, reading, sample, enough))
        if skipped[-1].documents >= enough and not sample.num_documents:
            break
    return _counts(reading, sample.num_documents, sample.num_bytes, skipped)


def _read_shard(shard: Shard, reading: Reading, sample: Sample, enough: int) -> Skipped:
    """Give the documents of one file to the sample; stop at `enough` that cannot be used, if none can."""
    first, documents, rest_bytes = "", 0, 0
    problem, scored, without = "", 0, 0
    items = read_shard(shard, reading.field, reading.quality_field)
    for priority, item in zip(sample.priorities(shard.name), items, strict=False):
        if isinstance(item, Scored):
            sample.add(priority, item.document, item.quality)
            problem, scored, without = problem or item.problem, scored + 1, without + bool(item.problem)
            continue
        if not isinstance(item, Unusable):
            sample.add(priority, item)
            continue
        first = first or f"{shard.place}{item.where}: {item.reason}"
        documents += item.documents
        rest_bytes += item.rest_bytes
        if documents >= enough and not sample.num_documents:
            break
    if problem:
        raise InputError(
            f"{shard.place}{problem} ({without} of its {scored} documents have no finite number there): each document"
            " needs a quality; add it, leave such documents out, or give another quality field"
        )
    return Skipped(first, documents, rest_bytes)


def _counts(reading: Reading, num_documents: int, num_bytes: int, skipped: Sequence[Skipped]) -> Counts:
    """What was found; `skipped` of each file. Raises InputError if too many documents cannot be used.

    An unreadable rest of a file counts with its share of all files' bytes.
    """
    shards, limits = reading.shards, reading.limits
    skipped = [found for found in skipped if found.first]
    unusable = sum(found.documents for found in skipped)
    total = num_documents + unusable
    rest = sum(found.rest_bytes for found in skipped) / max(sum(shard.size for shard in shards.files), 1)
    if skipped and not (num_documents and unusable / total + rest <= limits.max_unreadable):
        first = skipped[0].first
        if total <= 1:
            raise InputError(first)
        share = f"{unusable} of {total} documents" + (f" and {rest:.0%} of the bytes" if rest else "")
        raise InputError(
            f"{first} ({share} of {reading.name!r} cannot be used; --max-unreadable allows {limits.max_unreadable:g})"
        )
    notices = [f"left out, as no data: {list_some(shards.left_out)}"] if shards.left_out else []
    files = [
        f"{found.documents} skipped, the first: {found.first}" if found.documents else found.first for found in skipped
    ]
    if len(files) > _MAX_NAMED:
        files = [*files[:_MAX_NAMED], f"... and in {len(files) - _MAX_NAMED} more files"]
    return Counts(num_documents, num_bytes, unusable, (*notices, *files))


# A part of the files each ---------------------------------------------------------------------------------------------


def is_shared(reading: Reading) -> bool:
    """Whether a source is large enough to be worth the work of several processes, and not yet in the store."""
    if reading.limits.max_bytes is None or sum(shard.size for shard in reading.shards.files) <= IN_MEMORY:
        return False
    return read_store(store_folder(), reading.key()) is None


def read_part(reading: Reading, part: int, parts: int) -> None:
    """Store a sample of every `parts`-th file, from the file with the number `part` on.

    Raises:
        InputError: a full disk; errors of `read_shard`.
    """
    folder, limits = store_folder(), reading.limits
    mine = range(part, len(reading.shards.files), parts)
    sample = Sample(folder, limits.max_bytes, limits.seed)
    skipped, ends = list[Skipped](), list[int]()
    try:
        for number in mine:
            skipped.append(_read_shard(reading.shards.files[number], reading, sample, sys.maxsize))
            ends.append(sample.end)
        documents = sample.documents()
        counts = Counts(sample.num_documents, sample.num_bytes, sum(found.documents for found in skipped), ())
        sampled = sample.part(ends, skipped)
        write_store(folder, reading.key(part, parts), documents, counts, sampled, sample.quality())
    except OSError as error:
        raise cannot_be_stored(folder, reading.name, error) from error
    finally:
        sample.close()


def join_parts(reading: Reading, parts: int) -> bool:
    """Store the sample of a source whose parts are stored; False if one is not found.

    Raises:
        InputError: as `read_documents`.
    """
    folder, limits = store_folder(), reading.limits
    keys = [reading.key(part, parts) for part in range(parts)]
    found = [read_store(folder, key) for key in keys]
    stored = [one for one in found if one is not None]
    if len(stored) < parts:
        return False
    num_documents, num_bytes = (sum(counted) for counted in zip(*(one.size for one in stored), strict=True))
    # from there on a part may have left out what ends the whole sample, and others must not fill its place
    threshold = min(one.part.threshold for one in stored if one.part)
    sample = Sample(folder, limits.max_bytes, limits.seed, threshold=threshold)
    try:
        skipped = list[Skipped]()
        files = [one.files() for one in stored]
        for number in range(len(reading.shards.files)):
            found_there, documents = next(files[number % parts])
            skipped.append(found_there)
            for priority, document, quality in documents:
                sample.add(priority, document, quality)
        counts = _counts(reading, num_documents, num_bytes, skipped)
        write_store(folder, reading.key(), sample.documents(), counts, quality=sample.quality())
    except OSError as error:
        raise cannot_be_stored(folder, reading.name, error) from error
    finally:
        sample.close()
        for key in keys:
            remove_entry(folder, key)
    return True
