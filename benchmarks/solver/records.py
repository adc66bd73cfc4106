"""The record of the benchmark of solvers."""

import dataclasses
from typing import Any

from benchmarks.machine import Rates
from benchmarks.options import Rounds
from benchmarks.records import CallTimes, Record, Times
from benchmarks.solver.fresh import Fresh


@dataclasses.dataclass(frozen=True)
class Settings(Rounds):
    limit: float  # seconds


@dataclasses.dataclass(frozen=True)
class MethodRecord:
    what: str
    absent: str | None  # why the method cannot run on this machine


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result(CallTimes):
    """A method on a case. The memory is R's for mixsqp; an accelerator's does not count."""

    iterations: int | None
    relative_gap: float | None  # by `gap.judge`; None where it is not finite
    reached: bool  # whether the gap is at most the tolerance
    repaired: float | None  # see `gap.Judged`; None where it is not finite
    floor_seconds: float | None  # see `machine.newton_floor`; None where iterations are no Newton steps
    time_over_floor: float | None
    note: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    name: str
    what: str
    n: int
    k: int
    seed: int


def problem(case: Any) -> dict[str, Any]:
    """The fields of `Problem`."""
    return {field.name: getattr(case, field.name) for field in dataclasses.fields(Problem)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaseRecord(Problem):
    example_weights: bool
    rates: dict[str, Rates]  # of the CPU, and of the default device if that is another
    results: dict[str, Result]  # by method
    unmeasured: dict[str, str]  # by method: why it has no time on this case
    fresh: dict[str, Fresh] = dataclasses.field(default_factory=dict)  # by method, for some cases

    @property
    def work(self) -> int:
        """N K^2, the multiply-adds of a Newton step's product."""
        return self.n * self.k**2


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamedRecord(Problem):
    """A solve of rows that are streamed, beside one plain pass over them."""

    row_bytes: int
    plain_pass: Times
    solve: CallTimes
    passes: int  # of the solve
    relative_gap: float
    weights_differ_from_memory: float  # the largest difference from the weights that a solve in memory finds

    def __str__(self) -> str:
        seconds, memory = self.solve.median_seconds / self.passes, self.solve.memory_bytes
        return (
            f"{self.name} {self.n:.0e} x {self.k} ({self.row_bytes / 1e6:.0f} MB): {self.passes} passes of"
            f" {seconds:.2g} s, {seconds / self.plain_pass.median_seconds:.2g} times reading + exp,"
            f" {'unknown' if memory is None else f'{memory / 1e6:.0f}'} MB of memory, gap {self.relative_gap:.0e},"
            f" weights within {self.weights_differ_from_memory:.0e} of those found in memory"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SolverRecord(Record):
    tolerance: float
    settings: Settings
    software: dict[str, str]  # by method: versions that Python does not know
    methods: dict[str, MethodRecord]
    cases: tuple[CaseRecord, ...]
    streaming: tuple[StreamedRecord, ...]
