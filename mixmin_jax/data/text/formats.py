"""Documents out of one file, as a stream in bounded memory: one reader for each format.

    .jsonl, .ndjson    a JSON object per line, the text in one field
    .json              the same, or one array of such objects
    .txt               one document; a file of more than 16 MB is cut at line ends into documents of about 1 MB
    .parquet           a row per document, the text in one column
    .arrow             the same, as Hugging Face's `save_to_disk` writes it
    tfds               an example per document, the text in one feature

A document is valid UTF-8, so that byte 0xFF never occurs and can serve as the separator, and has a visible character.
"""

import codecs
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import msgspec
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from mixmin_jax.data.decompression import BinaryFile, Damaged, ahead, chunks, lines
from mixmin_jax.data.files import BYTE_ORDER_MARK
from mixmin_jax.data.text.shards import TFDS, Shard
from mixmin_jax.errors import InputError

LONG_TEXT = 1 << 24  # bytes of a text, from which on it is read as many documents
PIECE = 1 << 20  # bytes of these
_BATCH_BYTES = 1 << 23  # of a column at a time
_EMPTY = "an empty document"


@dataclass(frozen=True)
class Unusable:
    """A part of a file that gives no document.

    where: in the file, such as ", line 3"; empty for all of it.
    documents: how many they are, as far as is known.      rest_bytes: of the file, that cannot be read any more.
    """

    where: str
    reason: str
    documents: int = 1
    rest_bytes: int = 0


Item = bytes | Unusable


@dataclass(frozen=True)
class Scored:
    """A document with its quality.

    problem: place and reason, if the quality is no finite number (it is NaN then); else empty.
    """

    document: bytes
    quality: float
    problem: str = ""


@overload
def read_shard(shard: Shard, field: str, quality_field: None = None) -> Iterator[Item]: ...
@overload
def read_shard(shard: Shard, field: str, quality_field: str) -> Iterator[Scored | Unusable]: ...
def read_shard(shard: Shard, field: str, quality_field: str | None = None) -> Iterator[Item | Scored]:
    """The documents of a file in order, and what is no document.

    Args:
        shard: the file.
        field: holds the text.
        quality_field: holds a number that says how good each document is; None: there is none.

    Raises:
        InputError: the file cannot be opened, or its `field` is missing from all rows or is no text; a format without
            fields, or a column that is no number, with a `quality_field`.
    """
    found = False
    if quality_field is not None and shard.form in (".txt", TFDS):
        raise InputError(
            f"{shard.place}: {shard.form} data has no fields, and so no quality {quality_field!r}; give .jsonl, .json,"
            " .parquet or .arrow files, or leave out the quality field"
        )
    try:
        with shard.open() as raw:
            for item in _READERS[shard.form](raw, shard, field, quality_field):
                found = True
                yield item
    except Damaged as error:
        lost = shard.size - (error.position or 0)  # nobody knows how much a truncated file had
        yield Unusable("", str(error), rest_bytes=max(lost, 0))
        return
    except MemoryError as error:
        raise InputError(f"{shard.place}: a line does not fit into memory") from error
    except OSError as error:
        raise InputError(f"{shard.place}: cannot be read ({error.strerror or error})") from error
    if not found:
        yield Unusable("", "empty, no document with text in it", documents=0)


def _item(text: str, where: str) -> Item:
    return text.encode() if text and not text.isspace() else Unusable(where, _EMPTY)


_MISSING = object()


def _scored(item: Item, quality: Any, field: str, where: str) -> Scored | Unusable:
    """A document with what its row holds in a field. Text and truth values are no numbers, even if they could be."""
    if isinstance(item, Unusable):
        return item
    problem = f"{where}: {field!r} is "
    if quality is _MISSING or quality is None:
        return Scored(item, math.nan, problem + ("missing" if quality is _MISSING else "null"))
    if isinstance(quality, bool) or not isinstance(quality, int | float):
        return Scored(item, math.nan, f"{problem}not a number but {type(quality).__name__}")
    try:
        number = float(quality)
    except OverflowError:  # a whole number of more than 308 digits
        number = math.inf
    return Scored(item, number) if math.isfinite(number) else Scored(item, math.nan, f"{problem}{number}")


