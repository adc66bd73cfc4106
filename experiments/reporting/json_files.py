"""Typed records as JSON and back: strict, compact (one record a line), and refused where the types do not fit."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from mixmin_jax.errors import InputError

LINE = 600  # characters: a container with shorter JSON, which is most records, stands on one line

Record = TypeVar("Record")


def to_builtins(record: Any) -> Any:
    """A dataclass, or a container of such, as the objects, lists and numbers that JSON holds; paths as text.

    Raises TypeError for what JSON does not know, arrays included.
    """
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {field.name: to_builtins(getattr(record, field.name)) for field in dataclasses.fields(record)}
    if isinstance(record, Mapping):
        return {str(key): to_builtins(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [to_builtins(value) for value in record]
    if isinstance(record, np.generic):
        return record.item()
    if record is None or isinstance(record, bool | int | float | str):
        return record
    if isinstance(record, Path):
        return str(record)
    raise TypeError(f"{type(record).__name__} is no JSON")


def dumps(value: Any) -> str:
    """Strict JSON (no NaN, no Infinity); a list or an object of plain values stands on one line, whatever its length.

    Raises ValueError for numbers that JSON does not know.
    """
    return _dumps(to_builtins(value), "") + "\n"


def _dumps(value: Any, indent: str) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    parts = list(value.values() if isinstance(value, dict) else value) if isinstance(value, dict | list) else []
    if len(text) <= LINE or not any(isinstance(part, dict | list) for part in parts):
        return text
    inner = indent + " "
    if isinstance(value, dict):
        lines = [f"{json.dumps(key, ensure_ascii=False)}: {_dumps(part, inner)}" for key, part in value.items()]
    else:
        lines = [_dumps(part, inner) for part in parts]
    return f"{text[0]}\n{inner}" + f",\n{inner}".join(lines) + f"\n{indent}{text[-1]}"


def read_json(path: Path) -> Any:
    """What a file of strict JSON holds. Raises InputError, naming the file, if it cannot be read."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    try:
        return json.loads(path.read_bytes().decode(), parse_constant=refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error


def typed(value: Any, record: type[Record], where: str) -> Record:
    """`value`, as `read_json` gives it, as a record.

    Raises InputError, naming `where` and the entry, for what is missing, of another type, or unknown.
    """
    try:
        found = msgspec.convert(value, record)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # or names that are no text
        raise InputError(f"{where} holds no {record.__name__}: {error}") from error
    if unknown := next(_unknown(value, to_builtins(found)), None):
        raise InputError(f"{where} holds no {record.__name__}: nothing is called {unknown}")
    return found


def _unknown(value: Any, known: Any, path: str = "$") -> Any:
    if isinstance(value, dict):
        for key, part in value.items():
            if key not in known:
                yield f"{path}.{key}"
            else:
                yield from _unknown(part, known[key], f"{path}.{key}")
    elif isinstance(value, list):
        for number, (part, other) in enumerate(zip(value, known, strict=True)):
            yield from _unknown(part, other, f"{path}[{number}]")
