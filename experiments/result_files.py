"""Result folders: claimed before compute, written file by file, never half a file."""

import contextlib
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments.provenance import command
from mixmin_jax.errors import InputError

SUMMARY_FILES = ("summary.md", "summary.png", "gains.md", "gains.png", "growth.png")  # of a run with several targets


def claim_folder(out: Path, names: Iterable[str], overwrite: bool) -> None:
    """Make the folder `out`; refuse one that already holds one of the files `names`, unless told to `overwrite`."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    held = [name for name in names if (out / name).exists()]
    if held and not overwrite:
        raise InputError(f"--out {out} already holds results ({', '.join(held)}): name another, or add --overwrite")
    out.mkdir(parents=True, exist_ok=True)


def claim_run(out: Path, config: dict[str, Any], overwrite: bool) -> None:
    """Claim `out` for the run that `config` describes: a new folder, or that of the same run, finished or not.

    Raises InputError, naming what differs, if it holds another run, unless told to `overwrite`; `config.json` there
    records whose it is.
    """
    path = out / "config.json"
    if out.is_dir() and not path.exists() and any(out.iterdir()) and not overwrite:
        raise InputError(
            f"--out {out} is not empty and holds no run of this experiment: name another, or add --overwrite"
        )
    if path.exists():
        try:
            held = json.loads(path.read_text())
        except ValueError as error:
            if not overwrite:
                raise InputError(f"{path} cannot be read ({error}): name another --out, or add --overwrite") from error
            held = {}
        if differences := sorted(_differences(held, json.loads(json.dumps(config)))):
            if not overwrite:
                raise InputError(
                    f"--out {out} already holds the results of another run, which differs in: {'; '.join(differences)}."
                    " Name another --out, or add --overwrite to replace them"
                )
            _remove_results(out)
    claim_folder(out, (), overwrite)
    write_json(path, config)


def _remove_results(out: Path) -> None:
    """Remove another run's result files, so that none is taken for the new run's; its stages stay."""
    for metrics in out.glob("*/metrics.json"):
        for file in [*metrics.parent.glob("*.json"), *metrics.parent.glob("*.png"), metrics.parent / "report.md"]:
            file.unlink(missing_ok=True)
        if not any(metrics.parent.iterdir()):
            metrics.parent.rmdir()
    for name in SUMMARY_FILES:
        (out / name).unlink(missing_ok=True)


def _differences(held: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(held, dict) and isinstance(new, dict):
        keys = sorted({*held, *new})
        return [line for key in keys for line in _differences(held.get(key), new.get(key), f"{path}.{key}".lstrip("."))]
    return [] if held == new else [f"{path} ({held!r:.60} there, {new!r:.60} now)"]


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
    return {path.parent: json.loads(path.read_text()) for path in paths}


def write_status(out: Path, complete: bool, how_to_go_on: str | None = None) -> None:
    """Write `status.json`: whether the results in `out` are complete, and if not, which command completes them."""
    write_json(out / "status.json", {"complete": complete} | ({"how_to_go_on": how_to_go_on} if how_to_go_on else {}))


@contextlib.contextmanager
def incomplete_until_done(out: Path) -> Iterator[None]:
    """Say in `out`/status.json, and on the way out, that a run which stopped early is incomplete and how to go on."""
    write_status(out, complete=False, how_to_go_on=command())
    try:
        yield
    except BaseException:
        print(
            f"incomplete: finished stages and seeds are kept in {out}; the same command goes on from there",
            file=sys.stderr,
        )
        raise
    write_status(out, complete=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the new one, whenever the write is cut off."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """As `write_text`."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write strict JSON (no NaN or Infinity) as `write_text` does."""
    write_text(path, json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def file_fingerprint(path: Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
