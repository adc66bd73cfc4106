"""Progress of a run whose stages' costs are known beforehand: a bar with the time left, or plain lines in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.harness.compilation import compile_seconds
from experiments.harness.processes import is_first

OnFraction = Callable[[int, int], None]  # (done, of how many)

_EVERY = 60.0  # seconds between lines of one stage in a log


class _Spent(NamedTuple):
    """Seconds, and the cost of what was done in them."""

    seconds: float = 0.0
    cost: float = 0.0

    def plus(self, seconds: float, cost: float) -> "_Spent":
        return _Spent(self.seconds + seconds, self.cost + cost)


class RunProgress:
    """Progress in shares of a total cost, in FLOPs or any unit. The time left assumes the speed so far.

    That speed leaves out the time in which JAX compiled, and the first part of every stage, because programs are traced
    in it. Only where no stage has had a second part, it is the speed of whole stages.
    """

    def __init__(self, total_cost: float, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr, quiet=not is_first())
        self._total, self._done, self._skipped = max(total_cost, 1e-9), 0.0, 0.0
        self._whole, self._steady = _Spent(), _Spent()  # of the stages so far; steady: without their first parts
        self._bar = Progress(
            TextColumn("{task.description:<38}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
        )

    @contextmanager
    def stage(self, name: str, cost: float, earlier: Callable[[], float] = lambda: 0.0) -> Iterator[OnFraction]:
        """One stage that costs `cost`; call what it yields with (done, total) as it advances.

        `earlier` says how many seconds an earlier run spent on what is done already.
        """
        started, live = time.perf_counter(), self._console.is_terminal
        told, worked_before = started, started - compile_seconds()
        first = None  # the time at which the first part was done, without that of compiling, and its cost
        task = self._bar.add_task(name, total=1.0, left="")
        if live:
            self._bar.start()

        def spent(now: float, done: float) -> tuple[_Spent, _Spent]:
            if not cost:  # nothing of what the rest costs
                return self._whole, self._steady
            worked = now - compile_seconds()
            whole = self._whole.plus(earlier() + worked - worked_before, done)
            return whole, self._steady.plus(worked - first[0], done - first[1]) if first else self._steady

        def advance(done: int, of: int) -> None:
            nonlocal told, first
            now, fraction = time.perf_counter(), done / of
            first = first or (now - compile_seconds(), fraction * cost)
            whole, steady = spent(now, fraction * cost)
            if not earlier():
                whole = self._whole  # this stage has compiled and done little else
            left = self._left(whole, steady, self._done + fraction * cost)
            self._bar.update(task, completed=fraction, left=left and f"{left} in all")
            if not live and now - told > _EVERY:
                told = now
                self._print(f"{name}: {fraction:.0%}", left)

        try:
            yield advance
        finally:
            now = time.perf_counter()
            self._whole, self._steady = spent(now, cost)
            self._done += cost
            if live:
                self._bar.update(task, left="")
                self._bar.stop()
            self._bar.remove_task(task)
        seconds = earlier() + now - started
        self._print(f"{name}: {duration(seconds)}", self._left(self._whole, self._steady, self._done))

    def tell(self, line: str) -> None:
        """Print a line above the bar."""
        # a log is not cut into lines of 80, and a path may hold [brackets]
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def skip(self, name: str, cost: float) -> None:
        """A stage whose product was found."""
        self._skipped += cost
        self._console.print(f"{name}: found, not computed again", highlight=False)

    def _print(self, line: str, left: str) -> None:
        self._console.print(f"{line}; about {left}" if left else line, highlight=False)

    def _left(self, whole: _Spent, steady: _Spent, done: float) -> str:
        """The time left, in words; empty where no speed is known."""
        spent, rest = steady if steady.cost else whole, max(self._total - self._skipped - done, 0.0)
        return f"{duration(spent.seconds / spent.cost * rest)} left" if spent.cost else ""


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds <= 7200 else f"{seconds / 3600:.1f} h"
