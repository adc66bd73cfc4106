"""The lock on a folder for results: one process writes there, and a dead one holds no lock."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout, lock_descriptor

from mixmin_jax.errors import InputError

LOCK = ".lock"
_PATIENCE = 0.2  # seconds: longer than `refuse_if_locked` of another process holds the lock
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


@contextlib.contextmanager
def claimed_folder(out: Path, names: Iterable[str], overwrite: bool) -> Iterator[None]:
    """Make the folder `out`, and hold it while an experiment without stages works.

    Raises InputError for a folder that holds one of the result files `names`, unless told to `overwrite`, and for one
    that another run is writing to.
    """
    names = tuple(names)
    _refuse_results(out, names, overwrite)
    with locked(out):
        _refuse_results(out, names, overwrite)  # once more: a run may have ended between the two
        yield


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Make the folder `out`, and hold its lock; it goes when the process does, however that ends.

    Its file is removed where the process has time to.

    Raises InputError for a folder that another run holds, that cannot be written to, or whose file system has no locks.
    """
    path = out / LOCK
    with writable(out), _refused(out):
        out.mkdir(parents=True, exist_ok=True)
        held = FileLock(path, timeout=_PATIENCE, fallback_to_soft=False, on_acquired=_write_holder).acquire()
    with held:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()  # while it is held, so that no other process's is removed


def refuse_if_locked(out: Path) -> None:
    """Raise what `locked` does for a folder that another run holds; nothing is written."""
    with contextlib.suppress(OSError), (out / LOCK).open("r+b") as file, _refused(out):
        if not lock_descriptor(file.fileno(), blocking=False):
            raise Timeout(file.name)


@contextlib.contextmanager
def writable(out: Path) -> Iterator[None]:
    """An OSError in here means that `out` cannot be written to, and becomes an InputError that says so."""
    try:
        yield
    except OSError as error:
        raise InputError(f"--out {out} cannot be written to ({error.strerror}): name another") from error


@contextlib.contextmanager
def _refused(out: Path) -> Iterator[None]:
    """A lock that another run holds, or that a file system does not know, becomes an InputError."""
    try:
        yield
    except Timeout:
        path = out / LOCK
        holder = path.read_text(errors="replace") if path.exists() else "which has just ended"
        raise InputError(
            f"--out {out} is being written to by another run ({holder}): wait for it, or name another"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise InputError(
            f"--out {out} lies on a file system without locks ({error.strerror}), where nothing keeps two runs from"
            " writing to one folder: name another"
        ) from error


def _write_holder(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())


def _refuse_results(out: Path, names: tuple[str, ...], overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    held = [name for name in names if (out / name).exists()]
    if held and not overwrite:
        raise InputError(f"--out {out} already holds results ({', '.join(held)}): name another, or add --overwrite")
