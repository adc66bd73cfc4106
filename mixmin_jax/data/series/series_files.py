"""Labeled time series from files: the text formats of the UCR and UEA archives, .npz and .parquet.

    .tsv, .txt   a series per line: its label, then its values, between tabs (.tsv), blanks or commas (.txt). NaN at the
                 end of a line is the archive's padding of shorter series, and is cut off. One channel.
    .ts          header lines that begin with @, then a series per line: channels between colons, values between commas,
                 the label last, as in the UEA archive. `?` and NaN are missing values.
    .npz         arrays X_train, y_train, X_test and y_test, or X and y
    .parquet     a row per series: a column of labels, and either a numeric column per step, in order, or a column of
                 lists per channel

Axes: N series, S steps, C channels.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mixmin_jax.data.files import decode_utf8, index_columns, is_called_id, read_bytes
from mixmin_jax.data.series.series_sets import RawSeries
from mixmin_jax.errors import InputError, closest_names, list_some

Axes = Literal["NSC", "NCS"]
MISSING = ("?", "")
_HEADERS = ("timestamps", "univariate", "classlabel", "targetlabel", "dimensions")  # others say nothing of the reading


def read_lines(path: Path) -> RawSeries:
    """A .tsv or .txt file. Raises InputError for a line without a label or with something that is no number."""
    separator = "\t" if path.suffix.lower() == ".tsv" else None
    series, labels, places = [], [], []
    for number, line in _lines(path):
        place = f"line {number}"
        cells = line.split(separator) if separator or "," not in line else line.split(",")
        if len(cells) < 2:
            wanted = "a label and values, between tabs" if separator else "a label and values"
            raise InputError(f"{path}, {place}: one cell; expected {wanted}")
        values_S = _numbers(cells[1:], f"{path}, {place}")
        known = np.flatnonzero(~np.isnan(values_S))
        series.append(values_S[: known[-1] + 1 if len(known) else 0, None])
        labels.append(label_name(cells[0], f"{path}, {place}"))
        places.append(place)
    return RawSeries(series, labels, places, str(path))


def read_ts(path: Path) -> RawSeries:
    """A .ts file, of one or several channels.

    Raises InputError for a header that is missing, time stamps, a regression target, channels of different lengths in
    one series, a label that the header does not name, or something that is no number.
    """
    header, series, labels, places = dict[str, list[str]](), [], [], []
    classes: set[str] | None = None
    for number, line in _lines(path, comments=("#", "%")):
        place = f"{path}, line {number}"
        if classes is None:
            if not line.startswith("@"):
                raise InputError(f"{place}: expected a header line that begins with @, or @data")
            word, *values = line[1:].split() or [""]
            if word.lower() != "data":
                header[word.lower()] = values
                continue
            classes = _declared_classes(header, path)
            continue
        *channels, label = line.split(":")
        if not channels:
            raise InputError(f"{place}: one part; expected channels and a label, between colons")
        label = label.strip()
        if label not in classes:
            raise InputError(f"{place}: the label {label!r} is none of @classLabel ({list_some(sorted(classes))})")
        parts = [_numbers(channel.split(","), place) for channel in channels]
        if len({len(one) for one in parts}) > 1:
            raise InputError(f"{place}: channels of {', '.join(str(len(one)) for one in parts)} steps; all must agree")
        series.append(np.stack(parts, axis=1))
        labels.append(label)
        places.append(f"line {number}")
    if classes is None:
        raise InputError(f"{path}: no line @data")
    return RawSeries(series, labels, places, str(path))


def read_npz(path: Path, axes: Axes | None, labels: bool = True) -> tuple[RawSeries, RawSeries | None]:
    """The training and the test part of an .npz file; no test part of a file with X and y.

    Where no `labels` are needed, y may be missing: all labels are then 0.

    Arrays of series are N x S, or have three axes, whose order `axes` says.

    Raises InputError for other arrays, shapes that do not fit, three axes without `axes`, and pickled objects.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # a damaged archive fails in as many ways as zlib, zipfile and NumPy know
        raise InputError(f"{path}: no .npz file of plain arrays ({error})") from error
    if not labels and "X" in arrays:
        arrays.setdefault("y", np.zeros(arrays["X"].shape[:1], np.int64))
    split = [("X_train", "y_train"), ("X_test", "y_test")]
    wanted = split if "X_train" in arrays else [("X", "y")]
    if sorted(arrays) != sorted(name for pair in wanted for name in pair):
        raise InputError(
            f"{path}: the arrays {list_some(sorted(arrays)) or 'none'}; expected X_train, y_train, X_test and y_test,"
            " or X and y, and nothing else"
        )
    train, *rest = (_of_arrays(arrays[x], arrays[y], f"{path}, {x}", axes) for x, y in wanted)
    return train, rest[0] if rest else None


