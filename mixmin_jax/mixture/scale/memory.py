"""The error for rows that do not fit in the memory of a device."""

import os
import re
from typing import Any

from mixmin_jax.errors import InputError

_COPIES = 2  # copies of the rows at a solve's peak: the given rows and their densities
_USABLE = 0.8  # share of a device's reported memory to count on


def ran_out(error: BaseException) -> bool:
    """Whether an error of JAX or the host says that memory ran out."""
    return isinstance(error, MemoryError) or bool(re.search("RESOURCE_EXHAUSTED|out of memory", str(error), re.I))


def too_large(
    error: BaseException, rows: int, num_sources: int, itemsize: int, device: Any = None
) -> InputError | None:
    """The error to raise if a device ran out of memory over its rows; None for any other error.

    Args:
        error: from JAX (RESOURCE_EXHAUSTED) or the host (MemoryError).
        rows: the rows that one device was to hold.
        num_sources: numbers in a row, K (times the outputs D for squared error).
        itemsize: bytes of a number: 8 for float64, 4 for float32.
        device: asked for its memory; None, or a device that does not say: the host is asked.
    """
    if not ran_out(error):
        return None
    need = rows * num_sources * itemsize
    most = memory_of(device)
    fit = rows // 4 if most is None else int(_USABLE * most / (_COPIES * num_sources * itemsize))
    fit = max(1, min(fit, rows // 2))  # `rows` do not fit, whatever the device reports
    name = "the device" if device is None else f"{device.platform}:{device.id}"
    limit = "" if most is None else f", of {_bytes(most)} in all"
    smaller = "" if itemsize <= 4 else ", take precision='float32'"
    return InputError(
        f"{name} ran out of memory{limit}: {rows} rows of {num_sources} numbers take {_bytes(need)}, and a solve holds "
        f"{_COPIES} copies of them at its peak. About {fit} rows per device would fit: spread the rows over more "
        f"devices with mesh=..., stream them from a file with stream_cross_entropy(path, block_rows={fit}){smaller}"
    )


def memory_of(device: Any) -> int | None:
    """Memory of a device in bytes, of the host for a CPU; None if it is unknown."""
    stats = None if device is None else device.memory_stats()
    if stats and stats.get("bytes_limit"):
        return int(stats["bytes_limit"])
    if device is not None and device.platform != "cpu":
        return None
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # unknown on this system
        return None


def _bytes(number: float) -> str:
    """'3.2 GiB'."""
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} GiB"
