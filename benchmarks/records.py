"""Result files: typed records that are written as JSON, read back, and turned into reports."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from benchmarks.timing import Timing
from experiments.harness.provenance import provenance
from experiments.harness.result_files import read_result, write_bytes, write_json
from experiments.reporting.schema import MadeBy


class Ratio(NamedTuple):
    """How many times longer one call takes than another."""

    median: float  # of the medians
    lowest: float  # the shortest time of the slower over the longest of the faster
    highest: float

    def cells(self) -> list[str]:
        """Three cells of a table."""
        return [f"{value:.2f}" for value in self]

    def __str__(self) -> str:
        median, lowest, highest = self.cells()
        return f"{median} ({lowest} to {highest})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Times:
    """How long something took in the rounds of `timing.side_by_side`."""

    median_seconds: float
    min_seconds: float
    max_seconds: float
    rounds: int

    @property
    def spread(self) -> tuple[float, float, float]:
        """Median, shortest and longest, in seconds."""
        return self.median_seconds, self.min_seconds, self.max_seconds

    def over(self, faster: "Times") -> Ratio:
        """These times over those of something else from the same rounds."""
        return Ratio(
            self.median_seconds / faster.median_seconds,
            self.min_seconds / faster.max_seconds,
            self.max_seconds / faster.min_seconds,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CallTimes(Times):
    """Times of a call that may compile, and its memory."""

    first_seconds: float | None  # the first call of all
    compile_seconds: float | None  # the first call less the median; None for what does not compile
    memory_bytes: int | None  # see `timing.memory_growth`; None where the system does not tell
    memory_of_first_call: bool  # then compilation counts as well


def times(timing: Timing[Any], parts: float = 1) -> dict[str, Any]:
    """The fields of `Times`: those of a call, or of one of the equal parts that it consists of."""
    seconds = timing.median, min(timing.seconds), max(timing.seconds)
    names = "median_seconds", "min_seconds", "max_seconds"
    return {name: value / parts for name, value in zip(names, seconds, strict=True)} | {"rounds": len(timing.seconds)}


def call_times(timing: Timing[Any], compiled: bool) -> dict[str, Any]:
    """The fields of `CallTimes`."""
    return times(timing) | {
        "first_seconds": timing.first,
        "compile_seconds": timing.compilation if compiled else None,
        "memory_bytes": timing.memory,
        "memory_of_first_call": timing.memory_of_first,
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What every result file begins with."""

    schema: Literal[2] = 2
    summary: str = ""  # the last line that the benchmark prints
    made_by: MadeBy


AnyRecord = TypeVar("AnyRecord", bound=Record)
Report = Callable[[AnyRecord], Mapping[str, str | bytes]]  # files by suffix: {".md": ..., ".png": ...}


def made_by(*distributions: str) -> MadeBy:
    """Where the numbers of this run come from; also printed."""
    found = provenance(*distributions)
    print(f"{found.device}; commit {found.git_commit}")
    return found


def write_record(stem: Path, record: Record, report: Report) -> None:
    """Write STEM.json and its report beside it; print the report, and the summary last."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    path = stem.with_suffix(".json")
    write_json(path, record)
    print("", report(record).get(".md", ""), sep="\n")
    write_report(path, type(record), report)
    print(record.summary)


def write_report(path: Path, kind: type[AnyRecord], report: Report[AnyRecord]) -> None:
    """Write the report of a result file beside it. Raises InputError for a file of something else."""
    files = report(read_result(path, kind))
    for suffix, content in files.items():
        write_bytes(path.with_suffix(suffix), content if isinstance(content, bytes) else content.encode())
    print(", ".join([str(path), *files]))
