"""Reading files and folders that users hand in; what cannot be read is an InputError that names it."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

from mixmin_jax.errors import InputError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ID = re.compile(r"unnamed.*|level_\d+|(.*[^a-z])?(rows?|index|idx|key|line)([^a-z]*(nr|no|number))?|.*ids?")


def read_bytes(path: Path) -> bytes:
    """The content of a file. Raises InputError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def list_folder(folder: Path, hidden: bool = False) -> list[Path]:
    """The entries of a folder, sorted; hidden ones if asked for. Raises InputError if it cannot be read."""
    try:
        return sorted(entry for entry in folder.iterdir() if hidden or not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from error


def decode_utf8(data: bytes, place: str | Path, unit: str | None = None) -> str:
    """The text of some bytes. Raises InputError for invalid UTF-8; with a `unit` ("line") it says in which one."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        where = f"{place}, {unit} {number}" if unit else place
        raise InputError(f"{where}: not valid UTF-8 ({error.reason})") from error


def refuse_odd_name(path: str | Path) -> None:
    """Raise InputError for a name that is not valid Unicode: no result file could say where the data came from."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{str(path)!r}: the name is not valid UTF-8; rename it") from error


def index_columns(schema: Any) -> list[str]:
    """The columns of pyarrow's schema in which pandas keeps the index of a DataFrame, such as row numbers."""
    declared = []
    with contextlib.suppress(KeyError, ValueError, TypeError):  # not written by pandas
        declared = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
    return [name for name in schema.names if name in declared or name.startswith("__index_level_")]


def is_called_id(name: str) -> bool:
    """Whether a column has the name of an id or a row number, such as `doc_id`, `CID` or `Unnamed: 0`."""
    return _ID.fullmatch(name.strip().lower()) is not None
