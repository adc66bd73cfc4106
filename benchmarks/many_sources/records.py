"""The record of the benchmark of many sources."""

import dataclasses

from benchmarks.records import Record


@dataclasses.dataclass(frozen=True)
class Settings:
    buckets: tuple[int, ...]
    bucket_bytes: int


@dataclasses.dataclass(frozen=True)
class Case:
    """One search in a fresh process."""

    sources: int
    buckets: int  # that came out
    text_bytes: int
    seconds: float  # from reading to the report, without imports
    stages: dict[str, float]  # seconds
    memory_bytes: int | None  # of the process, at its peak
    kept: int  # buckets with weight
    gap: float  # of the weights, nats per byte
    tolerance: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ManySourcesRecord(Record):
    settings: Settings
    cases: tuple[Case, ...]