# JSON ---------------------------------------------------------------------------------------------------------------


def _json_lines(raw: BinaryFile, shard: Shard, field: str, quality: str | None) -> Iterator[Item | Scored]:
    return _objects(chunks(raw, shard.compression), field, quality)


def _json(raw: BinaryFile, shard: Shard, field: str, quality: str | None) -> Iterator[Item | Scored]:
    parts = chunks(raw, shard.compression)
    first = next((part for part in parts if part.removeprefix(BYTE_ORDER_MARK).strip()), b"")
    parts = itertools.chain([first], parts)
    if first.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"["):
        return _array(parts, field, shard.size, quality)
    return _objects(parts, field, quality)


def _objects(parts: Iterator[bytes], field: str, quality: str | None) -> Iterator[Item | Scored]:
    # decodes what is asked for, which is twice as fast as json.loads; what it refuses is looked at again
    wanted: list[Any] = [("text", str)]
    names = {"text": field}
    if quality is not None:
        wanted.append(("quality", float))
        names["quality"] = quality
    try:
        decode: Any = msgspec.json.Decoder(msgspec.defstruct("Record", wanted, rename=names)).decode
    except ValueError:  # JSON writes the field's name with escapes
        decode = None
    for number, line in enumerate(lines(parts), start=1):
        if number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        try:
            if decode is None:
                raise msgspec.DecodeError
            record = decode(line.decode())
            item = _item(record.text, f", line {number}")
            yield item if quality is None else _scored(item, record.quality, quality, f", line {number}")
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            if line.strip():
                yield _item_of_line(line, field, quality, f", line {number}")


def _item_of_line(line: bytes, field: str, quality: str | None, where: str) -> Item | Scored:
    try:
        record = json.loads(line.decode())  # json.loads of bytes guesses the encoding
        return _item_of_record(record, field, quality, where)
    except UnicodeDecodeError as error:
        return Unusable(where, f"not valid UTF-8 ({error.reason})")
    except (ValueError, RecursionError, MemoryError) as error:
        return Unusable(where, f"not JSON ({str(error) or type(error).__name__})")


def _item_of_record(record: Any, field: str, quality: str | None, where: str) -> Item | Scored:
    if not isinstance(record, dict):
        return Unusable(where, f"not a JSON object but {type(record).__name__}; expected {{{field!r}: ...}}")
    if field not in record:
        return Unusable(where, f"no field {field!r}; the fields are {sorted(record)[:20]}")
    if not isinstance(record[field], str):
        return Unusable(where, f"field {field!r} is not a string but {type(record[field]).__name__}")
    try:
        item = _item(record[field], where)
    except UnicodeEncodeError as error:  # JSON can hold half a surrogate pair, UTF-8 cannot
        return Unusable(where, f"field {field!r} is not valid Unicode ({error.reason})")
    return item if quality is None else _scored(item, record.get(quality, _MISSING), quality, where)


def _array(parts: Iterator[bytes], field: str, size: int, quality: str | None = None) -> Iterator[Item | Scored]:
    decode = codecs.getincrementaldecoder("utf-8-sig")().decode
    scan = json.JSONDecoder().raw_decode
    text, at, number, ended = "", 0, 0, False

    def more() -> None:
        """Read on, at least as much as is held, so that an object which is longer than that is not scanned often."""
        nonlocal text, at, ended
        held = [text[at:]]
        more_wanted = max(len(held[0]), 1)
        while more_wanted > 0 and not ended:
            part = next(parts, b"")
            ended = not part
            held.append(decode(part, final=ended))
            more_wanted -= len(held[-1])
        text, at = "".join(held), 0

    def skip() -> str:
        """The next visible character, or nothing at the end."""
        nonlocal at
        while True:
            while at < len(text) and text[at] in " \t\r\n":
                at += 1
            if at < len(text) or ended:
                return text[at : at + 1]
            more()

    def value() -> Any:
        nonlocal at
        while True:
            try:
                found, end = scan(text, at)
                if end < len(text) or ended:  # else a number may go on
                    at = end
                    return found
            except json.JSONDecodeError as error:
                begun = error.pos >= len(text) - 16 or error.msg.startswith("Unterminated")
                if ended or not begun:
                    raise
            more()

    try:
        skip()
        at += 1  # the bracket
        while (sign := skip()) != "]":
            if number:
                if sign != ",":
                    raise ValueError("a comma is missing" if sign else "the end of the array is missing")
                at += 1
                skip()
            record = value()
            number += 1
            yield _item_of_record(record, field, quality, f", item {number}")
        at += 1
        if skip():
            raise ValueError("something follows the array")
    except UnicodeDecodeError as error:
        yield Unusable(f", after item {number}", f"not valid UTF-8 ({error.reason})", rest_bytes=size)
    except (ValueError, RecursionError, MemoryError) as error:
        reason = f"not JSON ({str(error) or type(error).__name__})"
        yield Unusable(f", after item {number}", reason, rest_bytes=size)


