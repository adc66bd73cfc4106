"""Tables of log-likelihoods that models of any framework wrote to files.

A file holds the log-likelihood (nats) of N target examples under K models, one model per data source:

    .npz        log_likelihoods (N x K), sources (K names) and, if you like, lengths (N), documents (N)
    .csv        a column per source, headed by its name, and, if you like, columns `length`, `document`
    .parquet    the same columns

Where examples are the tokens of documents, `document` numbers the document of each, and --rows makes rows of them.
One more column (array) may hold labels, of which --groups gives the name: examples with the same label belong together.
--length-column gives lengths another name, and --ignore names what is left out. A column that looks like an id or a
count is refused, as it would be taken for a source.
"""

import csv
import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
from jaxtyping import Float, Shaped

from experiments.harness.assignments import is_number
from mixmin_jax.data.files import index_columns, is_called_id, refuse_odd_name
from mixmin_jax.errors import InputError, read_each
from mixmin_jax.mixture.rows import rows

LENGTH, DOCUMENT = "length", "document"
# names of labels and counts, in lower case; only columns of whole numbers are refused for their name
_NO_SOURCE = re.compile(
    r"(.*[^a-z])?(year|seed|fold|label|target|tokens|bytes|chars|characters|words|counts|lengths)"
    r"|(num|nr?|no|number|count|total)([^a-z].*)?|.*[^a-z](count|number|length|len|size)"
)
_BY_CHANCE = 8  # with so many rows, a property of whole numbers is no chance any more
OTHER_SEPARATORS = {";": "`;`", "\t": "a tab", "|": "`|`"}


@dataclasses.dataclass(frozen=True)
class Roles:
    """What columns (arrays) hold, other than a source, and what numbers mean."""

    group: str | None = None  # the labels of groups of examples
    length: str | None = None  # tokens per example; None: the column `length`, in .npz `lengths`, if there is one
    ignore: tuple[str, ...] = ()  # left out
    densities: bool = False  # log densities of continuous data, which may be above 0 everywhere


SOURCES_ONLY = Roles()


@dataclasses.dataclass(frozen=True)
class Table:
    """Log-likelihoods of N examples under K sources, in nats; `length_N` in tokens, if the file has lengths.

    `document_N` numbers the document of each example, if the examples are its tokens. Examples with the same `group_N`
    are not independent.
    """

    sources: tuple[str, ...]
    logp_NxK: Float[np.ndarray, "N K"]
    length_N: Float[np.ndarray, " N"] | None
    document_N: Float[np.ndarray, " N"] | None = None
    group_N: Shaped[np.ndarray, " N"] | None = None  # strings or whole numbers

    def in_rows(self, length: int | None) -> "Table":
        """Rows of so many consecutive tokens of a document; None for whole documents.

        Rows of one document form a group, unless there are groups of documents.

        Raises:
            InputError: the file does not say which document a token is from; a document of two groups.
        """
        if self.document_N is None:
            raise InputError(
                f"--rows needs to know which document each token is from: add a column `{DOCUMENT}` (in .npz an array"
                f" `{DOCUMENT}s`)"
            )
        begins_N = np.diff(self.document_N, prepend=self.document_N[0] - 1) != 0
        if self.group_N is not None:
            parted_N = ~begins_N[1:] & (self.group_N[1:] != self.group_N[:-1])
            if parted_N.any():
                row = int(np.argmax(parted_N)) + 1
                raise InputError(
                    f"row {row}: document {self.document_N[row]:.0f} is of two groups, {str(self.group_N[row - 1])!r}"
                    f" and {str(self.group_N[row])!r}"
                )
        first_D = np.flatnonzero(begins_N)
        tokens_D = np.diff(first_D, append=len(self.document_N))
        length_N = np.ones(len(self.logp_NxK)) if self.length_N is None else self.length_N
        made = rows(self.logp_NxK, tokens_D, length)
        if length is not None and length >= tokens_D.max() > 1:
            print(f"rows of {length} tokens are whole documents: the longest has {tokens_D.max()}", file=sys.stderr)
        first_R = np.cumsum(made.tokens_R) - made.tokens_R
        group_R = made.document_R if self.group_N is None else self.group_N[first_R]
        return Table(self.sources, made.logp_RxK, np.add.reduceat(length_N, first_R), group_N=group_R)

    def reordered(self, sources: Sequence[str]) -> "Table":
        """The same with its columns in the order of `sources`, matched by name.

        Raises:
            InputError: a source is missing, or there is another one; named in the message.
        """
        if missing := [name for name in sources if name not in self.sources]:
            raise InputError(f"no column for the source {', '.join(map(repr, missing))}")
        if extra := [name for name in self.sources if name not in sources]:
            raise InputError(f"a column for {', '.join(map(repr, extra))}, which is no source of the first file")
        return self.restricted(sources)

    def restricted(self, sources: Sequence[str]) -> "Table":
        """The columns of `sources`, which must be there, in their order."""
        columns = [self.sources.index(name) for name in sources]
        return dataclasses.replace(self, sources=tuple(sources), logp_NxK=self.logp_NxK[:, columns])


