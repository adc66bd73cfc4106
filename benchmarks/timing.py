"""Calls timed side by side in one process, so that the machine's noise hits all of them alike.

Every call runs once alone, and compiles then. Rounds follow: in each round every call has a turn, in an order that
rotates from round to round. A turn repeats a short call until 50 ms have passed; the median of all but its first
repetition counts. Last, quick calls in this process run once more for their memory.
"""

import contextlib
import ctypes
import dataclasses
import gc
import os
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

_TURN = 0.05  # seconds; a shorter turn measures mostly how caches fill again after the turns of others

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Stopped(Exception):
    """A call that gave no answer; the message says why, as in "over the limit of 120 s"."""


@dataclasses.dataclass(frozen=True)
class Call(Generic[T]):
    """What is timed."""

    run: Callable[[], T]
    own_seconds: Callable[[T], float | None] = lambda _: None  # the result's own time, for work in a child process
    pid: int | None = None  # the process whose memory the work takes; this one unless given


@dataclasses.dataclass(frozen=True)
class Timing(Generic[T]):
    """Seconds of every call, and the last result."""

    first: float  # seconds of the first call of all
    seconds: tuple[float, ...]  # of a call in each round
    memory: int | None  # bytes, see `memory_growth`
    memory_of_first: bool  # memory is that of the first call, because the call is too slow for another
    last: T

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def compilation(self) -> float:
        """What happens once: the first call less the median."""
        return max(0.0, self.first - self.median)


def side_by_side(calls: Mapping[K, Call[T]], repeats: int, budget: float) -> dict[K, Timing[T] | Stopped]:
    """Time every call `repeats` times, in rounds.

    Args:
        calls: by name, in the order of the first round.
        repeats: rounds, at least 1.
        budget: seconds that the turns of one call may take in all. It sits out once they are spent, after one turn.

    Returns:
        A `Timing` per name, or the `Stopped` that the call raised.
    """
    timers = {name: _Timer(call) for name, call in calls.items()}

    for timer in timers.values():
        timer.attempt(timer.begin)
    for turn in range(repeats):
        present = [timer for timer in timers.values() if not timer.stopped]
        shift = turn % max(len(present), 1)
        gc.collect()
        for timer in present[shift:] + present[:shift]:
            if not timer.seconds or timer.spent < budget:
                timer.attempt(timer.take_turn)
    for timer in timers.values():
        # Another process keeps the memory of its first call for later ones, and cannot be told to give it back.
        if not timer.stopped and timer.call.pid is None and timer.seconds[-1] <= budget / repeats:
            timer.attempt(timer.weigh)
    return {name: timer.stopped or timer.timing() for name, timer in timers.items()}


class _Timer(Generic[T]):
    """One call of `side_by_side`, and what is known of it so far."""

    last: T

    def __init__(self, call: Call[T]) -> None:
        self.call = call
        self.first = self.spent = 0.0  # spent: in turns
        self.seconds: list[float] = []
        self.memory: int | None = None
        self.weighed = False
        self.stopped: Stopped | None = None

    def attempt(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Stopped as stop:
            self.stopped = stop

    def begin(self) -> None:
        (self.first, self.last), self.memory = memory_growth(lambda: _timed(self.call), self.call.pid)

    def take_turn(self) -> None:
        turn: list[float] = []
        end = time.perf_counter() + _TURN
        while not turn or (sum(turn) < _TURN and (len(turn) < 2 or time.perf_counter() < end)):
            took, self.last = _timed(self.call)
            turn.append(took)
        self.spent += sum(turn)
        self.seconds.append(statistics.median(turn[1:] or turn))

    def weigh(self) -> None:
        _, self.memory = memory_growth(self.call.run, self.call.pid)
        self.weighed = True

    def timing(self) -> Timing[T]:
        return Timing(self.first, tuple(self.seconds), self.memory, not self.weighed, self.last)


def _timed(call: Call[T]) -> tuple[float, T]:
    gc.disable()
    try:
        start = time.perf_counter()
        result = call.run()
        spent = time.perf_counter() - start
    finally:
        gc.enable()
    own = call.own_seconds(result)
    return (spent if own is None else own), result


def memory_growth(run: Callable[[], T], pid: int | None = None) -> tuple[T, int | None]:
    """The result of a call, and by how many bytes the process's resident memory grew at its peak during the call.

    Earlier memory, such as the input, does not count. Linux keeps the peak (VmHWM) and can reset it
    (/proc/PID/clear_refs); on other systems the answer is None. Memory that an allocator kept from earlier calls would
    hide growth, so it is given back first.
    """
    folder = Path("/proc") / str(os.getpid() if pid is None else pid)
    if pid is None:
        _give_back()
    try:
        (folder / "clear_refs").write_text("5")
        before = _resident(folder, "VmRSS")
    except OSError:
        return run(), None
    result = run()
    try:
        return result, max(0, _resident(folder, "VmHWM") - before)
    except OSError:  # the process is gone
        return result, None


def _give_back() -> None:
    with contextlib.suppress(OSError, AttributeError, TypeError):  # the C library has no malloc_trim
        ctypes.CDLL(None).malloc_trim(0)


def _resident(folder: Path, field: str) -> int:
    for line in (folder / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"{folder / 'status'} has no {field}")
