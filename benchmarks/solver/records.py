"""The record of the benchmark of solvers."""

import dataclasses

from benchmarks.machine import Rates
from benchmarks.records import CallTimes, Record
from benchmarks.timing import Ratio


@dataclasses.dataclass(frozen=True)
class Settings:
    repeats: int
    budget: float  # seconds
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
class TimesFaster(Ratio):
    """A rival's time over that of our default method."""

    equal_gap: bool  # both reached the tolerance; a rival that stops short of it is favored
    lost: bool  # the rival's weights are worthless: no finite gap, or one above 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaseRecord:
    name: str
    what: str
    n: int
    k: int
    seed: int
    example_weights: bool
    rates: dict[str, Rates]  # of the CPU, and of the default device if that is another
    results: dict[str, Result]  # by method
    unmeasured: dict[str, str]  # by method: why it has no time on this case
    times_faster: dict[str, TimesFaster]  # by rival

    @property
    def work(self) -> int:
        """N K^2, the multiply-adds of a Newton step's product."""
        return self.n * self.k**2


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamedRecord:
    """A solve of rows that are streamed, beside one plain pass over them."""

    name: str
    what: str
    n: int
    k: int
    seed: int
    row_bytes: int
    plain_pass_seconds: tuple[float, ...]
    solve_seconds: tuple[float, ...]
    first_solve_seconds: float
    passes: int
    seconds_per_pass: float
    pass_over_plain: Ratio
    memory_bytes: int | None
    memory_of_first_call: bool
    relative_gap: float
    weights_differ_from_memory: float  # the largest difference from the weights that a solve in memory finds

    def __str__(self) -> str:
        memory = "" if self.memory_bytes is None else f", {self.memory_bytes / 1e6:.0f} MB of memory"
        return (
            f"{self.name} {self.n:.0e} x {self.k} ({self.row_bytes / 1e6:.0f} MB): {self.passes} passes of"
            f" {self.seconds_per_pass:.2g} s, {self.pass_over_plain.median:.2g} times reading + exp{memory}, gap"
            f" {self.relative_gap:.0e}, weights within {self.weights_differ_from_memory:.0e} of those found in memory"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SolverRecord(Record):
    tolerance: float
    settings: Settings
    software: dict[str, str]  # by method: versions that Python does not know
    methods: dict[str, MethodRecord]
    cases: tuple[CaseRecord, ...]
    streaming: tuple[StreamedRecord, ...]
