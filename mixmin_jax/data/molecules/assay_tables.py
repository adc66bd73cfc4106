"""Tables of measurements on molecules, in MoleculeNet's layout: a SMILES column and one column per assay.

Formats: `.csv`, `.csv.gz` and `.parquet`. Structures stay text here; `cleaning` reads them. A `.csv` may have other
separators than commas; then its numbers may have decimal commas.

Axes: N rows, A assays, D distinct cells of a column.
"""

import csv
import dataclasses
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
from jaxtyping import Float32, Int

from mixmin_jax.data.files import (
    BYTE_ORDER_MARK,
    decode_utf8,
    index_columns,
    is_called_id,
    read_bytes,
    refuse_odd_name,
)
from mixmin_jax.errors import InputError, closest_names, list_some

Task = Literal["classification", "regression"]

SUFFIXES = (".csv", ".csv.gz", ".parquet")
SMILES_COLUMNS = ("smiles", "canonical_smiles", "mol")  # tried in this order, upper and lower case alike
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
# words that tell a column of labels from other text, with what they mean; other words in it were not measured
_POSITIVE = frozenset({"active", "positive", "pos", "yes", "toxic", "hit", "+"})
_NEGATIVE = frozenset({"inactive", "negative", "neg", "no", "nontoxic", "non-toxic", "non-hit", "-"})
_MOST_WORDS = 10  # different labels of a column
_MANY = 10  # rows, from which on whole numbers do not grow in all of them by chance
_PREDICTED = re.compile(r".*\b(predicted|prediction|calculated|computed|estimated)\b.*|(.*_)?pred(_.*)?")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+(e[-+]?\d+)?", re.IGNORECASE)
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")
_LARGEST = float(np.finfo(np.float32).max)  # values are held in float32


@dataclasses.dataclass(frozen=True, eq=False)
class AssayTable:
    """The structures and measurements of a file.

    smiles: N structures as text, possibly empty or unreadable.      row_N: their rows in the file; row 1 is the header.
    values_NxA: 0 or 1 (classification) or a finite number (regression); NaN where nothing was measured.
    ignored: the columns that are not assays, with the reason: "text", "empty", "as asked", "index of pandas" or a
        type of Parquet.
    fingerprint: `bytes` and `sha256` of the file.      origin: the path, for messages.
    """

    smiles: tuple[str, ...]
    row_N: Int[np.ndarray, " N"]
    assays: tuple[str, ...]
    values_NxA: Float32[np.ndarray, "N A"]
    ignored: dict[str, str]
    fingerprint: dict[str, Any]
    task: Task
    origin: str
    smiles_column: str = ""
    notes: tuple[str, ...] = ()  # how cells were read, if not as they are


