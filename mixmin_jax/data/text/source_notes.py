"""Notes on sources from `sources.toml`: their license, a remark, and whether they may be used.

    [code]
    licence = "MIT"
    note = "GitHub, crawled in May"

    [web]
    allowed = false
    tokens = 120_000_000_000

Each table has the name of a source. A source without a table has no license and no note, and is allowed. `tokens` is
the size of the whole source, of which a part may be read.

    [books]
    path = "dumps/books/train.jsonl.zst"
    field = "content"

`path` says where a source lies, from the folder of this file on. Once a table has one, the tables list all sources.
`field` is the field or column that holds the text of a source.
(The key `licence` keeps its spelling: it is part of the file format.)
"""

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mixmin_jax.data.files import BYTE_ORDER_MARK, decode_utf8, list_folder, read_bytes
from mixmin_jax.data.text.shards import expand, is_url, stem
from mixmin_jax.data.tfds_builders import TFDS_PREFIX
from mixmin_jax.errors import InputError

SOURCE_NOTES = "sources.toml"  # in a folder of sources; it is no source


@dataclasses.dataclass(frozen=True)
class SourceNote:
    """The notes on one source."""

    licence: str | None = None
    note: str | None = None
    allowed: bool = True
    tokens: int | None = None


@dataclasses.dataclass(frozen=True)
class SourcePlace:
    """Where a source lies, and in which field its text is; None as for all others."""

    path: str | Path | None = None
    field: str | None = None


_KEYS: dict[str, tuple[type, str]] = {
    "licence": (str, "a string"),
    "note": (str, "a string"),
    "allowed": (bool, "true or false"),
    "tokens": (int, "a whole number above 0"),
    "path": (str, "a string"),
    "field": (str, "a string"),
}


def find_source_notes(
    names: Sequence[str], specs: Sequence[str | Path] = (), file: Path | None = None
) -> dict[str, SourceNote]:
    """The notes in `file`, or else in the `sources.toml` of the sources' folder.

    Args:
        names: the sources.
        specs: as for `read_sources`. The `sources.toml` of a single folder of sources is in it; that of several paths
            lies beside one of them, and may also hold notes on the other files there.
        file: a file with notes.

    Returns:
        The notes by name of source; empty without a file.

    Raises:
        InputError: more than one such file; errors of `read_source_notes`.
    """
    found = find_source_file(specs, file)
    if found is None:
        return {}
    others = [] if file is not None else [stem(path) for path in list_folder(found.parent)]
    return read_source_notes(found, names, others)


def find_source_file(specs: Sequence[str | Path], file: Path | None = None) -> Path | None:
    """`file`; or a `.toml` that is given as the sources; or the `sources.toml` of their folder, if there is one.

    Raises:
        InputError: more than one such file.
    """
    if file is not None:
        return file.expanduser()
    paths = [expand(spec) for spec in specs if not str(spec).startswith(TFDS_PREFIX)]
    local = [path for path in paths if isinstance(path, Path)]
    if len(specs) == 1 and local and local[0].suffix.lower() == ".toml":
        return local[0]
    folders = local if len(specs) == 1 else [path.absolute().parent for path in local]
    held = {folder.resolve(): folder for folder in folders if (folder / SOURCE_NOTES).exists()}
    if len(held) > 1:
        found = ", ".join(str(folder / SOURCE_NOTES) for folder in held.values())
        raise InputError(f"the sources lie beside several {SOURCE_NOTES} ({found}): give one with --sources-info")
    return next((folder / SOURCE_NOTES for folder in held.values()), None)


def read_source_places(path: Path) -> dict[str, SourcePlace]:
    """Where each table of a `sources.toml` says that its source lies.

    Raises:
        InputError: errors of `read_source_notes`.
    """
    tables = _read_toml(path)
    read_source_notes(path, tuple(tables))  # for its errors

    def place(spec: str | None) -> str | Path | None:
        if spec is None or spec.startswith(TFDS_PREFIX) or is_url(spec):
            return spec
        return path.parent / expand(spec)

    return {name: SourcePlace(place(table.get("path")), table.get("field")) for name, table in tables.items()}


def read_source_notes(path: Path, names: Sequence[str], others: Sequence[str] = ()) -> dict[str, SourceNote]:
    """A note for each source of `names`, in their order.

    Raises:
        InputError: the file is missing, unreadable or not TOML; it has a source that is neither in `names` nor in
            `others`, or an unknown key (both with the closest name), or a value of the wrong type.
    """
    tables = _read_toml(path)
    for name, table in tables.items():
        if name not in (*names, *others):
            closest = _closest(name, names)
            quoted = "" if closest.replace("_", "a").replace("-", "a").isalnum() else f', written ["{closest}"]'
            raise InputError(f"{path}: no source is called {name!r:.60}; the closest name is {closest!r}{quoted}")
        if not isinstance(table, dict):
            raise InputError(
                f"{path}: {name} is {table!r:.60}, not a table: write [{name}], and below it licence = ..."
            )
        for key, value in table.items():
            if key not in _KEYS:
                raise InputError(
                    f"{path}, [{name}]: unknown key {key!r:.60}; the closest known is {_closest(key, _KEYS)!r}"
                )
            kind, words = _KEYS[key]
            if type(value) is not kind or (isinstance(value, int) and key == "tokens" and value < 1):
                raise InputError(f"{path}, [{name}]: {key} must be {words}, not {value!r:.60}")
    keys = [field.name for field in dataclasses.fields(SourceNote)]
    return {name: SourceNote(**{k: v for k, v in tables.get(name, {}).items() if k in keys}) for name in names}


def allowed_names(names: Sequence[str], notes: Mapping[str, SourceNote]) -> tuple[str, ...]:
    """The sources that may be used, in order: those without a note or with `allowed = true`.

    Raises:
        InputError: fewer than two are left to mix.
    """
    kept = tuple(name for name in names if name not in notes or notes[name].allowed)
    if len(kept) < min(2, len(names)):
        raise InputError(
            f"mixing needs at least two sources, but of {len(names)} only {len(kept)} may be used: the others have"
            f" allowed = false in their {SOURCE_NOTES}"
        )
    return kept


def _read_toml(path: Path) -> dict[str, Any]:
    text = decode_utf8(read_bytes(path).removeprefix(BYTE_ORDER_MARK), path)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and errors of Python's numbers and dates
        raise InputError(f"{path}: not TOML ({error})") from error


def _closest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    return difflib.get_close_matches(name[:100], known, n=1, cutoff=0.0)[0]
