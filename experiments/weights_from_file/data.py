"""Tables of log-likelihoods that models of any framework wrote to files, and the targets that they describe.

A file holds the log-likelihood (nats) of N target examples under K models, one model per data source:

    .npz        log_likelihoods (N x K), sources (K names) and, if you like, lengths (N), documents (N)
    .csv        a column per source, headed by its name, and, if you like, columns `length`, `document`
    .parquet    the same columns

Where examples are the tokens of documents, `document` numbers the document of each, and --rows makes rows of them.
"""

import csv
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
from jaxtyping import Float
from scipy.special import logsumexp

from mixmin_jax import cross_entropy
from mixmin_jax.data.files import refuse_odd_name
from mixmin_jax.errors import InputError
from mixmin_jax.mixture.rows import row_length, rows

LENGTH, DOCUMENT = "length", "document"


@dataclasses.dataclass(frozen=True)
class Table:
    """Log-likelihoods of N examples under K sources, in nats; `length_N` in tokens, if the file has lengths.

    `document_N` numbers the document of each example, if the examples are its tokens.
    """

    sources: tuple[str, ...]
    logp_NxK: Float[np.ndarray, "N K"]
    length_N: Float[np.ndarray, " N"] | None
    document_N: Float[np.ndarray, " N"] | None = None

    def in_rows(self, length: int | None) -> "Table":
        """Rows of so many consecutive tokens of a document; None for whole documents.

        Raises:
            InputError: the file does not say which document a token is from.
        """
        if self.document_N is None:
            raise InputError(
                f"--rows needs to know which document each token is from: add a column `{DOCUMENT}` (in .npz an array"
                f" `{DOCUMENT}s`)"
            )
        first_D = np.flatnonzero(np.diff(self.document_N, prepend=self.document_N[0] - 1))
        tokens_D = np.diff(first_D, append=len(self.document_N))
        length_N = np.ones(len(self.logp_NxK)) if self.length_N is None else self.length_N
        made = rows(self.logp_NxK, tokens_D, length)
        if length is not None and length >= tokens_D.max() > 1:
            print(f"rows of {length} tokens are whole documents: the longest has {tokens_D.max()}", file=sys.stderr)
        length_R = np.add.reduceat(length_N, np.cumsum(made.tokens_R) - made.tokens_R)
        return Table(self.sources, made.logp_RxK, length_R)

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


