"""Compiled programs on disk: a later process loads them instead of compiling them again."""

import hashlib
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jaxlib

_SECONDS = 0.3  # programs that compile faster are not kept: reading them would save nothing
_WRITING = 600  # seconds after which a program is no longer being written
_MOST_BYTES = 2 * 2**30  # beyond, JAX removes the programs that were not used for longest


def cache_programs(
    folder: str | os.PathLike[str] | None = None, *, warn: Callable[[str], object] = warnings.warn
) -> Path | None:
    """Keep compiled programs in a folder, and take them from there. Call it before the first computation.

    Numbers stay bit-identical: a program is found by its code, its options, its devices and the versions of JAX and
    XLA. A folder that JAX was told before (`JAX_COMPILATION_CACHE_DIR`) is used as it is.

    Args:
        folder: default: `mixmin_jax` in $XDG_CACHE_HOME, or in ~/.cache. Programs lie in a folder of it for each kind
            of CPU, because they may not run on another one.
        warn: called with one line if the folder cannot be written; programs are compiled in each process then.

    Returns:
        Where programs are kept; None if they are not.
    """
    settings: Any = jax.config
    if not settings.jax_enable_compilation_cache:
        return None
    if settings.jax_compilation_cache_dir:
        return Path(settings.jax_compilation_cache_dir)
    parent = Path(folder) if folder else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "mixmin_jax"
    found = parent.expanduser() / f"programs-jaxlib-{jaxlib.__version__}-{_kind_of_cpu()}"
    try:
        found.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=found):
            pass
        for program in found.glob("*-cache"):  # JAX writes its time of access last: without, its process was killed
            unfinished = not program.with_name(program.name.removesuffix("-cache") + "-atime").exists()
            if unfinished and time.time() - program.stat().st_mtime > _WRITING:
                program.unlink()
    except OSError as error:
        warn(f"compiled programs cannot be kept in {found} ({error.strerror or error}): every process compiles its own")
        return None
    jax.config.update("jax_compilation_cache_dir", str(found))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _SECONDS)
    jax.config.update("jax_compilation_cache_max_size", _MOST_BYTES)
    return found


def _kind_of_cpu() -> str:
    """A short name of what the CPU can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    abilities = {line for line in lines if line.startswith(("flags", "Features", "model name"))}
    return hashlib.sha256("\n".join([platform.machine(), *sorted(abilities)]).encode()).hexdigest()[:8]
