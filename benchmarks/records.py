"""Result files: typed records that are written as JSON, read back, and turned into reports."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from experiments.harness.result_files import read_json, write_bytes, write_text
from mixmin_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What every result file begins with. The benchmarks' own records say what their fields mean."""

    schema: Literal[2] = 2
    summary: str = ""  # the last line that the benchmark prints
    versions: dict[str, str]
    device: str
    git_commit: str | None
    command: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Times:
    """How long something took, in seconds."""

    seconds: tuple[float, ...]  # a call in each round, without the first call of all
    median_seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class CallTimes(Times):
    """Times of a call that may compile, and its memory."""

    first_seconds: float | None  # the first call of all
    compile_seconds: float | None  # the first call less the median; None for what does not compile
    memory_bytes: int | None  # see `timing.memory_growth`; None where the system does not tell
    memory_of_first_call: bool  # then compilation counts as well


AnyRecord = TypeVar("AnyRecord", bound=Record)
Report = Callable[[AnyRecord], Mapping[str, str | bytes]]  # files by suffix: {".md": ..., ".png": ...}


def read_record(path: Path, kind: type[AnyRecord]) -> AnyRecord:
    """The record in a JSON file. Raises InputError, naming the file, if it holds something else."""
    try:
        return msgspec.convert(read_json(path), kind)
    except msgspec.ValidationError as error:
        raise InputError(f"{path} is no result of this benchmark: {error}") from error


def write_record(stem: Path, record: AnyRecord, report: Report[AnyRecord]) -> None:
    """Write STEM.json and its report beside it; print what was written, and the summary last."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    write_text(stem.with_suffix(".json"), dumps(msgspec.to_builtins(record)) + "\n")
    write_report(stem.with_suffix(".json"), type(record), report)
    print(record.summary)


def write_report(path: Path, kind: type[AnyRecord], report: Report[AnyRecord]) -> None:
    """Write the report of a result file beside it."""
    files = report(read_record(path, kind))
    for suffix, content in files.items():
        write_bytes(path.with_suffix(suffix), content if isinstance(content, bytes) else content.encode())
    print(f"\n{', '.join([str(path), *files])}")


def dumps(value: Any, indent: str = "") -> str:
    """Strict JSON with one innermost record a line."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    if not any(isinstance(item, dict) for item in inner):
        return json.dumps(value, allow_nan=False, ensure_ascii=False)
    names = (
        [f"{json.dumps(name, ensure_ascii=False)}: " for name in value]
        if isinstance(value, dict)
        else [""] * len(inner)
    )
    lines = [f"{indent} {name}{dumps(item, indent + ' ')}" for name, item in zip(names, inner, strict=True)]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return "\n".join([opening, ",\n".join(lines), f"{indent}{closing}"])
