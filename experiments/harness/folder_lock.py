"""The lock on a folder for results: one process writes there, and a dead one holds no lock."""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path

from experiments.harness.result_files import claim_folder
from mixmin_jax.errors import InputError

LOCK, RUN_LOCK = ".lock", "stages/.lock"  # of an experiment without stages, and of one with


@contextlib.contextmanager
def claimed_folder(out: Path, names: Iterable[str], overwrite: bool) -> Iterator[None]:
    """Claim `out` as `claim_folder` does, and hold it while an experiment without stages works; the lock does not stay.

    Raises InputError if another run is writing to it.
    """
    names = tuple(names)
    claim_folder(out, names, overwrite)
    with locked(out, LOCK, remove=True):
        claim_folder(out, names, overwrite)  # once more: a run may have ended between the two
        yield


@contextlib.contextmanager
def locked(out: Path, name: str, *, remove: bool = False) -> Iterator[None]:
    """Hold a lock of the folder `out`; it goes when the process does, however that ends.

    The file stays, unless it is to be removed and the process has time to.
    """
    path = out / name
    with writable(out):
        file = _taken(out, path)
    with file:
        try:
            for other in {LOCK, RUN_LOCK} - {name}:  # after the own is had: of two that do so one sees the other
                refuse_if_locked(out, other)
            yield
        finally:
            if remove:
                with contextlib.suppress(OSError):
                    path.unlink()  # before it is let go of, so that nobody else's is removed


def refuse_if_locked(out: Path, name: str) -> None:
    """Raise what `locked` does, as far as the folder has that lock; nothing is written."""
    with contextlib.suppress(OSError), (out / name).open("rb", buffering=0) as file:
        _lock(file, fcntl.LOCK_SH, out)


@contextlib.contextmanager
def writable(out: Path) -> Iterator[None]:
    """An OSError in here means that `out` cannot be written to, and becomes an InputError that says so."""
    try:
        yield
    except OSError as error:
        raise InputError(f"--out {out} cannot be written to ({error.strerror}): name another") from error


def _taken(out: Path, path: Path) -> FileIO:
    """The file, locked, with its holder in it."""
    while True:
        with contextlib.ExitStack() as held:
            # without a buffer, so that a full disk is met here, not when it is closed
            file = held.enter_context(path.open("a+b", buffering=0))
            _lock(file, fcntl.LOCK_EX, out)
            if _is_at(file, path):  # else it was removed before it was locked, and keeps nobody out
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
                held.pop_all()
                return file


def _is_at(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: FileIO, kind: int, out: Path) -> None:
    """Lock the file, or raise InputError if another run holds it, or if its file system knows no locks."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().decode(errors="replace")
        raise InputError(
            f"--out {out} is being written to by another run ({holder}): wait for it, or name another"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
        raise InputError(
            f"--out {out} lies on a file system without locks ({error.strerror}), where nothing keeps two runs from"
            " writing to one folder: name another"
        ) from error
