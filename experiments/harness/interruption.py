"""Ctrl-C, and the signals of schedulers and of a terminal that goes: a run saves its state, then ends."""

import contextlib
import gc
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_INSISTING = (signal.SIGINT, signal.SIGTERM)  # a second one of these means now
SIGNALS = (*_INSISTING, signal.SIGHUP, signal.SIGUSR1)  # a terminal that goes sends several; so may Slurm
_AGAIN = 0.01  # seconds after which a signal comes again that came where nothing can be raised


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

    def __enter__(self) -> "Interruption":
        with contextlib.suppress(ValueError):  # only the main thread may set handlers; elsewhere signals act as before
            for number in SIGNALS:
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if _is_collecting(frame):
            threading.Timer(_AGAIN, os.kill, (os.getpid(), number)).start()
            return
        again = self._number is not None
        if again and number not in _INSISTING:
            return
        self._number = number
        if again or not self._is_deferred:
            raise Interrupted(number)

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


def _is_collecting(frame: FrameType | None) -> bool:
    """Whether a callback of the garbage collector runs (JAX has one): Python ignores what is raised there."""
    codes = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame:
        if frame.f_code in codes:
            return True
        frame = frame.f_back
    return False
