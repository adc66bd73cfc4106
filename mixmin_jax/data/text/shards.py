"""The files that hold a source: one file, or the shards of a folder, here or behind a URL.

URLs (`s3://...`, `gs://...`, `hf://...`) are read by fsspec, where the package for them is installed.
"""

import fnmatch
import functools
import os
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fsspec.core import url_to_fs

from mixmin_jax.data.decompression import COMPRESSIONS, BinaryFile
from mixmin_jax.data.files import list_folder, refuse_odd_name
from mixmin_jax.errors import InputError

_TEXT = (".jsonl", ".ndjson", ".json", ".txt")
_TABLES = (".parquet", ".arrow")
FORMATS = (*_TEXT, *_TABLES)
TFDS = "tfds"  # the form of a split in TFDS, which is no file
SUFFIXES = {f"{form}{packed}": (form, packed) for form in _TEXT for packed in ("", *COMPRESSIONS)} | {
    form: (form, "") for form in _TABLES
}
KNOWN = f"{', '.join(FORMATS)}, the first four also with {', '.join(COMPRESSIONS)}"
_NO_DATA = (  # patterns of names in lower case; they lie beside shards
    *(".*", "readme", "readme.*", "license", "license.*", "licence", "licence.*", "*.md", "*.crc", "thumbs.db"),
    *("desktop.ini", "_success", "_metadata", "_common_metadata", "_temporary", "_delta_log", "_committed_*"),
    *("_started_*", "index.json", "*.index.json", "dataset_info.json", "dataset_infos.json", "state.json"),
    *("dataset_dict.json", "cache-*.arrow"),  # what `map` of Hugging Face's data sets keeps
)
_SPLITS = "dataset_dict.json"  # of a Hugging Face data set with a folder for each split


_WEB = re.compile(r"(https?://)([^/?#\s]*@)?([^?#\s]*)([?#]\S*)?", re.I)


@dataclass(frozen=True)
class Shard:
    """One file of documents."""

    place: str  # its path, or its URL `without_secrets`
    name: str  # relative to the folder; empty for a file that was given
    form: str  # one of FORMATS, or TFDS
    compression: str
    size: int  # bytes
    stamp: str  # another one once the file has changed
    open: Callable[[], AbstractContextManager[Any]]  # a BinaryFile, or the examples of a split


@dataclass(frozen=True)
class Shards:
    """The files of a source in order, and those beside them that are no data."""

    files: tuple[Shard, ...]
    left_out: tuple[str, ...]


def is_url(spec: str | Path) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", str(spec)) is not None


def without_secrets(text: str) -> str:
    """The text with "..." for the query of each URL of the web, such as a signature, and for a user with a password."""
    return _WEB.sub(lambda url: f"{url[1]}{'...@' if url[2] else ''}{url[3]}{'?...' if url[4] else ''}", text)


def expand(spec: str | Path) -> str | Path:
    """A URL as it is; else a path, with `~` expanded. Raises InputError for an unknown home."""
    if is_url(spec):
        return str(spec)
    try:
        return Path(spec).expanduser()
    except RuntimeError as error:
        raise InputError(f"{spec}: {error}") from error


def suffix(name: str) -> str | None:
    """The longest known ending of a name, in lower case; None if there is none."""
    name = name.lower()
    return max((known for known in SUFFIXES if name.endswith(known)), key=len, default=None)


def _path_part(url: str) -> str:
    """Without the query of a URL of the web, such as the signature that gives access."""
    return urlsplit(url).path if url.lower().startswith(("http://", "https://")) else url


def stem(path: str | Path) -> str:
    """The name of a folder, or of a file without its suffix."""
    if isinstance(path, str):
        name = _path_part(path).rstrip("/").rsplit("/", 1)[-1]
        return name[: len(name) - len(suffix(name) or "")]
    name = path.name or path.resolve().name  # "." has no name of its own
    return name if path.is_dir() else name[: len(name) - len(suffix(name) or path.suffix)]


def is_no_data(name: str) -> bool:
    """Whether a file or folder of this name lies beside data, and holds none."""
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in _NO_DATA)


