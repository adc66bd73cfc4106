"""Printing that ends no run: a terminal may lack characters or hang up, and a pipe may be closed; files come first."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


@contextlib.contextmanager
def printing(survives: bool) -> Iterator[None]:
    """What stdout cannot encode is printed as its escape; where printing `survives`, errors of it come at the end only.

    Raises OSError, after all is done, if something could not be written to stdout. Errors of stderr are dropped.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if not survives or sys.stdout is None or sys.stderr is None:
        yield
        return
    out, err = _Surviving(sys.stdout), _Surviving(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):  # type: ignore[type-var]
        yield
        out.flush()
    if out.error is not None:
        raise OSError(out.error.errno, f"{out.error.strerror}: stdout is cut off, but all files are written")


class _Surviving:
    """A stream that drops what it cannot write, and keeps the first error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        with self._keeping():
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._keeping():
            self._stream.flush()

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self.error is None:
                self.error = error
                with contextlib.suppress(OSError, ValueError):  # what waits in the buffer would fail again at the exit
                    os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
