"""Result files: written whole or not at all, never one run's beside another's."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments.harness.processes import is_first
from mixmin_jax.errors import InputError

SUMMARY_FILES = ("summary.md", "summary.png", "gains.md", "gains.png", "growth.png")  # of a run with several targets

PARTIAL = ".partial"  # end of the name of a file that is being written


def claim_folder(out: Path, names: Iterable[str], overwrite: bool) -> None:
    """Make the folder `out`; refuse one that already holds one of the files `names`, unless told to `overwrite`."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    held = [name for name in names if (out / name).exists()]
    if held and not overwrite:
        raise InputError(f"--out {out} already holds results ({', '.join(held)}): name another, or add --overwrite")
    out.mkdir(parents=True, exist_ok=True)


def file_name(name: str) -> str:
    """A name from a data set as that of a file or folder in a run's folder.

    Itself, or, with a hash, what remains of it without what file systems refuse, what is too long, and what the run
    calls its own files.
    """
    plain = re.sub(r"[^A-Za-z0-9_.+-]+", "_", name)[:80].lstrip(".")
    taken = plain.lower() in ("", "stages", "config.json", "status.json", *SUMMARY_FILES)
    return plain if plain == name and not taken else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def read_metrics(results: Path) -> dict[Path, dict[str, Any]]:
    """metrics.json of every target in a run's folder, by the target's folder.  Raises InputError if there is none."""
    paths = sorted(results.glob("*/metrics.json"))
    if not paths:
        raise InputError(f"{results}: no target's metrics.json in it")
    return {path.parent: read_json(path) for path in paths}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.  Raises InputError, naming it, if it cannot be read or holds something else."""
    try:
        record = json.loads(path.read_bytes().decode())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} holds no JSON object but {type(record).__name__}")
    return record


def write_text(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the new one, whenever the write is cut off."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """As `write_text`.  Of several processes the first alone writes."""
    if not is_first():
        return
    with replacing(path) as partial:
        partial.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write, which takes the place of `path` if all goes well.  An OSError names `path`."""
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write strict JSON (no NaN or Infinity) as `write_text` does."""
    write_text(path, json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def file_fingerprint(path: Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
