"""Ctrl-C, and the signals of schedulers and of a terminal that goes: a run saves its state, then ends."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_INSISTING = (signal.SIGINT, signal.SIGTERM)  # a second one of these means now
SIGNALS = (*_INSISTING, signal.SIGHUP, signal.SIGUSR1)  # a terminal that goes sends several; so may Slurm
_AGAIN = 0.01  # seconds after which a signal comes again that came where Python ignores what is raised


class Interrupted(KeyboardInterrupt):
    """A signal told the run to end; `number` is that of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class Interruption:
    """Inside this context a signal raises `Interrupted`: at once, or later where work has `deferred` it.

    A second SIGINT or SIGTERM always raises at once. A SIGHUP that is ignored at the start (nohup) stays ignored.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._is_deferred = False
        self._before: dict[signal.Signals, signal._HANDLER] = {}
        self._ignored_before = sys.unraisablehook

    def __enter__(self) -> "Interruption":
        with contextlib.suppress(ValueError):  # only the main thread may set handlers; elsewhere signals act as before
            for number in SIGNALS:
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._before[number] = signal.signal(number, self._received)
        self._ignored_before, sys.unraisablehook = sys.unraisablehook, self._ignored
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        sys.unraisablehook = self._ignored_before

    def _received(self, number: int, _: FrameType | None) -> None:
        again = self._number is not None
        if again and number not in _INSISTING:
            return
        self._number = number
        if again or not self._is_deferred:
            raise Interrupted(number)

    def _ignored(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Python ignores what is raised in finalizers and in callbacks of weak references and of the collector.

        JAX has some of each; without this, a signal that comes there is lost and the run goes on.
        """
        if isinstance(unraisable.exc_value, Interrupted):
            self._number = None
            threading.Timer(_AGAIN, os.kill, (os.getpid(), unraisable.exc_value.number)).start()
        else:
            self._ignored_before(unraisable)

    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._number is not None

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """In this context a signal waits for `check`: the work asks `requested` itself and saves its state first."""
        before, self._is_deferred = self._is_deferred, True
        try:
            yield
        finally:
            self._is_deferred = before

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come."""
        if self._number is not None:
            raise Interrupted(self._number)