def read_table(path: Path) -> Table:
    """Read a .npz, .csv or .parquet file of log-likelihoods; values are checked later, by `cross_entropy`.

    Raises:
        InputError: the file is missing, of another kind, empty or corrupt, has a cell that is not a number, lacks an
            array, or has shapes or names that do not fit. The message starts with the path.
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
        table = readers[path.suffix](path)
        _check_shapes(table)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:
        # Damaged files make the readers raise almost anything: BadZipFile, zlib.error, ArrowInvalid, MemoryError, ...
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read as {path.suffix}: {detail}") from error
    return table


@dataclasses.dataclass(frozen=True)
class Target:
    """What a mixture shall explain: the table of one file, and the weight of each of its examples."""

    path: Path
    table: Table
    example_weight: float

    @property
    def unit(self) -> str:
        return "nats per example" if self.table.length_N is None else "nats per token"

    @property
    def num_rows(self) -> int:
        return len(self.table.logp_NxK)

    @property
    def counts(self) -> dict[str, int]:
        return {"examples": self.num_rows, "sources": len(self.table.sources)}

    @property
    def loss_alone_K(self) -> Float[np.ndarray, " K"]:
        """The loss of each source with all the weight."""
        return -(np.full(self.num_rows, self.example_weight) @ self.table.logp_NxK)

    @property
    def uniform_loss(self) -> float:
        num_sources = len(self.table.sources)
        return self.loss(np.full(num_sources, 1 / num_sources))

    def loss(self, weights_K: Float[np.ndarray, " K"]) -> float:
        """That of a mixture with these weights."""
        return float(-self.example_weight * logsumexp(self.table.logp_NxK, axis=1, b=weights_K).sum())

    def restricted(self, sources: Sequence[str]) -> "Target":
        """The same with the columns of `sources`, in their order."""
        return dataclasses.replace(self, table=self.table.restricted(sources))

    def objective(self) -> Any:
        """The cross-entropy; its errors name the file."""
        v_N = np.full(self.num_rows, self.example_weight)
        try:
            return cross_entropy(self.table.logp_NxK, example_weights=v_N, sources=self.table.sources)
        except InputError as error:
            raise InputError(f"{self.path}: {error} (rows are counted from 0)") from None


def read_targets(paths: tuple[Path, ...], row: str | None = None) -> list[Target]:
    """The files, all with the columns of the first in its order; `row` says how tokens become rows (`row_length`).

    Raises:
        InputError: what `read_table` refuses; sources that differ; lengths in some of the files only; a file of tokens
            without `row`, or `row` without one.
    """
    if not paths:
        raise InputError("--log-likelihoods: give at least one file")
    targets: list[Target] = []
    for path in paths:
        table = read_table(path)
        try:
            if row is not None:
                table = table.in_rows(row_length(row))
            elif table.document_N is not None:
                raise InputError("its rows are tokens of documents: say --rows document, token, or how many tokens")
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if targets:
            first = targets[0]
            if (table.length_N is None) != (first.table.length_N is None):
                bare = path if table.length_N is None else first.path
                raise InputError(f"{bare}: no lengths, but another file has them; give all files lengths, or none")
            try:
                table = table.reordered(first.table.sources)
            except InputError as error:
                raise InputError(f"{path}: {error}; all files need the sources of {first.path}") from None
        per_row = 1 / len(table.logp_NxK) if table.length_N is None else float(1 / table.length_N.sum())
        targets.append(Target(path, table, per_row))
    return targets


def _check_shapes(table: Table) -> None:
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


def _read_npz(path: Path) -> Table:
    with path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError("a single array; save with np.savez(file, log_likelihoods=..., sources=...)")
        _refuse_twice(archive.files)
        if missing := [name for name in ("log_likelihoods", "sources") if name not in archive]:
            raise InputError(f"no array {missing[0]!r}; the file has {', '.join(archive.files) or 'none'}")
        optional = ("lengths", "documents")
        if unknown := [name for name in archive.files if name not in ("log_likelihoods", "sources", *optional)]:
            raise InputError(
                f"unknown array {unknown[0]!r}; known are log_likelihoods, sources, lengths (tokens per example) and"
                " documents (the document of each token)"
            )
        names = _member(archive, "sources", "U", "strings (np.array(names, dtype=str))")
        if names.ndim != 1:
            raise InputError(f"sources must have one axis; got the shape {names.shape}")
        logp_NxK = _member(archive, "log_likelihoods", "fiu", "real numbers").astype(np.float64)
        length_N, document_N = (
            _member(archive, name, "fiu", "real numbers").astype(np.float64) if name in archive else None
            for name in optional
        )
    return Table(tuple(name.strip() for name in names.tolist()), logp_NxK, length_N, document_N)


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


def _read_csv(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        names = next(lines, [])
        header_lines = lines.line_num
    if not names or all(is_number(name) for name in names):
        raise InputError("the first line must name the sources, one per column")
    _refuse_twice(names)

    def read(kind: pyarrow.DataType) -> pyarrow.Table:
        return pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=header_lines),
            convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, kind), null_values=[""]),
        )

    try:
        table = read(pyarrow.float64())
    except pyarrow.ArrowInvalid:
        # the fast way does not say where: look again, at the text of the cells
        cells = read(pyarrow.string())
        for name in names:
            for row, cell in enumerate(cells[name].to_pylist()):
                if cell is not None and not is_number(cell.strip()):
                    raise InputError(f"row {row}, column {name!r}: {cell!r} is not a number") from None
        raise
    return _from_arrow(names, table.columns)


def _read_parquet(path: Path) -> Table:
    table = pyarrow.parquet.ParquetFile(path).read()
    # pandas keeps its row numbers in columns of this name
    columns = {i: name for i, name in enumerate(table.column_names) if not name.startswith("__index_level_")}
    return _from_arrow(list(columns.values()), [table.column(i) for i in columns])


def _from_arrow(names: list[str], columns: list[pyarrow.ChunkedArray]) -> Table:
    for name in names:
        if name != LENGTH and name.strip().lower() in (LENGTH, "lengths"):
            raise InputError(f"the column of lengths must be called `{LENGTH}`; there is one called {name!r}")
    names = [name.strip() for name in names]
    _refuse_twice(names)
    arrays = {}
    for name, column in zip(names, columns, strict=True):
        kinds = (pyarrow.types.is_integer, pyarrow.types.is_floating, pyarrow.types.is_decimal)
        if not any(test(column.type) for test in kinds):
            raise InputError(f"column {name!r} must hold numbers; got {column.type}")
        if column.null_count:
            row = int(np.argmax(column.is_null().to_numpy()))
            raise InputError(f"row {row}, column {name!r}: the cell is empty")
        arrays[name] = column.cast(pyarrow.float64()).to_numpy()
    length_N, document_N = arrays.pop(LENGTH, None), arrays.pop(DOCUMENT, None)
    if not arrays:
        raise InputError("no column of log-likelihoods")
    return Table(tuple(arrays), np.column_stack(list(arrays.values())), length_N, document_N)


def _refuse_twice(names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"the name {twice[0]!r} is there {names.count(twice[0])} times")


def is_number(cell: str) -> bool:
    """Whether a cell, or a value on a command line, is a number as people write it."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
