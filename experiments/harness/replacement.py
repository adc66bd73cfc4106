"""Results that replace others whole, at the end: until then they wait in a folder of their own, and the others stay."""

import shutil
from collections.abc import Iterable
from pathlib import Path

UNFINISHED = "unfinished"  # folder, in that of a run, of results that are to replace those beside it


def remove_results(out: Path, patterns: Iterable[str]) -> None:
    """Remove the files and folders in `out` that match, and folders that are empty then; what waits stays."""
    for path in [path for pattern in patterns for path in out.glob(pattern)]:
        if UNFINISHED in path.relative_to(out).parts:
            continue
        delete(path)
        if path.parent != out and path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()


def put_in_place(out: Path, last: Iterable[str] = ()) -> None:
    """Move all files that wait to where they belong, those called `last` at the end, in this order."""
    place = out / UNFINISHED
    at_end = [place / name for name in last]
    files = [path for path in place.rglob("*") if path.is_file() and path not in at_end]
    for path in (*files, *(path for path in at_end if path.exists())):
        to = out / path.relative_to(place)
        to.parent.mkdir(parents=True, exist_ok=True)
        path.replace(to)
    delete(place)


def delete(path: Path) -> None:
    """A file or a folder, which may be gone already."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
