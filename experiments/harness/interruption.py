"""SIGINT (Ctrl-C) and SIGTERM (a scheduler's notice): a run ends in order, with nothing lost that can be kept."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The run was told to end; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class Interruption:
    """What a signal does inside this context: raise `Interrupted`, at once, or where work `deferred` it.

    A second signal raises at once wherever it finds the run.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._is_deferred = False
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> "Interruption":
        with contextlib.suppress(ValueError):  # only the main thread may; elsewhere signals do what they did
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        del frame
        again, self._number = self._number is not None, number
        if again or not self._is_deferred:
            raise Interrupted(number)

    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._number is not None

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """A signal waits for `check`: for work that asks `requested` itself, and saves its state first."""
        before, self._is_deferred = self._is_deferred, True
        try:
            yield
        finally:
            self._is_deferred = before

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come."""
        if self._number is not None:
            raise Interrupted(self._number)
