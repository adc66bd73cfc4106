"""Result files, written whole or not at all."""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.harness.processes import is_first
from experiments.harness.replacement import UNFINISHED
from experiments.reporting.figures import figure_png
from experiments.reporting.json_files import Record, dumps, read_json, typed
from experiments.reporting.render import Report, page, report

SUMMARY_FILES = ("summary.md", "summary.png", "gains.md", "gains.png", "growth.png")  # of all targets of a run

PARTIAL = ".partial"  # end of the name of a file that is being written


def file_name(name: str) -> str:
    """The name of a file or folder in a run's folder for something that a data set names.

    The name itself where that is possible. Otherwise, because file systems refuse it, it is too long, or the run has
    such a file: the characters that are possible, with a hash.
    """
    plain = re.sub(r"[^A-Za-z0-9_.+-]+", "_", name)[:80].lstrip(".")
    taken = plain.lower() in ("", "stages", UNFINISHED, "config.json", "status.json", *SUMMARY_FILES)
    return plain if plain == name and not taken else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def read_result(path: Path, record: type[Record]) -> Record:
    """A result file as its record. Raises InputError, naming file and entry, for anything else."""
    return typed(read_json(path), record, str(path))


class NotRendered(RuntimeError):
    """A report cannot be made of results that are whole."""


@contextlib.contextmanager
def rendering(folder: Path) -> Iterator[None]:
    """Any error of a template or a figure becomes NotRendered, which ends a run with one line and exit status 1."""
    try:
        yield
    except (NotRendered, OSError):
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise NotRendered(f"{folder}: the report cannot be rendered, metrics.json is whole ({why})") from error


def write_report(folder: Path, report: Report) -> None:
    """report.md, report.html and the figures as PNG files.

    Raises NotRendered for a report that cannot be rendered; what else is in the folder stays as it is.
    """
    with rendering(folder):
        files = {name: figure_png(figure) for name, figure in report.figures.items()}
        files |= {"report.md": report.markdown.encode(), "report.html": page(report).encode()}
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        write_bytes(folder / name, content)


def write_text(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the new one, even if the process dies meanwhile."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """As `write_text`. Of several processes only the first writes."""
    if not is_first():
        return
    with replacing(path) as partial:
        partial.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write that replaces `path` at the end, unless there was an error. An OSError names `path`."""
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


def write_index(
    folder: Path, title: str, verdicts: Mapping[str, str], summary: str, figures: Mapping[str, Figure]
) -> None:
    """index.html over the targets of a run, {their folder: verdict}; summary.md and the figures as PNG files."""
    for name, figure in figures.items():
        write_bytes(folder / name, figure_png(figure))
    write_text(folder / "summary.md", summary + "\n")
    write_text(folder / "index.html", page(report("index", title, figures, verdicts=verdicts, summary=summary)))


def write_json(path: Path, record: Any) -> None:
    """Write a record as compact, strict JSON, as `write_text` does."""
    write_text(path, dumps(record))


def file_fingerprint(path: Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