def read_table(path: Path, roles: Roles = SOURCES_ONLY) -> Table:
    """Read a .npz, .csv or .parquet file of log-likelihoods; values are checked later, by `cross_entropy`.

    Args:
        path: the file.
        roles: columns (arrays) that are no sources. Index columns that pandas declares in a .parquet are none either.

    Raises:
        InputError: the file is missing, of another kind, empty or corrupt, has a cell that is not a number, lacks an
            array or a column of `roles`, has shapes or names that do not fit, or a column that looks like an id or a
            count. The message starts with the path.
    """
    readers = {".npz": _read_npz, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise InputError(f"{path}: unknown kind of file {path.suffix!r}; known are {', '.join(readers)}")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    refuse_odd_name(path)
    if not path.stat().st_size:
        raise InputError(f"{path}: the file is empty")
    try:
        table = readers[path.suffix](path, roles)
        check_table(table)
        _refuse_no_sources(table, roles.densities)
    except InputError as error:
        raise InputError(f"{path}: {'; '.join(error.args)}") from None
    except Exception as error:
        # Damaged files make the readers raise almost anything: BadZipFile, zlib.error, ArrowInvalid, MemoryError, ...
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read as {path.suffix}: {detail}") from error
    return table


def _refuse_no_sources(table: Table, densities: bool) -> None:
    """Raise InputError for columns that look like ids, labels or counts, all of them at once."""
    finite_NxK = np.isfinite(table.logp_NxK)
    values_K = [column_N[is_finite_N] for column_N, is_finite_N in zip(table.logp_NxK.T, finite_NxK.T, strict=True)]
    whole_K = [bool(values.size) and bool((values == np.floor(values)).all()) for values in values_K]
    below_K = [bool((column_N < 0).any()) for column_N in table.logp_NxK.T]
    wrong = []
    for name, values, whole, below in zip(table.sources, values_K, whole_K, below_K, strict=True):
        many = len(values) >= _BY_CHANCE
        if not below and not densities and any(below_K) and values.any():
            wrong.append(f"column {name!r} is nowhere below 0, unlike others, as an id, a count or a loss is")
        elif whole and (is_called_id(name) or _NO_SOURCE.fullmatch(name.lower())):
            wrong.append(f"column {name!r} is called like an id or a count, and holds whole numbers")
        elif whole and len(values) > 2 and (np.diff(values) > 0).all() and (many or not below):
            wrong.append(f"column {name!r} holds whole numbers that grow from row to row, as ids do")
        elif whole and many and not all(whole_K) and np.ptp(values):
            wrong.append(f"column {name!r} holds whole numbers only, unlike others, as labels and ids do")
    if wrong:
        raise InputError(
            f"{'; '.join(wrong)}. What is no source must be named in --length-column, --groups or --ignore; a source"
            " holds log-likelihoods, below 0 (for log densities, say --densities)"
        )


def check_table(table: Table) -> None:
    """Raise InputError for names, lengths, documents or groups that do not fit the log-likelihoods."""
    shape, names = table.logp_NxK.shape, table.sources
    if len(shape) != 2:
        raise InputError(f"log_likelihoods must have two axes, examples x sources; got the shape {shape}")
    if len(names) != shape[1]:
        raise InputError(f"{len(names)} source names for {shape[1]} columns of log-likelihoods")
    if not shape[1]:
        raise InputError("no column of log-likelihoods")
    if not shape[0]:
        raise InputError("no rows of log-likelihoods")
    _refuse_twice(names)
    for name in names:
        refuse_odd_name(name)
    if not all(names):
        raise InputError(
            f"column {names.index('')} (counting from 0) has no name; if it is a row "
            "number written by pandas, save with index=False"
        )
    if table.length_N is not None:
        if table.length_N.shape != shape[:1]:
            raise InputError(f"lengths have the shape {table.length_N.shape} for {shape[0]} rows of log-likelihoods")
        good_N = np.isfinite(table.length_N) & (table.length_N > 0)
        if not good_N.all():
            row = int(np.argmin(good_N))
            raise InputError(f"row {row}: the length must be positive and finite; got {table.length_N[row]}")
    if table.document_N is not None:
        _check_documents(table.document_N, shape[0])
    if table.group_N is not None and table.group_N.shape != shape[:1]:
        raise InputError(f"--groups: the labels have the shape {table.group_N.shape} for {shape[0]} rows")


def _check_documents(document_N: np.ndarray, num_rows: int) -> None:
    if document_N.shape != (num_rows,):
        raise InputError(f"documents have the shape {document_N.shape} for {num_rows} rows of log-likelihoods")
    whole_N = (document_N >= 0) & (document_N == np.floor(document_N))
    if not whole_N.all():
        row = int(np.argmin(whole_N))
        raise InputError(
            f"row {row}: `{DOCUMENT}` numbers the document that a token is from; got {document_N[row]} (a source needs"
            " another name)"
        )
    begins_N = np.diff(document_N, prepend=-1) != 0
    numbers, counts = np.unique(document_N[begins_N], return_counts=True)
    if (counts > 1).any():
        raise InputError(f"the tokens of document {numbers[np.argmax(counts > 1)]:.0f} do not follow each other")


def _read_npz(path: Path, roles: Roles) -> Table:
    with path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError("a single array; save with np.savez(file, log_likelihoods=..., sources=...)")
        _refuse_twice(archive.files)
        if missing := [name for name in ("log_likelihoods", "sources") if name not in archive]:
            raise InputError(f"no array {missing[0]!r}; the file has {', '.join(archive.files) or 'none'}")
        labels = f"{DOCUMENT}s" if roles.group == DOCUMENT else roles.group
        lengths = f"{LENGTH}s" if roles.length in (None, LENGTH) else roles.length
        for option, name in (("--groups", labels), ("--length-column", roles.length and lengths)):
            if name is not None and name not in archive:
                raise InputError(f"{option}: no array {name!r}; the file has {', '.join(archive.files)}")
        known = ("log_likelihoods", "sources", lengths, "documents", labels, *roles.ignore)
        if unknown := [name for name in archive.files if name not in known]:
            raise InputError(
                *(
                    f"unknown array {name!r}; known are log_likelihoods, sources, lengths (tokens per example; or what"
                    " --length-column names), documents (the document of each token) and the one that --groups names;"
                    " --ignore leaves one out"
                    for name in unknown
                )
            )
        names = _member(archive, "sources", "U", "strings (np.array(names, dtype=str))")
        if names.ndim != 1:
            raise InputError(f"sources must have one axis; got the shape {names.shape}")
        logp_NxK = _member(archive, "log_likelihoods", "fiu", "real numbers").astype(np.float64)
        length_N, document_N = (
            _member(archive, name, "fiu", "real numbers").astype(np.float64)
            if name in archive and name not in (labels, *roles.ignore)
            else None
            for name in (lengths, f"{DOCUMENT}s")
        )
        group_N = None if labels is None else _member(archive, labels, "iuU", "strings or whole numbers")
        columns = [name.strip() for name in names.tolist()]
        _refuse_unknown("--ignore", roles.ignore, [*archive.files, *columns])
    table = Table(tuple(columns), logp_NxK, length_N, document_N, group_N)
    if not set(columns) & set(roles.ignore) or logp_NxK.shape[1:] != (len(columns),):
        return table
    return table.restricted([name for name in columns if name not in roles.ignore])


def _member(archive: np.lib.npyio.NpzFile, name: str, kinds: str, what: str) -> np.ndarray:
    """An array of an archive whose dtype is of one of `kinds` (letters as in `numpy.dtype.kind`)."""
    try:
        array = archive[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise InputError(f"{name} is pickled, which is not read; save it as an array of {what}") from None
    if array.dtype.kind not in kinds:
        raise InputError(f"{name} must be an array of {what}; got {array.dtype}")
    return array


def _read_csv(path: Path, roles: Roles) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        names = next(lines, [])
        header_lines = lines.line_num
        first = next(lines, [])
    if not names or all(is_number(name) for name in names):
        raise InputError("the first line must name the sources, one per column")
    for separator, shown in OTHER_SEPARATORS.items():
        if len(names) == 1 and separator in names[0] and separator in "".join(first):
            raise InputError(
                f"its columns are separated by {shown}: the separator must be a comma, and numbers need a decimal point"
            )
    _refuse_twice(names)
    _refuse_missing(roles, names)
    labels = [name for name in names if name.strip() in (roles.group, *roles.ignore)]

    def read(kind: pyarrow.DataType) -> pyarrow.Table:
        types = dict.fromkeys(names, kind) | dict.fromkeys(labels, pyarrow.string())
        return pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=header_lines),
            convert_options=pyarrow.csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True),
        )

    try:
        table = read(pyarrow.float64())
    except pyarrow.ArrowInvalid:
        # the fast way does not say where: look again, at the text of the cells
        cells = read(pyarrow.string())
        wrong = []
        for name in (name for name in names if name not in labels):
            for row, cell in enumerate(cells[name].to_pylist()):
                if cell is not None and not is_number(cell.strip()):
                    wrong.append((f"row {row}, column {name!r}: {cell!r} is not a number", cell))
                    break
        if wrong:
            raise InputError(f"{'; '.join(text for text, _ in wrong)}{_if_no_source(wrong[0][1])}") from None
        raise
    return _from_arrow(names, table.columns, roles)


