"""Several processes that run one experiment together: how they join, and what they tell each other.

Each runs the same program and makes the same calls in the same order, over devices that are all of theirs.  The first
writes files and prints, the others read what it wrote: --out lies on a file system that all see.
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
from jax.sharding import Mesh

from experiments.harness.options import RunOptions
from mixmin_jax.errors import InputError
from mixmin_jax.mixture.scale import sharding

JOIN_SECONDS = 300  # that the processes wait for each other at the start
HEARTBEAT_SECONDS = 30  # a process that has been silent for so long is taken for dead, and all others end
_LOST = ("Gloo", "NCCL", "UNAVAILABLE", "ABORTED", "DEADLINE_EXCEEDED", "Connection closed", "coordination")


@contextlib.contextmanager
def joined(options: RunOptions) -> Iterator[None]:
    """Be the process that `options` make this one, until all have finished; before anything touches JAX's devices.

    Without --coordinator and --distributed nothing happens.

    Raises InputError where no cluster is found, and where the coordinator cannot listen.  Where processes are missing,
    JAX aborts this one after JOIN_SECONDS, and one that dies later makes it do so after HEARTBEAT_SECONDS, if nothing
    else has shown that by then.
    """
    if not (options.coordinator or options.distributed):
        yield
        return
    jax.config.update("jax_enable_preemption_service", False)  # signals are `Interruption`'s
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
        any_process(False)  # none leaves while another still works
    jax.distributed.shutdown()


def several() -> bool:
    """Whether this process is one of several."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process writes and prints: the only one, or the first of several."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def any_process(mine: bool) -> bool:
    """Whether one of the processes says so; all wait here for the last."""
    return mine if not several() else bool(np.any(multihost_utils.process_allgather(np.array(mine))))


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A block of work on files, without collectives: where it fails on one process, it fails on all, with that error.

    An OSError becomes an InputError.
    """
    with sharding.together(_world()):
        try:
            yield
        except OSError as error:
            if not several():
                raise
            raise InputError(str(error)) from error


def check_same(described: Any) -> None:
    """Raise InputError unless all processes give the same, as JSON: what their run is."""
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
    """What JAX says where `error` means that another process ended or cannot be reached; None where it does not."""
    if not jax.distributed.is_initialized():
        return None
    found: BaseException | None = error
    while found is not None:
        # fetching what a broken collective should have made can raise a plain ValueError
        if isinstance(found, (RuntimeError, ValueError)) and any(word in str(found) for word in _LOST):
            return str(found).splitlines()[0]
        found = found.__cause__ or found.__context__
    return None


def _world() -> Mesh | None:
    """All devices of all processes; None for one process."""
    return sharding.checked_mesh(jax.make_mesh((jax.device_count(),), ("devices",))) if several() else None