# Plain text ---------------------------------------------------------------------------------------------------------


def _plain_text(raw: BinaryFile, shard: Shard, field: str, quality: None) -> Iterator[Item]:
    parts = chunks(raw, shard.compression)
    begin: list[bytes] = []
    while sum(map(len, begin)) <= LONG_TEXT:
        if not (part := next(parts, b"")):
            text = _text(b"".join(begin).removeprefix(BYTE_ORDER_MARK), 1)
            yield from [] if isinstance(text, Unusable) and text.reason == _EMPTY else [text]
            return
        begin.append(part)
    held, size, first = list[bytes](), 0, 1
    for number, line in enumerate(lines(itertools.chain(begin, parts)), start=1):
        held.append(line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line)
        size += len(line) + 1
        if size >= PIECE:
            yield _text(b"\n".join([*held, b""]), first)
            held, size, first = [], 0, number + 1
    if held:
        yield _text(b"\n".join(held), first)


def _text(text: bytes, first_line: int) -> Item:
    try:
        return _item(text.decode(), f", line {first_line}")
    except UnicodeDecodeError as error:
        number = first_line + text[: error.start].count(b"\n")
        return Unusable(f", line {number}", f"not valid UTF-8 ({error.reason})")


# Tables -------------------------------------------------------------------------------------------------------------

