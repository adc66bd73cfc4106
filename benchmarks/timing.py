"""Calls timed side by side in one process: noise of the machine hits all of them alike.

Every call runs once alone (compilation, if any, happens there), then in rounds: in each round every call has a turn, in
an order that rotates from round to round. A turn is one call; where that takes less than 50 ms it is two or more, as
many as fill these 50 ms, and the median of all but the first counts. Last, quick calls in this process run once more
for their memory.
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
from typing import Generic, NamedTuple, TypeVar

_TURN = 0.05  # seconds; after the turns of others a shorter call spends much of its time on filling caches again

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Stopped(Exception):
    """A call that gave no answer; the message says why, as in "over the limit of 120 s"."""


@dataclasses.dataclass(frozen=True)
class Call(Generic[T]):
    """What is timed.

    `own_seconds` takes the time from the result where the clock outside would count more than the work: the transport
    to a child process, say. `pid` is the process whose memory the work takes; this one unless given.
    """

    run: Callable[[], T]
    own_seconds: Callable[[T], float | None] = lambda _: None
    pid: int | None = None


@dataclasses.dataclass(frozen=True)
class Timing(Generic[T]):
    """Seconds of every call, and the last result."""

    first: float  # seconds of the first call
    seconds: tuple[float, ...]  # of a call in each round; the first call of all is none of them
    memory: int | None  # bytes, see `memory_growth`; None where the system does not tell
    memory_of_first: bool  # whether that was the first call, compilation included, as a slow call gets no other
    last: T

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def compilation(self) -> float:
        """The first call less the median: what happens once."""
        return max(0.0, self.first - self.median)


class Ratio(NamedTuple):
    """How many times longer one call takes than another: of the medians, and what the spread leaves possible."""

    median: float
    lowest: float  # the shortest time of the slower over the longest of the faster
    highest: float


def ratio(slower: Timing, faster: Timing) -> Ratio:
    """The times of one call over those of another from the same rounds."""
    return Ratio(
        slower.median / faster.median,
        min(slower.seconds) / max(faster.seconds),
        max(slower.seconds) / min(faster.seconds),
    )


def side_by_side(calls: Mapping[K, Call[T]], repeats: int, budget: float) -> dict[K, Timing[T] | Stopped]:
    """Time every call `repeats` times, in rounds.

    Args:
      calls: by name, in the order of the first round.
      repeats: rounds, at least 1.
      budget: seconds that the turns of one call may take in all; it sits out once they are spent, but has one at least.

    Returns:
      A `Timing` per name, or the `Stopped` that the call raised.
    """
    first: dict[K, float] = {}
    memory: dict[K, int | None] = {}
    seconds: dict[K, list[float]] = {name: [] for name in calls}
    spent: dict[K, float] = dict.fromkeys(calls, 0.0)  # in turns
    last: dict[K, T] = {}
    stopped: dict[K, Stopped] = {}

    def attempt(name: K, run: Callable[[K], None]) -> None:
        try:
            run(name)
        except Stopped as stop:
            stopped[name] = stop

    def begin(name: K) -> None:
        (first[name], last[name]), memory[name] = memory_growth(lambda: _timed(calls[name]), calls[name].pid)

    def again(name: K) -> None:
        turn: list[float] = []
        end = time.perf_counter() + _TURN
        while True:
            took, last[name] = _timed(calls[name])
            turn.append(took)
            if sum(turn) >= _TURN or (len(turn) > 1 and time.perf_counter() >= end):
                break
        spent[name] += sum(turn)
        seconds[name].append(statistics.median(turn[1:] or turn))

    def weigh(name: K) -> None:
        _, memory[name] = memory_growth(calls[name].run, calls[name].pid)

    for name in calls:
        attempt(name, begin)
    for turn in range(repeats):
        names = [name for name in calls if name not in stopped]
        shift = turn % max(len(names), 1)
        gc.collect()
        for name in names[shift:] + names[:shift]:
            if not seconds[name] or spent[name] < budget:
                attempt(name, again)
    # Another process keeps the memory of its first call for the later ones, and cannot be told to give it back.
    quick = [
        name
        for name in calls
        if name not in stopped and calls[name].pid is None and seconds[name][-1] <= budget / repeats
    ]
    for name in quick:
        attempt(name, weigh)
    return {
        name: stopped[name]
        if name in stopped
        else Timing(first[name], tuple(seconds[name]), memory[name], name not in quick, last[name])
        for name in calls
    }


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

    What was there before, such as the input, does not count. Linux keeps the peak (VmHWM) and lets it be reset
    (/proc/PID/clear_refs); elsewhere the answer is None. Memory that an allocator kept from earlier calls would hide
    growth, so it is given back first.
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
    with contextlib.suppress(OSError, AttributeError, TypeError):  # where the C library is another
        ctypes.CDLL(None).malloc_trim(0)


def _resident(folder: Path, field: str) -> int:
    for line in (folder / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"{folder / 'status'} has no {field}")