def find_shards(path: str | Path) -> Shards:
    """The files of one source: a file, or all files of a folder, recursively in sorted order.

    Raises:
        InputError: a path that is missing, of another format or no file (a pipe); an empty folder; a link to a folder
            that contains it; a name that is not valid Unicode; a data set of several splits; a URL whose package is not
            installed, or that cannot be listed.
    """
    path = expand(path)
    refuse_odd_name(path)
    shards = _remote(path) if isinstance(path, str) else _local(path)
    if not shards.files:
        beside = f" beside {', '.join(shards.left_out[:5])}" if shards.left_out else ""
        raise InputError(f"{path}: empty folder, no {KNOWN} file in it{beside}")
    return shards


def _local(root: Path) -> Shards:
    files: list[Shard] = []
    left_out: list[str] = []
    waiting = [root]
    while waiting:  # no recursion: folders may be nested deeper than Python's stack
        path = waiting.pop()
        refuse_odd_name(path)
        if path.is_dir():
            if path.is_symlink() and path.resolve() in [parent.resolve() for parent in path.absolute().parents]:
                raise InputError(f"{path}: a link to a folder that it lies in; remove it")
            entries = list_folder(path, hidden=True)
            data = [entry for entry in entries if not is_no_data(entry.name)]
            if not data and path != root:
                raise InputError(f"{path}: empty folder, no {KNOWN} file in it")
            _refuse_splits(path, [entry.name for entry in entries], [entry.name for entry in data if entry.is_dir()])
            left_out += [str(entry.relative_to(root)) for entry in entries if is_no_data(entry.name)]
            waiting += reversed(data)
        elif not path.exists():
            raise InputError(f"{path}: no such file or folder")
        elif (found := suffix(path.name)) is None:
            raise InputError(f"{path}: unsupported kind of file; known are {KNOWN}, and folders of them")
        elif not path.is_file():
            raise InputError(f"{path}: not a file but a pipe or device; write its content to a file")
        else:
            name, stat = "" if path == root else str(path.relative_to(root)), os.stat(path)
            # also where a file was replaced by one of the same size and time, or a relative path is another file's now
            stamp = f"{path.resolve()} {stat.st_ino} {stat.st_mtime_ns} {stat.st_ctime_ns}"
            files.append(Shard(str(path), name, *SUFFIXES[found], stat.st_size, stamp, functools.partial(_open, path)))
    return Shards(tuple(files), tuple(left_out))


def _open(path: Path) -> BinaryFile:
    return path.open("rb")


def _remote(url: str) -> Shards:
    try:
        system, root = url_to_fs(url)
        alone = system.isfile(root)
        found: dict[str, Any] = {root: system.info(root)} if alone else system.find(root, detail=True)
    except Exception as error:  # of many packages
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{url}: cannot be read ({detail})") from error
    if not found:
        raise InputError(f"{url}: no such file or folder")
    files: list[Shard] = []
    left_out: list[str] = []
    names = {path: "" if alone else path.removeprefix(root).lstrip("/") for path in found}
    _refuse_splits(url, names.values(), {name.split("/")[0] for name in names.values() if "/" in name})
    for path, info in sorted(found.items()):
        name = names[path]
        if not alone and any(map(is_no_data, name.split("/"))):
            left_out.append(name)
            continue
        whole = system.unstrip_protocol(path)
        place = without_secrets(whole)
        if (known := suffix(_path_part(whole))) is None:
            raise InputError(f"{place}: unsupported kind of file; known are {KNOWN}, and folders of them")
        size = int(info.get("size") or 0)
        files.append(Shard(place, name, *SUFFIXES[known], size, str(info), functools.partial(system.open, path, "rb")))
    return Shards(tuple(files), tuple(left_out))


def _refuse_splits(place: str | Path, names: Iterable[str], folders: Iterable[str]) -> None:
    if _SPLITS in names and len(splits := sorted(folders)) > 1:
        raise InputError(
            f"{place}: a data set of {len(splits)} splits ({', '.join(splits[:5])}); give the folder of one split"
        )