_DAMAGE = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError, KeyError)  # what pyarrow raises


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _parquet(raw: BinaryFile, shard: Shard, field: str, quality: str | None) -> Iterator[Item | Scored]:
    try:
        # with a buffer, so as not to read a row group at once
        table = pyarrow.parquet.ParquetFile(raw, buffer_size=1 << 20, page_checksum_verification=True)
        schema, groups = table.schema_arrow, table.num_row_groups
    except _DAMAGE as error:
        yield Unusable("", f"cut off, or no parquet ({_line(error)})", rest_bytes=shard.size)
        return
    _check_column(schema, field, shard)
    _check_quality(schema, quality, shard)
    row = 0
    for group in range(groups):
        rows, done = 0, 0
        try:
            found = table.metadata.row_group(group)
            rows = found.num_rows
            columns = map(found.column, range(found.num_columns))
            size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema == field)
            at_once = int(min(max(_BATCH_BYTES * rows // max(size, 1), 1), 1 << 16))
            wanted = [field] if quality is None else [field, quality]
            for batch in ahead(table.iter_batches(at_once, [group], wanted)):
                yield from _rows(batch, field, quality, row + done)
                done += len(batch)
        except _DAMAGE as error:
            reason = f"cannot be read ({_line(error)})"
            yield Unusable(f", row group {group}", reason, documents=max(rows - done, 1))
        row += rows


def _arrow(raw: BinaryFile, shard: Shard, field: str, quality: str | None) -> Iterator[Item | Scored]:
    row = 0
    try:
        is_file = raw.read(6) == b"ARROW1"
        raw.seek(0)
        reader: Any = pa.ipc.open_file(raw) if is_file else pa.ipc.open_stream(raw)
        schema = reader.schema
    except _DAMAGE as error:
        yield Unusable("", f"cut off, or no arrow file ({_line(error)})", rest_bytes=shard.size)
        return
    _check_column(schema, field, shard)
    _check_quality(schema, quality, shard)
    try:
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else iter(reader)
        for batch in batches:
            yield from _rows(batch, field, quality, row)
            row += len(batch)
    except _DAMAGE as error:
        rest = max(shard.size - raw.tell(), 0)
        yield Unusable(f", after row {row}", f"cannot be read ({_line(error)})", rest_bytes=rest)


def _check_column(schema: Any, field: str, shard: Shard) -> None:
    """A whole file of another kind is a mistake, and not a document that cannot be used."""
    texts = [name for name, kind in zip(schema.names, schema.types, strict=True) if _is_text(kind)]
    count = schema.names.count(field)
    if count == 1 and _is_text(schema.field(field).type):
        return
    problem = f"no column {field!r}" if not count else f"{count} columns {field!r}"
    if count == 1:
        problem = f"column {field!r} is not text but {schema.field(field).type}"
    found = f"columns of text are {texts[:20]}" if texts else f"no column is text; there are {schema.names[:20]}"
    raise InputError(f"{shard.place}: {problem}; {found}")


def _check_quality(schema: Any, quality: str | None, shard: Shard) -> None:
    if quality is None:
        return
    numbers = [
        name
        for name, kind in zip(schema.names, schema.types, strict=True)
        if pa.types.is_integer(kind) or pa.types.is_floating(kind)
    ]
    if schema.names.count(quality) == numbers.count(quality) == 1:
        return
    count = schema.names.count(quality)
    problem = f"{count or 'no'} columns {quality!r}"
    if count == 1:
        problem = f"column {quality!r} is not numbers but {schema.field(quality).type}"
    raise InputError(f"{shard.place}: {problem}, to read a quality from; columns of numbers are {numbers[:20]}")


def _rows(batch: Any, field: str, quality: str | None, first_row: int) -> Iterator[Item | Scored]:
    texts = _texts(batch.column(batch.schema.get_field_index(field)), field, first_row)
    if quality is None:
        yield from texts
        return
    column = batch.column(batch.schema.get_field_index(quality))
    column.validate(full=True)
    for row, (item, value) in enumerate(zip(texts, column.to_pylist(), strict=True), start=first_row):
        yield _scored(item, None if value is None else float(value), quality, f", row {row}")  # float16 is NumPy's


def _is_text(kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests: list[Callable[[Any], bool]] = [
        *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        *(pa.types.is_binary, pa.types.is_large_binary),  # as older programs write strings
    ]
    return any(test(kind) for test in tests)


def _texts(column: Any, field: str, first_row: int) -> Iterator[Item]:
    column.validate()  # pyarrow follows offsets of a damaged file out of its memory
    if pa.types.is_dictionary(column.type):
        column.validate(full=True)
        column = column.dictionary_decode()
    binary = column.cast(pa.large_binary())  # so that invalid UTF-8 is a matter of its document alone
    binary.validate(full=True)
    documents = binary.to_pylist()
    for row, document in enumerate(documents, start=first_row):
        if document is None:
            yield Unusable(f", row {row}", f"column {field!r} is null")
            continue
        try:
            text = document.decode()
            yield document if text and not text.isspace() else Unusable(f", row {row}", _EMPTY)
        except UnicodeDecodeError as error:
            yield Unusable(f", row {row}", f"column {field!r} is not valid UTF-8 ({error.reason})")


# TensorFlow Datasets ------------------------------------------------------------------------------------------------


def _examples(split: Sequence[Any], shard: Shard, field: str, quality: None) -> Iterator[Item]:
    for number in range(len(split)):
        value = split[number]
        for part in field.split("/"):
            value = value[part]
        try:
            yield _item(value if isinstance(value, str) else bytes(value).decode(), f", example {number}")
        except UnicodeError as error:
            yield Unusable(f", example {number}", f"not valid UTF-8 ({error})")


_READERS: dict[str, Callable[[Any, Shard, str, Any], Iterator[Item | Scored]]] = {
    **dict.fromkeys((".jsonl", ".ndjson"), _json_lines),
    **{".json": _json, ".txt": _plain_text, ".parquet": _parquet, ".arrow": _arrow, TFDS: _examples},
}
