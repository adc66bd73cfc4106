"""The lock on a folder for results: one process writes there, and a dead one holds no lock."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.harness.replacement import UNFINISHED, delete, put_in_place, remove_results
from experiments.harness.result_files import NotRendered
from mixmin_jax.errors import InputError

LOCK = ".lock"
_PATIENCE = 0.2  # seconds: longer than a run that is refused holds the lock
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


@contextlib.contextmanager
def claimed_folder(out: Path, names: Sequence[str], overwrite: bool, no_locks: bool = False) -> Iterator[Path]:
    """Make the folder `out`, and hold it while an experiment without stages works.

    Yields the folder to write to: `out`, or one in it whose files replace the results in `out`, all at the end.

    Raises InputError for a folder that holds one of the result files `names`, unless told to `overwrite`, and for one
    that another run is writing to.
    """
    with locked(out, no_locks):
        held = [name for name in names if (out / name).exists()]
        if held and not overwrite:
            raise InputError(f"--out {out} already holds results ({', '.join(held)}): name another, or add --overwrite")
        if not held:
            yield out
            return
        place = out / UNFINISHED
        delete(place)
        place.mkdir()
        try:
            yield place
        except BaseException as error:
            if not isinstance(error, NotRendered):  # which says that the other files there are whole
                delete(place)
            raise
        remove_results(out, names)
        put_in_place(out)


@contextlib.contextmanager
def locked(out: Path, no_locks: bool = False) -> Iterator[None]:
    """Make the folder `out`, and hold its lock; it goes when the process does, however that ends.

    Its file is removed where the process has time to. With `no_locks`, a file system without locks is accepted.

    Raises InputError for a file, and for a folder that another run holds, that cannot be written to, or whose file
    system has no locks.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    path = out / LOCK
    held: contextlib.AbstractContextManager[object]
    try:
        out.mkdir(parents=True, exist_ok=True)
        held = FileLock(path, timeout=_PATIENCE, fallback_to_soft=False, on_acquired=_write_holder).acquire()
    except Timeout:
        holder = path.read_text(errors="replace") if path.exists() else "which has just ended"
        raise InputError(
            f"--out {out} is being written to by another run ({holder}): wait for it, or name another"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise InputError(f"--out {out} cannot be written to ({error.strerror}): name another") from error
        if not no_locks:
            raise InputError(
                f"--out {out} lies on a file system without locks ({error.strerror}), where nothing keeps two runs from"
                " writing to one folder, which mixes their results: name another, or add --no-locks and see to that"
            ) from error
        held = contextlib.nullcontext()
    with held:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()  # while it is held, so that no other process's is removed


def _write_holder(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
