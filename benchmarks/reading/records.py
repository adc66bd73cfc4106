"""The record of the benchmark of reading."""

import dataclasses

from benchmarks.options import Rounds
from benchmarks.records import Ratio, Record, Times


@dataclasses.dataclass(frozen=True)
class Settings(Rounds):
    gigabytes: float  # of text in all
    source_bytes: int  # kept of a source


@dataclasses.dataclass(frozen=True)
class KindRecord:
    """A source of one kind of file, read by fresh processes."""

    shards: int
    text_bytes: int
    file_bytes: int
    plain: Times  # decompressing alone
    reading: Times
    memory_bytes: int | None  # of the process that reads, at its peak; with Python and all that it imports

    @property
    def ratio(self) -> Ratio:
        return self.reading.over(self.plain)


@dataclasses.dataclass(frozen=True)
class DryRun:
    """`experiments.text_mixture --dry-run` on all sources, in a fresh process."""

    seconds: float
    seconds_again: float  # with what the first one kept
    memory_bytes: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadingRecord(Record):
    settings: Settings
    kinds: dict[str, KindRecord]
    dry_run: DryRun
