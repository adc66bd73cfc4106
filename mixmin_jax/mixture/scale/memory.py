"""What to say when rows do not fit into the memory of a device."""

import os
import re
from typing import Any

from mixmin_jax.errors import InputError

_COPIES = 2  # of the rows that a solve holds at its peak: those given, and their densities
_USABLE = 0.8  # of the memory that a device reports


def ran_out(error: BaseException) -> bool:
    """Whether JAX or the host says that memory ran out."""
    return isinstance(error, MemoryError) or bool(re.search("RESOURCE_EXHAUSTED|out of memory", str(error), re.I))


def too_large(
    error: BaseException, rows: int, num_sources: int, itemsize: int, device: Any = None
) -> InputError | None:
    """The error to raise where a device ran out of memory over rows of num_sources numbers; None for any other error.

    Args:
      error: what JAX raised (RESOURCE_EXHAUSTED), or a MemoryError of the host.
      rows: the rows that one device was to hold.
      num_sources: numbers in a row, K (times the outputs D for squared error).
      itemsize: bytes of a number: 8 for float64, 4 for float32.
      device: the jax.Device, asked for its memory; without one, or where it does not tell, the host is asked.
    """
    if not ran_out(error):
        return None
    need = rows * num_sources * itemsize
    most = memory_of(device)
    fit = rows // 4 if most is None else int(_USABLE * most / (_COPIES * num_sources * itemsize))
    fit = max(1, min(fit, rows // 2))  # what has just failed does not fit, whatever a device reports
    name = "the device" if device is None else f"{device.platform}:{device.id}"
    limit = "" if most is None else f", of {_bytes(most)} in all"
    smaller = "" if itemsize <= 4 else ", take precision='float32'"
    return InputError(
        f"{name} ran out of memory{limit}: {rows} rows of {num_sources} numbers take {_bytes(need)}, and a solve holds "
        f"{_COPIES} copies of them at its peak. About {fit} rows per device would fit: spread the rows over more "
        f"devices with mesh=..., stream them from a file with stream_cross_entropy(path, block_rows={fit}){smaller}"
    )


def memory_of(device: Any) -> int | None:
    """Bytes that a device can hand out, or that the host has where the device is a CPU; None where nobody knows."""
    stats = None if device is None else device.memory_stats()
    if stats and stats.get("bytes_limit"):
        return int(stats["bytes_limit"])
    if device is not None and device.platform != "cpu":
        return None
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not a system that tells
        return None


def _bytes(number):
    """'3.2 GiB'."""
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} GiB"