def read_parquet(path: Path, label_column: str | None) -> RawSeries:
    """A .parquet file. The column of labels must be named: one of the steps could look the same.

    Raises InputError for an unknown label column or none, other columns that are neither all numbers of one type nor
    all lists, lists of different lengths in a row, and a file that cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: no readable parquet file ({error})") from error
    names = table.column_names
    if label_column is None:
        raise InputError(f"{path}: name the column of labels by --label-column; columns: {list_some(names)}")
    if label_column not in names:
        raise InputError(f"{path}: no column {label_column!r}; {closest_names(label_column, names)}")
    index = index_columns(table.schema)
    others = [name for name in names if name != label_column and name not in index]
    types = {name: table.schema.field(name).type for name in others}

    def is_number(kind: pa.DataType) -> bool:
        return pa.types.is_floating(kind) or pa.types.is_integer(kind)

    def is_list(kind: pa.DataType) -> bool:
        return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and is_number(kind.value_type)

    lists = [name for name in others if is_list(types[name])]
    numbers = [name for name in others if is_number(types[name])]
    if not others or others not in (lists, numbers) or len({str(kind) for kind in types.values()}) > 1:
        kinds = list_some([f"{name}: {kind}" for name, kind in types.items()])
        raise InputError(
            f"{path}: beside the labels, all columns must be steps (numbers of one type) or channels (lists of"
            f" numbers of one type), so that no index or time is taken for a value; there are {kinds or 'none'}."
            " Remove or cast the others"
        )
    if ids := [name for name in numbers if is_called_id(name)]:
        raise InputError(f"{path}: {list_some(ids)} would be steps, and are called like ids: remove or rename them")
    places = [f"row {row + 1}" for row in range(table.num_rows)]
    try:
        named = table.column(label_column).to_pylist()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: column {label_column!r} is not valid UTF-8 ({error.reason})") from error
    labels = [label_name(label, f"{path}, {place}") for label, place in zip(named, places, strict=True)]
    if lists:
        columns = [
            [_numbers(x, f"{path}, {p}") for x, p in zip(table[c].to_pylist(), places, strict=True)] for c in lists
        ]
        for row, place in enumerate(places):
            if len({len(column[row]) for column in columns}) > 1:
                raise InputError(f"{path}, {place}: lists of different lengths; the channels of a series must agree")
        series = [np.stack(channels, axis=1) for channels in zip(*columns, strict=True)]
    else:
        values_NxS = np.stack([table[name].to_numpy().astype(np.float64) for name in others], axis=1)
        series = list(values_NxS[..., None])
    return RawSeries(series, labels, places, str(path))


def label_name(label: Any, place: str) -> str:
    """A label as text; whole numbers in any notation (1, 1.0, "1.0000e+00") are the same label.

    Raises InputError for an empty or missing label, and a number that is not whole (a regression target?).
    """
    if isinstance(label, bytes):
        label = decode_utf8(label, place)
    text = "" if label is None else str(label).strip()
    if not text:
        raise InputError(f"{place}: no label")
    try:
        number = float(text)
    except ValueError:
        return text
    if not number.is_integer():
        raise InputError(f"{place}: the label {text} is no whole number; classes are whole numbers or names")
    return str(int(number))


def _lines(path: Path, comments: tuple[str, ...] = ()) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank. Comments may be in any encoding."""
    for number, data in enumerate(read_bytes(path).removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        if data.strip() and not data.lstrip().startswith(tuple(mark.encode() for mark in comments)):
            yield number, decode_utf8(data, f"{path}, line {number}").strip("\r\n ")


def _numbers(cells: Sequence[Any] | None, place: str) -> np.ndarray:
    cells = [] if cells is None else cells
    try:
        return np.array(cells, np.float64)  # None becomes NaN
    except (ValueError, TypeError):
        pass
    values = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        text = str(cell).strip()
        if text in MISSING:
            continue
        try:
            values[i] = float(text)
        except ValueError:
            raise InputError(f"{place}: {text[:30]!r} (value {i + 1}) is no number") from None
    return values


def _declared_classes(header: dict[str, list[str]], path: Path) -> set[str]:
    said = {key: [word.lower() for word in header.get(key, [])] for key in _HEADERS}
    if said["timestamps"][:1] == ["true"]:
        raise InputError(f"{path}: @timeStamps true; series with time stamps are not read, write values at even steps")
    if said["targetlabel"][:1] == ["true"]:
        raise InputError(f"{path}: @targetLabel true; this is a regression, and classes are needed")
    if said["classlabel"][:1] != ["true"] or len(said["classlabel"]) < 2:
        raise InputError(f"{path}: no header @classLabel true with the names of the classes")
    return set(header["classlabel"][1:])


def _of_arrays(x: np.ndarray, y: np.ndarray, origin: str, axes: Axes | None) -> RawSeries:
    if x.dtype.kind not in "iufb" or y.dtype.kind not in "iufbSU":
        raise InputError(f"{origin}: series of type {x.dtype} with labels of type {y.dtype}; numbers are needed")
    if x.ndim == 3 and axes is None:
        shape = " x ".join(map(str, x.shape))
        raise InputError(
            f"{origin}: {shape}; say which axis is which: --axes NSC (series, steps, channels) or NCS (series,"
            " channels, steps, as aeon and sktime have it)"
        )
    if x.ndim not in (2, 3) or y.shape != x.shape[:1]:
        raise InputError(f"{origin}: shapes {x.shape} and {y.shape}; expected N x steps, or three axes, and N labels")
    x_NxSxC = x[..., None] if x.ndim == 2 else x.swapaxes(1, 2) if axes == "NCS" else x
    places = [f"row {row + 1}" for row in range(len(x))]
    labels = [label_name(label, f"{origin}, {place}") for label, place in zip(y.tolist(), places, strict=True)]
    return RawSeries(list(x_NxSxC.astype(np.float64)), labels, places, origin)