def read_assays(
    path: str | Path,
    *,
    task: Task = "classification",
    smiles_column: str | None = None,
    ignore: Sequence[str] = (),
    keep: Sequence[str] = (),
    labels: Mapping[str, float | None] | None = None,
) -> AssayTable:
    """Read the table in a file. Blank rows are left out; rows without a structure are kept.

    Every column except the SMILES column is an assay, unless it is named in `ignore`, has no value, or is text (no
    cell in it is a number).

    Args:
        path: the file.
        task: "classification": cells are 0, 1 (also 0.0, 1.0, true, false) or empty. "regression": cells are finite
            numbers in the range of float32, or empty.
        smiles_column: the SMILES column; None: the first of `SMILES_COLUMNS`.
        ignore: columns that are not assays.
        keep: columns that are assays although they look like ids or predictions.
        labels: values of cells, such as {"active": 1.0, "inactive": 0.0, "inconclusive": None}, upper and lower case
            alike. None: nothing was measured.

    Raises:
        InputError: with file, row (1 is the header, in Parquet too) and column: a path that is missing, empty, damaged
            or of another format; a row of another length than the header; no rows; no SMILES column or no assay; a
            column without a name or with the name of another; a name in `ignore` or `smiles_column` that is not a
            column; a cell that `task` does not allow; a column that looks like an id, a prediction, or labels in words.
    """
    path = Path(path)
    data = _contents(path)
    separator, ignored = ",", dict[str, str]()
    if path.name.endswith(".parquet"):
        columns, index = _parquet_columns(path, data)
        ignored |= dict.fromkeys(index, "index of pandas")
    else:
        columns, separator = _csv_columns(path, data)
    meaning = {_key(cell): value for cell, value in (labels or {}).items()}
    place = _smiles_column(path, list(columns), smiles_column)
    for option, name in [*(("ignore", name) for name in ignore), *(("keep", name) for name in keep)]:
        if name == place:
            raise InputError(f"{path}: {option} (--{option}) names {name!r}, which is the SMILES column")
        if name not in columns:
            raise InputError(
                f"{path}: {option} (--{option}) names {name!r}, which is no column; {closest_names(name, columns)}"
            )
    smiles = _text(path, place, columns[place])
    if not smiles:
        raise InputError(f"{path}: a header without rows")

    filled_N = np.array([bool(text) for text in smiles])
    values: dict[str, Float32[np.ndarray, " N"]] = {}
    bad: list[tuple[str, int, str]] = []
    wrong, with_commas = list[str](), list[str]()
    for name, column in columns.items():
        if name == place:
            continue
        if reason := _foreign_type(column.type):
            filled_N |= column.is_valid().to_numpy()
            ignored[name] = "as asked" if name in ignore else reason
            continue
        written, code_N = _distinct_cells(column)
        filled_N |= np.array([bool(cell) for cell in written])[code_N]
        if name in ignore:
            ignored[name] = "as asked"
            continue
        commas = [cell for cell in written if _DECIMAL_COMMA.fullmatch(cell)]
        if commas and separator != "," and not all(map(_THOUSANDS.fullmatch, commas)):
            written = [cell.replace(",", ".") if cell in commas else cell for cell in written]
            with_commas.append(name)
        cells = ["" if meaning.get(_key(cell), 0) is None else cell for cell in written]
        full_D = np.array([bool(cell) for cell in cells])
        if not full_D[code_N].any():
            ignored[name] = "empty"
        elif all(_number(cell, task, meaning) is None for cell in cells):
            ignored[name] = "text"
            if labeled := _labels_in_words([cell for cell in cells if cell]):
                wrong.append(f"column {name!r} {labeled}, or name it in ignore (--ignore)")
        else:
            number_D = np.array([_value(cell, task, meaning) for cell in cells], np.float32)
            values[name] = number_D[code_N]
            wrong_N = np.isnan(values[name]) & full_D[code_N]
            if wrong_N.any():
                row = int(wrong_N.argmax())
                bad.append((name, row, cells[code_N[row]]))
            elif name not in keep and (why := _no_assay(name, values[name])):
                wrong.append(
                    f"column {name!r} {why}: name it in ignore (--ignore) if it is no assay, else in keep (--keep)"
                )
    wrong = [f"{path}: {found}" for found in wrong]
    if bad:
        wrong.insert(0, _bad_cells(path, bad, task))
    if wrong:
        raise InputError(*wrong)
    if not values:
        reasons = "".join(f", {name} ({reason})" for name, reason in list(ignored.items())[:10])
        raise InputError(f"{path}: no assay; the columns are {place} (SMILES){reasons}")
    return AssayTable(
        smiles=tuple(text for text, filled in zip(smiles, filled_N, strict=True) if filled),
        row_N=np.flatnonzero(filled_N) + 2,
        assays=tuple(values),
        values_NxA=np.column_stack(list(values.values()))[filled_N],
        ignored=ignored,
        fingerprint={"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()},
        task=task,
        origin=str(path),
        smiles_column=place,
        notes=(
            *([f"columns are separated by a {SEPARATORS[separator]}"] if separator != "," else []),
            *([f"decimal commas in {list_some(with_commas)}"] if with_commas else []),
            *(
                f"cells {cell!r} are {'not measured' if value is None else f'{value:g}'}"
                for cell, value in meaning.items()
            ),
        ),
    )


def _no_assay(name: str, values_N: Float32[np.ndarray, " N"]) -> str | None:
    """Why a column of numbers is hardly an assay; None if it may be one."""
    if _PREDICTED.fullmatch(name.lower()):
        return "is called a prediction, which is no measurement"
    given = values_N[~np.isnan(values_N)]
    if (given != np.floor(given)).any() or len(given) < 3 or len(np.unique(given)) < len(given):
        return None
    if is_called_id(name):
        return "is called like an id, and holds whole numbers that all differ"
    grows = len(given) >= _MANY and (np.diff(given) > 0).all()
    return "holds whole numbers that grow from row to row, as ids do" if grows else None


def _labels_in_words(cells: Sequence[str]) -> str | None:
    """What a column of labels such as Active and Inactive holds, and what to do; None for other text."""
    if all(map(_DECIMAL_COMMA.fullmatch, cells)):
        return f"holds numbers with a comma ({cells[0]!r}): write decimal points"
    words = sorted({cell.lower() for cell in cells})
    if len(words) > _MOST_WORDS or not {*words} & (_POSITIVE | _NEGATIVE):
        return None
    example = ",".join(f"{word}={'1' * (word in _POSITIVE) or '0' * (word in _NEGATIVE)}" for word in words)
    return (
        f"holds labels in words: say what they mean with labels (--labels {example}; nothing behind = stands for what"
        " was not measured)"
    )


def _key(cell: str) -> str | float:
    """What a cell is looked up by: a number by its value, text in lower case."""
    number = _number(cell, "regression", {})
    return cell.strip().lower() if number is None else number


def _contents(path: Path) -> bytes:
    if not path.name.endswith(SUFFIXES):
        raise InputError(f"{path}: unsupported kind of file; known are {', '.join(SUFFIXES)}")
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: {'a pipe or device, not a file' if path.exists() else 'no such file'}")
    refuse_odd_name(path)
    data = read_bytes(path)
    if not data:
        raise InputError(f"{path}: the file is empty")
    return data


def _csv_columns(path: Path, data: bytes) -> tuple[dict[str, pyarrow.ChunkedArray], str]:
    """The columns by name, and what separates them: in the first row, a comma if there is one."""
    text = (_unzipped(path, data) if path.name.endswith(".gz") else data).removeprefix(BYTE_ORDER_MARK)
    decode_utf8(text, path, "row")
    if not text.strip():
        raise InputError(f"{path}: the file is empty")
    head = text.split(b"\n", 1)[0].decode()
    separator = next((sign for sign in SEPARATORS if sign in head), ",")
    lines = csv.reader(io.TextIOWrapper(io.BytesIO(text), "utf-8", newline=""), delimiter=separator)
    try:
        names = next(lines)
    except csv.Error as error:
        raise InputError(f"{path}, row 1: cannot be read as CSV: {error}") from error
    _refuse_names(path, names)
    ragged: list[pyarrow.csv.InvalidRow] = []

    def note(row: pyarrow.csv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    # Columns have few distinct cells, so dictionaries take less memory than strings. Rows have numbers only with one
    # block and one thread. The added line break makes pyarrow accept a header without rows.
    kinds = {name: pyarrow.dictionary(pyarrow.int32(), pyarrow.string()) for name in names}
    text += b"" if text.endswith((b"\n", b"\r")) else b"\n"
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(text),
            pyarrow.csv.ReadOptions(
                use_threads=False, block_size=min(len(text) + 1, 2**30), column_names=names, skip_rows=lines.line_num
            ),
            pyarrow.csv.ParseOptions(
                delimiter=separator, invalid_row_handler=note, newlines_in_values=True, ignore_empty_lines=False
            ),
            pyarrow.csv.ConvertOptions(column_types=kinds, null_values=[""]),
        )
    except (pyarrow.ArrowException, ValueError) as error:
        raise InputError(f"{path}: cannot be read as CSV: {str(error).splitlines()[0]}") from error
    if ragged:
        row = ragged[0]
        quote = "; a quotation mark is not closed" if row.text.count('"') % 2 else ""
        raise InputError(
            f"{path}, row {row.number}: {row.actual_columns} cell(s) where the header has {row.expected_columns}{quote}"
            "; if this is the last row, the file may be cut off"
        )
    return dict(zip(names, table.columns, strict=True)), separator


def _unzipped(path: Path, data: bytes) -> bytes:
    parts: list[bytes] = []
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            while part := stream.read1(1 << 20):
                parts.append(part)
    except EOFError as error:
        row = sum(part.count(b"\n") for part in parts) + 1
        raise InputError(f"{path}: truncated gzip, the end is missing from row {row} on; copy it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: not a valid gzip ({error})") from error
    return b"".join(parts)


def _parquet_columns(path: Path, data: bytes) -> tuple[dict[str, pyarrow.ChunkedArray], list[str]]:
    """The columns by name, and those that are left out, as they hold the index of a DataFrame."""
    try:
        table = pyarrow.parquet.ParquetFile(io.BytesIO(data)).read()
        table.validate(full=True)  # finds invalid UTF-8, which nothing later would
        all_names = table.column_names
    except Exception as error:  # damaged files raise errors of many kinds
        detail = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: cannot be read as Parquet: {detail}") from error
    index = index_columns(table.schema)
    kept = [i for i, name in enumerate(all_names) if name not in index]
    names = [all_names[i] for i in kept]
    _refuse_names(path, names)
    return {name: table.column(i) for name, i in zip(names, kept, strict=True)}, index


def _refuse_names(path: Path, names: Sequence[str]) -> None:
    if not any(names):
        raise InputError(f"{path}: the first row must name the columns; it is blank")
    if "" in names:
        raise InputError(
            f"{path}: column {names.index('') + 1} has no name; if it is a row number written by pandas, save with "
            "index=False"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"{path}: the column {twice[0]!r} is there {names.count(twice[0])} times; rename or remove one"
        )


def _smiles_column(path: Path, names: list[str], asked: str | None) -> str:
    if asked is not None:
        if asked not in names:
            raise InputError(f"{path}: no column is called {asked!r}; {closest_names(asked, names)}")
        return asked
    for wanted in SMILES_COLUMNS:
        for name in names:
            if name.strip().lower() == wanted:
                return name
    raise InputError(
        f"{path}: no SMILES column ({', '.join(SMILES_COLUMNS)}); the columns are {list_some(names, 10)}; name yours "
        "with smiles_column (--smiles-column)"
    )


def _text(path: Path, name: str, column: pyarrow.ChunkedArray) -> list[str]:
    kind = column.type.value_type if pyarrow.types.is_dictionary(column.type) else column.type
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        raise InputError(f"{path}: the SMILES column {name!r} holds {kind}, not text; name another with smiles_column")
    return [(cell or "").strip() for cell in column.to_pylist()]


def _foreign_type(kind: pyarrow.DataType) -> str | None:
    """The name of a Parquet type that cannot hold measurements (a date, a list); None for other types."""
    kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    known = ("is_integer", "is_floating", "is_decimal", "is_boolean", "is_string", "is_large_string", "is_null")
    return None if any(getattr(pyarrow.types, test)(kind) for test in known) else str(kind)


def _distinct_cells(column: pyarrow.ChunkedArray) -> tuple[list[str], Int[np.ndarray, " N"]]:
    """The distinct cells as stripped text ("" for empty ones), and the number of each row's cell."""
    array = column.combine_chunks()
    if not pyarrow.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    values = [*array.dictionary.to_pylist(), None]
    cells = ["" if value is None or value != value else str(value).strip() for value in values]
    return cells, array.indices.fill_null(len(cells) - 1).to_numpy(zero_copy_only=False)


def _number(cell: str, task: Task, meaning: Mapping[Any, float | None]) -> float | None:
    """The number in a cell, None if there is none. Infinity is a number here, "nan" is not."""
    if meaning and (known := meaning.get(_key(cell))) is not None:
        return known
    if task == "classification" and cell.lower() in ("true", "false"):
        return float(cell.lower() == "true")
    try:
        number = float(cell)
    except ValueError:
        return None
    return None if "_" in cell or np.isnan(number) else number


def _value(cell: str, task: Task, meaning: Mapping[Any, float | None]) -> float:
    """The value of a cell; NaN if `task` does not allow it."""
    number = _number(cell, task, meaning)
    allowed = number is not None and (number in (0, 1) if task == "classification" else abs(number) <= _LARGEST)
    return number if number is not None and allowed else np.nan


def _bad_cells(path: Path, bad: list[tuple[str, int, str]], task: Task) -> str:
    name, row, cell = bad[0]
    others = f" (cells like this also in {list_some([other for other, _, _ in bad[1:]])})" if bad[1:] else ""
    shown = cell if len(cell) <= 40 else cell[:40] + "..."
    wanted = "neither 0, 1 nor empty" if task == "classification" else "neither a finite number nor empty"
    advice = "name the column in ignore (--ignore) if it is no assay, or "
    if _number(cell, task, {}) is None:
        advice += f"leave cells empty where nothing was measured (--labels '{cell[:40]}=' reads these so)"
    elif task == "classification" and float(cell) == -1:
        advice += "say labels (--labels 1=1,-1=0) if -1 is the negative class"
    elif task == "classification":
        advice += "ask for task regression (--task regression) if it holds measured values"
    else:
        advice += "correct the cell"
    return f"{path}, row {row + 2}, column {name!r}: {shown!r} is {wanted}{others}; {advice}"
