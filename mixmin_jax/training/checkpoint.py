"""Checkpoints of a training run, with everything that its next step depends on. Resumed results are bit-identical.

A checkpoint is a tree of arrays (parameters, optimizer state, key, losses so far, ...) after some number of steps, and
`notes` of the caller. Data need no state: the examples of a step follow from its number and the key. Orbax writes
checkpoints in the background and atomically. Each leaf has a CRC-32, so a damaged checkpoint is recognized and the one
before is used. A checkpoint that cannot be used is set aside, and removed after a later one was written.
"""

import contextlib
import errno
import functools
import gc
import itertools
import json
import logging
import os
import re
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

PyTree = Any
Tree = TypeVar("Tree")
Request = Callable[[], bool]  # whether the run should stop
SET_ASIDE = "set-aside"  # prefix of the folders of checkpoints that cannot be used


class Stopped(Exception):
    """A run stopped on request, after its state was saved."""


class Checkpoints:
    """The checkpoints of one run, in their own folder. A context manager, which waits for the last write.

    folder: created with the first checkpoint. All processes of a run must see the same folder.
    stamp: identifies the training; checkpoints with another stamp are set aside.
    every: steps between checkpoints; each is written at the end of the block that reaches it.
    keep: number of newest checkpoints to keep.
    stop: asked at the end of each block; if true, the state is saved and `Stopped` raised.
    warn: called with one line about each checkpoint that cannot be used.
    on_restore: called with the step after which the run continues.
    """

    def __init__(
        self,
        folder: Path,
        stamp: str,
        *,
        every: int,
        keep: int = 2,
        stop: Request = lambda: False,
        warn: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
        on_restore: Callable[[int], None] = lambda step: None,
    ) -> None:
        if min(every, keep) < 1:
            raise ValueError(f"every and keep must be at least 1, not {every} and {keep}")
        self.notes: dict[str, Any] = {}  # as JSON can hold it; saved with each checkpoint, and read back by `restore`
        self._folder, self._stamp, self._every, self._keep = folder.absolute(), stamp, every, keep
        self._stop, self._warn, self._on_restore = stop, warn, on_restore
        self._saved, self._stopping = 0, False
        self._manager: ocp.CheckpointManager | None = None
        self._parts: list[Checkpoints] = []
        self._started, self._earlier = time.perf_counter(), 0.0
        self._silence = contextlib.ExitStack()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for part in self._parts:
            part.__exit__(kind)
        if self._manager is None:
            self._silence.close()
            return
        manager, self._manager = self._manager, None
        failed = kind is not None
        try:
            manager.close()
        except Exception as error:
            if not failed:  # otherwise it must not hide the first error
                self._warn(str(_not_written(self._folder, error)) + "; the run itself has ended")
            failed = True
        finally:
            if failed:
                gc.collect()  # writes that failed after the first one are told of now, while silenced
            self._silence.close()

    @property
    def earlier_seconds(self) -> float:
        """Seconds that the run had taken at the restored checkpoint, including parts; 0 without one."""
        return self._earlier + sum(part.earlier_seconds for part in self._parts)

    def part(self, name: str) -> "Checkpoints":
        """Checkpoints of a part of this run, in a subfolder with the same rules; closed with these."""
        rules: dict[str, Any] = {"every": self._every, "keep": self._keep}
        rules |= {"stop": self._stop, "warn": self._warn, "on_restore": self._on_restore}
        self._parts.append(Checkpoints(self._folder / name, f"{self._stamp}/{name}", **rules))
        return self._parts[-1]

    def restore(self, like: Tree) -> tuple[int, Tree] | None:
        """Restore the newest usable checkpoint; `notes` become those saved with it.

        A checkpoint that is damaged, of another training or of another number of processes is reported and set aside,
        and the one before is tried.

        Args:
            like: gives the structure, shapes, types and shardings of the state; the devices may have changed.

        Returns:
            The steps done and the state; None without a usable checkpoint.

        Raises:
            OSError: a checkpoint cannot be read for a reason that may pass (disk, network, open files, memory). It
                names the checkpoint and leaves it as it is.
        """
        if not _agreed(self._folder.is_dir()):
            return None
        steps = sorted(self._open().all_steps(), reverse=True)
        for step in steps:
            about, reason = self._read_about(step)
            if about:
                found, reason = self._read(step, state=ocp.args.StandardRestore(like))
                if found is not None and _agreed(about["sums"] == _sums(found.state)):
                    self._saved, self._earlier = step, about["seconds"]
                    self.notes.clear()
                    self.notes.update(about["notes"])
                    self._on_restore(step)
                    return step, found.state
            reason = reason or "its contents are not those that were written"
            name = self._set_aside(step)
            then = "beginning anew" if step == steps[-1] else "trying the one before"
            self._warn(f"checkpoint of step {step} in {self._folder} cannot be used ({reason}): kept as {name}, {then}")
        return None

    def due(self, done: int, of: int) -> bool:
        """Whether to call `save` at the end of a block, after `done` of `of` steps."""
        if done >= of:
            return False  # the run is complete: its results follow
        self._stopping = _agreed(self._stop(), any)
        return self._stopping or done // self._every > self._saved // self._every

    def save(self, done: int, of: int, state: PyTree) -> None:
        """Save the state, which may be donated as soon as this returns.

        Raises:
            Stopped: the last `due` found a request to stop; the state is saved.
            OSError: with folder and cause: this checkpoint, or the one before, cannot be written.
        """
        copy = jax.tree.map(lambda leaf: leaf.copy(), state)  # on CPUs, Orbax would write arrays after their donation
        seconds = self._earlier + time.perf_counter() - self._started
        about = _sealed({"stamp": self._stamp, "sums": _sums(copy), "notes": self.notes, "seconds": seconds})
        arguments = {"state": ocp.args.StandardSave(copy), "about": ocp.args.JsonSave(about)}
        failed: OSError | None = None
        try:
            self._open().save(done, args=ocp.args.Composite(**arguments), force=True)
            if self._stopping:
                self._open().wait_until_finished()
        except Exception as error:  # of any kind, also from background threads
            failed = _not_written(self._folder, error)
        if failed:  # outside the handler: a chained error would keep Orbax's unfinished tasks alive
            raise failed
        self._remove_set_aside(done if self._stopping else self._saved)  # this one may not be written yet
        self._saved = done
        if self._stopping:
            raise Stopped(f"stopped after step {done} of {of}; the state is saved")

    def _read_about(self, step: int) -> tuple[dict[str, Any] | None, str]:
        """The description of a checkpoint of this training and number of processes; or None, and why it is unusable."""
        found, reason = self._read(step, about=ocp.args.JsonRestore())
        if found is None:
            return None, reason
        about = _unsealed(found.get("about"))
        if not _agreed(about is not None) or about is None:
            return None, "what is said about it is damaged, or of another version"
        if _agreed(about["stamp"] != self._stamp, any):
            return None, "it is of another training"
        if (processes := len(about["sums"])) != jax.process_count():
            return None, f"it was saved by {processes} processes, and this run has {jax.process_count()}"
        return about, ""

    def _read(self, step: int, **arguments: Any) -> tuple[Any, str]:
        """The named items of a checkpoint; or None, and why they are unusable. Raises OSError as `restore` does."""
        found: Any = None
        reason, passing = "another process cannot read it", ""
        with _quiet():
            try:
                found = self._open().restore(step, args=ocp.args.Composite(**arguments))
            except Exception as error:  # of many kinds: damaged files
                reason, passing = _in_a_line(error), _passing(error)
                time.sleep(0.2)  # let other reads end
            if found is None:
                gc.collect()  # these are told of now, or never
        if _agreed(bool(passing), any):
            raise OSError(
                f"checkpoint of step {step} in {self._folder} cannot be read now"
                f" ({passing or 'another process cannot read it'}) and is left as it is: start again when that has"
                f" passed, or move {self._folder / str(step)} away to do without it"
            )
        return (found, "") if _agreed(found is not None) else (None, reason)

    def _set_aside(self, step: int) -> str:
        """Rename a checkpoint, so it is not read, counted or overwritten; returns the new name.

        Raises:
            OSError: with folder and cause: it cannot be renamed.
        """
        names = (f"{SET_ASIDE}-{step}" + (f"-{n}" if n > 1 else "") for n in itertools.count(1))
        name = next(name for name in names if not (self._folder / name).exists())
        cause = ""
        _agreed(True)  # wait until all processes have looked at the names
        if jax.process_index() == 0:
            try:
                (self._folder / str(step)).rename(self._folder / name)
            except OSError as error:
                cause = error.strerror or _in_a_line(error)
        if _agreed(bool(cause), any):
            raise OSError(
                f"checkpoint of step {step} in {self._folder} cannot be used, nor be renamed"
                f" ({cause or 'see the first process'}): make the folder writable, or move the checkpoint away"
            )
        self._open().reload()
        return name

    def _remove_set_aside(self, step: int) -> None:
        """Remove checkpoints set aside with at most `step` steps; the one of `step` is complete on disk."""
        if jax.process_index() != 0:
            return
        for path in self._folder.glob(f"{SET_ASIDE}-*"):
            name = re.fullmatch(rf"{SET_ASIDE}-(\d+)(-\d+)?", path.name)
            if name and int(name[1]) <= step:
                shutil.rmtree(path, ignore_errors=True)

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            options = ocp.CheckpointManagerOptions(max_to_keep=self._keep, cleanup_tmp_directories=True)
            self._silence.enter_context(_silence())
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        return self._manager


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence messages about reads that are abandoned after one has failed.

    They end in threads of tensorstore after their event loop was closed.
    """
    logger, hook = logging.getLogger("asyncio"), sys.unraisablehook
    disabled = logger.disabled
    try:
        logger.disabled, sys.unraisablehook = True, lambda found: None
        yield
    finally:
        logger.disabled, sys.unraisablehook = disabled, hook


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Silence tracebacks from threads of Orbax and tensorstore: their errors are raised or reported here."""
    logger, tasks, hook = logging.getLogger("absl"), logging.getLogger("asyncio"), sys.unraisablehook

    def is_told(record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR or "orbax" not in record.pathname

    def tell(found: Any) -> None:
        if "Event loop is closed" not in str(found.exc_value):  # of writes that end after one has failed
            hook(found)

    logger.addFilter(is_told)
    tasks.addFilter(_is_not_of_orbax)
    sys.unraisablehook = tell
    try:
        yield
    finally:
        logger.removeFilter(is_told)
        tasks.removeFilter(_is_not_of_orbax)
        sys.unraisablehook = hook


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    """False for messages such as "Task exception was never retrieved" about writes beside the one that failed first."""
    return "orbax" not in record.getMessage()


def _not_written(folder: Path, error: BaseException) -> OSError:
    """An error of Orbax about a checkpoint that cannot be written, in one line with the system's cause."""
    number = _system_error(error)
    cause = os.strerror(number) if number else _in_a_line(error)
    return OSError(f"a checkpoint in {folder} cannot be written: {cause}")


def _passing(error: BaseException | None) -> str:
    """Why a read may succeed another time; empty if the files themselves are the cause."""
    while error is not None:
        number = _system_error(error)
        if number and number != errno.ENOENT:
            return os.strerror(number)
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            return f"out of memory: {_in_a_line(error)}"
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            return _in_a_line(error)
        error = error.__cause__ or error.__context__
    return ""


def _system_error(error: BaseException) -> int | None:
    """The system's error number; tensorstore has it only in its message."""
    code = re.search(r"os_error_code='(\d+)'", str(error))
    return error.errno if isinstance(error, OSError) else int(code[1]) if code else None


def _in_a_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _sealed(about: dict[str, Any]) -> dict[str, Any]:
    """The description as JSON text, with the CRC-32 of that text."""
    body = json.dumps(about)
    return {"body": body, "crc": zlib.crc32(body.encode())}


def _unsealed(found: Any) -> dict[str, Any] | None:
    """The description from `_sealed`; None if it is damaged or none."""
    body = found.get("body") if isinstance(found, dict) else None
    if not isinstance(body, str) or zlib.crc32(body.encode(errors="surrogatepass")) != found.get("crc"):
        return None
    about = json.loads(body)
    return about if about.keys() == {"stamp", "sums", "notes", "seconds"} else None


def _sums(tree: PyTree) -> list[list[int]]:
    """CRC-32 of every leaf, per process, over the parts that the process holds."""
    leaves = jax.tree.leaves(tree)
    mine = np.array(
        [functools.reduce(lambda crc, part: zlib.crc32(part, crc), _parts(x), 0) for x in leaves], np.uint32
    )
    return np.asarray(multihost_utils.process_allgather(mine)).reshape(jax.process_count(), -1).tolist()


def _parts(leaf: Any) -> Iterator[bytes]:
    """The bytes of an array on any mesh; if other processes hold parts, only those of this process."""
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
        yield np.asarray(leaf).tobytes()
        return
    # sorted by position as numbers, so the order does not depend on the number of devices
    pieces = {tuple(axis.start or 0 for axis in shard.index): shard.data for shard in leaf.addressable_shards}
    for place in sorted(pieces):
        yield np.asarray(pieces[place]).tobytes()


def _agreed(mine: bool, how: Callable[[list[bool]], bool] = all) -> bool:
    """The common answer of all processes."""
    if jax.process_count() == 1:
        return mine
    return how(np.asarray(multihost_utils.process_allgather(np.array(mine))).tolist())
