"""Text as documents: reading files and folders, splitting a target, keeping to a byte budget.

Formats: `.jsonl` and `.jsonl.gz` (an object a line, the text in one field), `.txt` (a file is a document), and
folders of these, read recursively in sorted order. A folder of sources holds one such file or folder per source.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int

from mixmin_jax.errors import InputError

SUFFIXES = (".jsonl", ".jsonl.gz", ".txt")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Corpus:
    """Documents of one source or target, in order.

    `documents` are valid UTF-8, so that byte 0xFF never occurs and is free as the separator; none is empty.
    `origin` says where they come from; `num_skipped` counts the empty documents that were left out.
    """

    name: str
    documents: tuple[bytes, ...]
    origin: str
    num_skipped: int = 0

    @property
    def num_documents(self) -> int:
        return len(self.documents)

    @cached_property
    def num_bytes(self) -> int:
        return sum(map(len, self.documents))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over each document's length (8 bytes, little-endian) and bytes, in order; not the name."""
        digest = hashlib.sha256()
        for document in self.documents:
            digest.update(len(document).to_bytes(8, "little"))
            digest.update(document)
        return digest.hexdigest()


def read_corpus(path: str | Path, name: str | None = None, field: str = "text") -> Corpus:
    """The documents of one file or folder; `name` defaults to the stem (`code.jsonl.gz` -> `code`).

    In JSON lines, `field` holds the text; blank lines are ignored, and documents without any visible character are
    skipped and counted. Hidden files in folders are ignored.

    Raises InputError, naming file and line, for: a path that is missing, unreadable, of another format or no file (a
    pipe, say); a link to a folder around it; a name that is not valid Unicode; a truncated or corrupt gzip; invalid
    UTF-8; a line that is not a JSON object with a string in `field`; a file without any document (a `.txt` file too: an
    empty file is a failed copy more often than an empty document).
    """
    path = Path(path)
    documents: list[bytes] = []
    num_skipped = 0
    for file in _files(path):
        texts = [_document(file)] if _suffix(file) == ".txt" else list(_json_lines(file, field))
        kept = [text for text in texts if text.decode().strip()]  # as text: bytes know fewer kinds of space
        if not kept:
            raise InputError(f"{file}: empty, no document with text in it")
        documents += kept
        num_skipped += len(texts) - len(kept)
    return Corpus(stem(path) if name is None else name, tuple(documents), str(path), num_skipped)


def split_documents(
    corpus: Corpus, fit_fraction: float, seed: int
) -> tuple[Int[np.ndarray, "fit"], Int[np.ndarray, "test"]]:
    """Sorted indices of the documents to fit weights on (about `fit_fraction` of them) and of those to report on.

    Depends on the corpus's fingerprint and `seed` alone. Exact duplicates fall on the same side, because a document on
    both sides would leak.

    Raises InputError if `fit_fraction` is not inside (0, 1) or there are fewer than two distinct documents.
    """
    if not 0 < fit_fraction < 1:
        raise InputError(f"fit_fraction must lie between 0 and 1, both excluded; it is {fit_fraction}")
    groups: dict[bytes, list[int]] = {}
    for index in _shuffled(corpus, range(corpus.num_documents), seed):
        groups.setdefault(corpus.documents[index], []).append(index)
    if len(groups) < 2:
        raise InputError(
            f"{corpus.name} ({corpus.origin}): {len(groups)} distinct document(s) cannot be split into a part to fit "
            "weights on and a part to report on; give the target as several documents"
        )
    num_fit = min(max(round(fit_fraction * corpus.num_documents), 1), corpus.num_documents - 1)
    fit: list[int] = []
    for members in groups.values():
        if len(fit) + len(members) <= num_fit:
            fit += members
    if not fit:  # every group is larger than num_fit: the smallest is closest to what was asked
        fit = min(groups.values(), key=len)
    test = set(range(corpus.num_documents)).difference(fit)
    return np.array(sorted(fit)), np.array(sorted(test))


