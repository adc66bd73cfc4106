"""Several processes that run one experiment together: how they join, and what they tell each other.

All run the same program and make the same calls in the same order, over the devices of all. The first process writes
files and prints. The others read what it wrote, so --out must lie on a file system that all see.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.harness.options import RunOptions
from mixmin_jax.errors import InputError
from mixmin_jax.mixture.scale import sharding

JOIN_SECONDS = 300  # how long processes wait for each other at the start
HEARTBEAT_SECONDS = 30  # a process that is silent for longer counts as dead, and all others end
_LOST = ("Gloo", "NCCL", "UNAVAILABLE", "ABORTED", "DEADLINE_EXCEEDED", "Connection closed", "coordination")


@contextlib.contextmanager
def joined(options: RunOptions) -> Iterator[None]:
    """Join the other processes that `options` name, and wait at the end until all have finished.

    Call it before anything touches JAX's devices. Without --coordinator and --distributed nothing happens.
    If a process is missing, JAX aborts this one after JOIN_SECONDS; if one dies later, after HEARTBEAT_SECONDS at most.

    Raises:
        InputError: no cluster was found, or the coordinator cannot listen.
    """
    if not (options.coordinator or options.distributed):
        yield
        return
    jax.config.update("jax_enable_preemption_service", False)  # `Interruption` handles signals
    if options.coordinator:
        print(
            f"process {options.process_id} of {options.num_processes}: waiting for the others at {options.coordinator},"
            f" for {JOIN_SECONDS} seconds at most",
            file=sys.stderr,
        )
    try:
        jax.distributed.initialize(
            options.coordinator,
            options.num_processes,
            options.process_id,
            cluster_detection_method="deactivate" if options.coordinator else None,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        if options.distributed:
            raise InputError(
                f"--distributed found no Slurm, Open MPI, Kubernetes or TPU pod that starts processes here ({reason}):"
                " give --coordinator, --num-processes and --process-id"
            ) from error
        raise InputError(f"cannot join the other processes at --coordinator {options.coordinator}: {reason}") from error
    with contextlib.ExitStack() as held:
        # the devices must not be touched yet where the CPU is still to be split
        if options.process_id != 0 and (options.coordinator or not is_first()):
            held.enter_context(contextlib.redirect_stdout(held.enter_context(open(os.devnull, "w"))))
        yield
        any_process(False)  # wait for all
    jax.distributed.shutdown()


def several() -> bool:
    """Whether this process is one of several."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process writes and prints: the only one, or the first of several."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def any_process(mine: bool) -> bool:
    """Whether `mine` is true in one of the processes; all wait here for the last."""
    return mine if not several() else bool(np.any(multihost_utils.process_allgather(np.array(mine))))


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Work on files that fails on all processes, with the same error, if it fails on one; it must use no collectives.

    Of several processes, an OSError becomes an InputError.
    """
    world = jax.make_mesh((jax.device_count(),), ("devices",)) if several() else None
    with sharding.together(world and sharding.checked_mesh(world)):
        try:
            yield
        except OSError as error:
            if not several():
                raise
            raise InputError(str(error)) from error


def check_same(described: Any) -> None:
    """Raise InputError unless all processes give the same description of their run, as JSON."""
    if not several():
        return
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).digest()
    said_PxB = np.asarray(multihost_utils.process_allgather(np.frombuffer(digest, np.uint8)))
    if others := [process for process, row_B in enumerate(said_PxB) if (row_B != said_PxB[0]).any()]:
        raise InputError(
            f"process {others[0]} of {len(said_PxB)} has other options than process 0, or reads other data: start all"
            " with the same command, but for --process-id, and the same files"
        )


def lost_process(error: BaseException) -> str | None:
    """JAX's message if `error`, in one of several processes, means that another ended or cannot be reached."""
    found: BaseException | None = error
    while found is not None:
        # reading the result of a broken collective can raise a plain ValueError
        if isinstance(found, (RuntimeError, ValueError)) and any(word in str(found) for word in _LOST):
            return str(found).splitlines()[0]
        found = found.__cause__ or found.__context__
    return None