def _if_no_source(cell: str) -> str:
    """What to do about a cell, or a column, that holds no number."""
    if re.fullmatch(r"-?\d+,\d+", cell.strip()):
        return "; numbers need a decimal point"
    return "; if the column is no source, say so: --groups or --ignore with its name"


def _read_parquet(path: Path, roles: Roles) -> Table:
    table = pyarrow.parquet.ParquetFile(path).read()
    index = index_columns(table.schema)
    roled = (LENGTH, DOCUMENT, roles.length, roles.group, *roles.ignore)
    columns = {i: name for i, name in enumerate(table.column_names) if name not in index or name in roled}
    return _from_arrow(list(columns.values()), [table.column(i) for i in columns], roles)


def _from_arrow(names: list[str], columns: list[pyarrow.ChunkedArray], roles: Roles) -> Table:
    of_length = roles.length or LENGTH
    for name in names:
        known = name == of_length or name.strip() in (roles.length, roles.group, *roles.ignore)
        if not known and name.strip().lower() in (LENGTH, f"{LENGTH}s"):
            raise InputError(
                f"the column of lengths must be called `{of_length}`; there is one called {name!r}: name it with"
                " --length-column, or leave it out with --ignore"
            )
    names = [name.strip() for name in names]
    _refuse_twice(names)
    _refuse_missing(roles, names)
    arrays: dict[str, np.ndarray] = {}
    group_N = None

    def read(name: str, column: pyarrow.ChunkedArray) -> None:
        nonlocal group_N
        if name == roles.group:
            group_N = _labels(name, column)
            return
        kinds = (pyarrow.types.is_integer, pyarrow.types.is_floating, pyarrow.types.is_decimal)
        if not any(test(column.type) for test in kinds):
            raise InputError(f"column {name!r} must hold numbers; got {column.type}{_if_no_source('')}")
        _refuse_empty(name, column)
        arrays[name] = column.cast(pyarrow.float64()).to_numpy()

    named = [(name, column) for name, column in zip(names, columns, strict=True) if name not in roles.ignore]
    read_each(named, lambda pair: read(*pair))
    length_N, document_N = arrays.pop(of_length, None), arrays.pop(DOCUMENT, None)
    if not arrays:
        raise InputError("no column of log-likelihoods")
    return Table(tuple(arrays), np.column_stack(list(arrays.values())), length_N, document_N, group_N)


