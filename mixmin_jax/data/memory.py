"""How much memory this process can still take."""

from pathlib import Path

_MEMINFO, _OWN_GROUP, _GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
    """What the machine has left, or this process's control group (a container's limit) if that is less.

    None: the system does not say.
    """
    found = [left for left in (_left_on_machine(), _left_in_group()) if left is not None]
    return min(found, default=None)


def _left_on_machine() -> int | None:
    for line in _lines(_MEMINFO):
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return None


def _left_in_group() -> int | None:
    """Limit less use, of version 2 of control groups; files that are cached do not count as used."""
    inside = next((line[3:].strip("/") for line in _lines(_OWN_GROUP) if line.startswith("0::")), None)
    for group in (_GROUPS / inside if inside else _GROUPS, _GROUPS):  # a container may see its own group as the root
        limit, used = ("".join(_lines(group / name)) for name in ("memory.max", "memory.current"))
        if limit.isdecimal() and used.isdecimal():
            cached = dict(line.split() for line in _lines(group / "memory.stat")).get("inactive_file", "0")
            return max(0, int(limit) - int(used) + int(cached))
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
