"""Files as streams of bytes, decompressed by their ending, in bounded memory."""

import bz2
import itertools
import lzma
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import zstandard

T = TypeVar("T")

_READ_BYTES = 1 << 16  # of the file at a time: what they unfold to has to fit into memory
_CHUNK_BYTES = 1 << 20  # of the content
_MAX_WINDOW = 1 << 31  # of zstd, as `zstd --long=31` writes it

# Each has `decompress`, `eof` and `unused_data`, and reads one member or frame of a file
_DECOMPRESSORS: dict[str, tuple[str, Callable[[], Any]]] = {
    ".gz": ("gzip", lambda: zlib.decompressobj(zlib.MAX_WBITS + 16)),
    ".zst": ("zstd", lambda: zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).decompressobj()),
    ".xz": ("xz", lzma.LZMADecompressor),
    ".bz2": ("bzip2", bz2.BZ2Decompressor),
}
BinaryFile = Any  # open for reading; those of fsspec are no BinaryIO for checks at run time
COMPRESSIONS = tuple(_DECOMPRESSORS)


class Damaged(Exception):
    """The rest of a file cannot be read. The message says why and from which byte on."""

    def __init__(self, reason: str, position: int | None) -> None:
        super().__init__(reason)
        self.position = position  # bytes that were read before; None for a file that had more bytes once


def chunks(raw: BinaryFile, compression: str) -> Iterator[bytes]:
    """The content of an open file in chunks of about a megabyte; the next one is read while one is used.

    Args:
        raw: the file.
        compression: one of `COMPRESSIONS`, or "" for none.

    Raises:
        Damaged: the file is cut off, or not of this compression.
    """
    parts = _decompressed(raw, compression) if compression else iter(lambda: raw.read(_CHUNK_BYTES), b"")
    return ahead(_joined(parts))


def _decompressed(raw: BinaryFile, compression: str) -> Iterator[bytes]:
    kind, new = _DECOMPRESSORS[compression]
    decompressor, position = None, 0
    for read in iter(lambda: raw.read(_READ_BYTES), b""):
        left = read
        while left:
            if decompressor is None:
                left = left.lstrip(b"\0\r\n ")  # some programs fill files up, or end them with a line
                decompressor = new() if left else None
                continue
            try:
                yield decompressor.decompress(left)
            except (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError, EOFError, ValueError) as error:
                at = position + len(read) - len(left)
                raise Damaged(f"not a valid {kind} near byte {at} ({error})", at) from error
            left = decompressor.unused_data if decompressor.eof else b""
            decompressor = None if decompressor.eof else decompressor
        position += len(read)
    if decompressor is not None:
        raise Damaged(f"truncated {kind}, the end is missing after byte {position}; copy it again", None)


def _joined(parts: Iterator[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    try:
        for part in parts:
            held.append(part)
            size += len(part)
            if size >= _CHUNK_BYTES:
                yield b"".join(held)
                held, size = [], 0
    except Damaged:
        if size:
            yield b"".join(held)
        raise
    if size:
        yield b"".join(held)


def ahead(values: Iterator[T]) -> Iterator[T]:
    """The same, with the next value made in a thread meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, values, None)
        while (value := pending.result()) is not None:
            pending = pool.submit(next, values, None)
            yield value


def lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Lines without their ends. Only a newline ends one, as JSON strings may hold what else `splitlines` cuts at."""
    held: list[bytes] = []  # the begin of a line that goes on
    for part in parts:
        *whole, rest = part.split(b"\n")
        if whole:
            yield from itertools.chain([b"".join([*held, whole[0]])], whole[1:])
            held = []
        held.append(rest)
    if last := b"".join(held):
        yield last
