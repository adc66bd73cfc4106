"""Text as documents: read files and folders, split a target, keep to a byte budget.

Formats: `.jsonl` and `.jsonl.gz` (one object per line, the text in one field), `.txt` (one document per file)
and folders of these, read recursively in sorted order. A folder of sources holds one such file or folder per source.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int

from mixmin_jax.data.files import BYTE_ORDER_MARK, decode_utf8, list_folder, read_bytes, refuse_odd_name
from mixmin_jax.data.hash_order import hash_order
from mixmin_jax.errors import InputError

SUFFIXES = (".jsonl", ".jsonl.gz", ".txt")


@dataclass(frozen=True)
class Corpus:
    """Documents of one source or target, in order.

    documents: valid UTF-8, so byte 0xFF never occurs and can serve as the separator. None is empty.
    origin: where they come from.      num_skipped: the number of empty documents that were left out.
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

    def take(self, indices: Iterable[int] | Int[np.ndarray, " n"]) -> "Corpus":
        """A corpus of these documents. `num_skipped` stays as it is: it belongs to the whole."""
        return replace(self, documents=tuple(self.documents[index] for index in indices))


def read_corpus(path: str | Path, name: str | None = None, field: str = "text") -> Corpus:
    """The documents of one file or folder.

    Documents without any visible character are skipped and counted. Blank lines and hidden files are ignored.

    Args:
        path: a file or folder in one of the formats above.
        name: the default is the stem (`code.jsonl.gz` -> `code`).
        field: the field that holds the text in JSON lines.

    Raises:
        InputError: with file and line: a path that is missing, unreadable, of another format or no file (a pipe); a
            link to a folder that contains it; a name that is not valid Unicode; a truncated or corrupt gzip; invalid
            UTF-8; a line that is not a JSON object with a string in `field`; a file without a document (an empty file
            is usually a failed copy).
    """
    path = Path(path)
    documents: list[bytes] = []
    num_skipped = 0
    for file in _files(path):
        texts = [_whole_file(file)] if _suffix(file) == ".txt" else list(_json_lines(file, field))
        kept = [text for text in texts if text.decode().strip()]  # str.strip knows more kinds of space than bytes.strip
        if not kept:
            raise InputError(f"{file}: empty, no document with text in it")
        documents += kept
        num_skipped += len(texts) - len(kept)
    return Corpus(stem(path) if name is None else name, tuple(documents), str(path), num_skipped)


def split_documents(
    corpus: Corpus, fit_fraction: float, seed: int
) -> tuple[Int[np.ndarray, "fit"], Int[np.ndarray, "test"]]:
    """Split a target into documents to fit weights on and documents to report on.

    The split depends on the corpus's fingerprint and `seed` only. Exact duplicates fall on the same side: a document
    on both sides would leak.

    Returns:
        Sorted indices of the documents to fit on, about `fit_fraction` of them, and of the others.

    Raises:
        InputError: `fit_fraction` is not inside (0, 1), or there are fewer than two distinct documents.
    """
    if not 0 < fit_fraction < 1:
        raise InputError(f"fit_fraction must lie between 0 and 1, both excluded; it is {fit_fraction}")
    groups: dict[bytes, list[int]] = {}
    for index in hash_order(range(corpus.num_documents), f"{corpus.fingerprint}/{seed}"):
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
    if not fit:  # every group is larger than num_fit: take the smallest
        fit = min(groups.values(), key=len)
    test = set(range(corpus.num_documents)).difference(fit)
    return np.array(sorted(fit)), np.array(sorted(test))


def take_bytes(corpus: Corpus, indices: Int[np.ndarray, "n"], max_bytes: int, seed: int = 0) -> Int[np.ndarray, "kept"]:
    """Sorted indices of randomly chosen documents with at most `max_bytes` bytes in all, but at least one document.

    The order in which documents are taken depends on the corpus's fingerprint and `seed` only. So a smaller budget
    keeps a subset of what a larger one keeps.
    """
    order = np.array(hash_order(indices.tolist(), f"{corpus.fingerprint}/{seed}"), dtype=np.int64)
    total = np.cumsum([len(corpus.documents[index]) for index in order])
    return np.sort(order[: max(int(np.searchsorted(total, max_bytes, side="right")), 1)])


def _suffix(path: Path) -> str | None:
    return next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if path.name.endswith(suffix)), None)


def stem(path: Path) -> str:
    """The name of a folder, or of a file without its suffix."""
    name = path.name or path.resolve().name  # "." has no name of its own
    return name if path.is_dir() else name.removesuffix(_suffix(path) or path.suffix)


def _files(path: Path) -> Iterator[Path]:
    waiting = [path]
    while waiting:  # no recursion: folders may be nested deeper than Python's stack
        path = waiting.pop()
        refuse_odd_name(path)
        if path.is_dir():
            if path.is_symlink() and path.resolve() in [parent.resolve() for parent in path.absolute().parents]:
                raise InputError(f"{path}: a link to a folder that it lies in; remove it")
            entries = list_folder(path)
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


def _whole_file(file: Path) -> bytes:
    text = read_bytes(file).removeprefix(BYTE_ORDER_MARK)
    decode_utf8(text, file, "line")
    return text


def _json_lines(file: Path, field: str) -> Iterator[bytes]:
    for number, line in enumerate(_lines(file), start=1):
        if number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        if not line.strip():
            continue
        place = f"{file}, line {number}"
        text = decode_utf8(line, place)  # json.loads would guess the encoding
        try:
            record = json.loads(text)
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
        except UnicodeEncodeError as error:  # JSON can hold half a surrogate pair, UTF-8 cannot
            raise InputError(f"{place}: field {field!r} is not valid Unicode ({error.reason})") from error


def _lines(file: Path) -> Iterator[bytes]:
    """Lines as bytes. Only a newline ends one: JSON strings may hold other characters at which str.splitlines cuts."""
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