def _labels(name: str, column: pyarrow.ChunkedArray) -> np.ndarray:
    """The labels of groups in a column of strings or whole numbers."""
    if pyarrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    text = pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type)
    if not text and not pyarrow.types.is_integer(column.type):
        raise InputError(f"--groups: column {name!r} must hold strings or whole numbers; got {column.type}")
    _refuse_empty(name, column)
    labels = column.to_pylist()
    if text and all(map(is_number, labels)) and not all(float(label).is_integer() for label in labels):
        raise InputError(f"--groups: column {name!r} holds numbers that are not whole, and so no labels")
    return np.array(labels)


def _refuse_missing(roles: Roles, names: Sequence[str]) -> None:
    stripped = [name.strip() for name in names]
    for option, name in (("--groups", roles.group), ("--length-column", roles.length)):
        _refuse_unknown(option, () if name is None else (name,), stripped)
    _refuse_unknown("--ignore", roles.ignore, stripped)


def _refuse_unknown(option: str, given: Sequence[str], names: Sequence[str]) -> None:
    if unknown := [name for name in given if name not in names]:
        raise InputError(f"{option}: no column {unknown[0]!r}; the file has {', '.join(names)}")


def _refuse_empty(name: str, column: pyarrow.ChunkedArray) -> None:
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy()))
        raise InputError(f"row {row}, column {name!r}: the cell is empty")


def _refuse_twice(names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"the name {twice[0]!r} is there {names.count(twice[0])} times")