def take_bytes(corpus: Corpus, indices: Int[np.ndarray, "n"], max_bytes: int, seed: int = 0) -> Int[np.ndarray, "kept"]:
    """Sorted indices of a prefix of a shuffle of `indices` with at most `max_bytes` bytes, and at least one document.

    The shuffle depends on the corpus's fingerprint and `seed` alone, so that a smaller budget keeps a subset of what a
    larger one keeps.
    """
    order = np.array(_shuffled(corpus, [int(index) for index in indices], seed), dtype=np.int64)
    total = np.cumsum([len(corpus.documents[index]) for index in order])
    return np.sort(order[: max(int(np.searchsorted(total, max_bytes, side="right")), 1)])


def _shuffled(corpus: Corpus, indices: list[int] | range, seed: int) -> list[int]:
    """Ordered by a hash: the same on every machine and NumPy version, and for every subset of the documents."""
    key = f"{corpus.fingerprint}/{seed}/"
    return sorted(indices, key=lambda index: hashlib.sha256(f"{key}{index}".encode()).digest())


def _suffix(path: Path) -> str | None:
    return next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if path.name.endswith(suffix)), None)


def stem(path: Path) -> str:
    """The name of what is at `path`: the folder's, or the file's without its suffix."""
    name = path.name or path.resolve().name  # "." has no name of its own
    return name if path.is_dir() else name.removesuffix(_suffix(path) or path.suffix)


def refuse_odd_name(path: str | Path) -> None:
    """InputError for a name that is not valid Unicode: no result file could say where the data came from."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{str(path)!r}: the name is not valid UTF-8; rename it") from error


def listing(folder: Path) -> list[Path]:
    """The visible entries of a folder, sorted."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from error


def _files(path: Path) -> Iterator[Path]:
    waiting = [path]
    while waiting:  # no recursion: folders may lie deeper than Python's stack
        path = waiting.pop()
        refuse_odd_name(path)
        if path.is_dir():
            if path.is_symlink() and path.resolve() in [parent.resolve() for parent in path.absolute().parents]:
                raise InputError(f"{path}: a link to a folder that it lies in; remove it")
            entries = listing(path)
            if not entries:
                raise InputError(f"{path}: empty folder, no {', '.join(SUFFIXES)} file in it")
            waiting += reversed(entries)
        elif not path.exists():
            raise InputError(f"{path}: no such file or folder")
        elif _suffix(path) is None:
            raise InputError(f"{path}: unsupported kind of file; known are {', '.join(SUFFIXES)} and folders of them")
        elif not path.is_file():
            raise InputError(f"{path}: not a file but a pipe or device; write its content to a file")
        else:
            yield path


def _document(file: Path) -> bytes:
    try:
        text = file.read_bytes().removeprefix(_BYTE_ORDER_MARK)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    try:
        text.decode()
    except UnicodeDecodeError as error:
        line = text[: error.start].count(b"\n") + 1
        raise InputError(f"{file}, line {line}: not valid UTF-8 ({error.reason})") from error
    return text


def _json_lines(file: Path, field: str) -> Iterator[bytes]:
    for number, line in enumerate(_lines(file), start=1):
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line.strip():
            continue
        place = f"{file}, line {number}"
        try:
            record = json.loads(line.decode())  # decoded here, because json.loads guesses among encodings
        except UnicodeDecodeError as error:
            raise InputError(f"{place}: not valid UTF-8 ({error.reason})") from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise InputError(f"{place}: not JSON ({str(error) or type(error).__name__})") from error
        if not isinstance(record, dict):
            raise InputError(f"{place}: not a JSON object but {type(record).__name__}; expected {{{field!r}: ...}}")
        if field not in record:
            raise InputError(f"{place}: no field {field!r}; the fields are {sorted(record)[:20]}")
        if not isinstance(record[field], str):
            raise InputError(f"{place}: field {field!r} is not a string but {type(record[field]).__name__}")
        try:
            yield record[field].encode()
        except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair, UTF-8 cannot
            raise InputError(f"{place}: field {field!r} is not valid Unicode ({error.reason})") from error


def _lines(file: Path) -> Iterator[bytes]:
    """Lines as bytes, ended by a newline only: JSON strings may hold the other characters that str.splitlines cuts."""
    try:
        with gzip.open(file) if file.name.endswith(".gz") else file.open("rb") as stream:
            yield from stream
    except EOFError as error:
        raise InputError(f"{file}: truncated gzip, the end is missing; copy it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{file}: not a valid gzip ({error})") from error
    except MemoryError as error:
        raise InputError(f"{file}: a line does not fit into memory") from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
